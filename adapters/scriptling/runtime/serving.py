"""Serving the registered routes: `serve` for a program; `look_up` and `serve_table` for the runner too."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Container, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import bus
from actors import scope
from actors.scope import Scope
from adapters.scriptling.runtime import http
from adapters.scriptling.runtime.client import session_handler
from adapters.scriptling.runtime.http import Function, Route
from adapters.scriptling.websocket import MAX_SIZE
from bus.endpoints import split_address

if TYPE_CHECKING:
    import ssl

    from actors.certificates import Path

__all__ = ["ADDRESS", "Table", "look_up", "serve", "serve_table"]

ADDRESS = "127.0.0.1:8000"


Table: TypeAlias = "dict[str, Callable[[bus.Session], object]]"


def serve(
    address: str = ADDRESS,
    origins: Sequence[str] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    cert: Path | None = None,
    key: Path | None = None,
) -> bus.Server:
    """Serve the routes registered so far on "host:port" (port 0 picks one: see the server's `address`). Returns at once.

    The server works until `stop()`, or the end of a `with` block; `wait()` waits for that. A web page may connect from the same origin
    only, or from `origins` ("*" is any). With `cert` and `key`, the files of the server's certificate and private key (PEM), or with `tls`,
    a context that holds them, clients come by `wss://`. Under `actorbus run` these are the script's own routes, and the runner leaves them
    to it.

    Raises RuntimeError when nothing is registered, ImportError and AttributeError for a handler that is not there, OSError naming the
    address (in use, not this machine's) or the file, ValueError and TypeError for what is no address, no origin or no certificate.

    >>> @http.websocket("/double")
    ... def double(client):
    ...     client.send(2 * client.receive(timeout=5))
    >>> with serve("127.0.0.1:0") as server, bus.connect(f"ws://{server.address}/double") as conn:
    ...     conn.send("ha")
    ...     print(conn.receive(timeout=5).text)
    haha
    >>> http.forget(None)
    """
    split_address(address)  # has the better words for what is none
    here = scope.current()
    if not any(route.owner is here for route in http.routes()):
        raise RuntimeError("there is no route to serve: register one with runtime.http.websocket(path, handler)")
    secure = tls is not None or cert is not None or key is not None
    server = serve_table(address, look_up([here]), scheme="wss" if secure else "ws", origins=origins, tls=tls, cert=cert, key=key)
    for route in http.routes():
        route.served = route.served or route.owner is here
    return server


def look_up(owners: Container[Scope | None]) -> Table:
    """What these scripts have registered, to be served now. The modules that their handlers are in may register more, and count."""
    functions: dict[Route, Function] = {}
    while missing := [route for route in http.routes() if route.owner in owners and route not in functions]:
        for route in missing:
            functions[route] = _function(route)
    return {route.path: session_handler(functions[route], route.owner) for route in http.routes() if route in functions}


def serve_table(address: str, table: Table, *, scheme: str = "ws", **options: Any) -> bus.Server:
    """Serve what is in the table, and what is added to it later."""
    return bus.serve(f"{scheme}://{address}", routes=table, max_size=MAX_SIZE, **options)


def _function(route: Route) -> Function:
    """The function that the route names, looked for as the script that registered it would."""
    if not isinstance(route.handler, str):
        return route.handler
    previous = scope.enter(route.owner)
    try:
        name, _, attribute = route.handler.rpartition(".")
        function = getattr(_module(name), attribute, None)
    finally:
        scope.enter(previous)
    if function is None:
        raise AttributeError(f"the handler {route.handler!r} of {route.path!r}: module {name!r} has no {attribute!r}")
    if not callable(function):
        raise TypeError(f"the handler {route.handler!r} of {route.path!r} is no function, but {function!r}")
    return function  # type: ignore[no-any-return]


def _module(name: str) -> ModuleType:
    main = sys.modules["__main__"]
    if name == os.path.splitext(os.path.basename(getattr(main, "__file__", None) or ""))[0]:
        return main  # the script itself, which would do everything twice as a module
    __import__(name, {"__name__": "__main__"})  # and not import_module, so that the runner sees who imports
    return sys.modules[name]

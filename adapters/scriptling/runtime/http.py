"""`runtime.http`: which function serves the WebSockets of which path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeAlias, TypeVar, overload

from actors import scope
from actors.scope import Scope

__all__ = ["websocket"]

# Any, because handlers of the documents' kind have no annotations; what they get is a WebSocketClient.
Function: TypeAlias = "Callable[[Any], object]"
Decorated = TypeVar("Decorated", bound=Function)


@dataclass(eq=False)
class Route:
    """A path and its "module.function", or the function; the script that registered it, if a runner runs it; whether a server has it."""

    path: str
    handler: str | Function
    owner: Scope | None
    served: bool = False


_lock = Lock()
_routes: dict[str, Route] = {}  # by path; belongs to the lock


@overload
def websocket(path: str, handler: str | Function) -> None: ...
@overload
def websocket(path: str) -> Callable[[Decorated], Decorated]: ...
def websocket(path: str, handler: str | Function | None = None) -> Callable[[Decorated], Decorated] | None:
    """Have a function serve the WebSockets that come to `path`. The same path again replaces it, for servers that start from then on.

    `handler`: "module.function", looked up when serving begins, in the modules beside the script first; or the function itself. Without it
    this is a decorator. The function gets a `WebSocketClient` and runs on a thread of its own for the life of the connection. When it
    returns, the connection is closed with code 1000; what it raises is logged, and the code is 1011.

    Raises TypeError and ValueError for what is no path or no function, and ValueError for a path that another script has taken.

    >>> websocket("/chat", "handlers.chat_handler")
    >>> @websocket("/echo")
    ... def echo(client):
    ...     while client.connected():
    ...         if msg := client.receive(timeout=60):
    ...             client.send(msg)
    >>> forget(None)
    """
    if not isinstance(path, str):
        raise TypeError(f"path must be a string, not {type(path).__name__}")
    if not path.startswith("/") or "?" in path or "#" in path:
        raise ValueError(f"path must be like '/chat', not {path!r}")
    if handler is None:

        def register(function: Decorated) -> Decorated:
            _register(path, function)
            return function

        return register
    _register(path, handler)
    return None


def _register(path: str, handler: str | Function) -> None:
    if isinstance(handler, str):
        module, _, function = handler.rpartition(".")
        if not all(name.isidentifier() for name in (*module.split("."), function)):
            raise ValueError(f"handler must be like 'module.function', not {handler!r}")
    elif not callable(handler):
        raise TypeError(f"handler must be like 'module.function', or a function, not {handler!r}")
    here = scope.current()
    with _lock:
        other = _routes.get(path)
        if other is not None and other.owner is not here:
            taken_by = f"script {other.owner.name!r}" if other.owner is not None else "this program"
            raise ValueError(f"the route {path!r} was registered by {taken_by} already")
        _routes[path] = Route(path, handler, here)


def routes() -> list[Route]:
    """A snapshot of what is registered, in the order of the paths' first registration."""
    with _lock:
        return list(_routes.values())


def forget(owner: Scope | None) -> None:
    """Drop what this script has registered."""
    global _routes
    with _lock:
        _routes = dict(item for item in _routes.items() if item[1].owner is not owner)

"""The verb `serve`: many clients, one callback, or a route each. Arguments are checked here; what they start lives in `actors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from actors.binding import listen_stream, listen_unix
from actors.errors import BusError
from actors.http import HANDSHAKE_TIMEOUT, PING_INTERVAL, PING_TIMEOUT, Answer, Request
from actors.lane import Callbacks
from actors.message import Message, Sendable
from actors.outbox import MAX_BYTES as OUTBOX_BYTES
from actors.server import MAX_CLIENTS, ServerActor
from actors.server import MAX_SIZE as SERVER_MAX_SIZE
from actors.stream import STALL_TIMEOUT
from actors.waiting import check_timeout
from bus.arguments import (
    VERBS,
    WEBSOCKET,
    FramingName,
    check_framing,
    check_liveness,
    check_positive,
    check_tls,
    loop_for,
    unix_path,
)
from bus.endpoints import parse
from bus.server import Client, Server
from bus.websocket import Route, check_pings, make_door

if TYPE_CHECKING:
    import ssl

    from actors.certificates import Path

__all__ = ["serve"]


def serve(
    url: str,
    on_message: Callable[[Message, Any], Sendable | None] | None = None,
    *,
    on_connect: Callable[[Any], object] | None = None,
    on_disconnect: Callable[[Any, BusError], object] | None = None,
    framing: FramingName = "length",
    max_size: int = SERVER_MAX_SIZE,
    outbox_bytes: int = OUTBOX_BYTES,
    stall_timeout: float | None = STALL_TIMEOUT,
    max_clients: int = MAX_CLIENTS,
    max_clients_per_address: int = MAX_CLIENTS,
    overflow: Literal["skip", "disconnect"] = "skip",
    serial: bool = False,
    threads: int | Literal["own"] | None = None,
    routes: Mapping[str, Route] | None = None,
    on_request: Callable[[Request], Answer] | None = None,
    origins: Sequence[str] | None = None,
    subprotocols: Sequence[str] | None = None,
    compression: bool = False,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    ping_interval: float | None = PING_INTERVAL,
    ping_timeout: float | None = PING_TIMEOUT,
    tls: ssl.SSLContext | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    ca: Path | None = None,
    heartbeat: float | None = None,
    user_timeout: float | None = None,
) -> Server:
    """Serve many clients on `tcp://host:port`, `tls://…`, `unix:///path`, `ws://host:port` or `wss://…`.

    Returns at once; `Server.wait` waits for the end.

    `on_message(msg, client)` is called for every message; what it returns, if not None, is sent back. `on_connect(client)` comes before a
    client's first message, `on_disconnect(client, reason)` once after its last. Callbacks of one client never overlap; those of different
    clients may, unless `serial=True` runs all of them one at a time. A callback that takes long holds up its own client only. One that
    raises is logged and ends the connection of its client.

    `overflow`: what a broadcast does with a client whose outbox is full. `threads`: None serves on the shared reader thread, K on K of its
    own, "own" gives each client one. `max_size` (1 MiB) bounds a message from a client. The rest as for `connect`.

    For `tls://` and `wss://` alone: `cert`: a file (PEM) with the server's certificate and those between it and its root; `key`: one with
    its private key, None if that is in the same file; `ca`: one with the certificates of those who sign for clients, each of which then has
    to show a certificate; or `tls`: an `ssl.SSLContext` instead. `Server.reload_certificates` reads the files again.

    For `ws://` and `wss://` alone: `routes` maps paths to what serves them: a function of a client, which runs on a thread of its own for
    the life of the connection and receives with `client.receive()` (a `Session`), or a function of a message and a client, as
    `on_message`. That one serves the URL's own path, or every path when there are no routes. The mapping is asked anew for each visitor:
    what is added to it later is served from then on. `on_request(request)` may answer before the upgrade, with a `Response` or a status;
    None goes on. A page may connect from the same origin only, or from `origins` ("*" is any); who sends no Origin is no page. The
    handshake has to be over after `handshake_timeout` seconds.

    Raises BadAddress, OSError (also for a file that can't be read), ConnectFailed (no such name), TypeError, ValueError (also for a file
    that is no certificate or key, or does not fit).
    """
    endpoint = parse(url, "serve", VERBS)
    framing_ = check_framing(framing)
    for callback, name in ((on_message, "on_message"), (on_connect, "on_connect"), (on_disconnect, "on_disconnect")):
        if callback is None and (name != "on_message" or endpoint.scheme in WEBSOCKET):
            continue
        if not callable(callback):
            raise TypeError(f"{name} must be callable, not {type(callback).__name__}")
    for value, what in ((max_size, "max_size"), (outbox_bytes, "outbox_bytes"), (max_clients, "max_clients")):
        check_positive(value, what)
    check_positive(max_clients_per_address, "max_clients_per_address")
    check_timeout(stall_timeout, "stall_timeout")
    if overflow not in ("skip", "disconnect"):
        raise ValueError(f'overflow must be "skip" or "disconnect", not {overflow!r}')
    if threads is not None and threads != "own":
        check_positive(threads, "threads")
    credentials = check_tls(endpoint.scheme, server=True, tls=tls, cert=cert, key=key, ca=ca)
    check_timeout(handshake_timeout, "handshake_timeout")
    check_liveness(endpoint.scheme, framing_, heartbeat, user_timeout)
    home = object()
    door = None
    if endpoint.scheme in WEBSOCKET:
        check_pings(ping_interval, ping_timeout)
        door = make_door(
            endpoint.host,
            endpoint.path or "/",
            home,
            on_message=on_message,
            routes=routes,
            on_connect=on_connect,
            on_disconnect=on_disconnect,
            on_request=on_request,
            origins=origins,
            subprotocols=subprotocols,
            compression=compression,
            handshake_timeout=handshake_timeout,
            tls=credentials,
        )
    elif routes is not None or on_request is not None or origins is not None or subprotocols is not None or compression:
        raise ValueError(f"routes, on_request, origins, subprotocols and compression are for ws://, not {endpoint.scheme}://")
    path = unix_path(endpoint) if endpoint.scheme == "unix" else None
    sock = listen_unix(path) if path else listen_stream(endpoint.host, endpoint.port)
    loop, _ = loop_for(None, sock)
    options: dict[str, Any] = {
        "max_size": max_size,
        "outbox_bytes": outbox_bytes,
        "stall_timeout": stall_timeout,
        "max_clients": max_clients,
        "max_clients_per_address": max_clients_per_address,
        "overflow": overflow,
        "serial": serial,
        "threads": threads,
        "path": path,
        "user_timeout": user_timeout,
    }
    if door is not None:
        from actors.wsserver import WebSocketServerActor

        options |= {"door": door, "ping_interval": ping_interval, "ping_timeout": ping_timeout}
        return WebSocketServerActor.open_for(lambda actor: Server(actor, home), sock, loop, **options)
    assert on_message is not None
    return ServerActor.open_for(
        lambda actor: Server(actor, home),
        sock,
        loop,
        callbacks=Callbacks(on_message, on_connect, on_disconnect),
        make_client=lambda actor: Client(actor, home),
        framing=framing_,
        tls=credentials,
        handshake_timeout=handshake_timeout,
        heartbeat=heartbeat,
        **options,
    )

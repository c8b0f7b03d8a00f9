"""The verb `serve`: many clients, one callback, or a route each. Arguments are checked here; what they start lives in `actors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from actors.binding import listen_stream, listen_unix
from actors.callbacks import Callbacks
from actors.errors import BusError
from actors.message import Message, Sendable
from actors.outbox import MAX_BYTES as OUTBOX_BYTES
from actors.outbox import MAX_MESSAGES as OUTBOX_MESSAGES
from actors.server import MAX_CLIENTS, ServerActor
from actors.server import MAX_SIZE as SERVER_MAX_SIZE
from actors.silence import HANDSHAKE_TIMEOUT, PING_INTERVAL, PING_TIMEOUT
from actors.stream import STALL_TIMEOUT
from actors.waiting import check_timeout
from bus.arguments import (
    VERBS,
    WEBSOCKET,
    FramingName,
    check_callable,
    check_choice,
    check_counts,
    check_duration,
    check_framing,
    check_liveness,
    check_pings,
    check_positive,
    check_rate,
    check_tls,
    loop_for,
    unix_path,
)
from bus.endpoints import parse
from bus.server import Client, Server
from bus.websocket import Route, make_door

if TYPE_CHECKING:
    import ssl

    from actors.certificates import Path
    from actors.cluster import Cluster
    from actors.http import Answer, Request

__all__ = ["serve"]


def serve(
    url: str,
    on_message: Callable[[Message, Any], Sendable | None] | None = None,
    *,
    on_connect: Callable[[Any], object] | None = None,
    on_disconnect: Callable[[Any, BusError], object] | None = None,
    authenticate: Callable[[Message, Any], object] | None = None,
    framing: FramingName = "length",
    max_size: int = SERVER_MAX_SIZE,
    outbox_bytes: int = OUTBOX_BYTES,
    outbox_messages: int = OUTBOX_MESSAGES,
    stall_timeout: float | None = STALL_TIMEOUT,
    idle_timeout: float | None = None,
    max_clients: int = MAX_CLIENTS,
    max_clients_per_address: int = MAX_CLIENTS,
    max_messages_per_second: float | None = None,
    max_bytes_per_second: float | None = None,
    over_rate: Literal["delay", "disconnect"] = "delay",
    overflow: Literal["skip", "disconnect"] = "skip",
    serial: bool = False,
    threads: int | Literal["own"] | None = None,
    routes: Mapping[str, Route] | None = None,
    on_request: Callable[[Request], Answer] | None = None,
    origins: Sequence[str] | None = None,
    subprotocols: Sequence[str] | None = None,
    compression: bool = False,
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT,
    ping_interval: float | None = PING_INTERVAL,
    ping_timeout: float | None = PING_TIMEOUT,
    tls: ssl.SSLContext | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    ca: Path | None = None,
    heartbeat: float | None = None,
    user_timeout: float | None = None,
    cluster: str | None = None,
) -> Server:
    """Serve many clients on `tcp://host:port`, `tls://…`, `unix:///path`, `ws://host:port` or `wss://…`.

    Returns at once; `Server.wait` waits for the end.

    `on_message(msg, client)` is called for every message; what it returns, if not None, is sent back. `on_connect(client)` comes before a
    client's first message, `on_disconnect(client, reason)` once after its last. Callbacks of one client never overlap; those of different
    clients may, unless `serial=True` runs all of them one at a time. A callback that takes long holds up its own client only. One that
    raises is logged and ends the connection of its client.

    `overflow`: what a broadcast does with a client whose outbox is full. `threads`: None serves on the shared reader thread, K on K of its
    own, "own" gives each client one. `max_size` (1 MiB) bounds a message from a client. The rest as for `connect`.

    `authenticate(msg, client)`, not for `ws://`, is called with a client's first message, as callbacks are: it may block, and `client.send`
    a welcome or a refusal. True admits the client: then comes `on_connect`, and later messages go to `on_message`. Anything falsy, or an
    exception, which is logged, closes the connection. Who is not admitted is not in `Server.clients`, hears no broadcast, is unknown to the
    other callbacks, counts against `max_clients`, and is counted in `Server.stats().unauthenticated` when it has gone.

    `max_clients_per_address` is for servers with addresses: `unix://` has none. `idle_timeout`: who has sent no byte for so many seconds
    (and up to a quarter more) is disconnected with Broken. While we do not read, because its callback runs or its outbox is full, that does
    not count. With `ws://` the answers to our pings are bytes, too: there it is for `ping_interval=None`, or for less than that.

    `max_messages_per_second` and `max_bytes_per_second` (framing included) are for each client, and up to a second's worth may come in one
    go. Who is over that is read no faster (`over_rate="delay"`): TCP slows it, nothing is lost and nobody else is slowed. With "disconnect"
    the connection ends with Broken, and messages over the limit are not handled; leave room, since it is the time of reading that counts.

    `cluster`: a name. The servers of one name, wherever topics reach (in this process, or over `bus.open("nats://…")`, opened before), are
    the nodes of a cluster: `Server.send_to_all` of one goes to the clients of all. `Server.nodes` and `count_all` ask around. A node that
    is cut off from the others serves its own clients on, and says so: in its report, `Server.cut_off`, and the log.

    For `tls://` and `wss://` alone: `cert`: a file (PEM) with the server's certificate and those between it and its root; `key`: one with
    its private key, None if that is in the same file; `ca`: one with the certificates of those who sign for clients, each of which then has
    to show a certificate; or `tls`: an `ssl.SSLContext` instead. `Server.reload_certificates` reads the files again.

    `handshake_timeout`: seconds from connecting until all that comes before `on_connect` has come: the handshakes of TLS and WebSocket,
    the message for `authenticate`.

    For `ws://` and `wss://` alone: `routes` maps paths to what serves them: a function of a client, which runs on a thread of its own for
    the life of the connection and receives with `client.receive()` (a `Session`), or a function of a message and a client, as
    `on_message`. That one serves the URL's own path, or every path when there are no routes. The mapping is asked anew for each visitor:
    what is added to it later is served from then on. `on_request(request)` may answer before the upgrade, with a `Response` or a status;
    None goes on. A page may connect from the same origin only, or from `origins` ("*" is any); who sends no Origin is no page.

    Raises BadAddress, OSError (also for a file that can't be read), ConnectFailed (no such name), TypeError, ValueError (also for a file
    that is no certificate or key, or does not fit).

    >>> import bus
    >>> def authenticate(msg: bus.Message, client: bus.Client) -> bool:
    ...     client.state.name, _, password = msg.text.partition(" ")
    ...     return password == "sesame"
    >>> def on_message(msg: bus.Message, client: bus.Client) -> str:
    ...     return f"{client.state.name}: {msg.text}"
    >>> with bus.serve("tcp://127.0.0.1:0", on_message, authenticate=authenticate, idle_timeout=60) as server:
    ...     with bus.connect(f"tcp://{server.address}") as conn:
    ...         conn.send("ali sesame")
    ...         conn.send("hello")
    ...         print(conn.receive(timeout=5).text)
    ali: hello
    """
    endpoint = parse(url, "serve", VERBS)
    websocket = endpoint.scheme in WEBSOCKET
    framing_ = check_framing(framing)
    check_callable(on_message, "on_message", optional=websocket)
    check_callable(on_connect, "on_connect")
    check_callable(on_disconnect, "on_disconnect")
    check_callable(authenticate, "authenticate")
    options = check_counts(
        max_size=max_size,
        outbox_bytes=outbox_bytes,
        outbox_messages=outbox_messages,
        max_clients=max_clients,
        max_clients_per_address=max_clients_per_address,
    )
    options["stall_timeout"] = check_timeout(stall_timeout, "stall_timeout")
    options["idle_timeout"] = check_duration(idle_timeout, "idle_timeout")
    options["handshake_timeout"] = check_duration(handshake_timeout, "handshake_timeout")
    options["max_messages_per_second"] = check_rate(max_messages_per_second, "max_messages_per_second")
    options["max_bytes_per_second"] = check_rate(max_bytes_per_second, "max_bytes_per_second")
    options["over_rate"] = check_choice(over_rate, ("delay", "disconnect"), "over_rate")
    options["overflow"] = check_choice(overflow, ("skip", "disconnect"), "overflow")
    if threads is not None and threads != "own":
        check_positive(threads, "threads")
    credentials = check_tls(endpoint.scheme, server=True, tls=tls, cert=cert, key=key, ca=ca)
    check_liveness(endpoint.scheme, framing_, heartbeat, user_timeout)
    if endpoint.scheme == "unix" and max_clients_per_address != MAX_CLIENTS:
        raise ValueError("max_clients_per_address is for servers with addresses; who comes to a Unix socket has none: use max_clients")
    join = None if cluster is None else _joining(cluster)
    home = object()
    door = None
    if websocket:
        if authenticate is not None:
            raise ValueError(f"authenticate is for tcp://, tls:// and unix://, not {endpoint.scheme}://; there on_request judges who comes")
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
            tls=credentials,
        )
    elif routes is not None or on_request is not None or origins is not None or subprotocols is not None or compression:
        raise ValueError(f"routes, on_request, origins, subprotocols and compression are for ws://, not {endpoint.scheme}://")
    path = unix_path(endpoint) if endpoint.scheme == "unix" else None
    sock = listen_unix(path) if path else listen_stream(endpoint.host, endpoint.port)
    loop, _ = loop_for(None, sock)
    options |= {"serial": serial, "threads": threads, "path": path, "user_timeout": user_timeout}
    if door is not None:
        from actors.wsserver import WebSocketServerActor

        options |= {"door": door, "ping_interval": ping_interval, "ping_timeout": ping_timeout}
        return WebSocketServerActor.open_for(lambda actor: Server(actor, home, join), sock, loop, **options)
    assert on_message is not None
    return ServerActor.open_for(
        lambda actor: Server(actor, home, join),
        sock,
        loop,
        callbacks=Callbacks(on_message, on_connect, on_disconnect),
        make_client=lambda actor: Client(actor, home),
        framing=framing_,
        tls=credentials,
        authenticate=authenticate,
        heartbeat=heartbeat,
        **options,
    )


def _joining(cluster: str) -> Callable[[ServerActor], Cluster]:
    """What makes a server a node of the cluster of that name."""
    import bus.opening  # noqa: F401  # what makes the engine of topics, and ends it
    from actors import topics
    from actors.cluster import Cluster, check_cluster

    return partial(Cluster, check_cluster(cluster), engine=topics.current())

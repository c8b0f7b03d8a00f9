"""The verbs: connect, listen, bind, join, serve, shutdown. Arguments are checked here; what they start lives in `actors`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal

from actors import hosting
from actors.actor import Closable
from actors.binding import bind_datagram, bind_pair, join_group, listen_stream, listen_unix
from actors.connecting import connect_datagram, connect_stream, connect_unix, ends
from actors.datagram import DatagramActor
from actors.errors import BadAddress, BusError
from actors.framing import FRAMINGS, Framing
from actors.lane import Callbacks
from actors.listener import ListenerActor
from actors.mailbox import MAX_BYTES, MAX_MESSAGES
from actors.message import Message, Sendable
from actors.outbox import MAX_BYTES as OUTBOX_BYTES
from actors.readerthread import ReaderThread
from actors.resolving import format_address
from actors.server import MAX_CLIENTS, ServerActor
from actors.server import MAX_SIZE as SERVER_MAX_SIZE
from actors.stream import MAX_SIZE, STALL_TIMEOUT, StreamActor
from actors.waiting import check_timeout, deadline_after
from bus.connection import Connection
from bus.datagrams import Group, UdpSocket
from bus.endpoints import Endpoint, parse
from bus.listener import Listener
from bus.server import Client, Server

__all__ = ["bind", "connect", "join", "listen", "serve", "shutdown"]

VERBS = {"tcp": "connect, listen, serve", "unix": "connect, listen, serve", "udp": "connect, bind, join"}

FramingName = Literal["length", "etx", "lines", "raw"]
Own = Literal["own"] | None


def _framing(name: str) -> Framing:
    if name not in FRAMINGS:
        raise ValueError(f"framing must be one of {', '.join(FRAMINGS)}, not {name!r}")
    return FRAMINGS[name]


def _positive(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return value


def _check_threads(threads: Own) -> None:
    if threads is not None and threads != "own":
        raise ValueError(f'threads must be None or "own" here, not {threads!r}')


def _loop(threads: Own, sock: Closable) -> tuple[ReaderThread, bool]:
    """The reader thread for a socket, and whether it is this one's own. Closes the socket when there is none to be had."""
    try:
        loop = hosting.shared() if threads is None else hosting.dedicated()
    except BaseException:
        sock.close()
        raise
    return loop, not hosting.is_shared(loop)


def _unix_path(endpoint: Endpoint) -> str:
    if os.name != "posix":
        raise BadAddress(str(endpoint), "this system has no Unix sockets")
    return endpoint.path


def connect(
    url: str,
    *,
    timeout: float | None = 10,
    framing: FramingName = "length",
    max_size: int = MAX_SIZE,
    mailbox_messages: int = MAX_MESSAGES,
    mailbox_bytes: int = MAX_BYTES,
    outbox_bytes: int = OUTBOX_BYTES,
    stall_timeout: float | None = STALL_TIMEOUT,
    threads: Own = None,
) -> Connection:
    """Connect to `tcp://host:port`, `unix:///path` or `udp://host:port` (datagrams from and to this one peer).

    `timeout`: seconds for name lookup and connecting together (None: no limit; must be over 0). `framing`: "length", "etx", "lines" or
    "raw".
    `max_size`: bytes of one message, both ways. `mailbox_*`, `outbox_bytes`: how much may wait. `stall_timeout`: seconds after which a peer
    that takes nothing is given up. `threads="own"` gives the connection a reader thread of its own.

    Raises BadAddress, ConnectFailed, ConnectTimeout, TypeError, ValueError.

    >>> import bus
    >>> with bus.serve("tcp://127.0.0.1:0", on_message=lambda msg, client: msg) as server:
    ...     with bus.connect(f"tcp://{server.address}", timeout=5) as conn:
    ...         conn.send({"action": "ping"})
    ...         print(conn.receive(timeout=5).json())
    {'action': 'ping'}
    """
    endpoint = parse(url, "connect", VERBS)
    framing_ = _framing(framing)
    limits = {
        "mailbox_messages": _positive(mailbox_messages, "mailbox_messages"),
        "mailbox_bytes": _positive(mailbox_bytes, "mailbox_bytes"),
    }
    _positive(max_size, "max_size")
    _positive(outbox_bytes, "outbox_bytes")
    check_timeout(stall_timeout, "stall_timeout")
    _check_threads(threads)
    deadline = deadline_after(timeout)
    if timeout is not None and timeout <= 0:
        raise ValueError(f"timeout must be over 0 to connect, not {timeout!r}")
    if endpoint.port == 0 and endpoint.scheme != "unix":
        raise BadAddress(url, "port 0 can't be connected to")
    if endpoint.scheme == "udp":
        sock = connect_datagram(endpoint.host, endpoint.port, deadline)
        peer, _ = ends(sock)
        loop, dedicated = _loop(threads, sock)
        return DatagramActor.open_for(Connection, sock, loop, peer=peer, dedicated=dedicated, **limits)
    if endpoint.scheme == "unix":
        path = _unix_path(endpoint)
        sock = connect_unix(path, deadline)
        remote, local = path, f"{path} (client)"
    else:
        sock = connect_stream(endpoint.host, endpoint.port, deadline)
        remote, local = ends(sock)
    loop, dedicated = _loop(threads, sock)
    return StreamActor.open_for(
        Connection,
        sock,
        loop,
        remote_address=remote,
        local_address=local,
        framing=framing_,
        max_size=max_size,
        outbox_bytes=outbox_bytes,
        stall_timeout=stall_timeout,
        dedicated=dedicated,
        **limits,
    )


def listen(
    url: str,
    *,
    framing: FramingName = "length",
    max_size: int = MAX_SIZE,
    mailbox_messages: int = MAX_MESSAGES,
    mailbox_bytes: int = MAX_BYTES,
    outbox_bytes: int = OUTBOX_BYTES,
    stall_timeout: float | None = STALL_TIMEOUT,
    threads: Own = None,
) -> Listener:
    """Listen on `tcp://host:port` or `unix:///path`; `accept` gives a Connection each. Port 0 picks one: see `Listener.address`.

    The other arguments are those of `connect`, for every accepted connection. Raises BadAddress, OSError (in use, not permitted),
    ConnectFailed (no such name), TypeError, ValueError.
    """
    endpoint = parse(url, "listen", VERBS)
    framing_ = _framing(framing)
    for value, name in ((max_size, "max_size"), (mailbox_messages, "mailbox_messages")):
        _positive(value, name)
    for value, name in ((mailbox_bytes, "mailbox_bytes"), (outbox_bytes, "outbox_bytes")):
        _positive(value, name)
    check_timeout(stall_timeout, "stall_timeout")
    _check_threads(threads)
    path = _unix_path(endpoint) if endpoint.scheme == "unix" else None
    sock = listen_unix(path) if path else listen_stream(endpoint.host, endpoint.port)
    loop, dedicated = _loop(threads, sock)

    def admit(sock: Any, remote: str, local: str) -> StreamActor:
        return StreamActor.open(
            sock,
            loop,
            remote_address=remote,
            local_address=local,
            framing=framing_,
            max_size=max_size,
            mailbox_messages=mailbox_messages,
            mailbox_bytes=mailbox_bytes,
            outbox_bytes=outbox_bytes,
            stall_timeout=stall_timeout,
        )

    return ListenerActor.open_for(Listener, sock, loop, admit=admit, keep=Connection, path=path, dedicated=dedicated)


def bind(
    url: str,
    *,
    broadcast: bool = False,
    reuse_port: bool = False,
    paused: bool = False,
    mapped: bool = False,
    mailbox_messages: int = MAX_MESSAGES,
    mailbox_bytes: int = MAX_BYTES,
    threads: Own = None,
) -> UdpSocket:
    """Bind a UDP socket to `udp://host:port`, to receive from anybody and send to anybody. Port 0 picks one: see `UdpSocket.address`.

    `udp://*:port` is a socket for both IPv4 and IPv6 on all interfaces, for IPv4 alone where the system has no IPv6.

    `broadcast=True` allows sending to broadcast addresses; `reuse_port=True` lets others that ask for it too bind the same port;
    `paused=True` reads nothing until `resume`; with `mapped=True`, `source` tells an IPv4 sender that an IPv6 socket heard,
    "[::ffff:10.0.0.5]:9090", from one that an IPv4 socket heard. Raises BadAddress, OSError, ConnectFailed (no such name), TypeError,
    ValueError.
    """
    endpoint = parse(url, "bind", VERBS)
    _positive(mailbox_messages, "mailbox_messages")
    _positive(mailbox_bytes, "mailbox_bytes")
    _check_threads(threads)
    options = {"broadcast": broadcast, "reuse_port": reuse_port}
    if endpoint.host == "*":
        sock: Closable = bind_pair(endpoint.port, **options)
    else:
        sock = bind_datagram(endpoint.host, endpoint.port, **options)
    loop, dedicated = _loop(threads, sock)
    return DatagramActor.open_for(
        UdpSocket,
        sock,
        loop,
        paused=paused,
        mapped=mapped,
        mailbox_messages=mailbox_messages,
        mailbox_bytes=mailbox_bytes,
        dedicated=dedicated,
    )


def join(
    url: str,
    *,
    interface: str | None = None,
    ttl: int = 1,
    loopback: bool = True,
    mailbox_messages: int = MAX_MESSAGES,
    mailbox_bytes: int = MAX_BYTES,
    threads: Own = None,
) -> Group:
    """Join the multicast group `udp://239.1.1.1:9999` (or `udp://[ff02::1]:9999`).

    `interface`: the name or an address of a network interface; None lets the route decide, or the environment variable
    ACTORBUS_MULTICAST_INTERFACE. `ttl`: routers to cross at most, 0 to 255. `loopback`: whether this machine, this group included, hears
    what it sends. Raises BadAddress, OSError, TypeError, ValueError.
    """
    endpoint = parse(url, "join", VERBS)
    if isinstance(ttl, bool) or not isinstance(ttl, int):
        raise TypeError(f"ttl must be an int, not {type(ttl).__name__}")
    if not 0 <= ttl <= 255:
        raise ValueError(f"ttl must be 0 to 255, not {ttl}")
    _positive(mailbox_messages, "mailbox_messages")
    _positive(mailbox_bytes, "mailbox_bytes")
    _check_threads(threads)
    if interface is not None and not isinstance(interface, str):
        raise TypeError(f"interface must be a str, not {type(interface).__name__}")
    interface = interface or os.environ.get("ACTORBUS_MULTICAST_INTERFACE") or None
    sock, own = join_group(endpoint.host, endpoint.port, interface=interface, ttl=ttl, loopback=loopback)
    loop, dedicated = _loop(threads, sock)
    group = sock.getsockname()
    address = format_address(group)
    return DatagramActor.open_for(
        lambda actor: Group(actor, address),
        sock,
        loop,
        group=group,
        local_address=own,
        mailbox_messages=mailbox_messages,
        mailbox_bytes=mailbox_bytes,
        dedicated=dedicated,
    )


def serve(
    url: str,
    on_message: Callable[[Message, Client], Sendable | None],
    *,
    on_connect: Callable[[Client], object] | None = None,
    on_disconnect: Callable[[Client, BusError], object] | None = None,
    framing: FramingName = "length",
    max_size: int = SERVER_MAX_SIZE,
    outbox_bytes: int = OUTBOX_BYTES,
    stall_timeout: float | None = STALL_TIMEOUT,
    max_clients: int = MAX_CLIENTS,
    max_clients_per_address: int = MAX_CLIENTS,
    overflow: Literal["skip", "disconnect"] = "skip",
    serial: bool = False,
    threads: int | Literal["own"] | None = None,
) -> Server:
    """Serve many clients on `tcp://host:port` or `unix:///path`. Returns at once; `Server.wait` waits for the end.

    `on_message(msg, client)` is called for every message; what it returns, if not None, is sent back. `on_connect(client)` comes before a
    client's first message, `on_disconnect(client, reason)` once after its last. Callbacks of one client never overlap; those of different
    clients may, unless `serial=True` runs all of them one at a time. A callback that takes long holds up its own client only. One that
    raises is logged and ends the connection of its client.

    `overflow`: what a broadcast does with a client whose outbox is full. `threads`: None serves on the shared reader thread, K on K of its
    own, "own" gives each client one. `max_size` (1 MiB) bounds a message from a client. The rest as for `connect`. Raises BadAddress,
    OSError, ConnectFailed (no such name), TypeError, ValueError.
    """
    endpoint = parse(url, "serve", VERBS)
    framing_ = _framing(framing)
    for callback, name in ((on_message, "on_message"), (on_connect, "on_connect"), (on_disconnect, "on_disconnect")):
        if callback is None and name != "on_message":
            continue
        if not callable(callback):
            raise TypeError(f"{name} must be callable, not {type(callback).__name__}")
    for value, what in ((max_size, "max_size"), (outbox_bytes, "outbox_bytes"), (max_clients, "max_clients")):
        _positive(value, what)
    _positive(max_clients_per_address, "max_clients_per_address")
    check_timeout(stall_timeout, "stall_timeout")
    if overflow not in ("skip", "disconnect"):
        raise ValueError(f'overflow must be "skip" or "disconnect", not {overflow!r}')
    if threads is not None and threads != "own":
        _positive(threads, "threads")
    path = _unix_path(endpoint) if endpoint.scheme == "unix" else None
    sock = listen_unix(path) if path else listen_stream(endpoint.host, endpoint.port)
    loop, _ = _loop(None, sock)
    home = object()
    return ServerActor.open_for(
        lambda actor: Server(actor, home),
        sock,
        loop,
        callbacks=Callbacks(on_message, on_connect, on_disconnect),
        make_client=lambda actor: Client(actor, home),
        framing=framing_,
        max_size=max_size,
        outbox_bytes=outbox_bytes,
        stall_timeout=stall_timeout,
        max_clients=max_clients,
        max_clients_per_address=max_clients_per_address,
        overflow=overflow,
        serial=serial,
        threads=threads,
        path=path,
    )


def shutdown(timeout: float | None = 5) -> bool:
    """Close everything that is open, flushing for up to `timeout` seconds, and end the library's threads.

    Returns whether all that was sent has reached the other sides' TCP. Runs by itself when the interpreter exits. The library can be used
    again.
    """
    return hosting.shutdown(check_timeout(timeout))

"""The verbs but for `serve`: connect, listen, bind, join, shutdown. Arguments are checked here; what they start lives in `actors`."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from actors import hosting
from actors.actor import Closable
from actors.binding import bind_datagram, bind_pair, join_group, listen_stream, listen_unix
from actors.connecting import connect_datagram, connect_stream, connect_unix, ends
from actors.datagram import DatagramActor
from actors.errors import BadAddress, BusError
from actors.heartbeat import with_heartbeat
from actors.http import PING_INTERVAL, PING_TIMEOUT
from actors.link import BACKOFF, Dialled, LinkActor, LinkState
from actors.listener import ListenerActor
from actors.mailbox import MAX_BYTES, MAX_MESSAGES
from actors.outbox import MAX_BYTES as OUTBOX_BYTES
from actors.resolving import format_address
from actors.sockets import set_user_timeout
from actors.stream import MAX_SIZE, STALL_TIMEOUT, StreamActor
from actors.waiting import check_timeout, deadline_after
from bus.arguments import (
    VERBS,
    WEBSOCKET,
    FramingName,
    Own,
    check_backoff,
    check_callable,
    check_framing,
    check_liveness,
    check_positive,
    check_threads,
    check_tls,
    loop_for,
    unix_path,
)
from bus.connection import Connection
from bus.datagrams import Group, UdpSocket
from bus.endpoints import Endpoint, parse
from bus.listener import Listener
from bus.websocket import check_pings

if TYPE_CHECKING:
    import ssl

__all__ = ["bind", "connect", "explain", "join", "listen", "shutdown"]


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
    headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] | None = None,
    origin: str | None = None,
    compression: bool = False,
    ping_interval: float | None = PING_INTERVAL,
    ping_timeout: float | None = PING_TIMEOUT,
    proxy: str | bool = True,
    tls: ssl.SSLContext | None = None,
    reconnect: bool = False,
    backoff: tuple[float, float] = BACKOFF,
    on_state: Callable[[LinkState, BusError | None], object] | None = None,
    heartbeat: float | None = None,
    user_timeout: float | None = None,
) -> Connection:
    """Connect to `tcp://host:port`, `tls://…`, `unix:///path`, `ws://host:port/path`, `wss://…`, or to one peer's `udp://host:port`.

    `timeout`: seconds for name lookup and connecting together (None: no limit; must be over 0). `framing`: "length", "etx", "lines" or
    "raw".
    `max_size`: bytes of one message, both ways. `mailbox_*`, `outbox_bytes`: how much may wait. `stall_timeout`: seconds after which a peer
    that takes nothing is given up. `threads="own"` gives the connection a reader thread of its own.

    `heartbeat`: seconds (None: none; not for "raw") after which an empty message, which no script sees, is sent where nothing else was; a
    peer that sends nothing for three of them is given up. Both ends have to ask for it. `user_timeout`: seconds for which what was sent may
    stay unacknowledged (TCP_USER_TIMEOUT, RFC 5482); a peer that merely does not read can fall victim to it.

    `tls`: for `tls://` and `wss://`, an `ssl.SSLContext`; by default one that trusts the system's roots (`SSL_CERT_FILE` names others) and
    checks the host's name.

    For `ws://` and `wss://` alone: `headers` of the handshake request, `subprotocols` offered (RFC 6455) and `origin`; `compression` offers
    permessage-deflate (RFC 7692); `ping_interval` and `ping_timeout` (seconds, None: none) are the keepalive; `proxy`: True for what the
    system says, False for none, or an `http://` URL.

    With `reconnect=True` a connection that ends, in order or not, is made again until `close()`; only the first one fails with an error.
    `receive` goes on over the gap; `send` waits for the next connection up to its timeout, then raises NotSent with nothing taken; what may
    not have arrived when a connection ended is told by `Connection.unconfirmed`, and never sent again by itself. `backoff`: seconds of the
    first pause and of the longest; it doubles each time, less up to a half by chance. Each attempt has `timeout` seconds.
    `on_state(state, reason)` is called with "reconnecting" and why (a BusError) for a loss and for each attempt that fails, with
    "connected" when there is a new one, and at last with "closed"; one call after the other, on a thread of the library's.

    Raises BadAddress, ConnectFailed, ConnectTimeout, TypeError, ValueError.

    >>> import bus
    >>> with bus.serve("tcp://127.0.0.1:0", on_message=lambda msg, client: msg) as server:
    ...     with bus.connect(f"tcp://{server.address}", timeout=5) as conn:
    ...         conn.send({"action": "ping"})
    ...         print(conn.receive(timeout=5).json())
    {'action': 'ping'}
    """
    endpoint = parse(url, "connect", VERBS)
    framing_ = check_framing(framing)
    limits: dict[str, Any] = {
        "mailbox_messages": check_positive(mailbox_messages, "mailbox_messages"),
        "mailbox_bytes": check_positive(mailbox_bytes, "mailbox_bytes"),
    }
    check_positive(max_size, "max_size")
    check_positive(outbox_bytes, "outbox_bytes")
    check_timeout(stall_timeout, "stall_timeout")
    check_threads(threads)
    check_tls(tls, endpoint.scheme, server=False)
    check_liveness(endpoint.scheme, framing_, heartbeat, user_timeout)
    deadline = deadline_after(timeout)
    if timeout is not None and timeout <= 0:
        raise ValueError(f"timeout must be over 0 to connect, not {timeout!r}")
    link: dict[str, Any] = {}
    if reconnect:
        link = {"backoff": check_backoff(backoff), "on_state": check_callable(on_state, "on_state"), "timeout": timeout}
        if endpoint.scheme == "udp":
            raise ValueError("reconnect is for streams: udp:// has no connection that could be lost")
    elif on_state is not None:
        raise ValueError("on_state tells what happens with reconnect=True")
    options: dict[str, Any] = {"max_size": max_size, "outbox_bytes": outbox_bytes, "stall_timeout": stall_timeout}
    if endpoint.scheme in WEBSOCKET:
        check_pings(ping_interval, ping_timeout)
        options |= {"ping_interval": ping_interval, "ping_timeout": ping_timeout}
        handshake: dict[str, Any] = {"max_size": max_size, "headers": headers, "subprotocols": subprotocols, "origin": origin}
        handshake |= {"compression": compression, "proxy": proxy, "tls": tls}
        return _open(lambda deadline: _dial_websocket(url, deadline, handshake, options, user_timeout), deadline, threads, limits, link)
    if headers is not None or subprotocols is not None or origin is not None or compression:
        raise ValueError(f"headers, subprotocols, origin and compression are for ws://, not {endpoint.scheme}://")
    if endpoint.port == 0 and endpoint.scheme != "unix":
        raise BadAddress(url, "port 0 can't be connected to")
    if endpoint.scheme == "udp":
        sock = connect_datagram(endpoint.host, endpoint.port, deadline)
        peer, _ = ends(sock)
        loop, dedicated = loop_for(threads, sock)
        return DatagramActor.open_for(Connection, sock, loop, peer=peer, dedicated=dedicated, **limits)


    def dial(deadline: float | None) -> Dialled:
        return _dial(endpoint, deadline, tls, user_timeout, options | {"framing": with_heartbeat(framing_, heartbeat)})

    return _open(dial, deadline, threads, limits, link)


def _open(
    dial: Callable[[float | None], Dialled], deadline: float | None, threads: Own, limits: dict[str, Any], link: dict[str, Any]
) -> Connection:
    """The first connection, or the only one."""
    sock, kind, options = dialled = dial(deadline)
    loop, dedicated = loop_for(threads, sock)
    if link:
        return LinkActor.open_for(Connection, sock, loop, first=dialled, dial=dial, dedicated=dedicated, **limits, **link)
    return kind.open_for(Connection, sock, loop, dedicated=dedicated, **limits, **options)


def _dial(
    endpoint: Endpoint, deadline: float | None, tls: ssl.SSLContext | None, user_timeout: float | None, options: dict[str, Any]
) -> Dialled:
    if endpoint.scheme == "unix":
        path = unix_path(endpoint)
        sock = connect_unix(path, deadline)
        remote, local = path, f"{path} (client)"
    else:
        sock = connect_stream(endpoint.host, endpoint.port, deadline)
        remote, local = ends(sock)
        if user_timeout is not None:
            set_user_timeout(sock, user_timeout)
        if endpoint.scheme == "tls":
            sock = _encrypted(sock, tls, endpoint, deadline)
    return Dialled(sock, StreamActor, {"remote_address": remote, "local_address": local, **options})


def _dial_websocket(
    url: str, deadline: float | None, handshake: dict[str, Any], options: dict[str, Any], user_timeout: float | None
) -> Dialled:
    from actors.websocket import WebSocketActor
    from actors.wsclient import open_websocket

    sock, protocol, rest, _, remote, local = open_websocket(url, deadline, **handshake)
    if user_timeout is not None:
        set_user_timeout(sock, user_timeout)
    mine = {"remote_address": remote, "local_address": local, "protocol": protocol, "rest": rest}
    return Dialled(sock, WebSocketActor, mine | options)


def _encrypted(sock: socket.socket, tls: ssl.SSLContext | None, endpoint: Endpoint, deadline: float | None) -> socket.socket:
    from actors.tls import client_context, connect_tls

    try:
        return cast(socket.socket, connect_tls(sock, client_context(tls), endpoint.host, f"{endpoint.host}:{endpoint.port}", deadline))
    except BaseException:
        sock.close()
        raise


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
    tls: ssl.SSLContext | None = None,
    heartbeat: float | None = None,
    user_timeout: float | None = None,
) -> Listener:
    """Listen on `tcp://host:port`, `tls://…` or `unix:///path`; `accept` gives a Connection each. Port 0 picks one: see `Listener.address`.

    The other arguments are those of `connect`, for every accepted connection. Raises BadAddress, OSError (in use, not permitted),
    ConnectFailed (no such name), TypeError, ValueError.
    """
    endpoint = parse(url, "listen", VERBS)
    framing_ = check_framing(framing)
    for value, name in ((max_size, "max_size"), (mailbox_messages, "mailbox_messages")):
        check_positive(value, name)
    for value, name in ((mailbox_bytes, "mailbox_bytes"), (outbox_bytes, "outbox_bytes")):
        check_positive(value, name)
    check_timeout(stall_timeout, "stall_timeout")
    check_threads(threads)
    check_tls(tls, endpoint.scheme, server=True)
    check_liveness(endpoint.scheme, framing_, heartbeat, user_timeout)
    path = unix_path(endpoint) if endpoint.scheme == "unix" else None
    sock = listen_unix(path) if path else listen_stream(endpoint.host, endpoint.port)
    loop, dedicated = loop_for(threads, sock)

    options: dict[str, Any] = {
        "max_size": max_size,
        "mailbox_messages": mailbox_messages,
        "mailbox_bytes": mailbox_bytes,
        "outbox_bytes": outbox_bytes,
        "stall_timeout": stall_timeout,
    }

    def admit(sock: Any, remote: str, local: str) -> StreamActor:
        if user_timeout is not None:
            set_user_timeout(sock, user_timeout)
        mine: dict[str, Any] = options | {"remote_address": remote, "local_address": local}
        mine["framing"] = with_heartbeat(framing_, heartbeat)
        if tls is None:
            return StreamActor.open(sock, loop, **mine)
        from actors.tlsstream import TlsStreamActor

        return TlsStreamActor.open(sock, loop, context=tls, **mine)

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
    check_positive(mailbox_messages, "mailbox_messages")
    check_positive(mailbox_bytes, "mailbox_bytes")
    check_threads(threads)
    options = {"broadcast": broadcast, "reuse_port": reuse_port}
    if endpoint.host == "*":
        sock: Closable = bind_pair(endpoint.port, **options)
    else:
        sock = bind_datagram(endpoint.host, endpoint.port, **options)
    loop, dedicated = loop_for(threads, sock)
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
    check_positive(mailbox_messages, "mailbox_messages")
    check_positive(mailbox_bytes, "mailbox_bytes")
    check_threads(threads)
    if interface is not None and not isinstance(interface, str):
        raise TypeError(f"interface must be a str, not {type(interface).__name__}")
    interface = interface or os.environ.get("ACTORBUS_MULTICAST_INTERFACE") or None
    sock, own = join_group(endpoint.host, endpoint.port, interface=interface, ttl=ttl, loopback=loopback)
    loop, dedicated = loop_for(threads, sock)
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


def explain() -> str:
    """What every open object is doing, in one text: to whom, in which state since when, who waits on it in which line of which file, how
    much waits in and out and for how long, the last byte each way, and what was lost. The first thing to look at when something hangs.

    It takes no lock, prints nothing by itself, and shows no payload. To have it at hand in a script that hangs:
    `signal.signal(signal.SIGUSR1, lambda *_: print(bus.explain()))`.

    >>> import bus
    >>> with bus.bind("udp://127.0.0.1:0") as sock:
    ...     print("UDP socket 127.0.0.1:" in bus.explain())
    True
    """
    from actors.explaining import explain

    return explain()


def shutdown(timeout: float | None = 5) -> bool:
    """Close everything that is open, flushing for up to `timeout` seconds, and end the library's threads.

    Returns whether all that was sent has reached the other sides' TCP. Runs by itself when the interpreter exits. The library can be used
    again.
    """
    return hosting.shutdown(check_timeout(timeout))

"""The verbs but for `connect` and `serve`. Arguments are checked here; what they start lives in `actors`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from actors import hosting
from actors.actor import Closable
from actors.binding import bind_datagram, bind_pair, listen_stream, listen_unix
from actors.datagram import DatagramActor
from actors.framing import with_heartbeat
from actors.listener import ListenerActor
from actors.mailbox import MAX_BYTES, MAX_MESSAGES
from actors.outbox import MAX_BYTES as OUTBOX_BYTES
from actors.outbox import MAX_MESSAGES as OUTBOX_MESSAGES
from actors.resolving import format_address
from actors.sockets import set_user_timeout
from actors.stream import MAX_SIZE, STALL_TIMEOUT, StreamActor
from actors.waiting import check_timeout
from bus.arguments import (
    VERBS,
    FramingName,
    Own,
    check_counts,
    check_framing,
    check_half_open,
    check_liveness,
    check_threads,
    check_tls,
    loop_for,
    unix_path,
)
from bus.connection import Connection
from bus.datagrams import Group, UdpSocket
from bus.endpoints import parse
from bus.listener import Listener

if TYPE_CHECKING:
    import ssl

    from actors.certificates import Path

__all__ = ["bind", "explain", "join", "listen", "shutdown"]


def listen(
    url: str,
    *,
    framing: FramingName = "length",
    max_size: int = MAX_SIZE,
    mailbox_messages: int = MAX_MESSAGES,
    mailbox_bytes: int = MAX_BYTES,
    outbox_bytes: int = OUTBOX_BYTES,
    outbox_messages: int = OUTBOX_MESSAGES,
    stall_timeout: float | None = STALL_TIMEOUT,
    threads: Own = None,
    tls: ssl.SSLContext | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    ca: Path | None = None,
    heartbeat: float | None = None,
    user_timeout: float | None = None,
    half_open: bool = False,
) -> Listener:
    """Listen on `tcp://host:port`, `tls://…` or `unix:///path`; `accept` gives a Connection each. Port 0 picks one: see `Listener.address`.

    The other arguments are those of `connect`, for every accepted connection, and `cert`, `key` and `ca` those of `serve`. Raises
    BadAddress, OSError (in use, not permitted, a file that can't be read), ConnectFailed (no such name), TypeError, ValueError.
    """
    endpoint = parse(url, "listen", VERBS)
    options = check_counts(
        max_size=max_size,
        mailbox_messages=mailbox_messages,
        mailbox_bytes=mailbox_bytes,
        outbox_bytes=outbox_bytes,
        outbox_messages=outbox_messages,
    )
    framing_ = check_framing(framing)
    options["stall_timeout"] = check_timeout(stall_timeout, "stall_timeout")
    check_threads(threads)
    credentials = check_tls(endpoint.scheme, server=True, tls=tls, cert=cert, key=key, ca=ca)
    check_liveness(endpoint.scheme, framing_, heartbeat, user_timeout)
    check_half_open(half_open, endpoint.scheme)
    path = unix_path(endpoint) if endpoint.scheme == "unix" else None
    sock = listen_unix(path) if path else listen_stream(endpoint.host, endpoint.port)
    loop, dedicated = loop_for(threads, sock)

    def admit(sock: Any, remote: str, local: str) -> StreamActor:
        set_user_timeout(sock, user_timeout)
        mine: dict[str, Any] = options | {"remote_address": remote, "local_address": local, "half_open": half_open}
        mine["framing"] = with_heartbeat(framing_, heartbeat)
        if credentials is None:
            return StreamActor.open(sock, loop, **mine)
        from actors.tlsstream import TlsStreamActor

        return TlsStreamActor.open(sock, loop, context=credentials.context, **mine)

    return ListenerActor.open_for(Listener, sock, loop, admit=admit, keep=Connection, path=path, tls=credentials, dedicated=dedicated)


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
    limits = check_counts(mailbox_messages=mailbox_messages, mailbox_bytes=mailbox_bytes)
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
        dedicated=dedicated,
        **limits,
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
    limits = check_counts(mailbox_messages=mailbox_messages, mailbox_bytes=mailbox_bytes)
    check_threads(threads)
    if interface is not None and not isinstance(interface, str):
        raise TypeError(f"interface must be a str, not {type(interface).__name__}")
    interface = interface or os.environ.get("ACTORBUS_MULTICAST_INTERFACE") or None
    from actors.multicast import join_group

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
        dedicated=dedicated,
        **limits,
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

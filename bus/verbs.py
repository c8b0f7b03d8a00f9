"""The verbs but for `serve`: connect, listen, bind, join, shutdown. Arguments are checked here; what they start lives in `actors`."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from actors import hosting
from actors.actor import Closable
from actors.binding import bind_datagram, bind_pair, join_group, listen_stream, listen_unix
from actors.connecting import connect_datagram, connect_stream, connect_unix, ends
from actors.datagram import DatagramActor
from actors.errors import BadAddress
from actors.http import PING_INTERVAL, PING_TIMEOUT
from actors.listener import ListenerActor
from actors.mailbox import MAX_BYTES, MAX_MESSAGES
from actors.outbox import MAX_BYTES as OUTBOX_BYTES
from actors.resolving import format_address
from actors.stream import MAX_SIZE, STALL_TIMEOUT, StreamActor
from actors.waiting import check_timeout, deadline_after
from bus.arguments import (
    VERBS,
    WEBSOCKET,
    FramingName,
    Own,
    Path,
    check_framing,
    check_name,
    check_positive,
    check_threads,
    check_tls,
    loop_for,
    unix_path,
)
from bus.connection import Connection
from bus.datagrams import Group, UdpSocket
from bus.endpoints import parse
from bus.listener import Listener
from bus.websocket import check_pings

if TYPE_CHECKING:
    import ssl

__all__ = ["bind", "connect", "join", "listen", "shutdown"]


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
    cert: Path | None = None,
    key: Path | None = None,
    ca: Path | None = None,
    server_hostname: str | None = None,
) -> Connection:
    """Connect to `tcp://host:port`, `tls://…`, `unix:///path`, `ws://host:port/path`, `wss://…`, or to one peer's `udp://host:port`.

    `timeout`: seconds for name lookup and connecting together (None: no limit; must be over 0). `framing`: "length", "etx", "lines" or
    "raw".
    `max_size`: bytes of one message, both ways. `mailbox_*`, `outbox_bytes`: how much may wait. `stall_timeout`: seconds after which a peer
    that takes nothing is given up. `threads="own"` gives the connection a reader thread of its own.

    For `tls://` and `wss://` alone: `ca`: a file of certificates (PEM) to trust instead of the system's roots (`SSL_CERT_FILE` names
    others); `cert` and `key`: this client's own certificate and its private key, for a server that asks; `server_hostname`: the name or IP
    address that the server's certificate has to have, by default the URL's host; or `tls`: an `ssl.SSLContext` instead of the three files.
    That a server refuses the client's certificate shows behind `connect` with TLS 1.3: at the first `receive`, as Broken.

    For `ws://` and `wss://` alone: `headers` of the handshake request, `subprotocols` offered (RFC 6455) and `origin`; `compression` offers
    permessage-deflate (RFC 7692); `ping_interval` and `ping_timeout` (seconds, None: none) are the keepalive; `proxy`: True for what the
    system says, False for none, or an `http://` URL.

    Raises BadAddress, ConnectFailed, ConnectTimeout, TypeError, ValueError (also for a file that is no certificate or key, or does not
    fit), OSError for a file that can't be read.

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
    check_name(server_hostname, endpoint.scheme)
    credentials = check_tls(endpoint.scheme, server=False, tls=tls, cert=cert, key=key, ca=ca)
    context = None if credentials is None else credentials.context
    deadline = deadline_after(timeout)
    if timeout is not None and timeout <= 0:
        raise ValueError(f"timeout must be over 0 to connect, not {timeout!r}")
    if endpoint.scheme in WEBSOCKET:
        from actors.websocket import WebSocketActor
        from actors.wsclient import open_websocket

        check_pings(ping_interval, ping_timeout)
        opened = open_websocket(
            url,
            deadline,
            max_size=max_size,
            headers=headers,
            subprotocols=subprotocols,
            origin=origin,
            compression=compression,
            proxy=proxy,
            tls=context,
            server_hostname=server_hostname,
        )
        loop, dedicated = loop_for(threads, opened.sock)
        return WebSocketActor.open_for(
            Connection,
            opened.sock,
            loop,
            remote_address=opened.remote_address,
            local_address=opened.local_address,
            protocol=opened.protocol,
            rest=opened.rest,
            max_size=max_size,
            outbox_bytes=outbox_bytes,
            stall_timeout=stall_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            dedicated=dedicated,
            **limits,
        )
    if headers is not None or subprotocols is not None or origin is not None or compression:
        raise ValueError(f"headers, subprotocols, origin and compression are for ws://, not {endpoint.scheme}://")
    if endpoint.port == 0 and endpoint.scheme != "unix":
        raise BadAddress(url, "port 0 can't be connected to")
    if endpoint.scheme == "udp":
        sock = connect_datagram(endpoint.host, endpoint.port, deadline)
        peer, _ = ends(sock)
        loop, dedicated = loop_for(threads, sock)
        return DatagramActor.open_for(Connection, sock, loop, peer=peer, dedicated=dedicated, **limits)
    if endpoint.scheme == "unix":
        path = unix_path(endpoint)
        sock = connect_unix(path, deadline)
        remote, local = path, f"{path} (client)"
    else:
        sock = connect_stream(endpoint.host, endpoint.port, deadline)
        remote, local = ends(sock)
        if context is not None:
            sock = _encrypted(sock, context, server_hostname or endpoint.host, f"{endpoint.host}:{endpoint.port}", deadline)
    loop, dedicated = loop_for(threads, sock)
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


def _encrypted(sock: socket.socket, context: ssl.SSLContext, name: str, where: str, deadline: float | None) -> socket.socket:
    from actors.tls import connect_tls

    try:
        return cast(socket.socket, connect_tls(sock, context, name, where, deadline))
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
    cert: Path | None = None,
    key: Path | None = None,
    ca: Path | None = None,
) -> Listener:
    """Listen on `tcp://host:port`, `tls://…` or `unix:///path`; `accept` gives a Connection each. Port 0 picks one: see `Listener.address`.

    The other arguments are those of `connect`, for every accepted connection, and `cert`, `key` and `ca` those of `serve`. Raises
    BadAddress, OSError (in use, not permitted, a file that can't be read), ConnectFailed (no such name), TypeError, ValueError.
    """
    endpoint = parse(url, "listen", VERBS)
    framing_ = check_framing(framing)
    for value, name in ((max_size, "max_size"), (mailbox_messages, "mailbox_messages")):
        check_positive(value, name)
    for value, name in ((mailbox_bytes, "mailbox_bytes"), (outbox_bytes, "outbox_bytes")):
        check_positive(value, name)
    check_timeout(stall_timeout, "stall_timeout")
    check_threads(threads)
    credentials = check_tls(endpoint.scheme, server=True, tls=tls, cert=cert, key=key, ca=ca)
    path = unix_path(endpoint) if endpoint.scheme == "unix" else None
    sock = listen_unix(path) if path else listen_stream(endpoint.host, endpoint.port)
    loop, dedicated = loop_for(threads, sock)

    options: dict[str, Any] = {
        "framing": framing_,
        "max_size": max_size,
        "mailbox_messages": mailbox_messages,
        "mailbox_bytes": mailbox_bytes,
        "outbox_bytes": outbox_bytes,
        "stall_timeout": stall_timeout,
    }

    def admit(sock: Any, remote: str, local: str) -> StreamActor:
        if credentials is None:
            return StreamActor.open(sock, loop, remote_address=remote, local_address=local, **options)
        from actors.tlsstream import TlsStreamActor

        return TlsStreamActor.open(sock, loop, remote_address=remote, local_address=local, context=credentials.context, **options)

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


def shutdown(timeout: float | None = 5) -> bool:
    """Close everything that is open, flushing for up to `timeout` seconds, and end the library's threads.

    Returns whether all that was sent has reached the other sides' TCP. Runs by itself when the interpreter exits. The library can be used
    again.
    """
    return hosting.shutdown(check_timeout(timeout))

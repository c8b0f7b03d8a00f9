"""The verb `connect`: one connection, or one after the other. Arguments are checked here; what they start lives in `actors`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from actors.connecting import BACKOFF, Dialled, connect_datagram, connect_stream, connect_unix, ends
from actors.errors import BadAddress
from actors.framing import with_heartbeat
from actors.mailbox import MAX_BYTES, MAX_MESSAGES
from actors.outbox import MAX_BYTES as OUTBOX_BYTES
from actors.outbox import MAX_MESSAGES as OUTBOX_MESSAGES
from actors.silence import PING_INTERVAL, PING_TIMEOUT
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
    check_counts,
    check_framing,
    check_half_open,
    check_liveness,
    check_pings,
    check_server_hostname,
    check_threads,
    check_tls,
    loop_for,
    unix_path,
)
from bus.connection import Connection
from bus.endpoints import Endpoint, parse

if TYPE_CHECKING:
    import ssl

    from actors.certificates import Path
    from actors.telling import OnState

__all__ = ["connect"]


def connect(
    url: str,
    *,
    timeout: float | None = 10,
    framing: FramingName = "length",
    max_size: int = MAX_SIZE,
    mailbox_messages: int = MAX_MESSAGES,
    mailbox_bytes: int = MAX_BYTES,
    outbox_bytes: int = OUTBOX_BYTES,
    outbox_messages: int = OUTBOX_MESSAGES,
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
    reconnect: bool = False,
    backoff: tuple[float, float] = BACKOFF,
    on_state: OnState | None = None,
    heartbeat: float | None = None,
    user_timeout: float | None = None,
    half_open: bool = False,
) -> Connection:
    """Connect to `tcp://host:port`, `tls://…`, `unix:///path`, `ws://host:port/path`, `wss://…`, or to one peer's `udp://host:port`.

    `timeout`: seconds for name lookup and connecting together (None: no limit; must be over 0). `framing`: "length", "etx", "lines" or
    "raw".
    `max_size`: bytes of one message, both ways. `mailbox_*`, `outbox_*`: how much may wait. `stall_timeout`: seconds after which a peer
    that takes nothing is given up. `threads="own"` gives the connection a reader thread of its own.

    `heartbeat`: seconds (None: none; not for "raw") after which an empty message, which no script sees, is sent where nothing else was; a
    peer that sends nothing for three of them is given up. Both ends have to ask for it. `user_timeout`: seconds for which what was sent may
    stay unacknowledged (TCP_USER_TIMEOUT, RFC 5482); a peer that merely does not read can fall victim to it.

    `half_open=True`, for `tcp://`, `tls://` and `unix://`: when the peer has said all (its FIN), `receive` raises PeerClosed as ever, and
    `send` goes on until `send_eof()` or `close()`. By default the connection is over once the script has heard that.

    For `tls://` and `wss://` alone: `ca`: a file of certificates (PEM) to trust instead of the system's roots (`SSL_CERT_FILE` names
    others); `cert` and `key`: this client's own certificate and its private key, for a server that asks; `server_hostname`: the name or IP
    address that the server's certificate has to have, by default the URL's host; or `tls`: an `ssl.SSLContext` instead of the three files.
    That a server refuses the client's certificate shows behind `connect` with TLS 1.3: at the first `receive`, as Broken.

    For `ws://` and `wss://` alone: `headers` of the handshake request, `subprotocols` offered (RFC 6455) and `origin`; `compression` offers
    permessage-deflate (RFC 7692); `ping_interval` and `ping_timeout` (seconds, None: none) are the keepalive; `proxy`: True for what the
    system says, False for none, or an `http://` URL.

    With `reconnect=True` a connection that ends, in order or not, is made again until `close()`; only the first one fails with an error.
    `receive` goes on over the gap; `send` waits for the next connection up to its timeout, then raises NotSent with nothing taken; what may
    not have arrived when a connection ended is told by `Connection.unconfirmed`, and never sent again by itself. `backoff`: seconds of the
    first pause and of the longest; it doubles each time, less up to a half by chance. Each attempt has `timeout` seconds.
    `on_state(state, reason)` is called with "reconnecting" and why (a BusError) for a loss and for each attempt that fails, with
    "connected" when there is a new one, and at last with "closed"; one call after the other, on a thread of the library's.

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
    limits = check_counts(mailbox_messages=mailbox_messages, mailbox_bytes=mailbox_bytes)
    options = check_counts(max_size=max_size, outbox_bytes=outbox_bytes, outbox_messages=outbox_messages)
    options["stall_timeout"] = check_timeout(stall_timeout, "stall_timeout")
    check_threads(threads)
    check_server_hostname(server_hostname, endpoint.scheme)
    credentials = check_tls(endpoint.scheme, server=False, tls=tls, cert=cert, key=key, ca=ca)
    context = None if credentials is None else credentials.context
    check_liveness(endpoint.scheme, framing_, heartbeat, user_timeout)
    deadline = deadline_after(timeout)
    if timeout is not None and timeout <= 0:
        raise ValueError(f"timeout must be over 0 to connect, not {timeout!r}")
    check_half_open(half_open, endpoint.scheme, reconnect)
    link: dict[str, Any] = {}
    if reconnect:
        link = {"backoff": check_backoff(backoff), "on_state": check_callable(on_state, "on_state"), "timeout": timeout}
        if endpoint.scheme == "udp":
            raise ValueError("reconnect is for streams: udp:// has no connection that could be lost")
    elif on_state is not None:
        raise ValueError("on_state tells what happens with reconnect=True")
    if endpoint.scheme in WEBSOCKET:
        check_pings(ping_interval, ping_timeout)
        options |= {"ping_interval": ping_interval, "ping_timeout": ping_timeout}
        handshake: dict[str, Any] = {"max_size": max_size, "headers": headers, "subprotocols": subprotocols, "origin": origin}
        handshake |= {"compression": compression, "proxy": proxy, "tls": context, "server_hostname": server_hostname}
        return _open(lambda deadline: _dial_websocket(url, deadline, handshake, options, user_timeout), deadline, threads, limits, link)
    if headers is not None or subprotocols is not None or origin is not None or compression:
        raise ValueError(f"headers, subprotocols, origin and compression are for ws://, not {endpoint.scheme}://")
    if endpoint.port == 0 and endpoint.scheme != "unix":
        raise BadAddress(url, "port 0 can't be connected to")
    if endpoint.scheme == "udp":
        from actors.datagram import DatagramActor

        sock = connect_datagram(endpoint.host, endpoint.port, deadline)
        peer, _ = ends(sock)
        loop, dedicated = loop_for(threads, sock)
        return DatagramActor.open_for(Connection, sock, loop, peer=peer, dedicated=dedicated, **limits)
    name = server_hostname or endpoint.host

    def dial(deadline: float | None) -> Dialled:
        mine = options | {"framing": with_heartbeat(framing_, heartbeat), "half_open": half_open}
        return _dial(endpoint, deadline, mine, user_timeout=user_timeout, context=context, name=name)

    return _open(dial, deadline, threads, limits, link)


def _open(
    dial: Callable[[float | None], Dialled], deadline: float | None, threads: Own, limits: dict[str, Any], link: dict[str, Any]
) -> Connection:
    """The first connection, or the only one."""
    first = dial(deadline)
    loop, dedicated = loop_for(threads, first.sock)
    if link:
        from actors.link import LinkActor

        return LinkActor.open_for(Connection, first.sock, loop, first=first, dial=dial, dedicated=dedicated, **limits, **link)
    return first.kind.open_for(Connection, first.sock, loop, dedicated=dedicated, **limits, **first.options)


def _dial(
    endpoint: Endpoint,
    deadline: float | None,
    options: dict[str, Any],
    *,
    user_timeout: float | None,
    context: ssl.SSLContext | None,
    name: str,
) -> Dialled:
    if endpoint.scheme == "unix":
        path = unix_path(endpoint)
        sock = connect_unix(path, deadline)
        remote, local = path, f"{path} (client)"
    else:
        sock = connect_stream(endpoint.host, endpoint.port, deadline)
        remote, local = ends(sock)
        set_user_timeout(sock, user_timeout)
        if context is not None:
            sock = _encrypted(sock, context, name, f"{endpoint.host}:{endpoint.port}", deadline)
    return Dialled(sock, StreamActor, {"remote_address": remote, "local_address": local, **options})


def _dial_websocket(
    url: str, deadline: float | None, handshake: dict[str, Any], options: dict[str, Any], user_timeout: float | None
) -> Dialled:
    from actors.websocket import WebSocketActor
    from actors.wsclient import open_websocket

    sock, protocol, rest, _, remote, local = open_websocket(url, deadline, **handshake)
    set_user_timeout(sock, user_timeout)
    mine = {"remote_address": remote, "local_address": local, "protocol": protocol, "rest": rest}
    return Dialled(sock, WebSocketActor, mine | options)


def _encrypted(sock: socket.socket, context: ssl.SSLContext, name: str, where: str, deadline: float | None) -> socket.socket:
    from actors.tls import connect_tls

    try:
        return cast(socket.socket, connect_tls(sock, context, name, where, deadline))
    except BaseException:
        sock.close()
        raise

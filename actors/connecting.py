"""Making connections: one deadline over name lookup and every address tried, ended by Ctrl-C like every wait."""

from __future__ import annotations

import errno
import os
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from actors import sockets
from actors.errors import ConnectFailed, ConnectTimeout
from actors.resolving import Resolved, format_address, resolve
from actors.waiting import WRITE, current, sleep

if TYPE_CHECKING:
    from actors.stream import StreamActor

__all__ = ["BACKOFF", "Dialled", "connect_datagram", "connect_stream", "connect_unix", "ends", "forgive_refusals"]

BACKOFF = (0.1, 10.0)  # seconds between attempts with `reconnect`: the first pause, and the longest
RETRY_SECONDS = 0.02
IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY)

_forgiving_until = 0.0


class Dialled:
    """A connection that was made, and what its actor is to be."""

    __slots__ = ("kind", "options", "sock")

    def __init__(self, sock: Any, kind: type[StreamActor], options: dict[str, Any]) -> None:
        self.sock = sock
        self.kind = kind
        self.options = options


def forgive_refusals(seconds: float) -> None:
    """For that long, a connection to this machine that is refused is tried again until its timeout: its server may be starting, too."""
    global _forgiving_until
    _forgiving_until = monotonic() + seconds


def connect_stream(host: str, port: int, deadline: float | None) -> socket.socket:
    """A connected, non-blocking TCP socket. Tries every address of the host; each gets its share of the time that is left.

    Raises ConnectFailed or ConnectTimeout, naming the last address and why.
    """
    found = resolve(host, port, socket.SOCK_STREAM, deadline)
    last: ConnectFailed | None = None
    for index, address in enumerate(found):
        share = deadline
        if deadline is not None:
            share = monotonic() + max(0.0, deadline - monotonic()) / (len(found) - index)
        try:
            sock = _connect(address, share, _is_loopback(address))
        except ConnectFailed as exc:
            last = exc
        else:
            sockets.stream_options(sock)
            return sock
    assert last is not None, "a lookup gives an address or raises"
    if f"{host}:" not in last.address and f"[{host}]:" not in last.address:
        last.reason += f" (an address of {host})"
    raise last


def connect_unix(path: str, deadline: float | None) -> socket.socket:
    """The same for a Unix socket."""
    return _connect(Resolved(socket.AF_UNIX, path), deadline, local=True)


def connect_datagram(host: str, port: int, deadline: float | None) -> socket.socket:
    """A UDP socket whose peer is fixed: the kernel drops what others send to it."""
    address = resolve(host, port, socket.SOCK_DGRAM, deadline)[0]
    sock = _socket(address, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.connect(address.sockaddr)
    except BaseException as exc:
        sock.close()
        if isinstance(exc, OSError):
            raise _failed(address, exc) from exc
        raise
    return sock


def ends(sock: socket.socket) -> tuple[str, str]:
    """The peer's address and our own, as texts. Closes the socket and raises ConnectFailed when it is connected no longer."""
    own = format_address(sock.getsockname())
    try:
        return format_address(sock.getpeername()), own
    except OSError as exc:
        sock.close()
        raise ConnectFailed(f"the peer of {own}", "it reset the connection at once") from exc


def _is_loopback(address: Resolved) -> bool:
    return str(address.sockaddr[0]).startswith("127.") or address.sockaddr[0] == "::1"


def _failed(address: Resolved, exc: OSError) -> ConnectFailed:
    where = format_address(address.sockaddr)
    if exc.errno == errno.ECONNREFUSED:
        reason = "refused; nothing listens there"
    else:
        reason = os.strerror(exc.errno).lower() if exc.errno else str(exc)
    failed = ConnectFailed(where, reason)
    failed.because(exc)
    return failed


def _socket(address: Resolved, kind: int) -> socket.socket:
    try:
        return socket.socket(address.family, kind)
    except OSError as exc:  # out of descriptors, or a family that this system does not have
        raise _failed(address, exc) from exc


def _connect(address: Resolved, deadline: float | None, local: bool) -> socket.socket:
    while True:
        try:
            return _connect_once(address, deadline)
        except ConnectFailed as exc:
            may_start_yet = exc.errno in (errno.ECONNREFUSED, errno.ENOENT) and local and monotonic() < _forgiving_until
            if not may_start_yet or (deadline is not None and monotonic() >= deadline):
                raise
        sleep(RETRY_SECONDS)


def _connect_once(address: Resolved, deadline: float | None) -> socket.socket:
    sock = _socket(address, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        try:
            error = sock.connect_ex(address.sockaddr)
        except OSError as exc:  # what the system was not even asked: the path of a Unix socket is too long
            raise _failed(address, exc) from exc
        if error in IN_PROGRESS:
            _await_connect(sock, address, deadline)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not error and _is_itself(sock, address):
            error = errno.ECONNREFUSED
        if error:
            raise _failed(address, OSError(error, os.strerror(error)))
    except BaseException:
        sock.close()
        raise
    return sock


def _await_connect(sock: socket.socket, address: Resolved, deadline: float | None) -> None:
    if address.family == socket.AF_UNIX:  # EAGAIN there: the queue of the listener is full, and poll would not tell
        raise _failed(address, OSError(errno.EAGAIN, "the listener's queue is full"))
    waiter = current()
    while not waiter.wait(deadline, sock.fileno(), WRITE):
        if deadline is not None and monotonic() >= deadline:
            raise ConnectTimeout(format_address(address.sockaddr), "no answer within the timeout")


def _is_itself(sock: socket.socket, address: Resolved) -> bool:
    # Connecting to a free ephemeral port of this machine can hit the port the kernel chose for us: TCP's simultaneous open with itself.
    if address.family == socket.AF_UNIX:
        return False
    own: Any = sock.getsockname()
    try:
        return bool(own == sock.getpeername())
    except OSError:  # not connected any more: the peer took it and reset it at once
        raise _failed(address, OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))) from None

"""What we ask of the operating system beyond Python's `socket`: options, counters, limits. One function each, and what it does
elsewhere."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

if sys.platform == "linux":
    import fcntl  # now: when it is needed, there may be no descriptor left to import it with

__all__ = [
    "DROPS_SPACE",
    "broken_phrase",
    "drops_told",
    "is_dead",
    "kernel_drops",
    "receive_datagram",
    "has_ipv6",
    "set_keepalive",
    "silence",
    "set_reuse_port",
    "set_user_timeout",
    "stream_options",
    "unacknowledged",
]

SIOCOUTQ = 0x5411  # <linux/sockios.h>: bytes written that the peer's TCP has not acknowledged
TCP_INFO_AGES = 44  # <linux/tcp.h>: where its tcpi_last_data_sent, _last_ack_sent and _last_data_recv stand, in milliseconds
TCP_CLOSE = 7  # <netinet/tcp.h>: the state that TCP_INFO gives first
SO_MEMINFO = 55  # <asm-generic/socket.h>, since Linux 4.12: nine u32; the ninth counts dropped packets
SK_MEMINFO_VARS = 9
SO_RXQ_OVFL = 40  # <asm-generic/socket.h>: a datagram that was queued after drops tells how many there were so far
DROPS_SPACE = 32  # holds that control message

KEEPALIVE = (15, 5, 3)  # idle, interval, count: a dead peer is noticed within half a minute


def stream_options(sock: socket.socket) -> None:
    """What every TCP connection of ours has: no delay for small frames, keepalive with short times. Unix sockets need neither."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    set_keepalive(sock)


def set_keepalive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    names = ("TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
    for name, value in zip(names, KEEPALIVE, strict=True):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def set_user_timeout(sock: socket.socket, seconds: float | None) -> None:
    """TCP_USER_TIMEOUT (RFC 5482): how long what was written may stay unacknowledged before the connection is broken. None: the default."""
    if seconds is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(seconds * 1000)))


def unacknowledged(sock: socket.socket) -> int:
    """Bytes (and a FIN, counted as one) that the peer's TCP has not acknowledged. -1 where the system does not tell."""
    if sys.platform != "linux":
        return -1
    try:
        left = int.from_bytes(fcntl.ioctl(sock.fileno(), SIOCOUTQ, b"\0\0\0\0"), sys.byteorder)
    except (OSError, ValueError):
        return -1
    # A Unix socket counts what the peer has not read; written is with the peer already. Its family is asked for last: each answer is made.
    return 0 if left and sock.family == socket.AF_UNIX else left


def is_dead(sock: socket.socket) -> bool:
    """Whether a TCP connection is over for the kernel, after a reset or a time-out. False where the system does not tell."""
    if sys.platform != "linux" or sock.family == socket.AF_UNIX:
        return False
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE
    except OSError:
        return True


def silence(sock: socket.socket) -> tuple[float, float] | None:
    """Seconds since the last byte came in, and since the last went out, as TCP knows it. None where the system does not tell."""
    if sys.platform != "linux" or sock.family == socket.AF_UNIX:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_AGES + 12)
    except OSError:
        return None
    said, _, heard = struct.unpack_from("III", info, TCP_INFO_AGES)
    return heard / 1000, said / 1000


def kernel_drops(sock: socket.socket) -> int:
    """Datagrams that the kernel dropped for this socket because its buffer was full. 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * SK_MEMINFO_VARS)
    except OSError:
        return 0
    return int(struct.unpack_from("I", raw, 32)[0]) if len(raw) >= 36 else 0


def receive_datagram(sock: socket.socket) -> Callable[[int, int], tuple[bytes, list[Any], int, Any]]:
    """The socket's `recvmsg`, whose control messages tell what the kernel dropped (Linux); something like it where there is none (Windows).

    A datagram costs 0.3 µs more than with `recvfrom`.
    """
    if sys.platform == "linux":
        sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    if hasattr(sock, "recvmsg"):
        return sock.recvmsg

    def receive(size: int, space: int) -> tuple[bytes, list[Any], int, Any]:
        data, sender = sock.recvfrom(size)
        return data, [], 0, sender

    return receive


def drops_told(control: list[Any], before: int) -> int:
    """How many datagrams the kernel had dropped for a socket when it queued this one, modulo 2**32; `before` if these do not say."""
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
            return int.from_bytes(data[:4], sys.byteorder)
    return before


def set_reuse_port(sock: socket.socket, allowed: bool) -> None:
    """Let others that ask for it too have the same port. OSError where the system has no such option (Windows)."""
    option = getattr(socket, "SO_REUSEPORT", None)
    if option is None:
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
    sock.setsockopt(socket.SOL_SOCKET, option, int(allowed))


def has_ipv6() -> bool:
    """Whether this machine can reach itself by IPv6 now: the system speaks it, and loopback has its address."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
            return True
    except OSError:
        return False


def broken_phrase(exc: OSError) -> str:
    """How a link failed, in words."""
    if hasattr(exc, "library"):  # an ssl.SSLError, whose errno is of another kind, and whose text is in words already
        return str(exc)
    if exc.errno == errno.ECONNRESET:
        return "the peer reset it"
    if exc.errno == errno.EPIPE:
        return "the peer has closed it and takes nothing more"
    if exc.errno == errno.ETIMEDOUT:
        return "the peer stopped answering (TCP keepalive or retransmission timed out)"
    return os.strerror(exc.errno) if exc.errno else str(exc)

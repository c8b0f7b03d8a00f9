"""What we ask of the operating system beyond Python's `socket`: options, counters, limits. One function each, and what it does
elsewhere."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys

__all__ = [
    "broken_phrase",
    "is_dead",
    "kernel_drops",
    "has_ipv6",
    "set_keepalive",
    "set_reuse_port",
    "stream_options",
    "unacknowledged",
]

SIOCOUTQ = 0x5411  # <linux/sockios.h>: bytes written that the peer's TCP has not acknowledged
TCP_CLOSE = 7  # <netinet/tcp.h>: the state that TCP_INFO gives first
SO_MEMINFO = 55  # <asm-generic/socket.h>, since Linux 4.12: nine u32; the ninth counts dropped packets
SK_MEMINFO_VARS = 9

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


def unacknowledged(sock: socket.socket) -> int:
    """Bytes (and a FIN, counted as one) that the peer's TCP has not acknowledged. -1 where the system does not tell."""
    if sys.platform != "linux":
        return -1
    if sock.family == socket.AF_UNIX:
        return 0  # there the call counts what the peer has not read; written is with the peer already
    import fcntl

    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), SIOCOUTQ, b"\0\0\0\0"))[0])
    except (OSError, ValueError):
        return -1


def is_dead(sock: socket.socket) -> bool:
    """Whether a TCP connection is over for the kernel, after a reset or a time-out. False where the system does not tell."""
    if sys.platform != "linux" or sock.family == socket.AF_UNIX:
        return False
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE
    except OSError:
        return True


def kernel_drops(sock: socket.socket) -> int:
    """Datagrams that the kernel dropped for this socket because its buffer was full. 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * SK_MEMINFO_VARS)
    except OSError:
        return 0
    return int(struct.unpack_from("I", raw, 32)[0]) if len(raw) >= 36 else 0


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

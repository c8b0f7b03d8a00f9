"""Making sockets that wait for others: listening, and bound."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import NamedTuple

from actors.resolving import Resolved, format_address, resolve
from actors.sockets import set_reuse_port

__all__ = ["RECEIVE_BUFFER", "Pair", "bind_datagram", "bind_pair", "bind_to", "listen_stream", "listen_unix"]

BACKLOG = 1024
RECEIVE_BUFFER = 4 * 1024 * 1024  # asked for; the kernel gives up to net.core.rmem_max
RESOLVE_SECONDS = 10.0
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def bind_to(sock: socket.socket, address: Resolved, shown: str | None = None) -> None:
    try:
        sock.bind(address.sockaddr)
    except OSError as exc:
        where = shown or format_address(address.sockaddr)
        if exc.errno is None:  # Python's own: the path of a Unix socket is too long
            raise OSError(errno.ENAMETOOLONG, f"cannot listen on {where}: {exc}") from exc
        raise OSError(exc.errno, f"cannot listen on {where}: {os.strerror(exc.errno)}") from exc


def _local(host: str, port: int, kind: int) -> Resolved:
    from actors.waiting import deadline_after

    return resolve(host, port, kind, deadline_after(RESOLVE_SECONDS))[0]


def listen_stream(host: str, port: int) -> socket.socket:
    """A listening TCP socket. The port can be served again at once after a close; it is never shared with another listener.

    Raises OSError naming the address, and ConnectFailed when the host's name is not known.
    """
    address = _local(host, port, socket.SOCK_STREAM)
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows the option would let two listeners share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6 and address.sockaddr[0] == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bind_to(sock, address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_unix(path: str) -> socket.socket:
    """A listening Unix socket. A socket file that a dead process left behind is replaced; one in use is an error."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        bind_to(sock, Resolved(socket.AF_UNIX, path), path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return  # bind says that it is in use
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            pass


def bind_datagram(host: str, port: int, *, broadcast: bool = False, reuse_port: bool = False) -> socket.socket:
    """A bound UDP socket; for "::", also for IPv4 peers. `broadcast` allows sending to broadcast addresses (SO_BROADCAST), `reuse_port`
    others that also ask for it on the same port (SO_REUSEPORT).
    """
    address = _local(host, port, socket.SOCK_DGRAM)
    sock = _datagram_socket(address.family, broadcast, reuse_port)
    try:
        if address.family == socket.AF_INET6 and address.sockaddr[0] == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bind_to(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _datagram_socket(family: int, broadcast: bool, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if reuse_port:
            set_reuse_port(sock, True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    except BaseException:
        sock.close()
        raise
    return sock


class Pair(NamedTuple):
    """Two UDP sockets with one port, for IPv4 and for IPv6."""

    four: socket.socket
    six: socket.socket

    def close(self) -> None:
        self.four.close()
        self.six.close()


def bind_pair(port: int, *, broadcast: bool = False, reuse_port: bool = False) -> Pair | socket.socket:
    """All interfaces: a pair of UDP sockets with the same port. Where the system has no IPv6, the socket for IPv4 alone.

    The one for IPv6 hears IPv4 as well, which matters for broadcasts only: both hear them. Unicast over IPv4 reaches the first alone.
    """
    while True:
        four = bind_datagram("0.0.0.0", port, broadcast=broadcast, reuse_port=reuse_port)
        six: socket.socket | None = None
        try:
            six = _datagram_socket(socket.AF_INET6, broadcast, reuse_port)
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            number = four.getsockname()[1]
            # The two overlap, and share the port by this option; cleared again, nobody else can.
            for sock in (four, six):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bind_to(six, Resolved(socket.AF_INET6, ("::", number)))
            for sock in (four, six):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            return Pair(four, six)
        except BaseException as exc:
            if six is not None:
                six.close()
            if isinstance(exc, OSError) and exc.errno in NO_IPV6:
                four.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
                return four
            four.close()
            if port or not isinstance(exc, OSError) or exc.errno != errno.EADDRINUSE:
                raise
            # The number that the system gave us for IPv4 is taken for IPv6: another one.

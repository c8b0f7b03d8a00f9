"""A UDP socket that sends and receives: `create_udp_socket(port)`."""

from __future__ import annotations

import errno
from threading import Lock
from types import TracebackType
from typing import Self

import bus
from actors.datagram import MAX_DATAGRAM
from adapters.daystar_api.ports import (
    FIRST_PORT,
    LAST_PORT,
    Address,
    bind_error,
    both,
    chosen_offset,
    logical_address,
    to_os_port,
)
from adapters.daystar_api.wire import payload
from adapters.dialect import decode

__all__ = ["UDPSocket", "create_udp_socket"]

KNOWN_SENDERS = 1024

EVERYBODY = "255.255.255.255"


def create_udp_socket(port: int, *, port_offset: int | None = None) -> UDPSocket:
    """Bind a UDP socket to a port from 70000 to 71000 on all interfaces (IPv4), to send and to receive.

    Ours: `port_offset`, see `ports`. Raises TypeError and ValueError for the arguments, OSError with both numbers of the port when it
    cannot be had.
    """
    offset = chosen_offset(port_offset)
    number = to_os_port(port, offset)
    try:
        sock = bus.bind(f"udp://0.0.0.0:{number}")
    except OSError as exc:
        raise bind_error(exc, port, offset) from exc
    return UDPSocket(sock, port, offset)


class UDPSocket:
    """A bound UDP socket: what `create_udp_socket` gives. Safe to use from several threads.

    `_lock` owns `_senders`, which remembers who may be answered although its port is none of the document's (the ones heard least lately
    are forgotten first), and `_returned`.
    """

    def __init__(self, sock: bus.UdpSocket, port: int, offset: int) -> None:
        self._socket = sock
        self._port = both(port, offset)
        self._offset = offset
        self._broadcast = False
        self._senders: dict[Address, None] = {}
        self._lock = Lock()
        self._returned: list[bus.Message] = []  # taken for a `receive` that Ctrl-C ended

    def send(self, message: str, addr: Address) -> None:
        """Send one datagram to an `(ip, port)`: a port from 70000 to 71000, or an address that `receive` reported lately.

        TypeError and ValueError for the arguments (a datagram holds 65,507 bytes), PermissionError for a broadcast address before
        `enable_broadcast()`, ConnectionError for an unknown name and after `close()`, OSError as the system says.
        """
        data = payload(message)
        host, port = _parts(addr)
        number = self._os_port(host, port)
        shown = f"{host}:{port}" if number == port else f"{host}:{both(port, self._offset)}"
        if ":" in host:
            raise bus.BadAddress(host, "this socket speaks IPv4")
        if len(data) > MAX_DATAGRAM:
            raise bus.TooLarge(shown, f"{len(data)} bytes do not fit a datagram of at most {MAX_DATAGRAM}")
        if host == EVERYBODY and not self._broadcast:
            raise _not_enabled(shown)  # a system without a route there would name that as the reason
        try:
            self._socket.send_to(f"{host}:{number}", data)
        except (bus.ConnectFailed, bus.NotSent) as exc:
            exc.address = shown
            raise
        except bus.BusError:
            raise
        except OSError as exc:
            if exc.errno == errno.EACCES and not self._broadcast:
                raise _not_enabled(shown) from exc
            exc.filename = shown
            raise

    def _os_port(self, host: str, port: int) -> int:
        if type(port) is not int or FIRST_PORT <= port <= LAST_PORT:
            return to_os_port(port, self._offset)
        with self._lock:
            if (host, port) in self._senders:
                return port
        raise ValueError(f"port must be within {FIRST_PORT} to {LAST_PORT}, or that of a sender lately received from, not {port}")

    def receive(self, timeout: float | None = None) -> tuple[str, Address] | None:
        """The oldest datagram as (message, sender_addr); None after `timeout` seconds without one (0 polls, None waits).

        Raises ConnectionError after `close()`.
        """
        message: bus.Message | None = None
        try:
            with self._lock:
                message = self._returned.pop() if self._returned else None
            if message is None:
                message = self._socket.receive(timeout)
            if message is None:
                return None
            text = decode(message.data)
            sender = logical_address(message.source, self._offset)
            self._remember(sender)
            return text, sender
        except BaseException:
            # Ctrl-C can strike at each of the calls above. The message is for the next `receive` then.
            if message is not None:
                self._returned.append(message)
            raise

    def _remember(self, sender: Address) -> None:
        with self._lock:
            self._senders.pop(sender, None)
            self._senders[sender] = None
            if len(self._senders) > KNOWN_SENDERS:
                del self._senders[next(iter(self._senders))]

    def enable_broadcast(self) -> None:
        """Allow sending to broadcast addresses."""
        self._socket.set_broadcast(True)
        self._broadcast = True

    @property
    def lost(self) -> int:
        """Ours: how many datagrams arrived at this machine and were dropped because nobody took them."""
        return self._socket.stats().lost

    def close(self) -> None:
        """Close the socket; the port is free. Doing so twice is nothing."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<UDPSocket port {self._port} over {self._socket!r}>"


def _parts(addr: object) -> Address:
    match addr:
        case (str(host), int(port)):
            return host, port
    raise TypeError(f"addr must be an (ip, port) tuple, not {addr!r}")


def _not_enabled(shown: str) -> PermissionError:
    return PermissionError(errno.EACCES, "a broadcast address; call enable_broadcast() first", shown)

"""A client of a TCP server: `create_tcp_client(ip, port)`."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import bus
from adapters.daystar_api.ports import both, chosen_offset, to_os_port
from adapters.daystar_api.wire import MAX_SIZE, frameable
from adapters.dialect import Link, endpoint

__all__ = ["TCPClient", "create_tcp_client"]

CONNECT_TIMEOUT = 10.0


def create_tcp_client(
    ip: str,
    port: int,
    *,
    timeout: float | None = CONNECT_TIMEOUT,
    max_size: int = MAX_SIZE,
    port_offset: int | None = None,
) -> TCPClient:
    """Connect to the server at `ip` (an IPv4 or IPv6 address, or a name) and a port from 70000 to 71000.

    Ours: `timeout`, the seconds that connecting may take (None: no limit); `max_size`, the bytes of one message; `port_offset`, see
    `ports`. Raises TypeError and ValueError for the arguments, ConnectionError when refused, and when the time is over one that is a
    TimeoutError as well; they name the address.
    """
    offset = chosen_offset(port_offset)
    number = to_os_port(port, offset)
    server = f"{ip}:{both(port, offset)}"
    try:
        connection = bus.connect(endpoint("tcp", ip, number), timeout=timeout, framing="etx", max_size=max_size)
    except bus.ConnectFailed as exc:
        exc.address = server
        raise
    return TCPClient(connection, server, max_size)


class TCPClient:
    """A connection with a server: what `create_tcp_client` gives. Safe to use from several threads."""

    __slots__ = ("_link", "_max_size", "_server")

    def __init__(self, connection: bus.Connection, server: str, max_size: int) -> None:
        self._link = Link(connection)
        self._server = server
        self._max_size = max_size

    def send(self, message: str) -> None:
        """Send a message; its terminator is added.

        ValueError if it contains the terminator or is too long. ConnectionError after `disconnect()` and when the server has gone; but a
        script whose last look at `is_connected()` was True is not to blame: then the message is dropped, counted and logged.
        """
        self._link.send(frameable(message, self._max_size, self._server))

    def receive(self, timeout: float | None = None) -> str | None:
        """The oldest message; None after `timeout` seconds without one (0 polls, None waits), and when the server has gone and nothing
        is left: `is_connected()` tells. Raises ConnectionError after `disconnect()`.
        """
        received = self._link.receive(timeout)
        return None if received is None else received[0]

    def is_connected(self) -> bool:
        """Ours: True while the connection is up or a received message waits."""
        return self._link.connected()

    @property
    def dropped(self) -> int:
        """Ours: how many messages `send` was given between the server's leaving and the next look at `is_connected()`."""
        return self._link.dropped

    def disconnect(self) -> None:
        """Disconnect in order: what was sent arrives. Doing so twice is nothing."""
        self._link.close()

    close = disconnect

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.disconnect()

    def __repr__(self) -> str:
        return f"<TCPClient of {self._server} over {self._link.connection!r}>"

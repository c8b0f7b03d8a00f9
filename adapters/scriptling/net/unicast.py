"""`scriptling.net.unicast`: messages from host to host over TCP and UDP. On TCP each has a 4-byte big-endian length in front."""

from __future__ import annotations

import logging
from typing import Literal, overload

import bus
from adapters.dialect import Link, Linked, endpoint, receive_text
from adapters.scriptling.messages import Received, Sendable, encode

__all__ = ["Connection", "TCPListener", "UDPListener", "connect", "listen"]

log = logging.getLogger("actorbus.scriptling")

MAX_SIZE = 16 * 1024 * 1024
THEIR_MAX_SIZE = 65_536  # what a real Scriptling's receive accepts on TCP; its sender has no limit, either


class Connection(Linked):
    """A connection with one peer: what `connect` and a TCP listener's `accept` give.

    Beyond the document: `stats()`, and `dropped`, the number of messages given to `send` after the peer had left unnoticed.
    """

    __slots__ = ("_large", "local_addr", "remote_addr")

    def __init__(self, connection: bus.Connection, large: int | None) -> None:
        super().__init__(Link(connection))
        self._large = large  # the first payload over this is warned about; None when that is done, or there is nothing to warn about
        self.local_addr = connection.local_address
        self.remote_addr = connection.remote_address

    def send(self, message: Sendable) -> None:
        """Send a string, bytes, or a dict as JSON.

        After `connected()` said True it never raises because of the peer. Otherwise PeerClosed, Broken or NotSent (it does not read) tell.
        Raises Closed after `close()`, TypeError and ValueError for what can't be sent.
        """
        payload = encode(message)
        self._link.send(payload)
        if self._large is not None and len(payload) > self._large:
            self._large = None
            log.warning("%d bytes for %s: a real Scriptling accepts %d at most", len(payload), self.remote_addr, THEIR_MAX_SIZE)

    def receive(self, timeout: float | None = 30) -> Received | None:
        """The next message; None after `timeout` seconds (0 polls, None waits), and when the peer has left and nothing remains."""
        message = self._link.receive(timeout)
        # No call from here on: Ctrl-C would strike there, and lose the message.
        return None if message is None else {"data": message[0], "source": message[1]}


class TCPListener:
    """Connections that come in: what `listen(host, port)` gives. `addr` is where it listens, "ip:port"."""

    __slots__ = ("_listener", "addr")

    def __init__(self, listener: bus.Listener) -> None:
        self._listener = listener
        self.addr = listener.address

    def accept(self, timeout: float | None = 30) -> Connection | None:
        """The next connection; None after `timeout` seconds (0 polls, None waits). Raises Closed after `close()`."""
        connection = self._listener.accept(timeout)
        return None if connection is None else Connection(connection, THEIR_MAX_SIZE)

    def close(self) -> None:
        """Stop listening. Connections that were accepted stay. Twice is nothing."""
        self._listener.close()

    def __repr__(self) -> str:
        return repr(self._listener)


class UDPListener:
    """Datagrams from anybody: what `listen(host, port, protocol="udp")` gives. `addr` is where it is bound, "ip:port"."""

    __slots__ = ("_socket", "addr")

    def __init__(self, socket: bus.UdpSocket) -> None:
        self._socket = socket
        self.addr = socket.address

    def receive(self, timeout: float | None = 30) -> Received | None:
        """The next message; None after `timeout` seconds (0 polls, None waits). Raises Closed after `close()`."""
        message = receive_text(self._socket, timeout)
        # No call from here on, as in Connection.receive.
        return None if message is None else {"data": message[0], "source": message[1]}

    def send_to(self, address: str, message: Sendable) -> None:
        """Send to "host:port". Raises ValueError for an address that is none, and over 65,507 bytes; OSError as the system gives it."""
        self._socket.send_to(address, encode(message))

    def close(self) -> None:
        """Twice is nothing."""
        self._socket.close()

    def stats(self) -> bus.Stats:
        return self._socket.stats()

    def __repr__(self) -> str:
        return repr(self._socket)


def connect(host: str, port: int, protocol: str = "udp", timeout: float | None = 10) -> Connection:
    """Connect to a host, over UDP unless `protocol="tcp"`; `timeout` is in seconds, None sets no limit.

    Raises ConnectionError naming the address (refused, unreachable, no such name; a TimeoutError as well when it took too long), ValueError
    and TypeError for arguments that can't be meant.

    >>> server = listen("127.0.0.1", protocol="udp")
    >>> conn = connect("127.0.0.1", int(server.addr.split(":")[1]))
    >>> conn.send({"action": "ping"})
    >>> print(server.receive(timeout=5)["data"])
    {"action":"ping"}
    >>> conn.close()
    >>> server.close()
    """
    _check(protocol)
    url = endpoint(protocol, host, port, lowest=1)
    if protocol == "udp":
        return Connection(bus.connect(url, timeout=timeout), None)
    return Connection(bus.connect(url, timeout=timeout, max_size=MAX_SIZE), THEIR_MAX_SIZE)


@overload
def listen(host: str, port: int = 0, protocol: Literal["tcp"] = "tcp") -> TCPListener: ...
@overload
def listen(host: str, port: int = 0, *, protocol: Literal["udp"]) -> UDPListener: ...
@overload
def listen(host: str, port: int, protocol: Literal["udp"]) -> UDPListener: ...
@overload
def listen(host: str, port: int = 0, protocol: str = "tcp") -> TCPListener | UDPListener: ...
def listen(host: str, port: int = 0, protocol: str = "tcp") -> TCPListener | UDPListener:
    """Listen for connections, or with `protocol="udp"` for datagrams. "0.0.0.0" stands for all interfaces; port 0 picks one: see `addr`.

    Raises OSError naming the address (in use, not this machine's), ValueError and TypeError for arguments that can't be meant.
    """
    _check(protocol)
    url = endpoint(protocol, host, port)
    if protocol == "udp":
        return UDPListener(bus.bind(url))
    return TCPListener(bus.listen(url, max_size=MAX_SIZE))


def _check(protocol: object) -> None:
    if protocol not in ("udp", "tcp"):
        kind = ValueError if isinstance(protocol, str) else TypeError
        raise kind(f"protocol must be 'udp' or 'tcp', not {protocol!r}")

"""The other side of Daystar's scripts, written down apart from the code under test; and ports that are free just now."""

from __future__ import annotations

import errno
import random
import socket
import struct
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tests.bus.peers import WAIT

PORTS = range(70_000, 71_001)
ETX = b"\x03"

T = TypeVar("T")

# Not the seeded one: all the workers of a run would try the same ports in the same order.
dice = random.SystemRandom()


def somewhere(make: Callable[[int], T]) -> tuple[int, T]:
    """A port that was free, and what `make(port)` gave there."""
    for port in dice.sample(PORTS, len(PORTS)):
        try:
            return port, make(port)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
    raise AssertionError("no port of the range is free")


def os_port(port: int) -> int:
    """As C has it: `htons(port)` with a number of more than 16 bits."""
    return port & 0xFFFF


def occupied(kind: int = socket.SOCK_STREAM, host: str = "127.0.0.1") -> tuple[int, socket.socket]:
    """A port and the plain socket that is bound there, and does not listen."""

    def bind(port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, kind)
        try:
            sock.bind((host, os_port(port)))
        except OSError:
            sock.close()
            raise
        sock.settimeout(WAIT)
        return sock

    return somewhere(bind)


def listening(backlog: int = 8) -> tuple[int, socket.socket]:
    """A port and the plain socket that listens there."""
    while True:
        port, sock = occupied()
        try:
            sock.listen(backlog)
        except OSError as exc:  # somebody listens on all interfaces
            sock.close()
            if exc.errno != errno.EADDRINUSE:
                raise
        else:
            return port, sock


class EtxPeer:
    """A blocking TCP socket that ends each message with 0x03, by hand."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(WAIT)
        self.sock = sock
        self._unread = b""

    @classmethod
    def to(cls, port: int, host: str = "127.0.0.1", *, receive_buffer: int = 0, source: socket.socket | None = None) -> Self:
        """Connected to a port of the document; from `source` if that is bound somewhere already."""
        sock = source or socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(WAIT)
        sock.connect((host, os_port(port)))
        return cls(sock)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.sock.getsockname()[:2]
        return host, port

    def send(self, *messages: str) -> None:
        self.sock.sendall(b"".join(message.encode() + ETX for message in messages))

    def receive(self) -> bytes | None:
        """The next message without its terminator; None at the end of the stream, or of what came before a reset."""
        while ETX not in self._unread:
            try:
                data = self.sock.recv(65_536)
            except ConnectionResetError:
                return None
            if not data:
                assert not self._unread, f"the stream ends inside a message: {self._unread!r}"
                return None
            self._unread += data
        message, _, self._unread = self._unread.partition(ETX)
        return message

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.receive, None)

    def finish(self) -> None:
        """Send FIN; go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.sock.close()

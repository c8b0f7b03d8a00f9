"""Round trips over blocking sockets: bare, the floor, with read-ahead, and the standard library's `socketserver`."""

import contextlib
import socketserver
from collections.abc import Callable
from typing import ClassVar

from . import tls, wire
from .cell import Cell
from .end import REPLY_TIMEOUT, Gate


def bare_server(announce: Callable[[str], None], cell: Cell) -> None:
    with wire.listen() as listener:
        announce(wire.address_of(listener))
        sock, _ = listener.accept()
        with sock, contextlib.suppress(EOFError, ConnectionError):
            wire.no_delay(sock)
            while True:
                sock.sendall(wire.read_exactly(sock, cell.size))


def bare_client(address: str, gate: Gate) -> None:
    with wire.connect(address, timeout=None) as sock:

        def trip(payload: bytes) -> bytes:
            sock.sendall(payload)
            return wire.read_exactly(sock, len(payload))

        gate.time(trip)


def floor_server(announce: Callable[[str], None], cell: Cell) -> None:
    with wire.listen() as listener:
        announce(wire.address_of(listener))
        sock = tls.accepted(listener.accept()[0], cell)
        with sock, contextlib.suppress(EOFError, ConnectionError):
            wire.no_delay(sock)
            sock.settimeout(REPLY_TIMEOUT)
            while True:
                wire.send_frame(sock, wire.read_frame(sock))


def floor_client(address: str, gate: Gate) -> None:
    with tls.connected(wire.connect(address, REPLY_TIMEOUT), gate.cell) as sock:

        def trip(payload: bytes) -> bytes:
            wire.send_frame(sock, payload)
            return wire.read_frame(sock)

        gate.time(trip)


def read_ahead_server(announce: Callable[[str], None], cell: Cell) -> None:
    with wire.listen() as listener:
        announce(wire.address_of(listener))
        sock, _ = listener.accept()
        with sock, contextlib.suppress(EOFError, ConnectionError):
            wire.no_delay(sock)
            sock.settimeout(REPLY_TIMEOUT)
            frames = wire.FrameReader(sock)
            while True:
                wire.send_frame(sock, frames.read())


def read_ahead_client(address: str, gate: Gate) -> None:
    with wire.connect(address, REPLY_TIMEOUT) as sock:
        frames = wire.FrameReader(sock)

        def trip(payload: bytes) -> bytes:
            wire.send_frame(sock, payload)
            return frames.read()

        gate.time(trip)


class _EchoStream(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        while len(header := self.rfile.read(wire.HEADER.size)) == wire.HEADER.size:
            size = wire.announced_size(header)
            payload = self.rfile.read(size)
            if len(payload) < size:
                return
            self.wfile.write(wire.frame(payload))


class _EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads: ClassVar[bool] = True  # type: ignore[misc]  # typeshed has an instance variable


def socketserver_server(announce: Callable[[str], None], cell: Cell) -> None:
    with _EchoServer(("127.0.0.1", 0), _EchoStream) as server:
        announce(wire.address_of(server.socket))
        server.serve_forever()

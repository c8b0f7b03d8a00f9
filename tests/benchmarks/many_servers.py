"""Servers for many clients without asyncio: an epoll loop by hand, and with a thread per client `socketserver` and `websockets.sync`."""

import contextlib
import select
import socket
import socketserver
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from . import wire
from .cell import Cell
from .many_work import work
from .ws_ends import HOST, MAX_SIZE


@dataclass(slots=True)
class _Client:
    sock: socket.socket
    assembler: wire.Assembler = field(default_factory=wire.Assembler)
    unsent: bytearray = field(default_factory=bytearray)


class EpollServer:
    """One loop on one thread: the least a Python server with whole frames and partial writes can spend."""

    def __init__(self, on_message: Callable[[bytes], bytes]) -> None:
        self._on_message = on_message
        self._listener = wire.listen(backlog=1024)
        self._listener.setblocking(False)
        self._poller = select.epoll()
        self._poller.register(self._listener, select.EPOLLIN)
        self._clients: dict[int, _Client] = {}

    @property
    def address(self) -> str:
        return wire.address_of(self._listener)

    def run(self) -> None:
        listener = self._listener.fileno()
        while True:
            for number, events in self._poller.poll():
                if number == listener:
                    self._accept()
                    continue
                client = self._clients[number]
                try:
                    if events & select.EPOLLOUT:
                        self._flush(client)
                    if events & ~select.EPOLLOUT:
                        self._read(client)
                except (EOFError, ConnectionError, ValueError):
                    del self._clients[number]
                    client.sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                wire.no_delay(sock)
                self._clients[sock.fileno()] = _Client(sock)
                self._poller.register(sock, select.EPOLLIN)

    def _read(self, client: _Client) -> None:
        data = client.sock.recv(wire.CHUNK)
        if not data:
            raise EOFError
        for message in client.assembler.feed(data):
            self._send(client, wire.frame(self._on_message(message)))

    def _send(self, client: _Client, data: bytes) -> None:
        if client.unsent:
            client.unsent += data
            return
        try:
            taken = client.sock.send(data)
        except BlockingIOError:
            taken = 0
        if taken < len(data):
            client.unsent += data[taken:]
            # A client that does not take its echoes is not read until it does.
            self._poller.modify(client.sock, select.EPOLLOUT)

    def _flush(self, client: _Client) -> None:
        del client.unsent[: client.sock.send(client.unsent)]
        if not client.unsent:
            self._poller.modify(client.sock, select.EPOLLIN)


def epoll_server(announce: Callable[[str], None], cell: Cell) -> None:
    server = EpollServer(work)
    announce(server.address)
    server.run()


class _Stream(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            while len(header := self.rfile.read(wire.HEADER.size)) == wire.HEADER.size:
                size = wire.announced_size(header)
                payload = self.rfile.read(size)
                if len(payload) < size:
                    return
                self.wfile.write(wire.frame(work(payload)))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads: ClassVar[bool] = True  # type: ignore[misc]  # typeshed has an instance variable
    request_queue_size: ClassVar[int] = 1024  # type: ignore[misc]


def socketserver_server(announce: Callable[[str], None], cell: Cell) -> None:
    with _Server((HOST, 0), _Stream) as server:
        announce(wire.address_of(server.socket))
        server.serve_forever()


def websockets_server(announce: Callable[[str], None], cell: Cell) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.server import ServerConnection, serve

    def echo(ws: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in ws:
                assert isinstance(message, bytes)
                ws.send(work(message))

    with serve(echo, HOST, 0, compression=None, max_size=MAX_SIZE, ping_interval=None) as server:
        announce(wire.address_of(server.socket))
        server.serve_forever()

"""Servers that count what comes. Where they listen stands in the cell's `files`, so that one can come back where another was."""

import asyncio
import contextlib
import logging
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from . import wire
from .cell import Cell
from .end import Announce

BIND = "bind"  # the file that has the address
EVENT = "message"

# That links end is what is measured, and no news.
logging.getLogger("websockets").setLevel(logging.CRITICAL)


def place(cell: Cell) -> tuple[str, int]:
    host, _, port = Path(cell.files, BIND).read_text().rpartition(":")
    return host, int(port)


class Count:
    """One thread counts, others may look."""

    def __init__(self) -> None:
        self.number = 0

    def add(self) -> None:
        self.number += 1

    def get(self) -> int:
        return self.number


def _bus_server(scheme: str, announce: Announce, cell: Cell) -> None:
    import bus

    count = Count()
    with bus.serve("{}://{}:{}".format(scheme, *place(cell)), lambda msg, client: count.add()) as server:
        announce(server.address, count.get)
        server.wait()


def bus_tcp_server(announce: Announce, cell: Cell) -> None:
    _bus_server("tcp", announce, cell)


def bus_ws_server(announce: Announce, cell: Cell) -> None:
    _bus_server("ws", announce, cell)


def socket_server(announce: Announce, cell: Cell) -> None:
    import socket

    count = Count()

    def read(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while sock.recv(wire.CHUNK):
                count.add()

    with socket.create_server(place(cell)) as listener:
        announce(wire.address_of(listener), count.get)
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=read, args=(sock,), daemon=True).start()


def sync_server(announce: Announce, cell: Cell) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.server import ServerConnection, serve

    count = Count()

    def read(ws: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for _ in ws:
                count.add()

    with serve(read, *place(cell)) as server:
        announce(wire.address_of(server.socket), count.get)
        server.serve_forever()


def websockets_server(announce: Announce, cell: Cell) -> None:
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosed

    count = Count()

    async def read(ws: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for _ in ws:
                count.add()

    async def run() -> None:
        async with serve(read, *place(cell)) as server:
            announce(wire.address_of(next(iter(server.sockets))), count.get)
            await server.serve_forever()

    asyncio.run(run())


def zmq_server(announce: Announce, cell: Cell) -> None:
    zmq: Any = import_module("zmq")
    count = Count()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as sock:
        host, port = place(cell)
        sock.bind(f"tcp://{host}:{port or '*'}")
        announce(sock.get(zmq.LAST_ENDPOINT).decode().removeprefix("tcp://").rstrip("\0"), count.get)
        while True:
            sock.recv_multipart()
            count.add()


def socketio_server(announce: Announce, cell: Cell) -> None:
    socketio: Any = import_module("socketio")
    web: Any = import_module("aiohttp.web")
    count = Count()

    async def run() -> None:
        sio = socketio.AsyncServer(async_mode="aiohttp")
        sio.on(EVENT, lambda sid, data: count.add())
        app = web.Application()
        sio.attach(app)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, *place(cell)).start()
        announce("{}:{}".format(*runner.addresses[0][:2]), count.get)
        await asyncio.Event().wait()

    asyncio.run(run())

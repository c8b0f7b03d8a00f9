"""Servers that send one message to all their clients whenever they are told to.

They are told by the end that receives, which so can tell how long it took until the last had it. The address is two: where clients come,
and where orders do.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from . import wire
from .cell import Cell
from .many_wires import EVENT
from .orders import KNOWN, Acts, obey, obey_async
from .ws_ends import HOST

# What is sent on which order, printable because Socket.IO sends text. The last is for one who does not read, until no more goes in.
SMALL, LARGE, STUFF = b"s", b"l", b"x"
PAYLOADS = {order: (b"0123456789" * 6554)[:size] for order, size in ((SMALL, 100), (LARGE, 10_000), (STUFF, 65_536))}


def acts(publish: Callable[[bytes], Any], known: Callable[[], int]) -> Acts:
    return {KNOWN: known, **{order: partial(publish, payload) for order, payload in PAYLOADS.items()}}


def floor_server(announce: Callable[[str], None], cell: Cell) -> None:
    """The least one can do: a loop over non-blocking sockets. Who does not take a message whole is not sent any more."""
    socks: list[socket.socket] = []

    def accept() -> None:
        while True:
            sock, _ = listener.accept()
            sock.setblocking(False)
            wire.no_delay(sock)
            socks.append(sock)

    def publish(message: bytes) -> None:
        frame = wire.frame(message)
        for sock in socks[:]:
            try:
                whole = sock.send(frame) == len(frame)
            except OSError:
                whole = False
            if not whole:
                socks.remove(sock)

    with wire.listen() as control, wire.listen(1024) as listener:
        threading.Thread(target=accept, daemon=True).start()
        announce(f"{wire.address_of(listener)} {wire.address_of(control)}")
        obey(control, acts(publish, lambda: len(socks)))


def _bus_server(scheme: str, announce: Callable[[str], None], **options: Any) -> None:
    import bus

    def publish(message: bytes) -> None:
        server.send_to_all(message)

    # Who is skipped is counted in the table, and a line about it for each message would hide it.
    logging.getLogger("actorbus").setLevel(logging.ERROR)
    with wire.listen() as control, bus.serve(f"{scheme}://{HOST}:0", lambda msg, client: None, **options) as server:
        announce(f"{server.address} {wire.address_of(control)}")
        obey(control, acts(publish, lambda: len(server.clients)))


def bus_tcp_server(announce: Callable[[str], None], cell: Cell) -> None:
    _bus_server("tcp", announce)


def bus_ws_server(announce: Callable[[str], None], cell: Cell) -> None:
    _bus_server("ws", announce, ping_interval=None)


def sync_server(announce: Callable[[str], None], cell: Cell) -> None:
    """As its documentation has it: a loop over the connections, since it has no broadcast."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.server import ServerConnection, serve

    connections: set[ServerConnection] = set()

    def serve_one(ws: ServerConnection) -> None:
        connections.add(ws)
        with contextlib.suppress(ConnectionClosed):
            ws.recv()
        connections.discard(ws)

    def publish(message: bytes) -> None:
        for ws in list(connections):
            with contextlib.suppress(ConnectionClosed):
                ws.send(message)

    with wire.listen() as control, serve(serve_one, HOST, 0, compression=None, ping_interval=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        announce(f"{wire.address_of(server.socket)} {wire.address_of(control)}")
        obey(control, acts(publish, lambda: len(connections)))


def asyncio_server(announce: Callable[[str], None], cell: Cell) -> None:
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    connections: set[ServerConnection] = set()

    async def serve_one(ws: ServerConnection) -> None:
        connections.add(ws)
        try:
            await ws.wait_closed()
        finally:
            connections.discard(ws)

    def publish(message: bytes) -> None:
        broadcast(connections, message)

    async def run() -> None:
        async with serve(serve_one, HOST, 0, compression=None, ping_interval=None) as server:
            with wire.listen() as control:
                announce(f"{wire.address_of(next(iter(server.sockets)))} {wire.address_of(control)}")
                await obey_async(control, acts(publish, lambda: len(connections)))

    asyncio.run(run())


def zmq_server(announce: Callable[[str], None], cell: Cell) -> None:
    """XPUB is PUB that hears of its subscribers, which is how it knows when all are there."""
    zmq: Any = import_module("zmq")
    subscribers = 0

    with zmq.Context() as context, context.socket(zmq.XPUB) as sock, wire.listen() as control:
        sock.set(zmq.XPUB_VERBOSE, 1)
        port = sock.bind_to_random_port(f"tcp://{HOST}")

        def known() -> int:
            nonlocal subscribers
            with contextlib.suppress(zmq.Again):
                while True:
                    sock.recv(zmq.DONTWAIT)
                    subscribers += 1
            return subscribers

        announce(f"{HOST}:{port} {wire.address_of(control)}")
        obey(control, acts(sock.send, known))


def socketio_server(announce: Callable[[str], None], cell: Cell) -> None:
    """On aiohttp, which its documentation names first among the asynchronous ones."""
    socketio: Any = import_module("socketio")
    web: Any = import_module("aiohttp.web")
    connected: set[str] = set()

    async def run() -> None:
        sio = socketio.AsyncServer(async_mode="aiohttp", transports=["websocket"], ping_interval=300)
        sio.on("connect", lambda sid, environ, auth: connected.add(sid))
        sio.on("disconnect", lambda sid, reason: connected.discard(sid))
        app = web.Application()
        sio.attach(app)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0, backlog=1024).start()
        with wire.listen() as control:
            announce("{}:{}".format(*runner.addresses[0][:2]) + f" {wire.address_of(control)}")
            await obey_async(control, acts(lambda message: sio.emit(EVENT, message.decode("ascii")), lambda: len(connected)))

    asyncio.run(run())

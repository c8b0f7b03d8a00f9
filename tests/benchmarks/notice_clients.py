"""Clients with the defaults of their make: they say when they were told that the link had ended, or go on sending over its end."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from typing import Any

from . import wire
from .end import Gate, say
from .notice_servers import EVENT

SENDS = "a message a second is sent"
RESTARTED = "a server is killed and comes back"
SECOND = 1.0
OFTEN = 0.01
MESSAGE = b"are you there"


def told() -> None:
    """All processes of a machine share this clock."""
    say({"told": time.monotonic()})


def watch(gate: Gate, send: Callable[[], object], receive: Callable[[], object]) -> None:
    """Until `receive`, which is waiting all the time, or `send` raises."""
    over = threading.Event()

    def until_it_raises(call: Callable[[], object], pause: float) -> None:
        with contextlib.suppress(Exception):
            while not over.wait(pause):
                call()
        over.set()

    gate.wait_to_start()
    threading.Thread(target=until_it_raises, args=(receive, 0), daemon=True).start()
    if gate.cell.variant.endswith(SENDS):
        threading.Thread(target=until_it_raises, args=(send, SECOND), daemon=True).start()
    over.wait()
    told()


async def watch_async(gate: Gate, send: Callable[[], Awaitable[object]], receive: Callable[[], Awaitable[object]]) -> None:
    async def forever(call: Callable[[], Awaitable[object]], pause: float) -> None:
        with contextlib.suppress(Exception):
            while True:
                await asyncio.sleep(pause)
                await call()

    gate.wait_to_start()
    tasks = [asyncio.create_task(forever(receive, 0))]
    if gate.cell.variant.endswith(SENDS):
        tasks.append(asyncio.create_task(forever(send, SECOND)))
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    told()


def go_on(gate: Gate, send: Callable[[], object]) -> None:
    """The parent sees at the server what arrives, and ends this."""
    send()
    gate.wait_to_start()
    while True:
        with contextlib.suppress(Exception):
            send()
        time.sleep(OFTEN)


def _bus(scheme: str, address: str, gate: Gate) -> None:
    import bus

    restarted = gate.cell.variant == RESTARTED
    with bus.connect(f"{scheme}://{address}", reconnect=restarted) as conn:
        if restarted:
            go_on(gate, partial(conn.send, MESSAGE))
        watch(gate, partial(conn.send, MESSAGE), conn.receive)


bus_tcp = partial(_bus, "tcp")
bus_ws = partial(_bus, "ws")


def sockets(address: str, gate: Gate) -> None:
    with wire.connect(address, timeout=None) as sock:
        watch(gate, partial(sock.sendall, MESSAGE), partial(wire.read_exactly, sock, 1))


def streams(address: str, gate: Gate) -> None:
    async def run() -> None:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))

        async def send() -> None:
            writer.write(MESSAGE)
            await writer.drain()

        await watch_async(gate, send, partial(reader.readexactly, 1))
        writer.transport.abort()

    asyncio.run(run())


def sync(address: str, gate: Gate) -> None:
    from websockets.sync.client import connect

    with connect(f"ws://{address}/") as ws:
        watch(gate, partial(ws.send, MESSAGE), ws.recv)


def websockets(address: str, gate: Gate) -> None:
    """Its `connect` is an iterator, too, and that makes the connection again."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed

    async def once() -> None:
        async with connect(f"ws://{address}/") as ws:
            await watch_async(gate, partial(ws.send, MESSAGE), ws.recv)

    async def again() -> None:
        waited = False
        async for ws in connect(f"ws://{address}/"):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await ws.send(MESSAGE)
                    if not waited:
                        gate.wait_to_start()
                    waited = True
                    await asyncio.sleep(OFTEN)

    asyncio.run(again() if gate.cell.variant == RESTARTED else once())


def websocket_client(address: str, gate: Gate) -> None:
    module: Any = import_module("websocket")
    ws = module.create_connection(f"ws://{address}/")

    def receive() -> None:
        if not ws.recv():
            raise EOFError

    watch(gate, partial(ws.send_binary, MESSAGE), receive)


def zmq(address: str, gate: Gate) -> None:
    """A socket for each direction's thread: they are not to be shared."""
    module: Any = import_module("zmq")
    context = module.Context()
    receiving, sending = context.socket(module.DEALER), context.socket(module.DEALER)
    for sock in (receiving, sending):
        sock.connect(f"tcp://{address}")
    send = partial(sending.send, MESSAGE, module.DONTWAIT)
    if gate.cell.variant == RESTARTED:
        go_on(gate, send)
    watch(gate, send, receiving.recv)


def socketio(address: str, gate: Gate) -> None:
    module: Any = import_module("socketio")
    over = threading.Event()
    sio = module.Client()
    sio.on("disconnect", lambda reason: over.set())
    sio.connect(f"http://{address}")

    def receive() -> None:
        over.wait()
        raise EOFError

    send = partial(sio.emit, EVENT, MESSAGE.decode())
    if gate.cell.variant == RESTARTED:
        go_on(gate, send)
    watch(gate, send, receive)

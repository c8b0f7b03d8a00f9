"""Ends for messages one way. What sends counts, and says so; what receives compares it with what was sent."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from importlib import import_module
from typing import Any

from . import asyncio_ends, nng_ends, tls, wire
from .cell import Cell
from .end import REPLY_TIMEOUT, Announce, Gate, Spent, payload, say

BATCH = 100
LARGE = 64 * 1024
READ_AHEAD = 1 << 20
SEND_TIMEOUT_MS = int(REPLY_TIMEOUT * 1000)


class Tally:
    """Counts what comes. Of large messages only the length is looked at after the warm-up: comparing them would be part of the figures."""

    def __init__(self, cell: Cell) -> None:
        self.received = 0
        self._sent = payload(cell.size)
        self._whole = cell.count + cell.warm if cell.size <= LARGE else cell.warm

    def take(self, message: bytes | bytearray) -> None:
        if len(message) != len(self._sent) or (self.received < self._whole and message != self._sent):
            raise ValueError("what came differs from what was sent")
        self.received += 1

    def so_far(self) -> int:
        return self.received


def stream(gate: Gate, send: Callable[[Any], object], what: Any = None, batch: int = 1) -> None:
    """The same loop for every blocking sender: `send(what)`, which are so many messages."""
    what = gate.payload if what is None else what
    warm, count = gate.cell.warm // batch, gate.cell.count // batch
    for _ in range(warm):
        send(what)
    start(warm * batch)
    before, begun = Spent.so_far(), time.perf_counter()
    for _ in range(count):
        send(what)
    finish(count * batch, begun, before)


async def stream_async(gate: Gate, send: Callable[[bytes], Awaitable[object]]) -> None:
    what, warm, count = gate.payload, gate.cell.warm, gate.cell.count
    for _ in range(warm):
        await send(what)
    # On a thread: what a transport still holds goes out meanwhile.
    await asyncio.to_thread(start, warm)
    before, begun = Spent.so_far(), time.perf_counter()
    for _ in range(count):
        await send(what)
    await asyncio.to_thread(finish, count, begun, before)


def start(sent: int) -> None:
    say({"sent": sent})
    input()


def finish(sent: int, begun: float, before: Spent) -> None:
    # What is still on its way, in another thread or buffer, is paid for before the second line is read.
    say({"sent": sent, "wall": time.perf_counter() - begun})
    input()
    say(asdict(Spent.so_far() - before))
    input()


def raw_in(announce: Announce, cell: Cell) -> None:
    _raw_in(announce, cell, lambda sock: wire.FrameReader(sock).read)


def raw_large_in(announce: Announce, cell: Cell) -> None:
    _raw_in(announce, cell, lambda sock: partial(wire.read_large, sock))


def _raw_in(announce: Announce, cell: Cell, reading: Callable[[socket.socket], Callable[[], bytes | bytearray]]) -> None:
    tally = Tally(cell)
    with wire.listen() as listener:
        announce(wire.address_of(listener), tally.so_far)
        sock = tls.accepted(listener.accept()[0], cell)
        with sock, contextlib.suppress(EOFError, ConnectionError):
            read = reading(sock)
            while True:
                tally.take(read())


def raw_out(address: str, gate: Gate) -> None:
    with wire.connect(address, REPLY_TIMEOUT) as sock:
        stream(gate, partial(wire.send_frame, sock))


def raw_large_out(address: str, gate: Gate) -> None:
    with tls.connected(wire.connect(address, REPLY_TIMEOUT), gate.cell) as sock:
        stream(gate, partial(wire.send_large, sock))


def raw_many_out(address: str, gate: Gate) -> None:
    messages = [gate.payload] * BATCH
    with wire.connect(address, REPLY_TIMEOUT) as sock:
        stream(gate, lambda messages: sock.sendall(b"".join(map(wire.frame, messages))), messages, BATCH)


def asyncio_in(announce: Announce, cell: Cell) -> None:
    tally = Tally(cell)

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                tally.take(await asyncio_ends.read_frame(reader))
        writer.close()

    async def serve() -> None:
        async with await asyncio.start_server(receive, "127.0.0.1", 0, limit=READ_AHEAD, ssl=tls.server_context(cell)) as server:
            announce(wire.address_of(server.sockets[0]), tally.so_far)
            await server.serve_forever()

    asyncio.run(serve())


async def _stream_out(address: str, gate: Gate) -> None:
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=tls.client_context(gate.cell))

    async def send(message: bytes) -> None:
        # Of a large one a copy would cost more than a second call.
        writer.writelines((wire.HEADER.pack(len(message)), message))
        await writer.drain()

    await stream_async(gate, send)
    writer.close()


def asyncio_out(address: str, gate: Gate) -> None:
    asyncio.run(_stream_out(address, gate))


class _Taking(asyncio.Protocol):
    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._assembler = wire.Assembler()

    def data_received(self, data: bytes) -> None:
        for message in self._assembler.feed(data):
            self._tally.take(message)


def uvloop_in(announce: Announce, cell: Cell) -> None:
    tally = Tally(cell)

    async def serve() -> None:
        loop, context = asyncio.get_running_loop(), tls.server_context(cell)
        async with await loop.create_server(lambda: _Taking(tally), "127.0.0.1", 0, ssl=context) as server:
            announce(wire.address_of(server.sockets[0]), tally.so_far)
            await server.serve_forever()

    with asyncio.Runner(loop_factory=import_module("uvloop").new_event_loop) as runner:
        runner.run(serve())


def uvloop_out(address: str, gate: Gate) -> None:
    with asyncio.Runner(loop_factory=import_module("uvloop").new_event_loop) as runner:
        runner.run(_stream_out(address, gate))


def zmq_in(announce: Announce, cell: Cell) -> None:
    import zmq

    tally = Tally(cell)
    with zmq.Context() as context, context.socket(zmq.PULL) as sock:
        announce(f"127.0.0.1:{sock.bind_to_random_port('tcp://127.0.0.1')}", tally.so_far)
        while True:
            tally.take(sock.recv())


def zmq_out(address: str, gate: Gate) -> None:
    _zmq_out(address, gate, copy=True)


def zmq_large_out(address: str, gate: Gate) -> None:
    _zmq_out(address, gate, copy=False)


def _zmq_out(address: str, gate: Gate, *, copy: bool) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PUSH) as sock:
        sock.setsockopt(zmq.SNDTIMEO, SEND_TIMEOUT_MS)
        sock.setsockopt(zmq.LINGER, 0)
        sock.connect(f"tcp://{address}")
        stream(gate, sock.send if copy else partial(sock.send, copy=False))


def nng_in(announce: Announce, cell: Cell) -> None:
    tally = Tally(cell)
    with import_module("pynng").Pull0(listen=nng_ends.ANY) as sock:
        announce(nng_ends.address_of(sock), tally.so_far)
        while True:
            tally.take(sock.recv())


def nng_out(address: str, gate: Gate) -> None:
    with import_module("pynng").Push0(dial=f"tcp://{address}", send_timeout=SEND_TIMEOUT_MS) as sock:
        stream(gate, sock.send)


def bus_in(announce: Announce, cell: Cell) -> None:
    import bus

    tally = Tally(cell)
    with bus.listen(tls.url("127.0.0.1:0", cell), tls=tls.server_context(cell)) as listener:
        announce(listener.address, tally.so_far)
        for msg in listener.accept():
            tally.take(msg.data)


def bus_serve_in(announce: Announce, cell: Cell) -> None:
    import bus

    tally = Tally(cell)
    options: dict[str, Any] = {"tls": tls.server_context(cell), "max_size": wire.MAX_SIZE}
    with bus.serve(tls.url("127.0.0.1:0", cell), lambda msg, client: tally.take(msg.data), **options) as server:
        announce(server.address, tally.so_far)
        server.wait()


def bus_out(address: str, gate: Gate) -> None:
    import bus

    with bus.connect(tls.url(address, gate.cell), tls=tls.client_context(gate.cell)) as conn:
        stream(gate, conn.send)


def bus_many_out(address: str, gate: Gate) -> None:
    import bus

    with bus.connect(f"tcp://{address}") as conn:
        stream(gate, conn.send_many, [gate.payload] * BATCH, BATCH)

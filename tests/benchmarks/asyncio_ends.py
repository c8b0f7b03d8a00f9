"""asyncio: streams for the round trip, and one Protocol on asyncio's loop and on uvloop's.

Both loops set TCP_NODELAY themselves.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

from . import tls, wire
from .cell import Cell
from .end import REPLY_TIMEOUT, Gate


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(wire.announced_size(await reader.readexactly(wire.HEADER.size)))


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            writer.write(wire.frame(await read_frame(reader)))
            await writer.drain()


def streams_server(announce: Callable[[str], None], cell: Cell) -> None:
    async def serve() -> None:
        async with await asyncio.start_server(_echo, "127.0.0.1", 0, ssl=tls.server_context(cell)) as server:
            announce(wire.address_of(server.sockets[0]))
            await server.serve_forever()

    asyncio.run(serve())


def streams_client(address: str, gate: Gate) -> None:
    async def measure() -> None:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=tls.client_context(gate.cell))

        async def trip(payload: bytes) -> bytes:
            writer.write(wire.frame(payload))
            await writer.drain()
            # The other clients give up on a silent server after this long; so does this one.
            async with asyncio.timeout(REPLY_TIMEOUT):
                return await read_frame(reader)

        await gate.time_async(trip)
        writer.close()

    asyncio.run(measure())


class EchoProtocol(asyncio.Protocol):
    """What one would ship: whole frames, a size limit, a callback per message, no reading from who does not read."""

    _transport: asyncio.Transport

    def __init__(self, on_message: Callable[[bytes], bytes]) -> None:
        self._on_message = on_message
        self._assembler = wire.Assembler()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports implement the interface without deriving from it.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._assembler.feed(data)
        except ValueError:
            self._transport.abort()
            return
        for message in messages:
            self._transport.write(wire.frame(self._on_message(message)))

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()


async def _serve_protocol(announce: Callable[[str], None], cell: Cell) -> None:
    loop, context = asyncio.get_running_loop(), tls.server_context(cell)
    server = await loop.create_server(lambda: EchoProtocol(lambda message: message), "127.0.0.1", 0, backlog=1024, ssl=context)
    async with server:
        announce(wire.address_of(server.sockets[0]))
        await server.serve_forever()


def protocol_server(announce: Callable[[str], None], cell: Cell) -> None:
    asyncio.run(_serve_protocol(announce, cell))


def uvloop_server(announce: Callable[[str], None], cell: Cell) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve_protocol(announce, cell))


class _Caller(asyncio.Protocol):
    """The other end of it: an answer for whoever waits."""

    waiting: asyncio.Future[bytes]

    def __init__(self) -> None:
        self._assembler = wire.Assembler()

    def data_received(self, data: bytes) -> None:
        for message in self._assembler.feed(data):
            self.waiting.set_result(message)


def uvloop_client(address: str, gate: Gate) -> None:
    import uvloop

    async def measure() -> None:
        loop = asyncio.get_running_loop()
        host, _, port = address.rpartition(":")
        transport, caller = await loop.create_connection(_Caller, host, int(port), ssl=tls.client_context(gate.cell))

        async def trip(payload: bytes) -> bytes:
            caller.waiting = loop.create_future()
            transport.write(wire.frame(payload))
            async with asyncio.timeout(REPLY_TIMEOUT):
                return await caller.waiting

        await gate.time_async(trip)
        transport.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure())

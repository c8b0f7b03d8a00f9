"""asyncio: streams for the round trip, and one Protocol for many clients on asyncio's loop and on uvloop's.

Both loops set TCP_NODELAY themselves.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

from . import wire
from .cell import Cell
from .end import REPLY_TIMEOUT, Gate


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(wire.announced_size(await reader.readexactly(wire.HEADER.size)))


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            writer.write(wire.frame(await _read_frame(reader)))
            await writer.drain()


def streams_server(announce: Callable[[str], None], cell: Cell) -> None:
    async def serve() -> None:
        async with await asyncio.start_server(_echo, "127.0.0.1", 0) as server:
            announce(wire.address_of(server.sockets[0]))
            await server.serve_forever()

    asyncio.run(serve())


def streams_client(address: str, gate: Gate) -> None:
    async def measure() -> None:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))

        async def trip(payload: bytes) -> bytes:
            writer.write(wire.frame(payload))
            await writer.drain()
            # The other clients give up on a silent server after this long; so does this one.
            async with asyncio.timeout(REPLY_TIMEOUT):
                return await _read_frame(reader)

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


async def _serve_protocol(announce: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: EchoProtocol(lambda message: message), "127.0.0.1", 0, backlog=1024)
    async with server:
        announce(wire.address_of(server.sockets[0]))
        await server.serve_forever()


def protocol_server(announce: Callable[[str], None], cell: Cell) -> None:
    asyncio.run(_serve_protocol(announce))


def uvloop_server(announce: Callable[[str], None], cell: Cell) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve_protocol(announce))

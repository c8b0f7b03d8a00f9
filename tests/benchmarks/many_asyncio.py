"""asyncio's Protocol for many clients, on asyncio's loop and on uvloop's, and with callbacks in the loop's executor."""

import asyncio
from collections import deque
from collections.abc import Callable

from . import wire
from .asyncio_ends import EchoProtocol
from .cell import Cell
from .many_work import work


class ExecutorProtocol(EchoProtocol):
    """For callbacks that may block: each in a thread of the executor, those of one client one after the other."""

    def __init__(self) -> None:
        super().__init__(work)
        self._waiting: deque[bytes] = deque()
        self._busy = False

    def data_received(self, data: bytes) -> None:
        try:
            self._waiting.extend(self._assembler.feed(data))
        except ValueError:
            self._transport.abort()
            return
        self._next()

    def _next(self) -> None:
        if self._waiting and not self._busy:
            self._busy = True
            done = asyncio.get_running_loop().run_in_executor(None, work, self._waiting.popleft())
            done.add_done_callback(self._answer)

    def _answer(self, done: asyncio.Future[bytes]) -> None:
        self._busy = False
        self._transport.write(wire.frame(done.result()))
        self._next()


async def _serve(protocol: Callable[[], asyncio.Protocol], announce: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(protocol, "127.0.0.1", 0, backlog=1024) as server:
        announce(wire.address_of(server.sockets[0]))
        await server.serve_forever()


def protocol_server(announce: Callable[[str], None], cell: Cell) -> None:
    asyncio.run(_serve(lambda: EchoProtocol(work), announce))


def uvloop_server(announce: Callable[[str], None], cell: Cell) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(lambda: EchoProtocol(work), announce))


def executor_server(announce: Callable[[str], None], cell: Cell) -> None:
    asyncio.run(_serve(ExecutorProtocol, announce))

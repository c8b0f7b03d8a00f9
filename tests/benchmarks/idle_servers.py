"""Servers whose clients say nothing, and what these cost them. The address is two: where clients come, and where orders do."""

import asyncio
import contextlib
import gc
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from . import wire
from .cell import Cell
from .end import Spent
from .orders import KNOWN, Acts, obey, obey_async
from .ws_ends import HOST

FACTS, STOP = b"f", b"s"
TRACED = "memory traced"
BACKLOG = 1024
A_LITTLE = 4096  # what a blocked `recv` holds all the time


def facts() -> dict[str, float]:
    """`cpu` is what was spent until now, `from_here` that and what these facts cost; memory in bytes, once what is garbage has gone."""
    cpu = Spent.so_far().cpu
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    threads = len(os.listdir("/proc/self/task"))
    traced = tracemalloc.get_traced_memory()[0]
    return {"cpu": cpu, "resident": resident, "threads": threads, "traced": traced, "from_here": Spent.so_far().cpu}


def acts(cell: Cell, known: Callable[[], int], stop: Callable[[], Any]) -> Acts:
    """`stop()` closes every connection, and returns True when that is done."""
    if cell.variant == TRACED:
        tracemalloc.start()
    return {KNOWN: known, FACTS: facts, STOP: stop}


def _bus_server(scheme: str, announce: Callable[[str], None], cell: Cell, **options: Any) -> None:
    import bus

    with wire.listen() as control, bus.serve(f"{scheme}://{HOST}:0", lambda msg, client: None, **options) as server:
        announce(f"{server.address} {wire.address_of(control)}")

        def stop() -> bool:
            done = bool(server.stop())
            while server._actor._present:  # it returned when the peers' TCP had taken everything; what counts is the last descriptor
                time.sleep(0.01)
            return done

        obey(control, acts(cell, lambda: len(server.clients), stop))


def bus_tcp_server(announce: Callable[[str], None], cell: Cell) -> None:
    _bus_server("tcp", announce, cell)


def bus_ws_server(announce: Callable[[str], None], cell: Cell) -> None:
    _bus_server("ws", announce, cell, ping_interval=None)


class _Idler(asyncio.Protocol):
    open: set["_Idler"]  # of the class: there is one server in the process

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open.discard(self)


_Idler.open = set()


def asyncio_server(announce: Callable[[str], None], cell: Cell) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Idler, HOST, 0, backlog=BACKLOG)

        async def stop() -> bool:
            server.close()
            for idler in list(_Idler.open):
                idler.transport.close()
            while _Idler.open:
                await asyncio.sleep(0)
            return True

        with wire.listen() as control:
            announce(f"{wire.address_of(server.sockets[0])} {wire.address_of(control)}")
            await obey_async(control, acts(cell, lambda: len(_Idler.open), stop))

    asyncio.run(run())


def websockets_server(announce: Callable[[str], None], cell: Cell) -> None:
    from websockets.asyncio.server import ServerConnection, serve

    async def serve_one(ws: ServerConnection) -> None:
        await ws.wait_closed()

    async def run() -> None:
        server = await serve(serve_one, HOST, 0, compression=None, ping_interval=None, backlog=BACKLOG)

        async def stop() -> bool:
            server.close()
            await server.wait_closed()
            return True

        with wire.listen() as control:
            announce(f"{wire.address_of(next(iter(server.sockets)))} {wire.address_of(control)}")
            await obey_async(control, acts(cell, lambda: len(server.connections), stop))

    asyncio.run(run())


def threads_server(announce: Callable[[str], None], cell: Cell) -> None:
    idle: dict[threading.Thread, socket.socket] = {}

    def serve_one(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while sock.recv(A_LITTLE):
                pass
        del idle[threading.current_thread()]

    def accept() -> None:
        while True:
            sock, _ = listener.accept()
            wire.no_delay(sock)
            thread = threading.Thread(target=serve_one, args=(sock,), daemon=True)
            idle[thread] = sock
            thread.start()

    def stop() -> bool:
        threads = list(idle.items())
        for _, sock in threads:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread, _ in threads:
            thread.join()
        return True

    with wire.listen() as control, wire.listen(BACKLOG) as listener:
        threading.Thread(target=accept, daemon=True).start()
        announce(f"{wire.address_of(listener)} {wire.address_of(control)}")
        obey(control, acts(cell, lambda: len(idle), stop))

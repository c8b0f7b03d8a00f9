"""Ends for datagrams."""

import asyncio
import socket
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from . import wire
from .cell import Cell
from .end import Announce, Gate
from .one_way_ends import Tally, stream

RECEIVE_BUFFER = 4 * 1024 * 1024
TICK = 0.001


def paced(send: Callable[[bytes], object], rate: float) -> Callable[[bytes], object]:
    """So many a second, in a burst each tick: a sleep for each would cost more than the sending. Catches up after a delay."""
    due, left = time.perf_counter(), 0
    burst = round(rate * TICK)

    def send_in_time(message: bytes) -> None:
        nonlocal due, left
        if not left:
            now = time.perf_counter()
            # What was missed before the measurement began, or while another process had the core for long, is not made up for.
            due = max(due + TICK, now - 50 * TICK)
            if due > now:
                time.sleep(due - now)
            left = burst
        left -= 1
        send(message)

    return send_in_time if rate else send


def bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    sock.bind(("127.0.0.1", 0))
    return sock


def socket_in(announce: Announce, cell: Cell) -> None:
    tally = Tally(cell)
    with bound() as sock:
        announce(wire.address_of(sock), tally.so_far)
        while True:
            data, _ = sock.recvfrom(65536)
            tally.take(data)


def socket_out(address: str, gate: Gate) -> None:
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((host, int(port)))
        stream(gate, paced(sock.send, gate.cell.rate))


class _Taking(asyncio.DatagramProtocol):
    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._tally.take(data)


async def _serve(announce: Announce, cell: Cell) -> None:
    tally = Tally(cell)
    sock = bound()
    sock.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(partial(_Taking, tally), sock=sock)
    announce(wire.address_of(sock), tally.so_far)
    await asyncio.Event().wait()
    transport.close()


def asyncio_in(announce: Announce, cell: Cell) -> None:
    asyncio.run(_serve(announce, cell))


def uvloop_in(announce: Announce, cell: Cell) -> None:
    with asyncio.Runner(loop_factory=import_module("uvloop").new_event_loop) as runner:
        runner.run(_serve(announce, cell))


def bus_in(announce: Announce, cell: Cell) -> None:
    import bus

    tally = Tally(cell)
    with bus.bind("udp://127.0.0.1:0") as sock:
        announce(sock.address, tally.so_far)
        for msg in sock:
            tally.take(msg.data)


def bus_out(address: str, gate: Gate) -> None:
    import bus

    with bus.connect(f"udp://{address}") as conn:
        stream(gate, paced(conn.send, gate.cell.rate))

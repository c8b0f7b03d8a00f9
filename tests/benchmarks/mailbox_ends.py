"""Queues of several makes between two threads of one process."""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from queue import Queue, SimpleQueue
from typing import Any, NamedTuple

from .end import Gate, Spent, say

BURST = 1_000
ROOM = 20_000  # of the mailbox: what it does when it is full is another matter


class Box(NamedTuple):
    """`put` takes a message, or so many (`batch`) at once."""

    put: Callable[[Any], object]
    get: Callable[[], Any]
    batch: int = 1


def simple(address: str, gate: Gate) -> None:
    def make() -> Box:
        queue: SimpleQueue[bytes] = SimpleQueue()
        return Box(queue.put, queue.get)

    measure(gate, make)


def queue(address: str, gate: Gate) -> None:
    def make() -> Box:
        queue: Queue[bytes] = Queue()
        return Box(queue.put, queue.get)

    measure(gate, make)


def bus_single(address: str, gate: Gate) -> None:
    measure(gate, lambda: _mailbox(1))


def bus_batch(address: str, gate: Gate) -> None:
    measure(gate, lambda: _mailbox(10))


def _mailbox(batch: int) -> Box:
    from actors.mailbox import Mailbox

    box: Mailbox[bytes] = Mailbox(weigh=len, max_items=ROOM)

    def put(message: bytes) -> None:
        box.put((message,), len(message))

    def put_batch(messages: list[bytes]) -> None:
        box.put(messages, len(messages) * len(messages[0]))

    return Box(put if batch == 1 else put_batch, lambda: box.get(None), batch)


def measure(gate: Gate, make: Callable[[], Box]) -> None:
    if queued := gate.cell.clients:
        _bursts(gate, make(), queued)
    else:
        _one_at_a_time(gate, make(), make())


def _bursts(gate: Gate, box: Box, queued: int) -> None:
    """The puts of one thread, then the takes of the other: what is behind the queued ones is the only thing that varies."""
    message = gate.payload
    what: Any = message if box.batch == 1 else [message] * box.batch
    orders: SimpleQueue[int] = SimpleQueue()
    done: SimpleQueue[int] = SimpleQueue()

    def take() -> None:
        get = box.get
        while burst := orders.get():
            for _ in range(burst):
                if get() != message:
                    raise ValueError("what came differs from what was put")
            done.put(burst)

    def bursts(count: int) -> int:
        put, came = box.put, 0
        for _ in range(count // BURST):
            for _ in range(BURST // box.batch):
                put(what)
            orders.put(BURST)
            came += done.get(timeout=gate.cell.limit)
        return came

    threading.Thread(target=take, daemon=True).start()
    for _ in range(-(-queued // box.batch)):
        box.put(what)
    bursts(max(BURST, gate.cell.warm))
    gate.wait_to_start()
    before, begun = Spent.so_far(), time.perf_counter()
    count = bursts(gate.cell.count)
    wall, spent = time.perf_counter() - begun, Spent.so_far() - before
    say({"count": count, "wall": wall, **asdict(spent)})
    input()
    orders.put(0)


def _one_at_a_time(gate: Gate, there: Box, back: Box) -> None:
    def reply() -> None:
        while True:
            message = there.get()
            back.put(message if back.batch == 1 else [message])

    def trip(message: bytes) -> bytes:
        there.put(message if there.batch == 1 else [message])
        echo: bytes = back.get()
        return echo

    threading.Thread(target=reply, daemon=True).start()
    gate.time(trip)

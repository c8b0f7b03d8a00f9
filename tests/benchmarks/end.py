"""One end of a measurement, in a process of its own: `python -m tests.benchmarks.end ORDER`.

The conversation with the parent is one JSON object per line on stdin and stdout. A server says its address, then
answers every line with what it has spent so far. A client says when it is warm, measures when told to, says what
it found and holds its connection until told to go, so that nothing but the measured messages lies between the two
readings of the server's CPU time. The end of stdin ends the process, so no child outlives its parent.
"""

import faulthandler
import importlib
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self, cast

from .cell import Cell

REPLY_TIMEOUT = 5.0


class Announce(Protocol):
    """`received` says how many messages have come, where nothing goes back that would tell."""

    def __call__(self, address: str, received: Callable[[], int] = int) -> None: ...


class ServerEnd(Protocol):
    def __call__(self, announce: Announce, cell: Cell) -> None: ...


class ClientEnd(Protocol):
    def __call__(self, address: str, gate: "Gate") -> None: ...


def say(fact: dict[str, Any]) -> None:
    print(json.dumps(fact), flush=True)


@dataclass(frozen=True)
class Spent:
    """What this process used: CPU seconds, and page faults, which tell when the figure is the allocator's."""

    cpu: float
    faults: int

    @classmethod
    def so_far(cls) -> Self:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return cls(usage.ru_utime + usage.ru_stime, usage.ru_minflt)

    def __sub__(self, earlier: "Spent") -> "Spent":
        return Spent(self.cpu - earlier.cpu, self.faults - earlier.faults)


def payload(size: int) -> bytes:
    return bytes(index % 251 for index in range(size))


def percentile(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(frozen=True)
class Gate:
    """What to do, and the parent's leave to start and to go."""

    cell: Cell

    @property
    def payload(self) -> bytes:
        return payload(self.cell.size)

    def wait_to_start(self) -> None:
        say({"warm": True})
        sys.stdin.readline()

    def report(self, waits: list[int], wall: float, spent: "Spent") -> None:
        waits.sort()
        say(
            {
                "count": len(waits),
                "p50": percentile(waits, 0.50) / 1e9,
                "p99": percentile(waits, 0.99) / 1e9,
                "wall": wall,
                **asdict(spent),
            }
        )
        sys.stdin.readline()

    def time(self, trip: Callable[[bytes], bytes]) -> None:
        """The same loop for every blocking client, so that its own cost is the same for all."""
        sent, clock = self.payload, time.perf_counter_ns
        for _ in range(self.cell.warm):
            trip(sent)
        waits = [0] * self.cell.count
        self.wait_to_start()
        before_all, begun = Spent.so_far(), time.perf_counter()
        for index in range(self.cell.count):
            before = clock()
            echo = trip(sent)
            waits[index] = clock() - before
            if echo != sent:
                raise ValueError("the echo differs from what was sent")
        wall, spent = time.perf_counter() - begun, Spent.so_far() - before_all
        self.report(waits, wall, spent)

    async def time_async(self, trip: Callable[[bytes], Awaitable[bytes]]) -> None:
        sent, clock = self.payload, time.perf_counter_ns
        for _ in range(self.cell.warm):
            await trip(sent)
        waits = [0] * self.cell.count
        self.wait_to_start()
        before_all, begun = Spent.so_far(), time.perf_counter()
        for index in range(self.cell.count):
            before = clock()
            echo = await trip(sent)
            waits[index] = clock() - before
            if echo != sent:
                raise ValueError("the echo differs from what was sent")
        wall, spent = time.perf_counter() - begun, Spent.so_far() - before_all
        self.report(waits, wall, spent)


class Stand:
    """What a server's process says of itself: its address, then to every line what it has spent and received so far."""

    def __init__(self) -> None:
        self._received: Callable[[], int] = int

    def announce(self, address: str, received: Callable[[], int] = int) -> None:
        self._received = received
        say({"address": address})

    def answer(self) -> None:
        while sys.stdin.readline():
            say({**asdict(Spent.so_far()), "received": self._received()})
        os._exit(0)


def resolve(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), name)


def main() -> None:
    order = json.loads(sys.argv[1])
    # Ctrl-C reaches the whole group; the parent then ends its children in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.dump_traceback_later(order["limit"], exit=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if order["core"] is not None:
        os.sched_setaffinity(0, {order["core"]})
    cell = Cell(**order["cell"])
    if order["address"] is not None:
        client = cast(ClientEnd, resolve(order["where"]))
        client(order["address"], Gate(cell))
        return
    server = cast(ServerEnd, resolve(order["where"]))
    # A thread that waits in read() holds no lock and costs the server nothing until it is asked.
    stand = Stand()
    control = threading.Thread(target=stand.answer, daemon=True)
    control.start()
    server(stand.announce, cell)
    control.join()


if __name__ == "__main__":
    main()

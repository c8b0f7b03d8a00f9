"""Actors of two kinds in one process, each told, asked and called through a proxy. What they do is the same."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from .end import Gate, Spent, percentile, say

BOUND = 60.0


class Adding:
    """What both kinds of actor do."""

    total = 0

    def on_receive(self, message: Any) -> int:
        self.total += message
        return self.total

    def add(self, number: int) -> int:
        self.total += number
        return self.total


def _told(gate: Gate, ref: Any) -> None:
    """Bursts, and an `ask` behind each, which is answered when all of it has been handled."""
    tell, burst = ref.tell, max(1, gate.cell.count // 10)

    def bursts(count: int) -> list[int]:
        waits = []
        for _ in range(max(1, count // burst)):
            before = time.perf_counter_ns()
            for _ in range(burst):
                tell(1)
            ref.ask(0, timeout=BOUND)
            waits.append((time.perf_counter_ns() - before) // burst)
        return waits

    _report(gate, bursts, ref, each=burst)


def _asked(gate: Gate, ref: Any) -> None:
    _trips(gate, ref, lambda: ref.ask(1, timeout=BOUND))


def _called(gate: Gate, ref: Any) -> None:
    proxy = ref.proxy()
    _trips(gate, ref, lambda: proxy.add(1).get(timeout=BOUND))


def _trips(gate: Gate, ref: Any, trip: Callable[[], int]) -> None:
    def trips(count: int) -> list[int]:
        waits, clock = [0] * count, time.perf_counter_ns
        for index in range(count):
            before = clock()
            trip()
            waits[index] = clock() - before
        return waits

    _report(gate, trips, ref, each=1)


def _report(gate: Gate, work: Callable[[int], list[int]], ref: Any, each: int) -> None:
    warm = len(work(gate.cell.warm)) * each
    gate.wait_to_start()
    before, begun = Spent.so_far(), time.perf_counter()
    waits = work(gate.cell.count)
    wall, spent = time.perf_counter() - begun, Spent.so_far() - before
    done = len(waits) * each
    if (total := ref.ask(0, timeout=BOUND)) != warm + done:
        raise ValueError(f"the actor has added up {total} messages of {warm + done}")
    waits.sort()
    say({"count": done, "p50": percentile(waits, 0.5) / 1e9, "p99": percentile(waits, 0.99) / 1e9, "wall": wall, **asdict(spent)})
    input()


WAYS: dict[str, Callable[[Gate, Any], None]] = {"tell": _told, "ask": _asked, "proxy": _called}


def pykka_threading(address: str, gate: Gate) -> None:
    import pykka

    class Adder(Adding, pykka.ThreadingActor):
        pass

    ref = Adder.start()
    WAYS[gate.cell.variant](gate, ref)
    ref.stop()


def bus_reader(address: str, gate: Gate) -> None:
    import socket

    from actors import hosting
    from actors.actor import SocketActor

    class Adder(Adding, SocketActor):
        """An actor without a socket, on a reader thread."""

        def __init__(self, sock: Any, loop: Any) -> None:
            super().__init__(loop)

    unused, peer = socket.socketpair()
    with unused, peer:
        actor = Adder.open(unused, hosting.shared())
        WAYS[gate.cell.variant](gate, actor.actor_ref)
        actor.actor_ref.stop()
    hosting.shutdown()

"""What happens to bytes and datagrams on their way through a `FaultProxy`. Pure: data, times and chance in; data and times out.

One line for each direction of a connection. `now` is any clock that does not go back.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, fields
from heapq import heappop, heappush
from random import Random
from typing import Literal

__all__ = ["DATAGRAMS", "DATAGRAM_BYTES", "STREAM_BYTES", "DatagramLine", "Direction", "Faults", "StreamLine", "each_way"]

Direction = Literal["up", "down", "both"]

STREAM_BYTES = 256 * 1024  # on the way in one direction; over that the sender is not read, as when a network's buffers are full
DATAGRAMS = 10_000  # on the way in one direction, or so many bytes; what comes on top is lost
DATAGRAM_BYTES = 16 * 2**20
MOUTHFUL = 64 * 1024  # bytes for one write
TRICKLE_TICK = 0.02  # seconds between two portions of a trickle of many bytes a second
CATCH_UP = 0.1  # seconds of a trickle that a late clock may make up for
HELD = 0.1  # seconds for which a datagram waits to be overtaken


def each_way(direction: Direction) -> tuple[Literal["up", "down"], ...]:
    """The ways that a direction names. Raises ValueError.

    >>> each_way("both")
    ('up', 'down')
    """
    if direction == "both":
        return ("up", "down")
    if direction not in ("up", "down"):
        raise ValueError(f'direction must be "up", "down" or "both", not {direction!r}')
    return (direction,)


@dataclass(frozen=True)
class Faults:
    """What goes wrong in one direction, all the time. Nothing by default.

    `latency`: seconds that everything takes; `jitter`: up to as many more, by chance. `trickle`: bytes a second (streams), None: no limit.
    `loss`, `duplicate`, `reorder`: probabilities from 0 to 1 that a datagram is dropped, comes twice, or is overtaken by the next one.
    A stream stays in order, jitter or not; datagrams with different jitter overtake each other.

    Raises ValueError and TypeError for what can't be.

    >>> Faults(latency=0.1, loss=0.5)
    Faults(latency=0.1, jitter=0.0, trickle=None, loss=0.5, duplicate=0.0, reorder=0.0)
    """

    latency: float = 0.0
    jitter: float = 0.0
    trickle: float | None = None
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name == "trickle" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} must be a number, not {type(value).__name__}")
            if name in ("loss", "duplicate", "reorder"):
                if not 0 <= value <= 1:
                    raise ValueError(f"{name} must be a probability from 0 to 1, not {value!r}")
            elif name == "trickle" and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"trickle must be over 0 bytes a second (None: no limit), not {value!r}")
            elif not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be 0 or more seconds, not {value!r}")

    def delay(self, chance: Random) -> float:
        return self.latency + self.jitter * chance.random()


class StreamLine:
    """One direction of a stream: what goes in comes out later, perhaps in trickles, and in order.

    `passed` counts the bytes that came out; with `limit` set, no more than that many ever will.
    """

    __slots__ = ("_chance", "_chunks", "_end", "_latest", "_portion", "_portion_at", "limit", "passed", "waiting")

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._chunks: deque[tuple[float, bytes]] = deque()  # each with when it is due, never before the one ahead of it
        self._latest = -math.inf
        self._end: float | None = None  # when the end of the stream is due
        self._portion = 0  # of a trickle: how much came out last
        self._portion_at = -math.inf  # and when
        self.waiting = 0
        self.passed = 0
        self.limit: int | None = None

    @property
    def room(self) -> int:
        """How many bytes more may go in."""
        return 0 if self._end is not None else max(0, STREAM_BYTES - self.waiting)

    @property
    def ended(self) -> bool:
        """Whether its source has ended."""
        return self._end is not None

    @property
    def is_cut(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and self.passed >= self.limit

    def _due(self, now: float, faults: Faults) -> float:
        self._latest = max(self._latest, now + faults.delay(self._chance))
        return self._latest

    def put(self, data: bytes, now: float, faults: Faults) -> None:
        self._chunks.append((self._due(now, faults), data))
        self.waiting += len(data)

    def end(self, now: float, faults: Faults) -> None:
        """The source has ended in order; that takes its time to arrive, too."""
        if self._end is None:
            self._end = self._due(now, faults)

    def over(self, now: float) -> bool:
        """Whether the end has arrived, after everything before it."""
        return not self._chunks and self._end is not None and now >= self._end

    def _next_portion(self, rate: float) -> float:
        return self._portion_at + self._portion / rate

    def take(self, now: float, faults: Faults) -> bytes:
        """What may come out now; b"" for nothing. `taken` says how much of it did."""
        most = MOUTHFUL if self.limit is None else min(MOUTHFUL, self.limit - self.passed)
        if faults.trickle is not None:
            most = min(most, max(1, int(faults.trickle * TRICKLE_TICK))) if now >= self._next_portion(faults.trickle) else 0
        parts: list[bytes] = []
        for due, data in self._chunks:
            if most <= 0 or due > now:
                break
            parts.append(data[:most])
            most -= len(data)
        return b"".join(parts)

    def taken(self, count: int, now: float, faults: Faults) -> None:
        self.passed += count
        self.waiting -= count
        if faults.trickle is not None:
            could = max(self._next_portion(faults.trickle), self._chunks[0][0])  # when it could have come out with a clock that is on time
            self._portion_at = max(could, now - CATCH_UP)
            self._portion = count
        else:
            self._portion = 0  # what came at full speed is not to be paid for later
        while count:
            due, data = self._chunks.popleft()
            if len(data) > count:
                self._chunks.appendleft((due, data[count:]))
                return
            count -= len(data)

    def next_time(self, faults: Faults) -> float | None:
        """When `take` or `over` is worth asking; None while nothing is on the way."""
        if not self._chunks:
            return self._end
        due = self._chunks[0][0]
        return due if faults.trickle is None else max(due, self._next_portion(faults.trickle))


class DatagramLine:
    """One direction between two UDP sockets. Each datagram is dropped, delayed, doubled or overtaken by chance.

    The same number of dice is thrown for each datagram, whatever the faults: with one seed, a change of one probability leaves what the
    others decide as it was.
    """

    __slots__ = ("_bytes", "_chance", "_held", "_number", "_way", "duplicated", "lost", "reordered")

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._way: list[tuple[float, int, bytes]] = []  # a heap: when it is due, in which order it came
        self._number = 0
        self._bytes = 0
        self._held: tuple[float, list[bytes]] | None = None  # waits to be overtaken, until then at most
        self.lost = 0
        self.duplicated = 0
        self.reordered = 0

    @property
    def waiting(self) -> int:
        """How many are on the way."""
        return len(self._way) + (len(self._held[1]) if self._held is not None else 0)

    def put(self, datagram: bytes, now: float, faults: Faults) -> None:
        loss, duplicate, reorder = (self._chance.random() for _ in range(3))
        first, second = faults.delay(self._chance), faults.delay(self._chance)
        full = len(self._way) >= DATAGRAMS or self._bytes + len(datagram) > DATAGRAM_BYTES
        if full or loss < faults.loss:
            self.lost += 1
            return
        copies = [datagram]
        delays = [first]
        if duplicate < faults.duplicate:
            self.duplicated += 1
            copies.append(datagram)
            delays.append(second)
        if reorder < faults.reorder and self._held is None:
            self._held = (now + first + HELD, copies)
            return
        for copy, delay in zip(copies, delays, strict=True):
            self._push(now + delay, copy)
        if self._held is not None:
            self.reordered += 1
            self._let_go(now + max(delays))

    def _push(self, due: float, datagram: bytes) -> None:
        heappush(self._way, (due, self._number, datagram))
        self._number += 1
        self._bytes += len(datagram)

    def _let_go(self, due: float) -> None:
        assert self._held is not None
        _, copies = self._held
        self._held = None
        for copy in copies:
            self._push(due, copy)

    def take(self, now: float) -> list[bytes]:
        """Those that arrive by now, in the order in which they do."""
        if self._held is not None and self._held[0] <= now:
            self._let_go(self._held[0])  # nobody has overtaken it
        arrived = []
        while self._way and self._way[0][0] <= now:
            arrived.append(heappop(self._way)[2])
        self._bytes -= sum(map(len, arrived))
        return arrived

    def next_time(self) -> float | None:
        """When `take` is worth asking; None while nothing is on the way."""
        times = [*(way[0] for way in self._way[:1]), *([self._held[0]] if self._held is not None else [])]
        return min(times, default=None)

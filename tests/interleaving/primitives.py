"""What stands in for locks, parking places and clocks while threads are explored.

Each blocking operation is a point at which the explorer may hand the turn to another thread. Outside of its threads, in setup and check,
they work as long as nothing would have to wait for ever.
"""

from __future__ import annotations

import math
from typing import Protocol

__all__ = [
    "Awaited",
    "Lock",
    "Parking",
    "RLock",
    "Scheduler",
    "Thread",
    "bind",
    "give_way",
    "monotonic",
    "parking",
    "sleep",
    "step",
    "wait_for",
]


class Awaited(Protocol):
    """What a thread may wait for."""

    def ready(self) -> bool: ...


class Thread(Protocol):
    """What the primitives know of the thread that has the turn."""

    holds: int
    parking: Parking


class Scheduler(Protocol):
    """What the primitives ask of the explorer."""

    now: float
    failure: str | None

    def me(self) -> Thread: ...

    def wait(self, thing: Awaited, deadline: float | None) -> bool:
        """Until `thing` is ready: True; or the deadline has passed: False."""
        ...

    def point(self) -> None: ...
    def give_way(self) -> None: ...
    def note(self, what: str, thing: object = None) -> None: ...


_bound: Scheduler | None = None


def bind(scheduler: Scheduler | None) -> None:
    """Have the primitives work for this one."""
    global _bound
    if scheduler is not None and _bound is not None:
        raise RuntimeError("explorations do not nest")
    _bound = scheduler


def _scheduler() -> Scheduler:
    if _bound is None:
        raise RuntimeError("only inside explore()")
    return _bound


class Lock:
    """Stands in for threading.Lock.

    Set `observed` on one that is also tried without blocking: then what is done under it is not one step for the others, who see that it is
    taken (`atomic_sections`).
    """

    def __init__(self) -> None:
        self.owner: Thread | None = None
        self.observed = False

    def ready(self) -> bool:
        return self.owner is None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        scheduler = _scheduler()
        deadline = None
        if not blocking:
            deadline = -math.inf
        elif timeout >= 0:
            deadline = scheduler.now + timeout
        if not scheduler.wait(self, deadline):
            return False
        self.owner = scheduler.me()
        self.owner.holds += not self.observed
        return True

    def release(self) -> None:
        scheduler = _scheduler()
        if self.owner is None:
            if scheduler.failure is not None:
                return  # unwinding: it may have been thrown out of the very acquire
            raise RuntimeError("release unlocked lock")
        scheduler.note("releases")
        self.owner.holds -= not self.observed
        self.owner = None

    def locked(self) -> bool:
        return self.owner is not None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'free' if self.owner is None else f'held by {self.owner}'}>"


class RLock(Lock):
    """Stands in for threading.RLock."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self.owner is _scheduler().me():
            self.depth += 1
            return True
        taken = super().acquire(blocking, timeout)
        if taken:
            self.depth = 1
        return taken

    def release(self) -> None:
        scheduler = _scheduler()
        if scheduler.failure is None and self.owner is not scheduler.me():
            raise RuntimeError("cannot release un-acquired lock")
        self.depth -= 1
        if self.depth <= 0:
            super().release()


class Parking:
    """A thread's parking place, as an eventfd is: an unpark that comes first makes the next park return at once.

    A park with a deadline may also time out, wherever the explorer likes. It may even have timed out a moment before
    the unpark and get to run only after it: then it returns False and the unpark stays for the next park.
    """

    def __init__(self) -> None:
        self.token = False

    def ready(self) -> bool:
        return self.token

    def park(self, deadline: float | None = None) -> bool:
        """True after an unpark, False once `monotonic()` is past the deadline."""
        if not _scheduler().wait(self, deadline):
            return False
        self.token = False
        return True

    def unpark(self) -> None:
        self.token = True

    def __repr__(self) -> str:
        return f"<Parking {'unparked' if self.token else 'empty'}>"


def parking() -> Parking:
    """The calling thread's own parking place, a new one in each run."""
    return _scheduler().me().parking


def monotonic() -> float:
    return _scheduler().now


def sleep(seconds: float) -> None:
    """Waits in virtual time. A thread that only sleeps is a way to let time pass at any point of the others."""
    scheduler = _scheduler()
    scheduler.wait(Parking(), scheduler.now + seconds)


def wait_for(thing: Awaited, deadline: float | None = None) -> bool:
    """Waits for something of the test's own: True once it is ready, False when the deadline has passed."""
    return _scheduler().wait(thing, deadline)


def step() -> None:
    """A point in code that is not traced: here the turn may go to another thread."""
    _scheduler().point()


def give_way() -> None:
    """Lets somebody else who can go on have a turn first. What a loop has to do that tries again and again."""
    _scheduler().give_way()

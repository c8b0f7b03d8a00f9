"""What waits to be written to a server, put in by any thread and taken out by one event loop.

Guarantees
- Putting something in wakes the loop only if no wake-up is under way: of a burst, the first does.
- It is bounded, in messages and in bytes; one larger message fits when it is empty. Over the bound `send` waits until its time is over, and
  then nothing of that message was taken. Who waits goes on when a quarter is left.
- What one thread puts in comes out in that order.
- Ctrl-C at any bytecode leaves a message in or out, and the loop awake if it is in.

`_lock` owns `_waiters` and `ended`. The counts and `_woken` are changed by single statements, which no other thread divides while the
interpreter has its lock; without that, putting in takes ours (`LOCKED`). The loop alone takes out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from threading import Lock, get_ident
from typing import Any

from actors.errors import BusError, NotSent
from actors.mailbox import LOCKED
from actors.waiting import Waiter, current, deadline_after, remaining

__all__ = ["MAX_BYTES", "MAX_MESSAGES", "SLICE_BYTES", "Op", "Outgoing"]

MAX_BYTES = 8 * 1024 * 1024  # with a connection they are there for milliseconds; without one, these are what is kept
MAX_MESSAGES = 65_536
LOW_WATER = 4
SLICE_BYTES = 128 * 1024  # that are written in one go

Op = Callable[[Any], Awaitable[object]]  # of a connection; done between two messages, and brief: everything waits for it


class Outgoing:
    """See the module. `wake()` is called with the lock held, on any thread; `why()` says what a message waits for, for an error text."""

    def __init__(self, address: str, wake: Callable[[], object], why: Callable[[], str]) -> None:
        self._address = address
        self._wake = wake
        self._why = why
        self._lock = Lock()
        self.taker = 0  # the loop's thread, which never waits for itself
        self._queue: deque[bytes | Op] = deque()
        self._append = self._queue.append
        self._size = 0
        self._count = 0
        self._woken = False
        self._waiters: list[Waiter] = []
        self.ended: BusError | None = None

    def send(self, frame: bytes, timeout: float | None) -> None:
        """Put a message in. Raises NotSent when there is no room in `timeout` seconds, in a callback at once, or the reason of the end."""
        size = len(frame)
        if LOCKED and (self._size + size <= MAX_BYTES and self._count < MAX_MESSAGES) and self.ended is None:
            # Stores, and one call at their end: nobody comes in between, neither another thread nor an interrupt.
            try:
                self._size += size
                self._count += 1
                self._append(frame)
                if not self._woken:
                    self._wake_up()
            except BaseException:
                self._wake()  # interrupted right behind it: it is in
                raise
            return
        if self._try(frame):
            return
        deadline = deadline_after(0.0 if get_ident() == self.taker else timeout)
        while not self._try(frame):
            waiter = current()
            if waiter.host is not None:
                raise NotSent(self._address, f"{self._why()}, {self._count} messages wait for that, and a callback never does")
            if remaining(deadline) == 0.0:
                raise NotSent(self._address, f"{self._why()}, and {self._count} messages wait for that; nothing of this one was taken")
            if self._queue_up(waiter, size):
                waiter.wait(deadline, on=self)

    def _try(self, frame: bytes) -> bool:
        size = len(frame)
        with self._lock:
            if self.ended is not None:
                raise self.ended.again()
            if not self._fits(size):
                return False
            self._size += size
            self._count += 1
            self._append(frame)
            self._ring()
            return True

    def _fits(self, size: int) -> bool:
        return not self._count or (self._size + size <= MAX_BYTES and self._count < MAX_MESSAGES)

    def _wake_up(self) -> None:
        with self._lock:
            self._ring()

    def _ring(self) -> None:
        if not self._woken:
            try:
                self._woken = True  # first: the loop may have come, found that another turn took it all, and gone before `_wake` returns
                self._wake()
            except BaseException:
                self._wake()  # interrupted in between: twice does no harm
                raise

    def _queue_up(self, waiter: Waiter, size: int) -> bool:
        with self._lock:
            if self.ended is not None or self._fits(size):
                return False
            if waiter not in self._waiters:
                self._waiters.append(waiter)
            return True

    def call(self, op: Op) -> None:
        """Have `op(connection)` awaited when what was put in before is written. Raises the reason of the end."""
        with self._lock:
            if self.ended is not None:
                raise self.ended.again()
            self._count += 1
            self._append(op)
            self._ring()

    def end(self, reason: BusError, last: Op) -> bool:
        """Take nothing more; `last` comes behind what there is. False when it had ended before."""
        with self._lock:
            if self.ended is not None:
                return False
            self.ended = reason
            self._count += 1
            self._append(last)
            self._unpark_all()
            self._ring()
            return True

    def abandon(self, reason: BusError) -> int:
        """Nobody will take anything out any more. Returns how many messages were in."""
        with self._lock:
            self.ended = self.ended or reason
            self._unpark_all()
            left = _messages(self._queue)
            self._queue.clear()
            return left

    def _unpark_all(self) -> None:
        for waiter in self._waiters:
            waiter.unpark()
        self._waiters.clear()

    # -- for the loop -------------------------------------------------------------------------------------------------

    def take(self) -> bytes | Op | None:
        """The next messages in one piece, or the next thing to do, or None: then the next that comes wakes."""
        queue = self._queue
        if not queue:
            self._woken = False  # before the second look: who puts something in looks at it after that
            if not queue:
                return None
        if isinstance(queue[0], bytes):
            return self._join()
        op = queue.popleft()
        assert not isinstance(op, bytes)
        self._taken(0, 1)
        return op

    def _join(self) -> bytes:
        queue, frames, size = self._queue, [], 0
        while queue and size < SLICE_BYTES and isinstance(frame := queue[0], bytes):
            frames.append(frame)
            size += len(frame)
            queue.popleft()
        self._taken(size, len(frames))
        return b"".join(frames)

    def _taken(self, size: int, count: int) -> None:
        with self._lock:
            self._size -= size
            self._count -= count
            if self._waiters and self._size <= MAX_BYTES // LOW_WATER and self._count <= MAX_MESSAGES // LOW_WATER:
                self._unpark_all()

    def after_fork(self, reason: BusError) -> None:
        """In the child: what is in goes out in the parent."""
        self._lock = Lock()
        self._waiters.clear()
        self._queue.clear()
        self.ended = reason


def _messages(waiting: deque[bytes | Op]) -> int:
    return sum(isinstance(item, bytes) for item in waiting)

"""The mailbox: where a reader loop meets the script.

Guarantees
- Items come out in the order they went in, each once, whoever takes them and from however many threads.
- It is bounded, in items and in weight (bytes). A batch that is in hand is always taken; when it fills the mailbox, the mailbox says so by
  calling `pause`, and calls `resume` when a quarter is left: a stream stops reading. With `lossy=True` (datagrams, which nobody can
  slow down) the oldest items go instead, counted in `lost`; `after_loss(item, count)` makes the one behind them tell it.
- `end(reason)`: no more comes in; what is in is still delivered, then `get` raises the reason. `close(reason)`: `get` raises at once.
- Ctrl-C at any bytecode loses nothing and delivers nothing twice. CPython looks for signals after a call, at a loop's end and on entering a
  function, not in between. So everything an interrupt may not divide happens in one C call or in stores with no call between them.

Every field belongs to `_lock`; `pause` and `resume` are called while it is held, so that their order is the order of the decisions (a pause
that overtakes a resume is the lost wake-up). Lock order: mailbox, then the reader's mutex.

One thing goes without the lock, because half of what taking a message costs would be that. CPython with its global lock switches threads
where it looks for signals, too: so what stands between two calls is one step for all. While `quick`, `take` is such a step. Who changes
anything else that taking touches makes `quick` false first, under the lock, and looks at the mailbox after that.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from threading import Lock
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from actors.errors import BusError
from actors.waiting import Waiter, current
from actors.wakeup import Wakeup

__all__ = ["MAX_BYTES", "MAX_MESSAGES", "Mailbox", "Nudge", "Parked"]

MAX_MESSAGES = 10_000
MAX_BYTES = 4 * 1024 * 1024  # with 64 KiB reads: sixty-odd reads ahead of the script
ONE = (-1,)
LOCKED = getattr(sys, "_is_gil_enabled", lambda: True)()
LOW_WATER = 4  # resumes below a quarter: fewer switches than at a half, and never an idle script

T = TypeVar("T")


def _nothing() -> None:
    pass


class Parked(Protocol):
    """What waits for a mailbox: a thread's Waiter, as a rule."""

    @property
    def unpark(self) -> Callable[[], object]: ...


class Nudge:
    """Waits on behalf of somebody who wants to be called."""

    __slots__ = ("unpark",)

    def __init__(self, call: Callable[[], object]) -> None:
        self.unpark = call


class Mailbox(Generic[T]):
    """A bounded, closable queue between one reader loop and any number of takers. See the module for what it guarantees.

    `weigh` gives an item's weight in bytes. `use_direct` gives it a `direct(waiter, deadline)` of a reader that lets the taking thread
    read the socket into it. That returns when there may be something, or the time is over; False at once if the taker has to park.
    """

    def __init__(
        self,
        *,
        weigh: Callable[[T], int],
        max_items: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
        lossy: bool = False,
        after_loss: Callable[[T, int], T] | None = None,
        pause: Callable[[], None] = _nothing,
        resume: Callable[[], None] = _nothing,
    ) -> None:
        self._lock = Lock()
        # The same objects under two names: for a look from outside, without a call.
        self.items = self._items = deque[T]()
        self.returned = self._returned = list[T]()  # taken and put back by an interrupted taker, who cannot wait for the lock
        self.keep = self._returned.append  # one C call: in an `except` nothing can come before it
        self._keeping = True  # until `close`
        # See the module: there is nothing to look after but the queue itself. (A bool, of which mypy must not believe that it stays.)
        self.quick: Any = LOCKED and not lossy
        self._bytes = 0  # may drift by an interrupted put; an empty mailbox sets it right
        self._weigh = weigh
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._lossy = lossy
        self._after_loss = after_loss
        self._gap = 0  # items that went, and that those had told of, before the oldest one
        self._paused = False
        self._pause = pause
        self._resume = resume
        self._direct: Callable[[Waiter, float | None], bool] | None = None
        self.awaited = self._waiters = list[Parked]()  # as `items`
        self._bell: Wakeup | None = None
        self.ended: BusError | None = None
        self.lost = 0
        self.discarded = 0  # items that were in when it was closed

    def __len__(self) -> int:
        return len(self._items) + len(self._returned)

    @property
    def weight(self) -> int:
        return self._bytes if len(self) else 0

    @property
    def idle(self) -> bool:
        """Nothing to take and nothing to tell: a taker would have to wait."""
        return not self._items and self.ended is None and not self._returned

    def put(self, batch: Iterable[T], weight: int) -> None:
        """Add the items of a batch, which weigh that much together. After the end they are dropped.

        An iterator is emptied in the same C call that fills the mailbox: after an interrupt the same iterator can be put again.
        """
        with self._lock:
            if self.ended is not None:
                return
            items = self._items
            if not items:
                self._bytes = 0
            self._bytes += weight
            items.extend(batch)  # the one call that moves the batch
            if len(items) >= self._max_items or self._bytes >= self._max_bytes:
                self.quick = False  # and only now nobody takes; whoever pauses an empty mailbox waits for ever
                if self._lossy:
                    self._drop_oldest()
                elif not self._paused and (len(items) >= self._max_items or self._bytes >= self._max_bytes):
                    self._pause()
                    self._paused = True  # after the call, as in `_maybe_resume`
            if self._waiters:
                self._wake()
            if self._bell is not None:
                self._bell.set()

    def _drop_oldest(self) -> None:
        items = self._items
        # One item is always kept: a larger one fits when it is alone.
        while len(items) > self._max_items or (self._bytes > self._max_bytes and len(items) > 1):
            weight = self._bytes - self._weigh(items[0])
            gap = self._gap + 1 + getattr(items[0], "lost_before", 0)
            del items[0]
            self._bytes = weight
            self._gap = gap
            self.lost += 1
        if self._gap and self._after_loss is not None:
            item = self._after_loss(items[0], self._gap)
            items[0] = item
            self._gap = 0

    def take(self) -> T | None:
        """The oldest item, without waiting; None when there is none. Raises the reason of the end once nothing is left."""
        items = self._items
        if self.quick and items and not self._returned:
            item = items[0]
            weight = self._weigh(item)
            if self.quick and items and items[0] is item and not self._returned:  # still: that was a call
                del items[0]
                self._bytes -= weight
                return item
        taken: T | None = None
        try:
            with self._lock:
                self.quick = False
                if self._returned:
                    self._accept_returned()
                if items:
                    item = items[0]
                    weight = self._bytes - self._weigh(item)
                    if self._paused:
                        self._maybe_resume(len(items) - 1, weight)
                    if self._bell is not None and len(items) == 1 and self.ended is None:
                        self._bell.clear()
                    # Three stores: an interrupt finds the item in the mailbox or in `taken`.
                    del items[0]
                    self._bytes = weight
                    taken = item
                elif self.ended is not None:
                    raise self.ended.again()
                self.quick = LOCKED and not (self._lossy or self._paused or self._bell is not None or self.ended is not None)
            return taken  # no call may stand between here and the caller's store
        except BaseException:
            # Leaving the lock is a call, so an interrupt can come right after it. The first call here undoes the taking.
            if taken is not None:
                self.keep(taken)
                self.put_back()
            raise

    def get(self, deadline: float | None) -> T | None:
        """The oldest item; None when the deadline passed. Raises the reason of the end once nothing is left."""
        while True:
            if self._items or self.ended is not None or self._returned:
                item = self.take()
                if item is not None:
                    return item
            waiter = current()
            if self._direct is None or not self._direct(waiter, deadline):
                self._wait(waiter, deadline)
            if deadline is not None and self.idle and monotonic() >= deadline:
                return None

    def _wait(self, waiter: Waiter, deadline: float | None) -> None:
        """Until there may be something, or the deadline."""
        if self.park(waiter):
            waiter.wait(deadline, on=self)

    def put_back(self) -> None:
        """What an interrupted taker handed to `keep` is there to be taken again. `keep` alone is safe; this makes others look."""
        with self._lock:
            self._accept_returned()
            self._wake()
            if self._bell is not None and self._items:
                self._bell.set()

    def _accept_returned(self) -> None:
        # Interrupted between the two, an item would come twice; so it is one call, and the list is emptied by it.
        returned = self._returned
        if self._keeping:
            while returned:
                weight = self._weigh(returned[-1])
                self._items.extendleft(map(returned.pop, ONE))
                self._bytes += weight
        else:
            returned.clear()

    def _maybe_resume(self, items_left: int, bytes_left: int) -> None:
        if items_left <= self._max_items // LOW_WATER and bytes_left <= self._max_bytes // LOW_WATER:
            self._resume()
            self._paused = False  # after the call: interrupted in between, the next `get` calls it again

    def repeat_pause(self) -> None:
        """There is another reader now: if it should not read, it has to be told, too."""
        with self._lock:
            if self._paused:
                self._pause()

    def share(self) -> None:
        """A direct read is over: if others wait as well, let them look who reads next."""
        if self._waiters:
            with self._lock:
                self._wake()

    def park(self, waiter: Parked) -> bool:
        """Let `waiter` be woken by the next put or end. False when there is something already. An entry lasts until that wake."""
        with self._lock:
            if not self.idle:
                return False
            if self._bell is not None:
                self._bell.clear()  # an interrupted put may have rung it for nothing
            if waiter not in self._waiters:
                self._waiters.append(waiter)
            return True

    def call_when_ready(self, call: Callable[[], object]) -> bool:
        """Have `call()` run by the next put or end, with the lock held. False, and it is not, when there is something already. From the
        first time on, `direct` is no longer asked.
        """
        self._direct = None
        return self.park(Nudge(call))

    def _wake(self) -> None:
        for waiter in self._waiters:
            waiter.unpark()
        self._waiters.clear()

    def end(self, reason: BusError) -> bool:
        """No more comes in; what is in is still delivered. The first reason stays; returns whether it was this one."""
        return self._finish(reason, keep=True)

    def close(self, reason: BusError) -> bool:
        """Drop what is in, and end. Takes precedence over an earlier `end`: whoever closed knows why. Returns False the second time."""
        return self._finish(reason, keep=False)

    def _finish(self, reason: BusError, keep: bool) -> bool:
        with self._lock:
            if self.ended is not None and (keep or isinstance(self.ended, type(reason))):
                return False
            self.quick = False
            self.ended = reason
            if not keep:
                self._keeping = False
                self.discarded += len(self)
                self._items.clear()
            self._wake()
            if self._bell is not None:
                self._bell.set()
            return True

    def use_direct(self, direct: Callable[[Waiter, float | None], bool]) -> None:
        self._direct = direct

    def drain(self) -> list[T]:
        """Take out everything that is in now."""
        with self._lock:
            self.quick = False
            items = list(self._items)
            self._items.clear()
            return items

    def bell(self) -> int:
        """A descriptor that is readable while `get` would not wait. From the first call on, `direct` is no longer asked."""
        with self._lock:
            if self._bell is None:
                self.quick = False
                self._bell = Wakeup()
                self._direct = None
                if not self.idle:
                    self._bell.set()
            return self._bell.fd

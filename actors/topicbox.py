"""A subscriber's mailbox: what happens to messages when it is full is decided here, for every engine.

`overflow`
- "drop_oldest": the oldest message goes, as with datagrams.
- "drop_newest": the one that comes goes.
- "wait": nothing goes. Publishers wait in `await_room` before they deliver, until a quarter is left. So the bound may be exceeded by one
  message for each thread that publishes. An engine that cannot make publishers wait uses `offer`.

What goes is counted in `lost`, told by `lost_before` of the message behind the gap, and logged at the first, tenth, hundredth … loss.

Guarantees are those of `Mailbox`; the way is another, because here both sides are threads of this process, and a delivery should cost what
a queue costs. CPython (with its lock) neither switches threads nor looks for signals between two calls. So lines without a call in between,
up to the first call that they make, are one step, and the common case needs no lock: `deliver` while there is much room and nobody waits,
`Subscription.receive` while it is `quick`. All else, and everything on an interpreter without that lock, goes the careful way under
`_lock`. A taker queues up under `_lock`, and a delivery that sees it wakes it before the message is in: it comes to the lock, and then to
the message, also when the publisher was interrupted. Lock order: mailbox, then `_room`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Literal

from actors.errors import BusError, NotSent
from actors.mailbox import LOCKED, LOW_WATER, MAX_BYTES, MAX_MESSAGES, Mailbox, Nudge, Parked
from actors.topics import APIECE, TopicMessage, after_loss
from actors.waiting import Waiter, current, deadline_after

__all__ = ["Overflow", "TopicBox"]

log = logging.getLogger("actorbus.topics")

Overflow = Literal["drop_oldest", "drop_newest", "wait"]

CAREFUL = -1  # no message is that light


def _weigh(message: TopicMessage) -> int:
    return message.weight


class TopicBox(Mailbox[TopicMessage]):
    """See the module. `topic` and `queue` are what was subscribed to, for texts."""

    __slots__ = ("easy", "entered", "full", "gone", "messages_in", "overflow", "quick", "queue", "topic")  # an object has room for few more

    def __init__(
        self,
        topic: str,
        queue: str | None = None,
        *,
        overflow: Overflow = "drop_oldest",
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(weigh=_weigh, max_items=max_messages, max_bytes=max_bytes)
        self.topic = topic
        self.queue = queue
        self.overflow = overflow
        self.messages_in = 0  # delivered to it, lost ones included
        self.entered = 0  # their weight
        self.gone = 0  # the weight of those that are in no more; so what is in weighs `entered - gone`
        # Up to that weight whatever comes fits, both by number and by bytes. CAREFUL: look.
        self._easy_weight = min(max_bytes, (max_messages - 1) * APIECE)
        self.easy = CAREFUL
        self.quick = False
        self.full = False  # publishers wait
        self._missed = 0  # that went because they came last, behind the newest that is in
        self._room = Lock()  # owns the next one
        self._publishers: list[Parked] = []
        self._tell_at = 1
        self._choose_ways()

    # -- for engines ----------------------------------------------------------------------------------------------------

    @property
    def bytes_in(self) -> int:
        """Payload that was delivered to it, lost messages included."""
        return self.entered - self.messages_in * APIECE

    def deliver(self, message: TopicMessage) -> None:
        """Put one message in. Never waits; what is too much goes as `overflow` says. After the end it is dropped."""
        weight = message.weight
        if self._waiters or self.entered - self.gone + weight > self.easy:
            self.deliver_carefully(message)
            return
        self.messages_in += 1
        self.entered += weight
        self._items.append(message)
        if self._waiters:  # only where a tracer made calls of its own between these lines
            self.share()

    def deliver_carefully(self, message: TopicMessage) -> None:
        with self._lock:
            if self.ended is not None:
                return
            if self.overflow == "drop_newest" and self._is_over(len(self._items) + 1, self.weight + message.weight):
                self.messages_in += 1
                self.entered += message.weight
                self.gone += message.weight
                self.lost += 1
                self._missed += 1
                self.easy = CAREFUL  # the next one tells
            else:
                self._add(message)
        if self.lost >= self._tell_at:
            self._tell_loss()

    def _add(self, message: TopicMessage) -> None:
        if self._missed:
            message = after_loss(message, self._missed)
            self._missed = 0
            self._choose_ways()
        if self._waiters:
            self._wake()
        if self._bell is not None:
            self._bell.set()
        # One step, and only now: what an interrupt kept out is not counted.
        self.messages_in += 1
        self.entered += message.weight
        self._items.append(message)
        if self.overflow == "drop_oldest":
            self._drop_oldest()
        elif self.overflow == "wait" and self._is_over(len(self._items) + 1, self.weight + 1):
            self.full = True
            self._choose_ways()

    def _is_over(self, count: int, weight: int) -> bool:
        """Whether so many that weigh so much are more than it holds; one always fits."""
        return count > self._max_items or (count > 1 and weight - count * APIECE > self._max_bytes)

    def _drop_oldest(self) -> None:
        items = self._items
        gap = 0
        while self._is_over(len(items), self.weight):
            oldest = items[0]
            del items[0]
            self.gone += oldest.weight
            self.lost += 1
            gap += 1 + oldest.lost_before
        if gap:
            first = items[0]
            marked = after_loss(first, gap)
            if items and items[0] is first:  # else it was taken this moment, and its taker is not told
                items[0] = marked

    def miss(self, count: int) -> None:
        """So many were lost on their way here, behind the newest that is in: an engine could not hold back any more."""
        with self._lock:
            self.messages_in += count
            self.entered += count * APIECE
            self.gone += count * APIECE
            self.lost += count
            self._missed += count
            self.easy = CAREFUL
        if self.lost >= self._tell_at:
            self._tell_loss()

    def offer(self, message: TopicMessage) -> bool:
        """The same, but for "wait": False when there is no room, and it was not taken. For engines that hold it back themselves."""
        if self.full:
            return False
        self.deliver(message)
        return True

    def await_room(self, timeout: float | None) -> None:
        """With "wait": return once there is room, or it has ended. Raises NotSent after `timeout` seconds; in a callback at once."""
        deadline = deadline_after(timeout)
        while self.full:
            waiter = current()
            if waiter.host is not None:
                raise NotSent(f"topic {self.topic}", 'a subscriber with overflow="wait" has no room, and a callback never waits')
            if deadline is not None and monotonic() >= deadline:
                raise NotSent(f"topic {self.topic}", 'a subscriber with overflow="wait" had no room until the deadline; nobody got it')
            if self._queue_up(waiter.nap):
                waiter.doze(deadline, on=self)

    def call_when_room(self, call: Callable[[], object]) -> bool:
        """With "wait": have `call()` run once there is room or it has ended, on whichever thread, with a lock held. False, and it is not,
        when there is room now.
        """
        return self._queue_up(Nudge(call))

    def _queue_up(self, publisher: Parked) -> bool:
        with self._room:
            if not self.full:
                return False
            if publisher not in self._publishers:
                self._publishers.append(publisher)
            return True

    # -- the other side -------------------------------------------------------------------------------------------------

    def take(self) -> TopicMessage | None:
        taken: TopicMessage | None = None
        try:
            with self._lock:
                items = self._items
                if items:
                    taken = items[0]
                    del items[0]
                    self.gone += taken.weight
                    if not self.quick:
                        self._look_after_taking()
                elif self.ended is not None:
                    raise self.ended.again()
            return taken  # no call may stand between here and the caller's store
        except BaseException:
            # As in `Mailbox.take`; stores, and then the one call that undoes the taking.
            if taken is not None:
                self.gone -= taken.weight
                self._items.appendleft(taken)
                self.share()
            raise

    def _wait(self, waiter: Waiter, deadline: float | None) -> None:
        if self.park(waiter.nap):
            waiter.doze(deadline, on=self)

    @property
    def weight(self) -> int:
        return self.entered - self.gone

    def drain(self) -> list[TopicMessage]:
        # Not the list and then none of it: a delivery in between would be neither here nor there.
        return list(iter(self._next, None))

    def _next(self) -> TopicMessage | None:
        return self.take() if self._items else None

    def bell(self) -> int:
        fd = super().bell()
        self._choose_ways()
        if not self.idle and self._bell is not None:
            self._bell.set()  # it came by the easy way while the bell was hung
        return fd

    def _look_after_taking(self) -> None:
        left = len(self._items)
        if self._bell is not None and not left and self.ended is None:
            self._bell.clear()
        if self.full and left <= self._max_items // LOW_WATER and self.weight - left * APIECE <= self._max_bytes // LOW_WATER:
            self._make_room()
            self._choose_ways()

    def _choose_ways(self) -> None:
        watched = self._bell is not None or self.ended is not None
        self.quick = LOCKED and not watched and not self.full
        self.easy = self._easy_weight if LOCKED and not watched and not self._missed else CAREFUL

    def _make_room(self) -> None:
        self.full = False  # before the lock: who queues up behind us sees it
        with self._room:
            self._wake_publishers()

    def _wake_publishers(self) -> None:
        for publisher in self._publishers:
            publisher.unpark()
        self._publishers.clear()

    def _finish(self, reason: BusError, keep: bool) -> bool:
        first = super()._finish(reason, keep)
        self._choose_ways()
        if not keep:
            self._items.clear()  # of what came by the easy way meanwhile
        self._make_room()
        return first

    def _tell_loss(self) -> None:
        lost = self.lost
        self._tell_at = 10 ** len(str(lost))
        log.warning("a subscriber to %s is too slow: %d messages lost so far", self.topic, lost)

"""A subscriber's mailbox: what happens to messages when it is full is decided here, for every engine.

`overflow`
- "drop_oldest": the oldest message goes, as with datagrams.
- "drop_newest": the one that comes goes.
- "wait": nothing goes. Publishers wait in `await_room` before they deliver, until a quarter is left. So the bound may be exceeded by one
  message for each thread that publishes. An engine that cannot make publishers wait uses `offer`.

What goes is counted in `lost`, told by `lost_before` of the message behind the gap, and logged at the first, tenth, hundredth … loss.
Guarantees are those of `Mailbox`. Lock order: mailbox, then `_room`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Literal

from actors.errors import BusError, NotSent
from actors.mailbox import MAX_BYTES, MAX_MESSAGES, Mailbox, Nudge, Parked
from actors.message import weigh
from actors.topics import TopicMessage, after_loss
from actors.waiting import current, deadline_after

__all__ = ["Overflow", "TopicBox"]

log = logging.getLogger("actorbus.topics")

Overflow = Literal["drop_oldest", "drop_newest", "wait"]


class TopicBox(Mailbox[TopicMessage]):
    """See the module. `topic` and `queue` are what was subscribed to, for texts."""

    def __init__(
        self,
        topic: str,
        queue: str | None = None,
        *,
        overflow: Overflow = "drop_oldest",
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(
            weigh=weigh,
            max_items=max_messages,
            max_bytes=max_bytes,
            lossy=overflow == "drop_oldest",
            after_loss=after_loss,
            resume=self._make_room,
        )
        self.topic = topic
        self.queue = queue
        self.overflow = overflow
        self.messages_in = 0  # delivered to it, lost ones included
        self.bytes_in = 0
        self.full = False  # publishers wait
        waits = overflow == "wait"  # the one that fills it says so; of the others the one that is too much
        self._easy_items = max_messages - waits
        self._easy_bytes = max_bytes - waits
        self._missed = 0  # that went because they came last, behind the newest that is in
        self._room = Lock()  # owns the next one
        self._publishers: list[Parked] = []
        self._tell_at = 1

    # -- for engines ----------------------------------------------------------------------------------------------------

    def deliver(self, message: TopicMessage) -> None:
        """Put one message in. Never waits; what is too much goes as `overflow` says. After the end it is dropped."""
        with self._lock:
            if self.ended is not None:
                return
            items = self._items
            weight = self._bytes + len(message.data) if items else len(message.data)
            self.messages_in += 1
            self.bytes_in += len(message.data)
            if weight > self._easy_bytes or len(items) >= self._easy_items or self._missed:
                self._over(message, weight)
            else:
                # Who waits is woken first, and waits for the lock then: interrupted before the message is in, nobody sleeps beside it.
                if self._waiters:
                    self._wake()
                if self._bell is not None:
                    self._bell.set()
                items.append(message)
                self._bytes = weight
        if self.lost >= self._tell_at:
            self._tell_loss()

    def _over(self, message: TopicMessage, weight: int) -> None:
        """It may not fit, or it tells a gap."""
        items = self._items
        if self.overflow == "drop_newest" and (len(items) >= self._max_items or (weight > self._max_bytes and items)):
            self.lost += 1
            self._missed += 1
            return
        if self._missed:
            message = after_loss(message, self._missed)
        if self._waiters:
            self._wake()
        if self._bell is not None:
            self._bell.set()
        items.append(message)
        self._bytes = weight
        self._missed = 0
        if self._lossy:
            self._drop_oldest()
        elif self.overflow == "wait" and (len(items) >= self._max_items or weight >= self._max_bytes):
            self.full = True
            self._paused = True

    def offer(self, message: TopicMessage) -> bool:
        """The same, but for "wait": False when there is no room, and it was not taken. For engines that hold it back themselves."""
        if self.full:
            return False
        self.deliver(message)
        return True

    def await_room(self, timeout: float | None) -> None:
        """With "wait": return once there is room, or it has ended. Raises NotSent after `timeout` seconds; in a callback at once."""
        deadline = None
        if self.full:
            deadline = deadline_after(timeout)
        while self.full:
            waiter = current()
            if waiter.host is not None:
                raise NotSent(f"topic {self.topic}", 'a subscriber with overflow="wait" has no room, and a callback never waits')
            if deadline is not None and monotonic() >= deadline:
                raise NotSent(f"topic {self.topic}", 'a subscriber with overflow="wait" had no room until the deadline; nobody got it')
            if self._queue_up(waiter):
                waiter.wait(deadline, on=self)

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
        self._make_room()
        return first

    def _tell_loss(self) -> None:
        lost = self.lost
        self._tell_at = 10 ** len(str(lost))
        log.warning("a subscriber to %s is too slow: %d messages lost so far", self.topic, lost)

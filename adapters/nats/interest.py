"""What a thread wants of the loop: the answer to a question, or the messages of a topic."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from actors.answer import Answer
from actors.errors import BusError

if TYPE_CHECKING:
    from adapters.nats.incoming import Incoming
    from adapters.nats.wire import Wire

__all__ = ["Ask", "Interest"]

HELD_MESSAGES = 65_536  # of one subscription, behind a mailbox that is full and that nothing may be dropped from
HELD_BYTES = 64 * 1024 * 1024

T = TypeVar("T")


class Ask(Answer["T | BusError"], Generic[T]):
    """What a thread waits for, and the loop answers. `instead` is the answer when there is no connection; None: then that is an error."""

    __slots__ = ("instead",)

    def __init__(self, instead: T | None = None) -> None:
        super().__init__()
        self.instead = instead

    def fail(self, reason: BusError) -> None:
        self.set(reason if self.instead is None else self.instead)


class Interest:
    """A subscription, through all connections. On the loop's thread `take(message)` is awaited, for one message after the other,
    and `miss(count)` called for those that are more than wait for it.
    """

    __slots__ = ("miss", "queue", "sub", "take", "topic")

    def __init__(
        self, topic: str, queue: str | None, take: Callable[[Incoming], Awaitable[None]], miss: Callable[[int], object] = lambda count: None
    ) -> None:
        self.topic = topic
        self.queue = queue
        self.take = take
        self.miss = miss
        self.sub: Any = None  # of the present connection

    async def begin(self, wire: Wire) -> None:
        async def take(message: Any) -> None:
            await self.take(message)

        self.sub = await wire.subscribe(
            self.topic, queue=self.queue or "", cb=take, pending_msgs_limit=HELD_MESSAGES, pending_bytes_limit=HELD_BYTES
        )
        wire.misses[self.sub] = self.miss

    async def end(self, wire: Wire) -> None:
        if self.sub is not None:
            wire.misses.pop(self.sub, None)
            with contextlib.suppress(Exception):  # its connection is gone
                await self.sub.unsubscribe()

    async def drain(self, wire: Wire) -> None:
        """The same, when all is taken that the server had sent before it knew."""
        with contextlib.suppress(Exception):
            await self.sub.drain()
        wire.misses.pop(self.sub, None)

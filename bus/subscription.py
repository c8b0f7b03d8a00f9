"""Subscription and Responder: what a script holds of a topic."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self, overload

from actors.errors import Closed
from actors.subscription import ResponderActor, TopicActor
from actors.topics import TopicMessage
from actors.waiting import deadline_after
from bus.arguments import check_callable
from bus.proxies import Proxy

if TYPE_CHECKING:
    from actors.stats import Stats

__all__ = ["Responder", "Subscription"]


class Subscription(Proxy):
    """What is published on a topic from now on: what `subscribe` gives. Safe to use from several threads; each message goes to one of them.

    >>> import bus
    >>> with bus.subscribe("robots.*.moved") as sub:
    ...     bus.publish("robots.arm.moved", {"x": 3})
    ...     msg = sub.receive(timeout=5)
    ...     print(msg.topic, msg.json())
    robots.arm.moved {'x': 3}
    """

    __slots__ = ("_mailbox",)

    _actor: TopicActor
    _told = False

    def __init__(self, actor: TopicActor) -> None:
        self._actor = actor
        self._mailbox = actor.mailbox

    def _tell(self) -> None:
        """Nobody leaves a topic."""

    @property
    def topic(self) -> str:
        """The topic or pattern that was subscribed to."""
        return self._mailbox.topic

    @property
    def queue(self) -> str | None:
        """The queue group; None without one."""
        return self._mailbox.queue

    @overload
    def receive(self, timeout: None = None) -> TopicMessage: ...
    @overload
    def receive(self, timeout: float) -> TopicMessage | None: ...
    def receive(self, timeout: float | None = None) -> TopicMessage | None:
        """The next message; None after `timeout` seconds without one (0 polls, None waits for ever). Raises Closed after `close()`, and the
        reason when the engine has ended.
        """
        box = self._mailbox
        items = box.items
        if items and timeout is None and box.quick:  # `take_quickly`, without the call
            message = items[0]
            del items[0]
            box.gone += message.weight
            return message
        return box.get(None if timeout is None else deadline_after(timeout))

    def __iter__(self) -> Self:
        """The messages, without an end of their own. Raises Closed after `close()`."""
        return self

    def __next__(self) -> TopicMessage:
        box = self._mailbox
        items = box.items
        if items and box.quick:
            message = items[0]
            del items[0]
            box.gone += message.weight
            return message
        return self.receive()

    def connected(self) -> bool:
        """True while messages can come, or one waits to be taken. With a server behind the topics, False while it is away."""
        return bool(len(self._mailbox)) or (self._mailbox.ended is None and self._actor.up)

    def stats(self) -> Stats:
        """A snapshot of the counters: `lost` are those that a full mailbox made go, `messages_in` counts these, too."""
        return self._actor.stats()

    def fileno(self) -> int:
        """A descriptor that is readable when `receive` would not wait, for `select` and its kin. Do not read from it."""
        return self._mailbox.bell()

    def when_ready(self, call: Callable[[], object]) -> bool:
        """Have `call()` run once, when a receive would no longer wait, or would raise. False, and it is not called, when that is so now.

        It is called on the thread of who publishes, or one of the engine's, and must only pass the word on:
        `loop.call_soon_threadsafe`, `queue.put`.
        """
        check_callable(call, "call", optional=False)
        return self._mailbox.call_when_ready(call)

    def _text(self) -> str:
        ended = self._mailbox.ended
        state = "open" if ended is None else "closed" if isinstance(ended, Closed) else f"ended ({ended})"
        queue = f" in queue {self.queue}" if self.queue else ""
        return f"{self.topic}{queue} {state}, {len(self._mailbox)} waiting"


class Responder(Proxy):
    """Answers requests on a topic, until it is closed: what `respond` gives.

    >>> import bus
    >>> with bus.respond("shout", lambda msg: msg.text.upper()):
    ...     print(bus.request("shout", "hello", timeout=5).text)
    HELLO
    """

    __slots__ = ("_mailbox",)

    _actor: ResponderActor

    def __init__(self, actor: ResponderActor) -> None:
        self._actor = actor
        self._mailbox = actor.mailbox

    @property
    def topic(self) -> str:
        """The topic or pattern that it answers on."""
        return self._mailbox.topic

    @property
    def queue(self) -> str | None:
        """The queue group; None without one."""
        return self._mailbox.queue

    def stats(self) -> Stats:
        """A snapshot of the counters: `messages_in` requests, `messages_out` answers; `lost` are requests that a full mailbox refused."""
        return self._actor.stats()

    def __del__(self) -> None:
        """A responder answers until it is closed, whether or not the script keeps a name for it."""

    def _text(self) -> str:
        state = "answering" if self._mailbox.ended is None else "closed"
        queue = f" in queue {self.queue}" if self.queue else ""
        return f"{self.topic}{queue} {state}, {len(self._mailbox)} waiting"

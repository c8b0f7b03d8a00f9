"""What an engine behind the topics does: the embedded one, and those of servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from actors.topicbox import TopicBox
    from actors.topics import Headers, TopicMessage

__all__ = ["Engine"]


class Engine(Protocol):
    """What carries messages by topic. Its methods may be called from any thread, also in callbacks, and from several at once.

    What comes in is checked: names, the size with headers against `max_payload`, timeouts. `headers` may be empty. A `TopicBox` is where
    a subscriber's messages go, by `box.deliver(message)`, made with `topic_message`; it never blocks.
    """

    @property
    def url(self) -> str:
        """What it is, as `bus.open` takes it, without credentials."""
        ...

    @property
    def max_payload(self) -> int:
        """Bytes a message may have, headers included (see `size_of`)."""
        ...

    @property
    def up(self) -> bool:
        """Whether messages go through this moment."""
        ...

    @property
    def since(self) -> float:
        """The time of `time.monotonic` when that has changed last."""
        ...

    @property
    def why(self) -> str:
        """Why they do not; empty while they do."""
        ...

    def publish(self, topic: str, payload: bytes, headers: Headers, reply_to: str | None, timeout: float | None) -> None:
        """Give it to whoever is subscribed. Raises NotSent, with nothing taken, when it cannot be taken within `timeout` seconds (None: no
        limit); in a callback (`waiting.current().host` is not None) it never waits. Replies go by it too: then `topic` is a `reply_to`.
        """
        ...

    def subscribe(self, topic: str, queue: str | None, box: TopicBox) -> None:
        """From its return on `box` gets what is published to topics of that pattern; of the boxes of one queue, one gets it."""
        ...

    def unsubscribe(self, topic: str, queue: str | None, box: TopicBox) -> None:
        """Undo that. Raises nothing and waits for nothing; doing it twice, or without a subscription, is nothing."""
        ...

    def drain(self, topic: str, queue: str | None, box: TopicBox, deadline: float | None) -> None:
        """As `unsubscribe`, and returns when what was on its way is in the box, or at the deadline."""
        ...

    def request(self, topic: str, payload: bytes, headers: Headers, deadline: float) -> TopicMessage:
        """Publish it with an address for replies; the first reply, its `source` the topic of the request. Raises NoResponders
        at once when nobody is subscribed, and RequestTimeout.
        """
        ...

    def publish_durable(self, topic: str, payload: bytes, headers: Headers, timeout: float | None) -> None:
        """As `publish`, and returns when it is stored. Raises NotDurable if this engine cannot, NotSent if it was not stored in time."""
        ...

    def subscribe_durable(self, topic: str, name: str, replay: str | float, box: TopicBox) -> None:
        """Deliver what is stored to the consumer of that name, from "all", "new" or a time (seconds since the epoch) on when it is new.
        Messages have `ack`. Raises NotDurable. `unsubscribe(topic, None, box)` ends the delivery; what is not acknowledged stays.
        """
        ...

    def close(self, timeout: float) -> bool:
        """Get out what was taken, end. Whether all of it got out. The boxes have ended, or get `box.end(reason)`."""
        ...

"""The embedded engine: topics inside this process, without a server and without a port.

A publisher's own thread puts a message into the mailboxes of those who are subscribed, so the order of each publisher is kept, and no
thread is woken but those that wait for it. `_lock` owns the table; publishers look up known routes without it. No lock is held while a
message is delivered: who unsubscribes meanwhile may still be given it, into a mailbox that has ended.

It keeps nothing, and says so: what lives in the script's own process would promise what only a server can hold.
"""

from __future__ import annotations

from itertools import count
from threading import Lock
from time import monotonic

from actors.answer import Answer
from actors.errors import NoResponders, NotDurable, RequestTimeout
from actors.routing import Route, Router, one_of
from actors.topicbox import TopicBox
from actors.topics import MAX_PAYLOAD, Headers, TopicMessage, topic_message
from actors.waiting import remaining

__all__ = ["EmbeddedEngine"]

INBOX = "_INBOX."
NOT_DURABLE = 'durable topics need a NATS server with JetStream: bus.open("nats://host:4222"), or ACTORBUS_URL, or actorbus run --bus'


class EmbeddedEngine:
    """See the module, and `actors.engine.Engine`."""

    url = "embedded:"
    max_payload = MAX_PAYLOAD
    up = True
    why = ""

    def __init__(self) -> None:
        self.since = monotonic()
        self._lock = Lock()
        self._router: Router[TopicBox] = Router()
        self._inboxes: dict[str, _Reply] = {}
        self._awaited: set[TopicBox] = set()  # those that publishers wait for
        self._numbers = count(1)

    def publish(self, topic: str, payload: bytes, headers: Headers, reply_to: str | None, timeout: float | None) -> None:
        route = self._router.known.get(topic)
        if route is None:
            if topic.startswith(INBOX):
                self._reply(topic, payload, headers)
                return
            route = self._route(topic)
        if headers or reply_to is not None or route.groups or self._awaited:
            self._deliver(route, topic_message(payload, topic, headers, reply_to, self), timeout)
            return
        message = TopicMessage(payload, topic)
        weight = message.weight
        for box in route.each:
            # `TopicBox.deliver`, without the call, which would be a third of what this costs.
            if box.awaited or box.entered - box.gone + weight > box.easy:
                box.deliver_carefully(message)
                continue
            box.messages_in += 1
            box.entered += weight
            box.items.append(message)
            if box.awaited:
                box.share()

    def _route(self, topic: str) -> Route[TopicBox]:
        with self._lock:
            return self._router.route(topic)

    def _deliver(self, route: Route[TopicBox], message: TopicMessage, timeout: float | None) -> None:
        boxes = route.each
        if route.groups:
            boxes += tuple(map(_choose, route.groups))
        for box in boxes:
            if box.full:
                box.await_room(timeout)
        for box in boxes:
            box.deliver(message)

    def _reply(self, inbox: str, payload: bytes, headers: Headers) -> None:
        answer = self._inboxes.get(inbox)
        if answer is not None:  # else nobody waits any more
            answer.set(topic_message(payload, answer.topic, headers))

    def subscribe(self, topic: str, queue: str | None, box: TopicBox) -> None:
        with self._lock:
            self._router.add(topic, queue, box)
            if box.overflow == "wait":
                self._awaited.add(box)

    def unsubscribe(self, topic: str, queue: str | None, box: TopicBox) -> None:
        with self._lock:
            self._router.remove(topic, queue, box)
            self._awaited.discard(box)

    def drain(self, topic: str, queue: str | None, box: TopicBox, deadline: float | None) -> None:
        self.unsubscribe(topic, queue, box)

    def request(self, topic: str, payload: bytes, headers: Headers, deadline: float) -> TopicMessage:
        route = self._route(topic)
        if not route.each and not route.groups:
            raise NoResponders(topic)
        answer = _Reply(topic)
        inbox = f"{INBOX}{next(self._numbers)}"
        try:
            self._inboxes[inbox] = answer
            self._deliver(route, topic_message(payload, topic, headers, inbox, self), remaining(deadline))
            reply = answer.wait(deadline)
        finally:
            self._inboxes.pop(inbox, None)
        if reply is None:
            raise RequestTimeout(topic, "nobody answered until the deadline")
        return reply

    def publish_durable(self, topic: str, payload: bytes, headers: Headers, timeout: float | None) -> None:
        raise NotDurable("the embedded engine", NOT_DURABLE)

    def subscribe_durable(self, topic: str, name: str, replay: str | float, box: TopicBox) -> None:
        raise NotDurable("the embedded engine", NOT_DURABLE)

    def close(self, timeout: float) -> bool:
        return True


class _Reply(Answer[TopicMessage]):
    """What a request waits for. `topic` is the one it was sent to."""

    __slots__ = ("topic",)

    def __init__(self, topic: str) -> None:
        super().__init__()
        self.topic = topic


def _choose(group: tuple[TopicBox, ...]) -> TopicBox:
    """One of them; one that has room, if it is known that another has none."""
    chosen = one_of(group)
    if chosen.full:
        chosen = next((box for box in group if not box.full), chosen)
    return chosen

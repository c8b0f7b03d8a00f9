"""Topics over a NATS server: what `actors.engine.Engine` asks for, said in its protocol.

While there is no connection: `publish` goes on, its messages wait for the next one, up to `outgoing.MAX_MESSAGES` and `MAX_BYTES`; then it
waits, and raises NotSent. `request` raises Broken at once. Subscriptions stay, and are there again with the next connection.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import count
from secrets import token_hex
from time import monotonic
from typing import Any

from actors.cluster import NODES
from actors.errors import Broken, BusError, NoResponders, RequestTimeout
from actors.subjects import is_reserved
from actors.telling import LinkState, OnState
from actors.topicbox import TopicBox
from actors.topics import Headers, TopicMessage, topic_message
from actors.waiting import deadline_after
from adapters.nats.durable import Durables
from adapters.nats.frames import publication
from adapters.nats.incoming import Incoming
from adapters.nats.interest import Ask, Interest
from adapters.nats.transport import Transport
from adapters.nats.wire import Wire

__all__ = ["NatsEngine"]

SUBSCRIBE_SECONDS = 10.0  # for the server to say that it has a subscription; it stands in any case
STATUS, NO_RESPONDERS = "Status", "503"

Accept = Callable[[Incoming], bool]
NOBODY: tuple[None, Accept] = None, lambda message: False


class NatsEngine:
    """See the module. `on_state(state, reason)` is called on the loop's thread, and only passes the word on: "connected", "reconnecting"
    with why, "closed".
    """

    def __init__(self, connect: Callable[..., Transport], on_state: OnState | None = None) -> None:
        self._on_state = on_state
        self._interests: dict[TopicBox, Interest] = {}
        self._confirming: list[tuple[str, Ask[bool]]] = []
        self._asked: dict[str, tuple[Ask[TopicMessage], Accept]] = {}
        self._numbers = count(1)
        self.inbox = f"_INBOX.{token_hex(11)}"
        self.transport = connect(tell=self._tell, refused=self._refused)
        self._send = self.transport.outgoing.send
        self.durables = Durables(self)
        self._replies = Interest(f"{self.inbox}.*", None, self._take_reply)
        self.url = self.transport.url

    def start(self, deadline: float | None) -> None:
        """Connect. Raises ConnectFailed or ConnectTimeout, and then nothing is left running."""
        self.transport.start(deadline)
        try:
            self.transport.add(self._replies, Ask(True), deadline)
        except BaseException:
            self.transport.close(monotonic())
            raise

    @property
    def max_payload(self) -> int:
        return self.transport.max_payload

    @property
    def up(self) -> bool:
        return self.transport.away is None and self.transport.outgoing.ended is None

    @property
    def since(self) -> float:
        return self.transport.since

    @property
    def why(self) -> str:
        reason = self.transport.away or self.transport.outgoing.ended
        return "" if reason is None else reason.reason or str(reason)

    def publish(self, topic: str, payload: bytes, headers: Headers, reply_to: str | None, timeout: float | None) -> None:
        self._send(publication(topic, payload, headers, reply_to), timeout)

    # -- subscriptions --------------------------------------------------------------------------------------------------

    def subscribe(self, topic: str, queue: str | None, box: TopicBox) -> None:
        async def take(message: Incoming) -> None:
            # Scripts' wildcards pass over what engines say among themselves; NATS's own do not.
            if topic[0] not in "*>" or not is_reserved(message.subject):
                await self.put(box, received(message, self))

        interest = self._interests[box] = Interest(topic, queue, take, box.miss)
        ask: Ask[bool] = Ask(True)
        confirming = topic, ask
        self._confirming.append(confirming)
        try:
            self.transport.add(interest, ask, monotonic() + SUBSCRIBE_SECONDS)
        except BaseException:
            self.unsubscribe(topic, queue, box)
            raise
        finally:
            self._confirming.remove(confirming)

    async def put(self, box: TopicBox, message: TopicMessage) -> None:
        """On the loop: with room, at once; where somebody asked that nothing be dropped, later messages wait behind it."""
        while not box.offer(message):
            room = self.transport.loop.create_future()

            def settle(room: Any = room) -> None:
                if not room.done():
                    room.set_result(None)

            if box.call_when_room(lambda: self.transport.loop.call_unless_closed(settle)):
                await room

    def unsubscribe(self, topic: str, queue: str | None, box: TopicBox) -> None:
        interest = self._interests.pop(box, None)
        if interest is not None:
            self.transport.remove(interest)
        self.durables.unsubscribe(box)

    def drain(self, topic: str, queue: str | None, box: TopicBox, deadline: float | None) -> None:
        interest = self._interests.pop(box, None)
        if interest is not None:
            with contextlib.suppress(BusError):  # it has ended
                self.transport.drain(interest, deadline)

    def _refused(self, text: str) -> None:
        """The server does not permit something. It names the topic, in lower case as nats-py gives it."""
        for topic, ask in list(self._confirming):
            if "subscription" in text and f'"{topic.lower()}"' in text:
                ask.set(Broken(self.url, text))

    # -- requests -------------------------------------------------------------------------------------------------------

    def request(self, topic: str, payload: bytes, headers: Headers, deadline: float) -> TopicMessage:
        reply = self.ask(topic, payload, headers, deadline)
        if reply is None:
            raise RequestTimeout(topic, "nobody answered until the deadline")
        if is_status(reply, NO_RESPONDERS):
            raise NoResponders(topic)
        return reply

    def ask(
        self,
        topic: str,
        payload: bytes,
        headers: Headers,
        deadline: float | None,
        *,
        patient: bool = False,
        accept: Accept = lambda message: True,
    ) -> TopicMessage | None:
        """The first reply that is accepted, a server's status included; None when the deadline came before. `patient`: see
        `Transport.exchange`.
        """
        number = str(next(self._numbers))
        frame = publication(topic, payload, headers, f"{self.inbox}.{number}")

        async def begin(wire: Wire) -> None:
            await wire.write(frame)

        ask: Ask[TopicMessage] = Ask()
        self._asked[number] = ask, accept
        try:
            reply = self.transport.exchange(ask, begin, deadline, patient=patient)
        finally:
            self._asked.pop(number, None)
        return reply if reply is None else topic_message(reply.data, topic, reply.headers)

    async def _take_reply(self, message: Incoming) -> None:
        ask, accept = self._asked.get(message.subject.rpartition(".")[2], NOBODY)
        if ask is not None and accept(message):
            ask.set(received(message, self))

    # -- messages that are kept -----------------------------------------------------------------------------------------

    def publish_durable(self, topic: str, payload: bytes, headers: Headers, timeout: float | None) -> None:
        self.durables.publish(topic, payload, headers, deadline_after(timeout))

    def subscribe_durable(self, topic: str, name: str, replay: str | float, box: TopicBox) -> None:
        self.durables.subscribe(topic, name, replay, box)

    # -- state and end --------------------------------------------------------------------------------------------------

    def _tell(self, state: LinkState, reason: BusError | None) -> None:
        if state == "connected":
            self.durables.connected()
        if state == "closed" and reason is not None:
            for box in [*self._interests, *self.durables.boxes()]:
                box.end(reason)
        if self._on_state is not None:
            self._on_state(state, reason)

    def close(self, timeout: float) -> bool:
        return self.transport.close(deadline_after(timeout))


def received(message: Incoming, engine: NatsEngine) -> TopicMessage:
    """As a script gets it. Who wants to be answered at the server itself ($JS.API.STREAM.DELETE…) is not: it would be with our rights."""
    reply_to: str | None = message.reply
    if not reply_to or (reply_to[0] == "$" and not reply_to.startswith(NODES)):
        reply_to = None
    return topic_message(message.payload, message.subject, message.headers, reply_to, engine)


def is_status(message: TopicMessage, code: str) -> bool:
    """Whether a server says this in place of a reply."""
    return not message.data and message.headers.get(STATUS) == code

"""Durable topics: messages that a NATS server stores (JetStream), and subscriptions under a name, with what was acknowledged.

Guarantees
- `publish` returns when the message is stored. It is tried again, with one id, until then: so it is stored once, whatever is lost on
  the way (for `jetstream.DUPLICATE_SECONDS`; a server forgets ids after that).
- A message comes until it is acknowledged, and may come twice: it is marked then. Nothing is dropped on this side: who is slow is given
  less.
- All of it goes on by itself after the server was away.

`_streams` and `_pulls` are dicts, changed and copied in single C calls. What a `_Pull` does, it does on the loop's thread.
"""

from __future__ import annotations

import contextlib
import json
import logging
from functools import partial
from itertools import count
from secrets import token_hex
from time import monotonic
from typing import TYPE_CHECKING

from actors.errors import Broken, BusError, NotSent
from actors.topicbox import TopicBox
from actors.topics import NO_HEADERS, SEND_TIMEOUT, Headers, TopicMessage, check_size, topic_message
from actors.waiting import remaining, sleep
from adapters.nats.frames import delivery, publication
from adapters.nats.interest import Ask, Interest
from adapters.nats.jetstream import UNAVAILABLE, JetStream, Refused, is_stored

if TYPE_CHECKING:
    from adapters.nats.engine import NatsEngine
    from adapters.nats.incoming import Incoming
    from adapters.nats.wire import Wire

__all__ = ["Durables"]

log = logging.getLogger("actorbus.nats")

ID = "Nats-Msg-Id"
ATTEMPT_SECONDS = 5.0  # a server that has not answered by then is asked again
PAUSE_SECONDS = 0.1  # before that, where it answered that it cannot just now
SETUP_SECONDS = 20.0  # for all that a subscription needs
BATCH = 100  # messages that are asked for at a time
EXPIRES_SECONDS = 30
ACK, NAK, TERM = b"+ACK", b"-NAK", b"+TERM"


class Durables:
    """See the module."""

    def __init__(self, engine: NatsEngine) -> None:
        self._engine = engine
        self._streams: dict[str, str] = {}  # by topic
        self._pulls: dict[TopicBox, _Pull] = {}
        self._numbers = count(1)

    def publish(self, topic: str, payload: bytes, headers: Headers, deadline: float | None) -> None:
        headers = {**headers, ID: token_hex(12)}
        check_size(topic, payload, headers, self._engine.max_payload)
        while True:
            self._stream_for(topic, deadline)
            if self._stored(topic, payload, headers, deadline):
                return
            self._streams.pop(topic, None)  # it may be gone
            _pause(deadline)

    def _stored(self, topic: str, payload: bytes, headers: Headers, deadline: float | None) -> bool:
        """One attempt. Raises NotSent when the time is over."""
        try:
            reply = self._engine.ask(topic, payload, headers, _attempt(deadline), patient=True, accept=_is_about_storing)
        except Broken:  # it was lost meanwhile
            reply = None
        if reply is not None and reply.data:
            error = json.loads(reply.data).get("error")
            if not error:
                return True
            if error.get("code") != UNAVAILABLE:
                raise NotSent(f"topic {topic}", f"the server did not store it: {error.get('description')}")
        if remaining(deadline) == 0.0:
            raise NotSent(f"topic {topic}", f"the server did not confirm in time that it is stored{self._why()}")
        return False

    def _why(self) -> str:
        away = self._engine.transport.away
        return "" if away is None else f"; there is no connection ({away.reason})"

    def _stream_for(self, topic: str, deadline: float | None) -> str:
        """Known from the first time on. Raises NotDurable, NotSent."""
        while topic not in self._streams:
            try:
                self._streams[topic] = self._jetstream(topic, deadline).stream_for(topic)
            except Refused as exc:
                self._try_again(topic, exc, deadline)
            except Broken:
                _pause(deadline)
        return self._streams[topic]

    def _try_again(self, topic: str, exc: Refused, deadline: float | None) -> None:
        """If it may be otherwise in a moment: its cluster is without a leader."""
        if exc.code != UNAVAILABLE or remaining(deadline) == 0.0:
            raise NotSent(f"topic {topic}", f"JetStream refuses: {exc}") from exc
        _pause(deadline)

    def _jetstream(self, topic: str, deadline: float | None) -> JetStream:
        def ask(where: str, payload: bytes) -> bytes | None:
            reply = self._engine.ask(where, payload, NO_HEADERS, deadline, patient=True)
            if reply is None:
                raise NotSent(f"topic {topic}", f"JetStream did not answer in time{self._why()}")
            return reply.data or None

        return JetStream(self._engine.url, ask)

    def subscribe(self, topic: str, name: str, replay: str | float, box: TopicBox) -> None:
        deadline = monotonic() + SETUP_SECONDS
        while True:
            stream = self._stream_for(topic, deadline)
            try:
                self._jetstream(topic, deadline).consumer(stream, topic, name, replay)
                break
            except Refused as exc:
                self._streams.pop(topic, None)
                self._try_again(topic, exc, deadline)
            except Broken:
                _pause(deadline)
        pull = _Pull(self._engine, f"{self._engine.inbox}-{next(self._numbers)}", stream, name, box)
        self._pulls[box] = pull
        try:
            self._engine.transport.add(pull.interest, Ask(True), deadline)
            self._engine.transport.outgoing.call(pull.ask)
        except BaseException:
            self.unsubscribe(box)
            raise

    def unsubscribe(self, box: TopicBox) -> None:
        pull = self._pulls.pop(box, None)
        if pull is not None:
            pull.over = True
            self._engine.transport.remove(pull.interest)
            pull.give_back(box.drain())

    def connected(self) -> None:
        """On the loop's thread: the subscriptions are restored; what they asked for may be forgotten."""
        for pull in list(self._pulls.values()):
            with contextlib.suppress(BusError):
                self._engine.transport.outgoing.call(pull.ask)

    def boxes(self) -> list[TopicBox]:
        return list(self._pulls)


class _Pull:
    """One durable subscription: it asks for a batch, and for the next one when that has come, or the server says that it will not."""

    def __init__(self, engine: NatsEngine, inbox: str, stream: str, name: str, box: TopicBox) -> None:
        self.interest = Interest(f"{inbox}.*", None, self._take)
        self.over = False
        self._engine = engine
        self._inbox = inbox
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
        self._name = name
        self._box = box
        self._newest = 0  # that has come, by its number in the stream
        self._asked = 0  # batches
        self._wanted = 0  # messages of the last one that have not come

    async def ask(self, wire: Wire) -> None:
        if self.over:
            return
        self._asked += 1
        self._wanted = BATCH
        body = json.dumps({"batch": BATCH, "expires": EXPIRES_SECONDS * 1_000_000_000}).encode()
        await wire.write(publication(self._next, body, NO_HEADERS, f"{self._inbox}.{self._asked}"))

    async def _take(self, message: Incoming) -> None:
        times, number = delivery(message.reply)
        if not times:
            if message.subject == f"{self._inbox}.{self._asked}":  # of the last batch, and no late word about one before
                self._no_more(message.headers)
            return
        self._wanted -= 1
        if not self._wanted:
            self._ask_soon()
        ack = partial(self._acknowledge, message.reply)
        # A server that was killed may have forgotten that it delivered, and what was acknowledged: then it counts anew.
        again = times > 1 or number <= self._newest
        self._newest = max(self._newest, number)
        await self._engine.put(self._box, topic_message(message.payload, message.subject, message.headers, redelivered=again, ack=ack))

    def _no_more(self, headers: Headers) -> None:
        status, words = headers.get("Status", ""), headers.get("Description", "")
        if status in ("404", "408"):  # nothing there, or its time is over
            self._ask_soon()
            return
        log.warning("the server gives nothing more to the durable subscription %s: %s %s", self._name, status, words)
        self._engine.transport.loop.call_later(ATTEMPT_SECONDS, self._ask_soon)

    def _ask_soon(self) -> None:
        if not self.over:
            with contextlib.suppress(BusError):
                self._engine.transport.outgoing.call(self.ask)

    def _acknowledge(self, where: str, taken: bool) -> None:
        self._answer(where, ACK if taken else TERM, SEND_TIMEOUT)

    def _answer(self, where: str, word: bytes, timeout: float) -> None:
        self._engine.transport.outgoing.send(publication(where, word, NO_HEADERS, None), timeout)

    def give_back(self, messages: list[TopicMessage]) -> None:
        """Somebody else may have them at once, who would otherwise wait until their time is over."""
        for message in messages:
            where = getattr(message, "_ack", None)
            if isinstance(where, partial):
                with contextlib.suppress(BusError):
                    self._answer(where.args[0], NAK, 0.0)


def _is_about_storing(message: Incoming) -> bool:
    """A stream's answer, or the server's that there is none; not what a responder on that topic says."""
    return is_stored(message.payload) or (not message.payload and "Status" in message.headers)


def _attempt(deadline: float | None) -> float:
    until = monotonic() + ATTEMPT_SECONDS
    return until if deadline is None else min(until, deadline)


def _pause(deadline: float | None) -> None:
    left = remaining(deadline)
    sleep(PAUSE_SECONDS if left is None else min(PAUSE_SECONDS, left))

"""The verbs of topics: `publish`, `subscribe`, `request`, `respond`. Arguments are checked here, alike for every engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import bus.opening  # noqa: F401  # what makes the engine of these topics, and ends it
from actors import hosting, topics
from actors.errors import NoResponders, ResponderFailed
from actors.mailbox import MAX_BYTES, MAX_MESSAGES
from actors.message import Sendable, encode
from actors.subjects import check_headers, check_pattern, check_queue, check_topic, known
from actors.subscription import Durable, NoSocket, ResponderActor, TopicActor
from actors.topicbox import Overflow, TopicBox
from actors.topics import ERROR, NO_HEADERS, SEND_TIMEOUT, TopicMessage, check_size, one_line
from actors.waiting import check_timeout, sleep
from bus.arguments import check_callable, check_choice, check_counts
from bus.subscription import Responder, Subscription

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["publish", "request", "respond", "subscribe"]

OVERFLOWS = ("drop_oldest", "drop_newest", "wait")
RETRY_SECONDS = 0.02  # how soon to ask again, while scripts that were started together are not all there yet


def publish(
    topic: str,
    message: Sendable,
    *,
    timeout: float | None = SEND_TIMEOUT,
    headers: Mapping[str, str] | None = None,
    durable: bool = False,
) -> None:
    """Publish one message (str, bytes-like, dict or Message) to everybody who is subscribed to the topic, in this process or, after `open`,
    wherever the server reaches. Nobody subscribed is no error.

    No slow or dead subscriber holds it up or makes it fail, but for one that asked to be waited for (`overflow="wait"`): then it waits up
    to `timeout` seconds (None: for ever; in a callback it does not wait) and raises NotSent, and nobody got the message. `headers`: str to
    str, beside the payload. `durable=True` returns when a server has stored it; the embedded engine raises NotDurable.

    Raises BadTopic, TooLarge (over 1 MiB, or what the server allows, headers included), TypeError, ValueError.

    >>> import bus
    >>> bus.publish("robots.arm.moved", {"x": 3, "y": 4})
    """
    engine = topics.engine or topics.current()
    plain = headers is None and not durable and timeout is SEND_TIMEOUT and topic in known
    if plain and type(message) is bytes and len(message) <= engine.max_payload:  # nothing to check or to convert: worth a shorter way
        engine.publish(topic, message, NO_HEADERS, None, SEND_TIMEOUT)
        return
    check_topic(topic)
    if timeout is not SEND_TIMEOUT:
        timeout = check_timeout(timeout)
    payload = message if type(message) is bytes else encode(message)
    given = NO_HEADERS if headers is None else check_headers(headers)
    if given or len(payload) > engine.max_payload:
        check_size(topic, payload, given, engine.max_payload)
    if durable:
        engine.publish_durable(topic, payload, given, timeout)
    else:
        engine.publish(topic, payload, given, None, timeout)


def subscribe(
    topic: str,
    *,
    queue: str | None = None,
    overflow: Overflow = "drop_oldest",
    mailbox_messages: int = MAX_MESSAGES,
    mailbox_bytes: int = MAX_BYTES,
    durable: str | None = None,
    replay: Literal["all", "new"] | float | datetime = "all",
) -> Subscription:
    """Receive what is published on a topic, or on all that match a pattern: in it `*` stands for one token, `>` at the end for the rest.

    `queue`: of the subscribers in one queue group each message goes to one. `overflow`: what happens when more messages wait than
    `mailbox_messages`, or more bytes than `mailbox_bytes`: "drop_oldest", "drop_newest" (both counted in `Subscription.stats().lost`, told
    by `lost_before` of the message behind the gap, and logged), or "wait": the publisher does.

    `durable`, with a server that stores messages: the name under which it remembers what was acknowledged (`msg.ack()`); `replay` where a
    new name begins: "all" that is stored, "new" ones, or from a time on (seconds since the epoch, or a datetime). Nothing is dropped there,
    whatever `overflow` says: the server waits. A queue makes no sense: those who use one name share its messages.

    A subscription does not keep its script alive when that has returned. Raises BadTopic, NotDurable, TypeError, ValueError.

    >>> import bus
    >>> with bus.subscribe("robots.>") as sub:
    ...     bus.publish("robots.arm", "here")
    ...     print(sub.receive(timeout=5).text)
    here
    """
    named = _durable(durable, replay, queue)
    limits = check_counts(mailbox_messages=mailbox_messages, mailbox_bytes=mailbox_bytes)
    box = _box(topic, queue, overflow if named is None else "wait", limits)
    engine = topics.current()
    return TopicActor.open_for(Subscription, NoSocket(), hosting.shared(), engine=engine, box=box, durable=named)


def request(topic: str, message: Sendable, timeout: float, *, headers: Mapping[str, str] | None = None) -> TopicMessage:
    """Publish a request and wait up to `timeout` seconds for its answer. The first one counts.

    Raises NoResponders at once when nobody is subscribed to the topic, RequestTimeout, ResponderFailed when the callback that was to answer
    raised, and what `publish` raises. (In the first seconds of `actorbus run` with several scripts, or with a server behind the topics, it
    goes on asking where nobody is: the others may still be starting.)

    >>> import bus
    >>> with bus.respond("sum", lambda msg: {"sum": sum(msg.json()["of"])}):
    ...     print(bus.request("sum", {"of": [1, 2, 3]}, timeout=5).json())
    {'sum': 6}
    """
    seconds = check_timeout(timeout)
    if seconds is None:
        raise TypeError("timeout must be a number of seconds, not None: who answers may never do so")
    deadline = monotonic() + seconds
    engine = topics.engine or topics.current(deadline)
    check_topic(topic)
    payload = encode(message)
    given = NO_HEADERS if headers is None else check_headers(headers)
    check_size(topic, payload, given, engine.max_payload)
    while True:
        try:
            reply = engine.request(topic, payload, given, deadline)
            break
        except NoResponders:
            if not topics.forgiving() or monotonic() + RETRY_SECONDS >= deadline:
                raise
        sleep(RETRY_SECONDS)
    if ERROR in reply.headers:
        raise ResponderFailed(topic, one_line(reply.headers[ERROR]))
    return reply


def respond(
    topic: str,
    callback: Callable[[TopicMessage], Sendable | None],
    *,
    queue: str | None = None,
    mailbox_messages: int = MAX_MESSAGES,
    mailbox_bytes: int = MAX_BYTES,
) -> Responder:
    """Answer requests on a topic, or on all that match a pattern: what `callback(msg)` returns, if not None, is the answer.

    Callbacks run one after the other on a thread of the library's; they may block. One that raises is logged, and who asked gets
    ResponderFailed. With None, `msg.respond` may answer later. Several responders of one `queue` share the work. What waits beyond
    `mailbox_messages` or `mailbox_bytes` is refused and counted in `Responder.stats().lost`. It keeps its script alive until `close`.

    Raises BadTopic, TypeError, ValueError.

    >>> import bus
    >>> with bus.respond("double", lambda msg: msg.text * 2):
    ...     print(bus.request("double", "ha", timeout=5).text)
    haha
    """
    check_callable(callback, "callback", optional=False)
    limits = check_counts(mailbox_messages=mailbox_messages, mailbox_bytes=mailbox_bytes)
    box = _box(topic, queue, "drop_newest", limits)
    engine = topics.current()
    return ResponderActor.open_for(Responder, NoSocket(), hosting.shared(), engine=engine, box=box, callback=callback)


def _box(topic: str, queue: str | None, overflow: Overflow, limits: Mapping[str, Any]) -> TopicBox:
    check_pattern(topic)
    if queue is not None:
        check_queue(queue)
    check_choice(overflow, OVERFLOWS, "overflow")
    return TopicBox(topic, queue, overflow=overflow, max_messages=limits["mailbox_messages"], max_bytes=limits["mailbox_bytes"])


def _durable(name: str | None, replay: Any, queue: str | None) -> Durable | None:
    if isinstance(replay, str):
        check_choice(replay, ("all", "new"), "replay")
    else:
        replay = _time(replay)
    if name is None:
        return None
    check_queue(name, "durable")
    if queue is not None:
        raise ValueError("queue and durable can't be given together: those who use one durable name share its messages")
    return Durable(name, replay)


def _time(replay: Any) -> float:
    """Seconds since the epoch."""
    from datetime import datetime

    if isinstance(replay, datetime):
        return replay.timestamp()
    if isinstance(replay, bool) or not isinstance(replay, (int, float)):
        raise TypeError(f'replay must be "all", "new", seconds since the epoch or a datetime, not {type(replay).__name__}')
    if not isfinite(replay):
        raise ValueError(f"replay must be a time, not {replay!r}")
    return replay

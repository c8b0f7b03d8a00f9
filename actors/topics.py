"""Topics: the message that an engine delivers, and which engine the process has.

There is one engine at a time. The default is the embedded one, inside this process; `use` puts another in its place, as `bus.open` does.
What all engines have in common (names, limits, encoding, mailboxes and what they drop) is decided before and behind them,
in one place each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock, get_ident
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING

from actors.answer import Answer
from actors.errors import Broken, ConnectTimeout, EngineInUse, TooLarge
from actors.hosting import BEFORE_FORK
from actors.message import Message, Sendable, encode
from actors.subjects import check_headers

if TYPE_CHECKING:
    from actors.engine import Engine

__all__ = [
    "APIECE",
    "ERROR",
    "MAX_PAYLOAD",
    "NO_HEADERS",
    "SEND_TIMEOUT",
    "Headers",
    "TopicMessage",
    "check_size",
    "current",
    "default",
    "drop",
    "end",
    "engine",
    "forgive_silence",
    "forgiving",
    "one_line",
    "opening",
    "refuse",
    "topic_message",
    "use",
]

Headers = Mapping[str, str]

MAX_PAYLOAD = 1024 * 1024  # NATS's own default, headers included
SEND_TIMEOUT = 20.0
APIECE = 512  # bytes that a message weighs without its payload, so that one figure bounds both, number and bytes
HEADER_APIECE = 128  # and each of its headers, without the text: there can be a hundred thousand of them in a message without a payload
LONGEST_ERROR = 1000  # characters of an exception that go into a header
ERROR = "Actorbus-Error"  # the header of a reply that says why there is none
NO_HEADERS: Headers = MappingProxyType({})


class TopicMessage(Message):
    """One message of a topic, as a subscription or a request receives it. Like every Message, and:

    `source` is the topic it was published to, concrete also where a pattern was subscribed to; `headers` what the publisher put beside the
    payload (str to str, empty as a rule); `reply_to` where a reply goes, None if nobody waits for one; `redelivered` whether a durable
    subscription has had it before.

    >>> message = TopicMessage(b"hi", "robots.arm")
    >>> message.topic, message.text, dict(message.headers), message.reply_to
    ('robots.arm', 'hi', {}, None)
    """

    __slots__ = ("weight",)
    headers: Headers = NO_HEADERS
    reply_to: str | None = None
    redelivered: bool = False
    is_text = None  # instead of a field

    def __init__(self, data: bytes, source: str = "") -> None:
        self.data = data
        self.source = source
        self.weight = len(data) + APIECE  # in a mailbox

    @property
    def topic(self) -> str:
        """The topic it was published to: the same as `source`."""
        return self.source

    def respond(self, message: Sendable, *, headers: Headers = NO_HEADERS) -> None:
        """Answer the request that this is; takes what `send` takes. The first answer counts. Raises ValueError if it is none, TooLarge,
        TypeError.
        """
        raise ValueError(f"nobody waits for an answer: this message on topic {self.source} was published, and is no request")

    def ack(self) -> None:
        """Tell the server that a durable subscription is through with this message: it does not come again. Raises ValueError otherwise."""
        raise ValueError(f"there is nothing to acknowledge: this message on topic {self.source} does not come from a durable subscription")


class _Full(TopicMessage):
    """Few are: these fields would cost every message."""

    __slots__ = ("_ack", "_engine", "headers", "lost_before", "redelivered", "reply_to")

    headers: Headers
    reply_to: str | None
    redelivered: bool
    lost_before: int
    _engine: Engine | None
    _ack: Callable[[bool], object] | None

    def respond(self, message: Sendable, *, headers: Headers = NO_HEADERS) -> None:
        if self.reply_to is None or self._engine is None:
            super().respond(message)
            return
        payload = encode(message)
        headers = check_headers(headers) if headers else NO_HEADERS
        check_size(self.source, payload, headers, self._engine.max_payload)
        self._engine.publish(self.reply_to, payload, headers, None, SEND_TIMEOUT)

    def ack(self) -> None:
        if self._ack is None:
            super().ack()
            return
        self._ack(True)


def refuse(message: Message) -> None:
    """Tell the server that nobody can ever use this message of a durable subscription: it does not come again. For others it is nothing."""
    if isinstance(message, _Full) and message._ack is not None:
        message._ack(False)


def topic_message(
    data: bytes,
    topic: str,
    headers: Headers = NO_HEADERS,
    reply_to: str | None = None,
    engine: Engine | None = None,
    *,
    redelivered: bool = False,
    ack: Callable[[bool], object] | None = None,
    lost_before: int = 0,
) -> TopicMessage:
    """A received message. `engine` takes the reply. `ack(taken)` is called when the script is through with it; not `taken`: refused."""
    if not headers and reply_to is None and ack is None and not lost_before:
        return TopicMessage(data, topic)
    message = _Full(data, topic)
    if headers:
        message.weight += sum(HEADER_APIECE + len(name) + len(value) for name, value in headers.items())
    message.headers = headers
    message.reply_to = reply_to
    message.redelivered = redelivered
    message.lost_before = lost_before
    message._engine = engine
    message._ack = ack
    return message


def after_loss(message: TopicMessage, count: int) -> TopicMessage:
    """The same message, with so many more lost before it: a copy, since others may have been given the same one."""
    return topic_message(
        message.data,
        message.source,
        message.headers,
        message.reply_to,
        getattr(message, "_engine", None),
        redelivered=message.redelivered,
        ack=getattr(message, "_ack", None),
        lost_before=message.lost_before + count,
    )


def size_of(payload: bytes, headers: Headers) -> int:
    """Bytes that count against the limit: NATS's own, "NATS/1.0", a line for each header, an empty line."""
    size = len(payload)
    if headers:
        size += 12 + sum(len(name) + len(value.encode()) + 4 for name, value in headers.items())
    return size


def check_size(topic: str, payload: bytes, headers: Headers, limit: int) -> None:
    """Raises TooLarge."""
    if (size := size_of(payload, headers)) > limit:
        raise TooLarge(f"topic {topic}", f"{size} bytes, headers included, are over the limit of {limit}")


def one_line(why: str) -> str:
    """An error as it goes into a header, and as it is taken from one that anybody may have written: printable, and not long.

    >>> one_line("no such\\npart: \\x1b[31m7")
    'no such part: [31m7'
    """
    return " ".join("".join(character if character.isprintable() else " " for character in why[:LONGEST_ERROR]).split())


# -- which engine there is ------------------------------------------------------------------------------------------------

OPEN_TIMEOUT = 10.0  # seconds to connect in

_lock = RLock()  # owns what follows, and nobody waits while he has it; a signal handler may need it, too
engine: Engine | None = None  # see `current`
_lost: Broken | None = None
_turn: _Turn | None = None  # of the thread that opens an engine


class _Turn(Answer[bool]):
    """What others wait for while a thread opens an engine."""

    __slots__ = ("thread",)

    def __init__(self) -> None:
        super().__init__()
        self.thread = get_ident()


def _embedded(deadline: float | None) -> Engine:
    from actors.embedded import EmbeddedEngine

    return EmbeddedEngine()


_opener: Callable[[float | None], Engine] = _embedded


def current(deadline: float | None = None) -> Engine:
    """The engine of this process: the embedded one, unless another was put in its place. The first call makes it, and then it is
    in `engine`. Where that has to connect, it takes until the deadline, and `OPEN_TIMEOUT` at most.
    """
    return engine or _first(deadline)


def default(opener: Callable[[float | None], Engine]) -> None:
    """What makes the engine, until a deadline, when topics are first used and none was opened; without it that is the embedded one."""
    global _opener
    _opener = opener


def _first(deadline: float | None) -> Engine:
    global engine
    latest = monotonic() + OPEN_TIMEOUT
    until = latest if deadline is None else min(latest, deadline)
    with opening("the engine behind the topics", until):
        found = engine
        if found is None:
            if _lost is not None:
                raise _lost.again()
            engine = found = _opener(until)
        return found


@contextmanager
def opening(address: str, deadline: float | None) -> Iterator[None]:
    """Within, the calling thread is the only one that opens an engine or puts one in place; others wait here for their turn, as every wait
    does: until their own deadline, and Ctrl-C ends it. Raises ConnectTimeout, and EngineInUse for a thread that is within already.
    """
    global _turn
    mine = _Turn()
    try:
        while (before := _take(mine)) is not mine:
            if before.thread == mine.thread:
                raise EngineInUse(address, "this thread is about to open one")
            if before.wait(deadline) is None:
                raise ConnectTimeout(address, "another thread was opening it, or another one, all that time")
        yield
    finally:
        if _turn is mine:
            _turn = None  # a store with no call before it: no interrupt leaves the turn with a thread that has gone on
        try:
            mine.set(True)
        except BaseException:
            mine.set(True)  # interrupted: once more, so that nobody waits on
            raise


def _take(mine: _Turn) -> _Turn:
    """Whose turn it is; ours, if it was nobody's."""
    global _turn
    with _lock:
        _turn = _turn or mine
        return _turn


_forgiving_until = 0.0


def forgive_silence(seconds: float) -> None:
    """For that long, who asks where nobody answers is to go on asking until its timeout: who is to answer may be starting, too."""
    global _forgiving_until
    _forgiving_until = monotonic() + seconds


def forgiving() -> bool:
    """Whether that time is not over."""
    return monotonic() < _forgiving_until


def use(new: Engine, in_use: Callable[[Engine], str]) -> Engine | None:
    """From now on `new` is the one; returns the one before, if there was one. `in_use(engine)` says who uses that; raises EngineInUse if
    anybody does.
    """
    global engine, _lost
    with _lock:
        before = engine
        if before is not None and (reason := in_use(before)):
            raise EngineInUse(new.url, reason)
        engine, _lost = new, None
        return before


def drop(ended: Engine) -> None:
    """If it is this one, the next use makes another."""
    global engine
    with _lock:
        if engine is ended:
            engine = None


def end(timeout: float) -> bool:
    """Close the engine that there is; the next use makes another. Whether all that it had taken got out within `timeout` seconds."""
    global engine
    with _lock:
        before, engine = engine, None
    return before is None or before.close(timeout)


def _after_fork() -> None:
    global _lock, _turn, engine, _lost
    _lock = RLock()
    _turn = None
    if engine is not None and not engine.url.startswith("embedded:"):
        _lost = Broken(engine.url, BEFORE_FORK)
    engine = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

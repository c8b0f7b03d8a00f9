"""`actorbus pub`, `sub` and `req`: topics from the command line, by the server that scripts use, too."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from time import monotonic, time

import bus
from actors.topics import SEND_TIMEOUT, TopicMessage, topic_message
from adapters.complaints import FAILED, complaint, say, status_of
from adapters.lines import ByLines, printed
from adapters.options import credentials_of, server_of
from adapters.progress import make_progress
from adapters.screen import Screen

__all__ = ["publish", "pubsub", "request", "subscribe"]

CONNECT_TIMEOUT = 10.0
ANSWER_TIMEOUT = 5.0
FLUSH = 5.0  # what was published gets that long to reach the server
LEAVE = 1.0  # after Ctrl-C
READ_SIZE = 64 * 1024
# What may wait to be printed. Nobody can slow a publisher down, and here all the memory is there for this one.
WAITING_MESSAGES = 1_000_000
WAITING_BYTES = 256 * 1024 * 1024
LONGEST = 64 * 1024 * 1024  # of a line; no NATS server takes more


def pubsub(wanted: Namespace, source: int | None) -> int:
    """Do what `adapters.options` understood of the command line, at the server it names. `source`: the descriptor to read from, None for
    none. The exit status. On the main thread. KeyboardInterrupt, and BrokenPipeError of stdout, end it and come out.
    """
    url = wanted.bus or ""
    linger = LEAVE
    try:
        url = server_of(wanted, os.environ)
        timeout = (wanted.timeout if wanted.command != "sub" else None) or CONNECT_TIMEOUT
        topics = bus.open(url, timeout=timeout, **credentials_of(wanted))
        try:
            failure = {"pub": publish, "sub": subscribe, "req": request}[wanted.command](wanted, source)
            linger = FLUSH
        finally:
            complete = topics.close(linger)
    except BrokenPipeError:
        raise
    except (bus.BusError, OSError, ValueError, ImportError) as exc:
        say(complaint(exc, url))
        return status_of(exc)
    if failure is None and not complete:
        failure = f"not all that was published has reached {topics.url}"
    if failure is not None:
        say(failure)
    return 0 if failure is None else FAILED


def messages_of(wanted: Namespace, source: int | None) -> Iterator[bytes]:
    """What to publish: the message of the command line, all of stdin, or its lines."""
    if wanted.message is not None:
        for _ in range(wanted.count or 1):
            yield os.fsencode(wanted.message)
        return
    left = wanted.count
    for line in _read(source, ByLines(LONGEST), wanted.whole):
        yield line
        if left is not None:
            left -= 1
            if not left:
                return


def _read(source: int | None, lines: ByLines, whole: bool) -> Iterator[bytes]:
    pieces = iter(lambda: b"" if source is None else os.read(source, READ_SIZE), b"")
    if whole:
        yield b"".join(pieces)
        return
    for piece in pieces:
        yield from lines.feed(piece)
    yield from lines.end()


def publish(wanted: Namespace, source: int | None) -> str | None:
    """`actorbus pub`. What failed, None if nothing did. Raises what `bus.publish` does."""
    headers = dict(wanted.header or ())
    screen = Screen(printed(json=wanted.json, raw=False), make_progress(source if wanted.message is None else None))
    published = size = 0
    try:
        for data in messages_of(wanted, source):
            bus.publish(wanted.topic, data, timeout=wanted.timeout or SEND_TIMEOUT, headers=headers, durable=wanted.durable)
            published += 1
            size += len(data)
            screen.count(sent=size, received=0)
            if wanted.json:
                screen.put(topic_message(data, wanted.topic, headers), time())
                screen.flush()
    finally:
        screen.close()
    if wanted.count is not None and published < wanted.count:
        return f"{published} of {wanted.count} messages were published: that was the end of the input"
    return None


def subscribe(wanted: Namespace, source: int | None) -> str | None:
    """`actorbus sub`. What failed, None if nothing did. Raises what `bus.subscribe` and `Subscription.receive` do."""
    screen = Screen(printed(json=wanted.json, raw=False), make_progress(None))
    received = size = 0
    with bus.subscribe(
        wanted.topic,
        queue=wanted.queue,
        durable=wanted.durable,
        replay=wanted.replay,
        mailbox_messages=WAITING_MESSAGES,
        mailbox_bytes=WAITING_BYTES,
    ) as subscription:
        say(f"subscribed to {wanted.topic}")
        try:
            while wanted.count is None or received < wanted.count:
                message = _next(subscription, wanted.timeout, screen, size)
                if message is None:
                    break
                received += 1
                size += len(message.data)
                screen.put(message, time())
                screen.count(sent=0, received=size)
                if wanted.durable is not None:
                    screen.flush()
                    message.ack()  # only now: printed is what the server need not keep
        finally:
            screen.close()
            if lost := subscription.stats().lost:
                say(f"{lost} messages were lost: they came faster than they were printed")
    if wanted.count is not None and received < wanted.count:
        return f"{received} of {wanted.count} messages came: nothing more came for {wanted.timeout:g} s"
    return None


def _next(subscription: bus.Subscription, timeout: float | None, screen: Screen, received: int) -> TopicMessage | None:
    message = subscription.receive(0)
    if message is not None:
        return message
    screen.flush()  # a write for many messages, as long as they come faster than they are printed
    deadline = None if timeout is None else monotonic() + timeout
    while True:
        message = subscription.receive(screen.patience(deadline))
        if message is not None or (deadline is not None and monotonic() >= deadline):
            return message
        screen.count(sent=0, received=received)


def request(wanted: Namespace, source: int | None) -> str | None:
    """`actorbus req`. What failed, None if nothing did. Raises what `bus.request` does."""
    screen = Screen(printed(json=wanted.json, raw=False), None)
    for data in messages_of(wanted, source):
        answer = bus.request(wanted.topic, data, wanted.timeout or ANSWER_TIMEOUT, headers=dict(wanted.header or ()))
        screen.put(answer, time())
        screen.flush()
    return None

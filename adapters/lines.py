"""What the command line reads and prints: bytes of stdin become messages, messages become bytes of stdout. Pure.

By lines, a message is a line without its line feed, and each message is printed with one behind it. Raw, a message is what one read gave,
and nothing is put between them, so that binary data goes through untouched. As JSON, each message is one object on a line of its own.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from actors.message import Message

__all__ = ["ByLines", "Raw", "Splitter", "as_json", "as_line", "as_raw", "printed"]


class Splitter(Protocol):
    """Takes what is read, and gives the messages in it."""

    def feed(self, data: bytes) -> Iterable[bytes]:
        """The messages that these bytes complete; to be taken to the end. Raises ValueError, behind those before, for one too long."""
        ...

    def end(self) -> list[bytes]:
        """The message that the end of the input completes, if there is one."""
        ...


class ByLines:
    """A message a line; the last may lack its line feed. `limit`: bytes of the longest one.

    >>> lines = ByLines(100)
    >>> list(lines.feed(b"one\\ntw")), list(lines.feed(b"o\\n\\nthree")), lines.end()
    ([b'one'], [b'two', b''], [b'three'])
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun: list[bytes] = []
        self._size = 0
        self._count = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        first, *others = data.split(b"\n")
        self._begun.append(first)
        self._size += len(first)
        for line in others:
            self._check()
            self._count += 1
            yield b"".join(self._begun)
            self._begun, self._size = [line], len(line)
        self._check()

    def end(self) -> list[bytes]:
        last = b"".join(self._begun)
        self._begun, self._size = [], 0
        return [last] if last else []

    def _check(self) -> None:
        if self._size > self._limit:
            raise ValueError(f"line {self._count + 1} of the input is over {self._limit} bytes, the most that a message may have")


class Raw:
    """A message a read, in pieces of `limit` bytes at most.

    >>> Raw(2).feed(b"abcde")
    [b'ab', b'cd', b'e']
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def feed(self, data: bytes) -> list[bytes]:
        limit = self._limit
        return [data] if len(data) <= limit else [data[at : at + limit] for at in range(0, len(data), limit)]

    def end(self) -> list[bytes]:
        return []


def as_line(message: Message, when: float) -> bytes:
    return message.data + b"\n"


def as_raw(message: Message, when: float) -> bytes:
    return message.data


def as_json(message: Message, when: float) -> bytes:
    """One object: `time` (UTC), `source` or `topic`, and the payload as `data` (text) or `base64` (anything else), with what else there is
    to tell. `when`: seconds since the epoch.

    >>> from actors.message import Message
    >>> as_json(Message(b"hi", "127.0.0.1:9"), 0.5)
    b'{"time": "1970-01-01T00:00:00.500000Z", "source": "127.0.0.1:9", "data": "hi"}\\n'
    """
    from datetime import UTC, datetime

    told: dict[str, object] = {"time": datetime.fromtimestamp(when, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")}
    topic = getattr(message, "topic", None)
    told["source" if topic is None else "topic"] = message.source if topic is None else topic
    text = _text(message)
    if text is None:
        told["base64"] = base64.b64encode(message.data).decode("ascii")
    else:
        told["data"] = text
    headers: Mapping[str, str] = getattr(message, "headers", {})
    if headers:
        told["headers"] = dict(headers)
    for name in ("reply_to", "redelivered", "lost_before"):
        if value := getattr(message, name, None):
            told[name] = value
    return json.dumps(told, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _text(message: Message) -> str | None:
    if message.is_text is False:
        return None
    try:
        return message.text
    except UnicodeDecodeError:
        return None


def printed(*, json: bool, raw: bool) -> Callable[[Message, float], bytes]:
    """How messages are printed."""
    return as_json if json else as_raw if raw else as_line

"""What is sent and received: `Message`, and the bytes of what a script hands to `send`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

__all__ = ["Message", "Sendable", "after_loss", "encode", "weigh"]


class Message:
    """One received message. Always truthy, also when it is empty.

    `data` is the payload (bytes), `source` who sent it ("ip:port", a path, or a topic), `is_text` whether the transport marked it as
    text (None where the transport does not know). `lost_before`: how many datagrams this machine dropped right before this one, 0 on a
    stream.

    >>> Message(b'{"n": 1}', "127.0.0.1:9").json()
    {'n': 1}
    """

    __slots__ = ("data", "is_text", "source")
    lost_before = 0

    def __init__(self, data: bytes, source: str = "", is_text: bool | None = None) -> None:
        self.data = data
        self.source = source
        self.is_text = is_text

    @property
    def text(self) -> str:
        """The payload as strict UTF-8 (str). Raises UnicodeDecodeError when it is not UTF-8."""
        return str(self.data, "utf-8")

    def json(self) -> Any:
        """The payload parsed as JSON (RFC 8259). Raises ValueError when it is not JSON, or nested too deeply to be read."""
        try:
            return _loads()(self.data)
        except RecursionError:
            raise ValueError("this JSON is nested too deeply") from None

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return (self.data, self.source, self.is_text) == (other.data, other.source, other.is_text)

    def __hash__(self) -> int:
        return hash((self.data, self.source, self.is_text))

    def __repr__(self) -> str:
        shown = self.data if len(self.data) <= 64 else self.data[:61] + b"..."
        gap = f", after {self.lost_before} lost" if self.lost_before else ""
        return f"<Message {shown!r} ({len(self.data)} bytes) from {self.source or 'nowhere'}{gap}>"


class MessageAfterLoss(Message):
    """Few are: a field more would cost every message."""

    __slots__ = ("lost_before",)


def weigh(message: Message) -> int:
    """Its bytes in a mailbox."""
    return len(message.data)


def after_loss(message: Message, count: int) -> Message:
    """The same message, with so many more lost before it."""
    marked = MessageAfterLoss(message.data, message.source, message.is_text)
    marked.lost_before = message.lost_before + count
    return marked


# `json` is imported by who needs it; and an encoder that is kept does half of what `json.dumps` does for each message.
@cache
def _loads() -> Callable[[bytes], Any]:
    import json

    return json.loads


@cache
def _dumps() -> Callable[[dict[str, Any]], str]:
    import json

    return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


Sendable: TypeAlias = "str | bytes | bytearray | memoryview | dict[str, Any] | Message"


def encode(message: Sendable, errors: str = "strict") -> bytes:
    """The payload of anything `send` takes: str as UTF-8, bytes-likes as they are, a dict as compact JSON, a Message as its data.

    Raises TypeError naming the type of anything else, and of a dict's keys that are not str; ValueError for NaN or infinity in a
    dict (RFC 8259 has no such numbers) and for a str with lone surrogates (`errors="surrogateescape"` turns those that stand for a
    byte back into it).

    >>> encode({"action": "ping"})
    b'{"action":"ping"}'
    """
    if type(message) is bytes:
        return message
    if isinstance(message, str):
        return message.encode("utf-8", errors)
    if isinstance(message, Message):
        return message.data
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message)
    if isinstance(message, dict):
        _check_keys(message)
        return _dumps()(message).encode("utf-8", errors)
    raise TypeError(f"message must be a str, bytes, dict or Message, not {type(message).__name__}")


def _check_keys(value: object) -> None:
    # json.dumps would silently turn the keys 1, True and None into strings: what arrives would not be what was sent.
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"keys of a dict message must be str, not {type(key).__name__}")
            _check_keys(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_keys(inner)

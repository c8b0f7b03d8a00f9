"""What Scriptling's `send` takes and its `receive` gives."""

from __future__ import annotations

from typing import Any, TypeAlias, TypedDict

import actors.message

__all__ = ["Received", "Sendable", "encode"]

Sendable: TypeAlias = "str | bytes | bytearray | memoryview | dict[str, Any]"


class Received(TypedDict):
    """A received message: its text, and who sent it as "ip:port"."""

    data: str
    source: str


def encode(message: Sendable) -> bytes:
    """The payload of what a script sends: text as UTF-8, bytes verbatim, a dict as compact JSON.

    Raises TypeError for anything else and for a dict with keys that are not str; ValueError for NaN and infinity in it, and for text that
    has surrogates which stand for no byte.

    >>> encode({"n": 42})
    b'{"n":42}'
    """
    if isinstance(message, (str, bytes, bytearray, memoryview, dict)):
        return actors.message.encode(message, "surrogateescape")
    raise TypeError(f"message must be a string, bytes or dict, not {type(message).__name__}")

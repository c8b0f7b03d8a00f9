"""What goes over the wire: text as UTF-8; on a stream, 0x03 ends each message. Pure."""

from __future__ import annotations

import bus

__all__ = ["MAX_SIZE", "frameable", "payload"]

MAX_SIZE = 16 * 1024 * 1024

TERMINATOR = b"\x03"  # in UTF-8 this byte is U+0003 and never a part of another character


def payload(message: str) -> bytes:
    """The bytes of a message. A byte that was not UTF-8 when it was received becomes what it was.

    >>> payload("\\udcff")
    b'\\xff'
    """
    if not isinstance(message, str):
        raise TypeError(f"message must be a str, not {type(message).__name__}")
    return message.encode("utf-8", "surrogateescape")


def frameable(message: str, max_size: int, receiver: str) -> bytes:
    """The bytes of a message for a stream, without the terminator. ValueError for what the peer would not get as one message."""
    data = payload(message)
    if TERMINATOR in data:
        raise ValueError("the message contains \\x03, which ends a message: the peer would receive two halves")
    if len(data) > max_size:
        raise bus.TooLarge(receiver, f"{len(data)} bytes are over max_size={max_size}")
    return data

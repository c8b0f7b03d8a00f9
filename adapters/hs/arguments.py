"""What the methods are given: a wrong argument raises, before anything has happened. Pure.

Integers may be floats without a fraction, as Lua's; a bool is no number, and a number no string. What was left out differs from None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = ["UNSET", "ReadCallback", "Sending", "Unset", "flag", "function", "integer", "is_number", "number", "port", "sending", "text"]

ReadCallback: TypeAlias = Callable[[str, bytes], object]

NO_TAG = -1


class Unset(Enum):
    """The type of what was not given."""

    UNSET = 0


UNSET: Final = Unset.UNSET


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(value: Any, name: str) -> float:
    if not is_number(value):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if math.isnan(value):
        raise ValueError(f"{name} must be a number, not {value!r}")
    return float(value)


def integer(value: Any, name: str) -> int:
    """
    >>> integer(9001.0, "port")
    9001
    """
    if not is_number(value):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value != value or value in (math.inf, -math.inf) or value != int(value):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    return int(value)


def port(value: Any) -> int:
    """A port, 0 to 65535: what 0 means is another's to say."""
    found = integer(value, "port")
    if not 0 <= found <= 65535:
        raise ValueError(f"port must be between 0 and 65535, not {found}")
    return found


def text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {value!r}")
    return value


def function(value: Any, name: str = "fn") -> Callable[..., object]:
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {value!r}")
    return value  # type: ignore[no-any-return]


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"flag must be a boolean, not {value!r}")
    return value


class Sending(NamedTuple):
    """What `send` was asked for. `host` is None on a connected socket."""

    data: bytes
    host: str | None
    port: int
    tag: int
    fn: Callable[[int], object] | None


def sending(connected: bool, message: Any, rest: tuple[Any, ...], named: Mapping[str, Any]) -> Sending:
    """`send(message, host, port[, tag][, fn])`, or on a connected socket `send(message[, tag][, fn])`. A function may take the tag's place.

    Text becomes UTF-8, and what `surrogateescape` made of other bytes becomes these again.
    """
    if isinstance(message, str):
        data = message.encode("utf-8", "surrogateescape")
    elif isinstance(message, (bytes, bytearray, memoryview)):
        data = bytes(message)
    else:
        raise TypeError(f"message must be a string or bytes, not {message!r}")
    names = ("tag", "fn") if connected else ("host", "port", "tag", "fn")
    if len(rest) > len(names):
        raise TypeError(f"send takes {', '.join(('message', *names))}; {len(rest) + 1} arguments were given")
    given = dict(zip(names, rest, strict=False))
    for name, value in named.items():
        if name not in names or name in given:
            raise TypeError(f"send on {'a connected' if connected else 'an unconnected'} socket: {name!r} is unknown or given twice")
        given[name] = value
    host, number_ = None, 0
    if not connected:
        if "host" not in given or "port" not in given:
            raise TypeError("send needs a host and a port, because this socket is not connected")
        host, number_ = text(given["host"], "host"), port(given["port"])
    tag: Any = given.get("tag")
    fn: Any = given.get("fn", UNSET)
    if isinstance(tag, str) and connected:
        raise TypeError(f"this socket is connected: it sends to its peer only, not to {tag!r}")
    if callable(tag):
        if fn is not UNSET:
            raise TypeError("send takes one function")
        tag, fn = None, tag
    return Sending(
        data, host, number_, NO_TAG if tag is None else integer(tag, "tag"), None if fn is UNSET else function(fn)
    )

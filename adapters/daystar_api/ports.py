"""Ports 70000 to 71000, and the ports of the operating system that stand for them. Pure, but for one environment variable.

A port of TCP or UDP has 16 bits: there is no 70000. Many languages and C's `htons` cut such a number to 16 bits without a word, and so
arrive at `port - 65536`. That is where we listen and send as well: 4464 to 5464, which needs no privilege and is not among the numbers
that the system gives to outgoing connections. A deployment whose robots do it another way sets another offset, by keyword or for all of its
scripts with `ACTORBUS_DAYSTAR_PORT_OFFSET`.
"""

from __future__ import annotations

import errno
import os
import re

__all__ = [
    "FIRST_PORT",
    "LAST_PORT",
    "OFFSET",
    "VARIABLE",
    "Address",
    "bind_error",
    "both",
    "chosen_offset",
    "from_os_port",
    "logical_address",
    "to_os_port",
]

FIRST_PORT = 70_000
LAST_PORT = 71_000
OFFSET = 65_536
VARIABLE = "ACTORBUS_DAYSTAR_PORT_OFFSET"

# With any of these the whole range lies between 1 and 65535.
SMALLEST_OFFSET = LAST_PORT - 65_535
LARGEST_OFFSET = FIRST_PORT - 1

Address = tuple[str, int]

# How an IPv4 peer looks to a socket that serves IPv6 and IPv4 (RFC 4291, 2.5.5.2).
MAPPED_IPV4 = re.compile(r"::ffff:(\d+\.\d+\.\d+\.\d+)")


def to_os_port(port: int, offset: int = OFFSET) -> int:
    """The operating system's port for a port of the document.

    TypeError for what is no int (a bool is none), ValueError for what is not in the range.

    >>> to_os_port(70536)
    5000
    """
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port must be an int, not {type(port).__name__}")
    if not FIRST_PORT <= port <= LAST_PORT:
        raise ValueError(f"port must be within {FIRST_PORT} to {LAST_PORT}, not {port}")
    return port - offset


def from_os_port(number: int, offset: int = OFFSET) -> int:
    """The port of the document that a port of the operating system stands for; the number itself where it stands for none.

    >>> from_os_port(5000), from_os_port(41234)
    (70536, 41234)
    """
    port = number + offset
    return port if FIRST_PORT <= port <= LAST_PORT else number


def chosen_offset(offset: int | None = None) -> int:
    """What to subtract: the argument, or else the environment variable, or else 65536.

    TypeError and ValueError name which of them is wrong.
    """
    name = "port_offset"
    value: int | str = OFFSET
    if offset is not None:
        if isinstance(offset, bool) or not isinstance(offset, int):
            raise TypeError(f"{name} must be an int, not {type(offset).__name__}")
        value = offset
    elif text := os.environ.get(VARIABLE):
        name = VARIABLE
        value = int(text) if text.isascii() and text.isdigit() else text
    if not isinstance(value, int) or not SMALLEST_OFFSET <= value <= LARGEST_OFFSET:
        raise ValueError(f"{name} must be a number from {SMALLEST_OFFSET} to {LARGEST_OFFSET}, not {value!r}")
    return value


def both(port: int, offset: int) -> str:
    """Both numbers, for whoever has to find the port in a firewall or in `ss`.

    >>> both(70536, OFFSET)
    '70536 (OS port 5000)'
    """
    return f"{port} (OS port {to_os_port(port, offset)})"


def bind_error(exc: OSError, port: int, offset: int) -> OSError:
    """Why the port cannot be had, naming both numbers. Of the class that Python has for the error's number."""
    if exc.errno == errno.EADDRINUSE:
        return OSError(exc.errno, f"port {both(port, offset)} is already in use")
    return OSError(exc.errno, f"port {both(port, offset)} cannot be had: {os.strerror(exc.errno or 0)}")


def logical_address(address: str, offset: int = OFFSET) -> Address:
    """An "ip:port" of the operating system as the document's tuple. An IPv4 peer has its IPv4 address, whatever socket it came through.

    >>> logical_address("[::ffff:10.0.0.5]:4465")
    ('10.0.0.5', 70001)
    """
    host, _, number = address.rpartition(":")
    host = host.strip("[]")
    mapped = MAPPED_IPV4.fullmatch(host)
    return mapped[1] if mapped else host, from_os_port(int(number), offset)

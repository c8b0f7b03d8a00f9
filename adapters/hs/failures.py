"""Why something failed, in the words that Hammerspoon's log has for it."""

from __future__ import annotations

import errno
import os

import bus

__all__ = [
    "BIND_AFTER_CONNECT",
    "BIND_TWICE",
    "BOTH_DISABLED",
    "CONNECT_TWICE",
    "DESTINATION",
    "NOT_BOUND",
    "NO_IPV4",
    "phrase",
]

BIND_TWICE = "Cannot bind a socket more than once."
BIND_AFTER_CONNECT = "Cannot bind after connecting. If needed, bind first, then connect."
CONNECT_TWICE = "Cannot connect a socket more than once."
DESTINATION = "Cannot specify destination of packet for connected socket"
BOTH_DISABLED = "Both IPv4 and IPv6 have been disabled. Must enable at least one protocol first."
NO_IPV4 = "(null)"
NOT_BOUND = (
    "Must bind socket before you can receive data. "
    "You can do this explicitly via bind, or implicitly via connect or by sending data."
)


def phrase(exc: BaseException) -> str:
    """The system's words where it is the system's doing.

    >>> phrase(OSError(errno.EADDRINUSE, "cannot listen on 0.0.0.0:9001"))
    'Address already in use'
    """
    if isinstance(exc, bus.NotSent):
        return "Send operation timed out"
    if isinstance(exc, bus.TooLarge):
        return os.strerror(errno.EMSGSIZE)
    cause = exc.__cause__ if isinstance(exc, bus.BusError) else exc
    if isinstance(cause, OSError) and cause.errno == errno.EISCONN:
        return DESTINATION
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)  # under 0: of getaddrinfo
    return exc.reason if isinstance(exc, bus.BusError) else str(exc)

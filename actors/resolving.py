"""Names to socket addresses, within a deadline.

`getaddrinfo` can hang for as long as a name server likes and nobody can interrupt it. Numeric addresses are converted at once; names are
looked up on a helper thread, so that a deadline and Ctrl-C hold there too. At most `MAX_LOOKUPS` lookups hang at the same time.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import lru_cache
from threading import BoundedSemaphore
from typing import Any, NamedTuple

from actors import crew
from actors.answer import Answer
from actors.errors import BusError, ConnectFailed, ConnectTimeout

__all__ = ["Resolved", "format_address", "look_up", "numeric", "resolve"]

MAX_LOOKUPS = 8
_lookups = BoundedSemaphore(MAX_LOOKUPS)


class Resolved(NamedTuple):
    family: int
    sockaddr: Any


def format_address(sockaddr: Any, mapped: bool = False) -> str:
    """ "ip:port", "[ip6]:port" (with the zone of a link-local address), or the path of a Unix socket.

    An IPv4 peer of a socket for both families is written as IPv4, or with `mapped` as "[::ffff:ip]:port".
    """
    if isinstance(sockaddr, tuple):
        host, port = sockaddr[0], sockaddr[1]
        if host.startswith("::ffff:") and "." in host and not mapped:
            host = host[7:]
        if ":" not in host:
            return f"{host}:{port}"
        if len(sockaddr) == 4 and sockaddr[3] and "%" not in host:
            host = f"{host}%{sockaddr[3]}"
        return f"[{host}]:{port}"
    if isinstance(sockaddr, bytes) and sockaddr:
        return "@" + sockaddr[1:].decode("utf-8", "replace") if sockaddr[:1] == b"\0" else sockaddr.decode("utf-8", "replace")
    return sockaddr or "unix peer"


def _mapped(family: int) -> int:
    """A socket for IPv6 reaches IPv4 hosts by their mapped addresses."""
    return socket.AI_V4MAPPED if family == socket.AF_INET6 else 0


@lru_cache(maxsize=1024)
def numeric(host: str, port: int, kind: int, family: int) -> tuple[Resolved, ...]:
    """The address of a host that is one, without a lookup; nothing for a name."""
    try:
        found = socket.getaddrinfo(host, port, family, kind, 0, socket.AI_NUMERICHOST | _mapped(family))
    except (OSError, UnicodeError):  # UnicodeError: no name either, as the lookup will say
        return ()
    return tuple(Resolved(info[0], info[4]) for info in found)


def resolve(host: str, port: int, kind: int, deadline: float | None, family: int = 0) -> tuple[Resolved, ...]:
    """Every address of the host for sockets of that kind (SOCK_STREAM, SOCK_DGRAM), in the resolver's order.

    Raises ConnectFailed (no such name, or the lookup failed) and ConnectTimeout.
    """
    return numeric(host, port, kind, family) or _lookup(host, port, kind, deadline, family)


def _lookup(host: str, port: int, kind: int, deadline: float | None, family: int) -> tuple[Resolved, ...]:
    answer: Answer[tuple[Resolved, ...] | BusError] = Answer()
    look_up(host, port, kind, family, answer.set)
    found = answer.wait(deadline)
    if found is None:
        raise ConnectTimeout(format_address((host, port)), f"the lookup of the name {host!r} took longer than the timeout")
    if isinstance(found, BusError):
        raise found
    return found


def look_up(host: str, port: int, kind: int, family: int, found: Callable[[tuple[Resolved, ...] | BusError], object]) -> None:
    """Start a lookup, and have `found` called with what came of it: the addresses, or ConnectFailed. On a helper thread, or at once when
    there is none.
    """
    where = format_address((host, port))

    def look() -> None:
        outcome: tuple[Resolved, ...] | BusError
        try:
            infos = socket.getaddrinfo(host, port, family, kind, 0, _mapped(family))
            outcome = tuple(dict.fromkeys(Resolved(info[0], info[4]) for info in infos))
        except (OSError, UnicodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            outcome = ConnectFailed(where, f"no address for the name {host!r} ({reason})").because(exc)
        finally:
            _lookups.release()
        found(outcome)

    if not _lookups.acquire(blocking=False):
        found(ConnectFailed(where, f"{MAX_LOOKUPS} name lookups are hanging already; the name servers do not answer"))
    elif not crew.run(look):
        _lookups.release()
        found(ConnectFailed(where, f"no thread to look {host!r} up with"))


def _after_fork() -> None:
    global _lookups
    _lookups = BoundedSemaphore(MAX_LOOKUPS)  # those that hang do so in the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

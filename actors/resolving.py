"""Names to socket addresses, within a deadline.

`getaddrinfo` can hang for as long as a name server likes and nobody can interrupt it. Numeric addresses are converted at once; names are
looked up on a helper thread, so that a deadline and Ctrl-C hold there too. At most `MAX_LOOKUPS` lookups hang at the same time.
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from threading import BoundedSemaphore
from typing import Any, NamedTuple

from actors import crew
from actors.errors import ConnectFailed, ConnectTimeout
from actors.waiting import Answer

__all__ = ["Resolved", "format_address", "resolve"]

MAX_LOOKUPS = 8
_lookups = BoundedSemaphore(MAX_LOOKUPS)


class Resolved(NamedTuple):
    family: int
    sockaddr: Any


def format_address(sockaddr: Any) -> str:
    """ "ip:port", "[ip6]:port" (with the zone of a link-local address), or the path of a Unix socket."""
    if isinstance(sockaddr, tuple):
        host, port = sockaddr[0], sockaddr[1]
        if host.startswith("::ffff:") and "." in host:
            host = host[7:]  # an IPv4 peer of a socket for both families
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
def _numeric(host: str, port: int, kind: int, family: int) -> tuple[Resolved, ...]:
    try:
        found = socket.getaddrinfo(host, port, family, kind, 0, socket.AI_NUMERICHOST | _mapped(family))
    except (OSError, UnicodeError):  # UnicodeError: no name either, as the lookup will say
        return ()
    return tuple(Resolved(info[0], info[4]) for info in found)


def resolve(host: str, port: int, kind: int, deadline: float | None, family: int = 0) -> tuple[Resolved, ...]:
    """Every address of the host for sockets of that kind (SOCK_STREAM, SOCK_DGRAM), in the resolver's order.

    Raises ConnectFailed (no such name, or the lookup failed) and ConnectTimeout.
    """
    return _numeric(host, port, kind, family) or _lookup(host, port, kind, deadline, family)


def _lookup(host: str, port: int, kind: int, deadline: float | None, family: int) -> tuple[Resolved, ...]:
    where = format_address((host, port))
    answer: Answer[Any] = Answer()

    def look() -> None:
        try:
            answer.set(socket.getaddrinfo(host, port, family, kind, 0, _mapped(family)))
        except (OSError, UnicodeError) as exc:
            answer.set(exc)
        finally:
            _lookups.release()

    if not _lookups.acquire(blocking=False):
        raise ConnectFailed(where, f"{MAX_LOOKUPS} name lookups are hanging already; the name servers do not answer")
    if not crew.run(look):
        _lookups.release()
        raise ConnectFailed(where, f"no thread to look {host!r} up with")
    found = answer.wait(deadline)
    if found is None:
        raise ConnectTimeout(where, f"the lookup of the name {host!r} took longer than the timeout")
    if isinstance(found, Exception):
        reason = found.strerror if isinstance(found, OSError) and found.strerror else str(found)
        raise ConnectFailed(where, f"no address for the name {host!r} ({reason})").because(found)
    return tuple(dict.fromkeys(Resolved(info[0], info[4]) for info in found))


def _after_fork() -> None:
    global _lookups
    _lookups = BoundedSemaphore(MAX_LOOKUPS)  # those that hang do so in the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

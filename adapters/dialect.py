"""What the dialects share: text that any bytes survive, addresses, and one peer as their scripts expect it.

- Text is UTF-8 with `surrogateescape`, so that what was received can be sent on unchanged, whatever it was.
- `if c.connected(): c.send(x)` never raises because of the peer, although it may leave between the two: see `Link.send`.
- `receive` on an ended link gives None, and not so fast that a loop around it burns the interpreter: see `Link.keep_pace`.
- Ctrl-C loses no message. CPython looks for signals after a call, at a loop's end and on entering a function. So between taking a message
  and the caller's store stands none of these; the decoder is lined up before the message is taken, and stepped by C code.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from functools import partial
from threading import Lock, get_ident
from time import monotonic
from typing import Any, TypeAlias

import bus
from actors.waiting import sleep

__all__ = ["PACE", "Link", "Linked", "Payload", "decode", "endpoint", "receive_text"]

log = logging.getLogger("actorbus.dialect")

PACE = 0.05  # seconds between two answers of an ended link

Payload: TypeAlias = "bytes | str | dict[str, Any]"  # a WebSocket marks the last two as text

# Not a function of ours, because entering one is a place where Ctrl-C strikes.
decode: Callable[[bytes], str] = partial(str, encoding="utf-8", errors="surrogateescape")


def endpoint(scheme: str, host: str, port: int, lowest: int = 0, name: str = "host") -> str:
    """The URL for `bus` of a host and a port that a script gave. An IPv6 address may come with brackets or without.

    Raises TypeError and ValueError that show the value. `lowest` is the smallest port that makes sense here, `name` what the script calls
    the host.

    >>> endpoint("tcp", "::1", 8080)
    'tcp://[::1]:8080'
    """
    if not isinstance(host, str):
        raise TypeError(f"{name} must be a string, not {host!r}")
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port must be an integer, not {port!r}")
    if not lowest <= port <= 65535:
        raise ValueError(f"port must be between {lowest} and 65535, not {port}")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" not in bare:
        return f"{scheme}://{host}:{port}"
    try:
        ipaddress.IPv6Address(bare)
    except ValueError:
        raise bus.BadAddress(host, f"{name} is a name, an IPv4 or an IPv6 address; the port goes apart") from None
    return f"{scheme}://[{bare}]:{port}"


def receive_text(source: bus.Connection | bus.Session | bus.UdpSocket | bus.Group, timeout: float | None) -> tuple[str, str] | None:
    """Text and source of the next message; None after `timeout` seconds without one. Raises what `source.receive` raises."""
    taken: list[bytes] = []
    texts = map(decode, taken)
    message = source.receive(timeout)
    if message is None:
        return None
    taken[:] = (message.data,)
    (text,) = texts
    return text, message.source


class Link:
    """A connection as the dialects' scripts expect it: its peer may leave at any time, and none of these calls raises for that.

    Safe to use from several threads. `_trusting` holds the threads whose last look at `connected()` was True; each thread adds and
    removes only itself. `_lock` owns `dropped`. A lost update of `_due` makes one answer come early.
    """

    __slots__ = ("_due", "_lock", "_trusting", "connection", "dropped")

    def __init__(self, connection: bus.Connection | bus.Session) -> None:
        self.connection = connection
        self.dropped = 0  # messages that `send` was given after the peer had left
        self._trusting: set[int] = set()
        self._lock = Lock()
        self._due = 0.0

    def connected(self) -> bool:
        """True while the link is up or a received message waits to be taken."""
        up = self.connection.connected()
        if up:
            self._trusting.add(get_ident())
        else:
            self._trusting.discard(get_ident())
        return up

    def send(self, payload: Payload) -> None:
        """Send one message.

        If this thread's last look at `connected()` was True, and the peer has left or stopped reading since, the message is counted in
        `dropped`, the first such one is logged, and that is all. Otherwise that raises PeerClosed, Broken or NotSent.

        Raises Closed after `close()`, and TooLarge, in any case.
        """
        try:
            self.deliver(payload)
        except (bus.Closed, PermissionError):
            raise
        except OSError as exc:  # also what the system says about the way to a UDP peer
            if get_ident() not in self._trusting:
                raise
            self.drop(exc)

    def deliver(self, payload: Payload) -> None:
        """Send one message, or raise."""
        self.connection.send(payload)

    def drop(self, reason: OSError) -> None:
        """Count a message that is not sent, and log the first."""
        with self._lock:
            self.dropped += 1
            first = self.dropped == 1
        if first:
            log.warning("a message for %s was dropped (more of them would be counted only): %s", self.connection.remote_address, reason)

    def receive(self, timeout: float | None) -> tuple[str, str] | None:
        """Text and source of the next message; None after `timeout` seconds (None waits, 0 polls), and when the link has ended.

        Raises Closed after `close()`.
        """
        try:
            return receive_text(self.connection, timeout)
        except (bus.PeerClosed, bus.Broken) as exc:
            self.keep_pace(exc, timeout)
            return None

    def keep_pace(self, reason: bus.BusError, timeout: float | None) -> None:
        """Before a `receive` gives None because the link has ended.

        The first such None comes at once, and each further one PACE after the one before it, or after `timeout` if that is less: an ended
        link costs a loop no more turns than an idle one. Raises the reason if it is Closed.
        """
        if isinstance(reason, bus.Closed):
            raise reason
        if not self._due:
            # A Broken that no OSError caused is about messages: one that was too large, or ended in its middle.
            lost_data = isinstance(reason, bus.Broken) and not isinstance(reason.__cause__, OSError)
            log.log(logging.WARNING if lost_data else logging.INFO, "%s", reason)
        wait = self._due - monotonic()
        if timeout is not None:
            wait = min(wait, timeout)
        if wait > 0:
            sleep(wait)
        self._due = monotonic() + PACE

    def close(self) -> None:
        """Close in order. Twice is nothing."""
        self.connection.close()


class Linked:
    """What a dialect's connection has beside `send` and `receive`."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    def connected(self) -> bool:
        """True while the link is up or a received message waits to be taken."""
        return self._link.connected()

    def close(self) -> None:
        """Close in order; a WebSocket with its closing handshake and code 1000. Twice is nothing."""
        self._link.close()

    @property
    def dropped(self) -> int:
        return self._link.dropped

    def stats(self) -> bus.Stats:
        return self._link.connection.stats()

    def __repr__(self) -> str:
        return repr(self._link.connection)

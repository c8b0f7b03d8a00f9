"""receive_any: one thread that waits for several objects."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from time import monotonic
from typing import Any, TypeAlias, overload

from actors.errors import PeerClosed
from actors.message import Message
from actors.waiting import current, deadline_after
from bus.connection import Connection
from bus.datagrams import Group, UdpSocket
from bus.proxies import Proxy
from bus.subscription import Subscription

__all__ = ["receive_any"]

AnySource: TypeAlias = Connection | UdpSocket | Group | Subscription

_turns = count()


@overload
def receive_any(sources: Sequence[Connection], timeout: float | None = None) -> tuple[Connection, Message | None] | tuple[None, None]: ...
@overload
def receive_any(sources: Sequence[AnySource], timeout: float | None = None) -> tuple[AnySource, Message | None] | tuple[None, None]: ...
@overload
def receive_any(sources: Sequence[Proxy], timeout: float | None = None) -> tuple[AnySource, Message | None] | tuple[None, None]: ...
def receive_any(sources: Sequence[Any], timeout: float | None = None) -> tuple[Any, Message | None] | tuple[None, None]:
    """Wait for the next message of several connections, UDP sockets, groups and subscriptions: (source, message).

    (None, None) after `timeout` seconds without one. (source, None) tells once that the peer of this source has left in order; after that
    it is passed over. Raises Closed or Broken when a source was closed or broke, PeerClosed when all have left, ValueError without
    sources.

    >>> import bus
    >>> with bus.bind("udp://127.0.0.1:0") as a, bus.bind("udp://127.0.0.1:0") as b:
    ...     a.send_to(b.address, "hi")
    ...     source, msg = bus.receive_any([a, b], timeout=5)
    ...     print(source is b, msg.text)
    True hi
    """
    deadline = deadline_after(timeout)
    if isinstance(sources, AnySource):  # they are iterable, but what they give is messages
        raise TypeError(f"receive_any takes a list of sources, not one {type(sources).__name__}")
    sources = list(sources)
    if not sources:
        raise ValueError("receive_any needs at least one source")
    for source in sources:
        if not isinstance(source, AnySource):
            raise TypeError(f"receive_any takes connections, UDP sockets, groups and subscriptions, not {type(source).__name__}")
        source._actor.reader.look()  # what is there already counts, also with timeout=0
    waiter = current()
    start = next(_turns) % len(sources)
    order = sources[start:] + sources[:start]  # so that a busy source does not hide the others
    while True:
        gone = 0
        for source in order:
            mailbox = source._mailbox
            if mailbox.idle:
                continue
            try:
                message = mailbox.take()
            except PeerClosed:
                if source._told:
                    gone += 1
                    continue
                source._tell()
                return source, None
            if message is not None:
                return source, message
        if gone == len(order):
            order[0].receive()  # raises the reason
        if deadline is not None and monotonic() >= deadline:
            return None, None
        for source in order:
            source._actor.reader.give_back()  # one thread cannot read several sockets directly: the reader thread has to
        waits = [source._told or source._mailbox.park(waiter) for source in order]
        if all(waits):
            waiter.wait(deadline, on=tuple(source._mailbox for source in order))

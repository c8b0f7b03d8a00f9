"""What can be counted about an object: frozen snapshots."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

__all__ = ["BroadcastReport", "ServerStats", "Stats"]


@dataclass(frozen=True)
class Stats:
    """Counters of a connection, a UDP socket or a group since it was opened.

    `lost`: datagrams that reached this machine and were dropped, by us or by the kernel. `unsent`: bytes accepted for sending that the
    kernel never took, because the link ended or the system refused a posted datagram. `dropped`: bytes of an unfinished message at the
    end of a stream. `waiting_in`: messages in the mailbox; `waiting_out`: bytes in the outbox. `refused`: ICMP reports that a datagram
    was not wanted. With `reconnect`: `reconnects`, connections after the first; `unconfirmed`, messages that a connection took and whose
    arrival its end left open.

    >>> Stats(messages_in=3).messages_in
    3
    """

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    waiting_in: int = 0
    waiting_out: int = 0
    lost: int = 0
    unsent: int = 0
    dropped: int = 0
    refused: int = 0
    reconnects: int = 0
    unconfirmed: int = 0

    def plus(self, *others: Stats) -> Stats:
        """The sums, field by field."""
        return Stats(*map(sum, zip(*map(astuple, (self, *others)), strict=True)))


@dataclass(frozen=True)
class ServerStats:
    """Counters of a server since it was started.

    `clients`: those connected now. `accepted` and `refused` (over a limit): connections. `skipped`: broadcast messages times the clients
    that were skipped because their outbox was full. `unauthenticated`: those of the accepted that ended before `authenticate` had admitted
    them, because it did not, or because no message came for it.
    """

    clients: int = 0
    accepted: int = 0
    refused: int = 0
    skipped: int = 0
    unauthenticated: int = 0


@dataclass(frozen=True)
class BroadcastReport:
    """What became of a broadcast, by client.

    `taken`: the kernel has the whole message. `queued`: it waits in the client's outbox, behind earlier ones. `skipped`: the outbox was
    full, or the client had left; nothing of the message goes to it.

    >>> report = BroadcastReport(taken=("a", "b"), queued=(), skipped=("c",))
    >>> len(report.taken), len(report.skipped)
    (2, 1)
    """

    taken: tuple[Any, ...] = ()
    queued: tuple[Any, ...] = ()
    skipped: tuple[Any, ...] = ()

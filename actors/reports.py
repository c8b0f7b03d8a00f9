"""What became of a broadcast, and of a server's stop: frozen, by client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["BroadcastReport", "Cut", "StopReport"]


@dataclass(frozen=True)
class BroadcastReport:
    """What became of a broadcast, by client.

    `taken`: the kernel has the whole message. `queued`: it waits in the client's outbox, behind earlier ones. `skipped`: the outbox was
    full, or the client had left; nothing of the message goes to it. `elsewhere`, of a server in a cluster: whether the message goes to the
    other nodes; "queued" while this node is cut off from them, "skipped" when no more can be kept for them; None if it is for here alone.

    >>> report = BroadcastReport(taken=("a", "b"), queued=(), skipped=("c",))
    >>> len(report.taken), len(report.skipped)
    (2, 1)
    """

    taken: tuple[Any, ...] = ()
    queued: tuple[Any, ...] = ()
    skipped: tuple[Any, ...] = ()
    elsewhere: Literal["taken", "queued", "skipped"] | None = None


@dataclass(frozen=True)
class Cut:
    """What a server's stop cut off for one client.

    `unsent`: bytes that were accepted for it and that its TCP has not acknowledged. `unhandled`: messages that had come from it and that
    no callback or handler has seen. `running`: its callback or session handler was at work when it was closed, so that what it sent or
    returned after that went nowhere.

    >>> Cut("a client", unhandled=2)
    Cut(client='a client', unsent=0, unhandled=2, running=False)
    """

    client: Any
    unsent: int = 0
    unhandled: int = 0
    running: bool = False


@dataclass(frozen=True)
class StopReport:
    """How a server's stop went. True if the TCP of every client took everything, and the last callback has run.

    `cut`: the clients for which something was cut off, in the order they came. That can be so of a report that is true: what a client
    had sent and nobody has handled is no loss on the way to it.

    >>> import bus
    >>> server = bus.serve("tcp://127.0.0.1:0", on_message=lambda msg, client: msg)
    >>> report = server.stop(drain=5)
    >>> bool(report), report.cut
    (True, ())
    >>> bool(StopReport(False, (Cut("a client", unsent=70),)))
    False
    """

    complete: bool
    cut: tuple[Cut, ...] = ()

    def __bool__(self) -> bool:
        return self.complete

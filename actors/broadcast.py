"""One frame for many clients."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from actors.errors import Broken, BusError
from actors.reports import BroadcastReport

if TYPE_CHECKING:
    from actors.stream import StreamActor

__all__ = ["offer_to_all"]


def offer_to_all(frame: bytes, clients: Iterable[tuple[StreamActor, Any]], *, disconnect: bool) -> BroadcastReport:
    """Give the same bytes to all of `clients`, each with what the report shows for it; who has no room is skipped, and disconnected if so
    wished. Waits for nobody. From any thread.
    """
    taken, queued, skipped = [], [], []
    for actor, client in clients:
        outbox = actor.outbox
        try:
            outcome = outbox.try_send(frame) or outbox.offer(frame)
        except BusError:
            outcome = "queued"  # and its end came before this was told: `unsent` counts it, as of any that waits when the end comes
        if outcome == "taken":
            taken.append(client)
        elif outcome == "queued":
            queued.append(client)
        else:
            skipped.append(client)
            if disconnect and outbox.ended is None:
                reason = Broken(actor.remote_address, "it reads too slowly: its outbox was full at a broadcast")
                actor.loop.call_soon(partial(actor.break_off, reason))
    return BroadcastReport(tuple(taken), tuple(queued), tuple(skipped))

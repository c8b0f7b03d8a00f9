"""One frame for many clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from actors.errors import Broken
from actors.reports import BroadcastReport

if TYPE_CHECKING:
    from actors.stream import StreamActor

__all__ = ["offer_to_all"]


def offer_to_all(
    frame: bytes, clients: Mapping[StreamActor, Any], to: Iterable[StreamActor] | None, *, disconnect: bool
) -> BroadcastReport:
    """Give the same bytes to all of `clients`, or to those of `to`; who has no room is skipped, and disconnected if so wished. Waits for
    nobody. From any thread.
    """
    taken, queued, skipped = [], [], []
    for actor in list(clients) if to is None else to:
        client = clients.get(actor) or (actor.lane.client if actor.lane is not None else None)
        outcome = actor.outbox.offer(frame)
        if outcome == "taken":
            taken.append(client)
        elif outcome == "queued":
            queued.append(client)
        else:
            skipped.append(client)
            if disconnect and actor.outbox.ended is None:
                reason = Broken(actor.remote_address, "it reads too slowly: its outbox was full at a broadcast")
                actor.loop.call_soon(partial(actor.break_off, reason))
    return BroadcastReport(tuple(taken), tuple(queued), tuple(skipped))

"""What a server runs for a client, and for one who is not admitted yet."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actors.errors import BusError, Closed
from actors.message import Message, Sendable

if TYPE_CHECKING:
    from actors.lane import Lane

__all__ = ["NOBODY", "Callbacks", "judging"]

log = logging.getLogger("actorbus.server")


class Callbacks:
    """What a server runs for a client. Only `message` may answer."""

    __slots__ = ("connected", "disconnected", "message")

    def __init__(
        self,
        message: Callable[[Message, Any], Sendable | None],
        connected: Callable[[Any], object] | None = None,
        disconnected: Callable[[Any, BusError], object] | None = None,
    ) -> None:
        self.message = message
        self.connected = connected
        self.disconnected = disconnected


NOBODY = Callbacks(lambda message, client: None)


def judging(authenticate: Callable[[Message, Any], object], lane: Callable[[], Lane], admitted: Callbacks, linger: float) -> Callbacks:
    """Those of a visitor whose first message goes to `authenticate`: it is closed then, or has those of the admitted from there on."""

    def judge(message: Message, client: Any) -> None:
        verdict = False
        try:
            verdict = bool(authenticate(message, client))
        except BaseException:
            log.exception("authenticate raised for %s", message.source)
        if verdict:
            lane().admit(admitted, client)
        else:
            lane().actor.close_from_outside(linger, Closed(message.source, ": authenticate did not admit it"))

    return Callbacks(judge)

"""The callbacks of a server's client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.errors import BusError
from actors.message import Message, Sendable

__all__ = ["NOBODY", "Callbacks"]


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


NOBODY = Callbacks(lambda message, client: None)  # of a client that is not admitted yet

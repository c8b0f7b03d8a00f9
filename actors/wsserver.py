"""The actor of a WebSocket server: a server whose clients have to shake hands first, and whose broadcasts are one frame for all."""

from __future__ import annotations

from typing import Any

from actors.callbacks import NOBODY
from actors.message import Sendable
from actors.server import ServerActor
from actors.websocket import GOING_AWAY, first_byte
from actors.wsframes import build_frame
from actors.wshandshake import Door, Guest

__all__ = ["WebSocketServerActor"]


class WebSocketServerActor(ServerActor):
    """See the module."""

    client_type = Guest

    def __init__(
        self, *sock_and_loop: Any, door: Door, ping_interval: float | None, ping_timeout: float | None, **options: Any
    ) -> None:
        super().__init__(*sock_and_loop, callbacks=NOBODY, make_client=lambda actor: None, **options)
        self.tls = door.tls
        self._options |= {"door": door, "ping_interval": ping_interval, "ping_timeout": ping_timeout}

    def _client_options(self) -> dict[str, Any]:
        return self._options

    def _framed(self, message: Sendable, payload: bytes) -> bytes:
        """Not masked and not compressed, so that the same bytes do for every client."""
        return build_frame(first_byte(message, payload), payload, masked=False)

    def _say_goodbye(self) -> None:
        """Also to those at the door: a handler that returns from now on ends with that code, too."""
        for actor in list(self._present):
            if isinstance(actor, Guest):
                actor.say_goodbye_with(GOING_AWAY, "")

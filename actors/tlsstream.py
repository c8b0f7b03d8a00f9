"""The server's end of a stream connection over TLS: heard of once the handshake is over."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from actors.errors import BusError
from actors.readerthread import ReaderThread
from actors.silence import HANDSHAKE_TIMEOUT
from actors.stream import State, StreamActor
from actors.tls import TlsSocket

__all__ = ["TlsStreamActor"]

log = logging.getLogger("actorbus.listener")


class TlsStreamActor(StreamActor):
    """See the module. `ready(actor)` is called on the reader thread when the handshake is over; `when_ready` sets it."""

    def __init__(
        self,
        sock: socket.socket,
        loop: ReaderThread,
        *,
        context: ssl.SSLContext,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT,
        **options: Any,
    ) -> None:
        wrapped = TlsSocket(sock, context, server_side=True)
        wrapped.on_shaken = self._shaken
        super().__init__(cast(socket.socket, wrapped), loop, handshake_timeout=handshake_timeout, **options)

    def _enter(self) -> None:
        self.silence.expect("TLS handshake")

    def when_ready(self, call: Callable[[StreamActor], object]) -> None:
        self._ready = call

    def _shaken(self) -> None:
        self.silence.awaited = ""
        if self.state is State.OPEN:
            super()._enter()

    def _gone(self, reason: BusError) -> None:
        if self.silence.awaited and self.lane is None:  # of a listener, whose script never hears of it; a server logs it itself
            log.info("%s", reason)
        super()._gone(reason)

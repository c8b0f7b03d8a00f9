"""The server's end of a stream connection over TLS: heard of once the handshake is over."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from actors.errors import Broken, BusError
from actors.http import HANDSHAKE_TIMEOUT
from actors.readerthread import ReaderThread
from actors.stream import State, StreamActor
from actors.tls import TlsSocket

__all__ = ["TlsStreamActor"]

log = logging.getLogger("actorbus.listener")


class TlsStreamActor(StreamActor):
    """See the module. `when_ready(call)` has `call(actor)` called on the reader thread when the handshake is over, before any message."""

    def __init__(
        self,
        sock: socket.socket,
        loop: ReaderThread,
        *,
        context: ssl.SSLContext,
        ready: Callable[[StreamActor], object] | None = None,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        **options: Any,
    ) -> None:
        wrapped = TlsSocket(sock, context, server_side=True)
        wrapped.on_shaken = self._shaken
        self._ready = ready
        self._waiting = True
        self._handshake_timeout = handshake_timeout
        super().__init__(cast(socket.socket, wrapped), loop, **options)

    def on_start(self) -> None:
        super().on_start()
        self.loop.call_later_threadsafe(self._handshake_timeout, self._too_slow)

    def _enter(self) -> None:
        """Not before the handshake is over."""

    def when_ready(self, call: Callable[[StreamActor], object]) -> None:
        self._ready = call

    def _shaken(self) -> None:
        self._waiting = False
        if self._ready is not None and self.state is State.OPEN:
            self._ready(self)

    def _gone(self, reason: BusError) -> None:
        if self._waiting and self.lane is None:  # of a listener, whose script never hears of it; a server logs it itself
            log.info("%s", reason)
        super()._gone(reason)

    def _too_slow(self) -> None:
        if self._waiting:
            self.break_off(Broken(self.remote_address, f"no TLS handshake within {self._handshake_timeout:g} s"))

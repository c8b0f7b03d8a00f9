"""The watch behind a FIN: whether the peer's TCP has taken everything. The kernel tells when it is asked, so it is, less and less often."""

from __future__ import annotations

import socket
from collections.abc import Callable

from actors import sockets
from actors.readerthread import ReaderThread

__all__ = ["ACK_LOOKS", "AckWatch"]

ACK_LOOKS = (0.0002, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)  # seconds from one look to the next; the last one again and again


class AckWatch:
    """Calls `settled(True)` once everything is acknowledged, `settled(False)` once nothing will be; neither when `wanted()` is False by
    then. On the reader thread.
    """

    __slots__ = ("_loop", "_looks", "_settled", "_sock", "_wanted")

    def __init__(self, sock: socket.socket, loop: ReaderThread, wanted: Callable[[], bool], settled: Callable[[bool], object]) -> None:
        self._sock = sock
        self._loop = loop
        self._wanted = wanted
        self._settled = settled
        self._looks = 0

    def look(self) -> None:
        if not self._wanted():
            return
        left = sockets.unacknowledged(self._sock)  # 0 for a Unix socket: what is written is with the peer
        dead = left > 0 and sockets.is_dead(self._sock)
        if dead:
            left = sockets.unacknowledged(self._sock)  # the last acknowledgement may have come between the two
        if left <= 0 or dead:
            self._settled(left <= 0)
            return
        self._loop.call_later(ACK_LOOKS[min(self._looks, len(ACK_LOOKS) - 1)], self.look)
        self._looks += 1

"""What the peer's TCP has not acknowledged, and the watch behind a FIN. The kernel tells when it is asked, less and less often."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from actors import sockets
from actors.readerthread import ReaderThread
from actors.states import State

if TYPE_CHECKING:
    from actors.stream import StreamActor

__all__ = ["ACK_LOOKS", "AckWatch", "in_kernel"]

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


def in_kernel(actor: StreamActor) -> int:
    """Bytes that are with the kernel and that the peer's TCP has not acknowledged, as far as the system tells."""
    fin = actor.state is State.LINGERING  # counted by the system, and no byte
    return max(0, sockets.unacknowledged(actor.reader.sock) - fin)

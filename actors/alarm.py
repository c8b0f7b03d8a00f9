"""The actor of one call at a time to come."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from actors.actor import SocketActor
from actors.errors import BusError, Closed
from actors.readerthread import ReaderThread, Timer
from actors.scope import Scope
from actors.waiting import current

__all__ = ["AlarmActor"]


class _NoSocket:
    def close(self) -> None:
        pass


class AlarmActor(SocketActor):
    """Calls `ring()` once, at the time `due` of `time.monotonic`, on the reader thread, and has ended then. `close_soon` prevents that.

    It keeps the script alive: that of `scope`, or that of the calling thread.
    """

    keeps_alive = True

    def __init__(
        self, sock: _NoSocket, loop: ReaderThread, *, due: float, ring: Callable[[], object], scope: Scope | None = None
    ) -> None:
        super().__init__(loop)
        if scope is not None:
            self.scope = scope
        self._due = due
        self._ring = ring
        self._timer: Timer | None = None

    @classmethod
    def start_at(cls, due: float, ring: Callable[[], object], loop: ReaderThread, scope: Scope | None = None) -> AlarmActor:
        return cls.open(_NoSocket(), loop, due=due, ring=ring, scope=scope)

    def on_start(self) -> None:
        self._timer = self.loop.call_later_threadsafe(self._due - monotonic(), self._rings)

    def _rings(self) -> None:
        if self.actor_stopped.is_set():
            return  # an interrupt before the timer was ours to cancel
        try:
            self._ring()
        finally:
            self.ended()

    def ended(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().ended()

    def close_from_outside(self, linger: float, reason: BusError | None = None) -> Callable[[float | None], bool]:
        answer = self.ask_to_close(reason or Closed(), linger)
        return lambda deadline: current().host is not None or bool(answer.wait(deadline))

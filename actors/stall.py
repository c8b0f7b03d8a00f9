"""The stall watchdog: a peer that takes hardly anything for long would hold our memory for ever, so it is given up."""

from __future__ import annotations

from collections.abc import Callable

from actors.outbox import Outbox
from actors.readerthread import ReaderThread, Timer

__all__ = ["STALL_TIMEOUT", "StallWatch"]

STALL_TIMEOUT = 20.0
STALL_BYTES = 1024  # a peer that takes less than this in that time is as good as dead


class StallWatch:
    """Calls `stalled(phrase)` when the kernel took less than STALL_BYTES in `timeout` seconds while more waited. On the reader thread."""

    __slots__ = ("_loop", "_outbox", "_stalled", "_timeout", "_timer", "_written")

    def __init__(self, outbox: Outbox, loop: ReaderThread, timeout: float | None, stalled: Callable[[str], None]) -> None:
        self._outbox = outbox
        self._loop = loop
        self._timeout = timeout
        self._stalled = stalled
        self._timer: Timer | None = None
        self._written = 0

    def begin(self) -> None:
        """Something waits."""
        if self._timer is None and self._timeout is not None:
            self._written = self._outbox.written
            self._timer = self._loop.call_later(self._timeout, self._check)

    def cancel(self) -> None:
        """For good."""
        self._timeout = None
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        self._timer = None
        waiting = len(self._outbox)
        if not waiting:
            return
        if self._outbox.written - self._written < STALL_BYTES:
            self._stalled(f"the peer has not read for {self._timeout:g} s, with {waiting} bytes waiting")
        else:
            self.begin()

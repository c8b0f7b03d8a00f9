"""What a command of ours shows: messages on stdout, and on stderr how far it has come."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import BinaryIO

import bus
from adapters.progress import Progress

__all__ = ["Screen"]

REDRAW = 0.2  # seconds between two looks at the display while nothing comes


class Screen:
    """`show` makes the bytes to print of a message and of when it came. One thread's. Raises BrokenPipeError when nobody reads stdout."""

    def __init__(self, show: Callable[[bus.Message, float], bytes], progress: Progress | None) -> None:
        self._show = show
        self._progress = progress
        self._out: BinaryIO = sys.stdout.buffer
        self._sent = 0
        self._received = 0

    def put(self, message: bus.Message, when: float) -> None:
        """Print it; sooner or later, unless `flush` follows."""
        if self._progress is not None and self._out.isatty():
            self._progress.close()  # the two would write over each other
            self._progress = None
        self._out.write(self._show(message, when))

    def flush(self) -> None:
        """Have what was printed seen."""
        self._out.flush()

    def count(self, *, sent: int, received: int) -> None:
        """So many bytes went out and came in by now."""
        self._sent, self._received = sent, received
        if self._progress is not None:
            self._progress.show(monotonic(), sent, received)

    def patience(self, deadline: float | None) -> float | None:
        """How long to wait for what comes next (seconds; None: for ever) before `count` has to be called, or the deadline is there."""
        seconds = None if deadline is None else max(0.0, deadline - monotonic())
        if self._progress is None:
            return seconds
        return REDRAW if seconds is None else min(seconds, REDRAW)

    def close(self) -> None:
        """Nothing more comes."""
        if self._progress is not None:
            self._progress.show(monotonic(), self._sent, self._received)
            self._progress.close()
        self._out.flush()

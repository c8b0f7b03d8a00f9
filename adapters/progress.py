"""How far a long transfer has come, for who watches stderr: with tqdm (the extra `cli`), and without it nothing.

It is shown where stderr is a terminal and the talk is not one between terminals, from the second second on. What is printed on a terminal
ends it: the two would write over each other.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from time import monotonic
from typing import Any

__all__ = ["Progress", "expected", "make_progress", "wanted"]

AFTER = 1.0  # seconds; what is over by then needs no display


def wanted(stdin_terminal: bool, stdout_terminal: bool, stderr_terminal: bool) -> bool:
    """Whether somebody watches a transfer, and not a conversation.

    >>> wanted(False, True, True), wanted(True, True, True), wanted(False, False, False)
    (True, False, False)
    """
    return stderr_terminal and not (stdin_terminal and stdout_terminal)


def expected(descriptor: int | None) -> int | None:
    """How many bytes are still to be read from a regular file; None where nobody can say."""
    try:
        if descriptor is None or not stat.S_ISREG((found := os.fstat(descriptor)).st_mode):
            return None
        return max(0, found.st_size - os.lseek(descriptor, 0, os.SEEK_CUR))
    except OSError:
        return None


class Progress:
    """Two counts that grow. `bar(desc, total)` makes what shows one."""

    def __init__(self, total: int | None, bar: Any, began: float) -> None:
        self._bar = bar
        self._since = began + AFTER
        self._bars: dict[str, Any] = {}
        self._totals = {"sent": total}

    def show(self, now: float, sent: int, received: int) -> None:
        """So many bytes have gone out, and come in, by now."""
        if now < self._since:
            return
        for name, count in (("sent", sent), ("received", received)):
            if not count:
                continue
            if name not in self._bars:
                self._bars[name] = self._bar(name, self._totals.get(name))
            bar = self._bars[name]
            bar.update(count - bar.n)

    def close(self) -> None:
        """Show nothing more; what was shown last stays."""
        self._since = float("inf")
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()


def make_progress(source: int | None) -> Progress | None:
    """A display of a transfer that begins now, from the descriptor `source`; None where nobody would look at it, or tqdm is not there."""
    terminals = [stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr)]
    if not wanted(source is not None and os.isatty(source), *terminals):
        return None
    from importlib.util import find_spec

    return Progress(expected(source), _bar, monotonic()) if find_spec("tqdm") is not None else None


def _bar(name: str, total: int | None) -> Any:
    from tqdm import tqdm  # only now: most transfers are over before

    tqdm.monitor_interval = 0  # no thread of its own
    tqdm.set_lock(threading.RLock())  # its own would take a semaphore of the system's
    return tqdm(desc=name, total=total, unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr, dynamic_ncols=True)

"""The keeper: one thread for the process that watches how long callbacks take.

It sleeps without a timeout while no callbacks run; while some do, it looks every 10 ms. `PATIENCE` is how long a callback may hold up the
loop it runs on before another thread takes the loop over. Where that happens again and again, it is less, down to `LEAST` of it, and the
keeper looks as much more often (`less`, `more`): so all slow callbacks together hold up a loop for a seventh of the time, and not for all.
"""

from __future__ import annotations

import logging
import os
import threading
from time import monotonic
from typing import TYPE_CHECKING

from actors import crew

if TYPE_CHECKING:
    from actors.readerthread import ReaderThread

__all__ = ["PATIENCE", "add", "asleep", "forget", "less", "more", "watch"]

log = logging.getLogger("actorbus.engine")

PATIENCE = 0.02
LEAST = 1 / 40  # half a millisecond: a change of threads costs a good part of that
CALM = 1.05  # with every look that finds nothing slow
LOOK_SECONDS = 0.01

asleep = True  # read by every serve, before it is worth a call
_awake = threading.Event()
_loops: set[ReaderThread] = set()
_running = False
_lock = threading.Lock()


def add(loop: ReaderThread) -> None:
    """A loop begins. Not left to its first callback: that one does not call when it finds the keeper awake for another loop's sake."""
    with _lock:
        _loops.add(loop)


def watch(loop: ReaderThread) -> None:
    """A callback starts on `loop`, and nobody is looking."""
    global asleep, _running
    with _lock:
        _loops.add(loop)
        asleep = False
        if not _running:
            _running = crew.run(_keep)
            asleep = not _running
    _awake.set()


def forget(loop: ReaderThread) -> None:
    """`loop` has ended."""
    with _lock:
        _loops.discard(loop)
    _awake.set()


def less(patience: float) -> float:
    """What is left of it (1: all) behind a callback that did not come back in time."""
    return max(LEAST, patience / 2)


def more(patience: float) -> float:
    """Behind a look that found nothing slow."""
    return min(1.0, patience * CALM)


def _keep() -> None:
    while True:
        try:
            _look_after_loops()
            return
        except BaseException:
            log.critical("the keeper was ended by force; it goes on", exc_info=True)


def _look_after_loops() -> None:
    """Until there is no loop any more."""
    global asleep, _running
    while True:
        with _lock:
            loops = list(_loops)
            if not loops:
                _running = False
                asleep = True
                return
            # A serve that reads `asleep` after this line wakes us; one that read it before has set its lane, and we see that below.
            asleep = True
        now = monotonic()
        busy = [loop.check(now) for loop in loops]
        if not any(busy):
            _awake.wait()
            _awake.clear()
        else:
            asleep = False
            _awake.clear()
            threading.Event().wait(LOOK_SECONDS * min(loop.patience for loop in loops))


def _after_fork() -> None:
    global asleep, _awake, _lock, _running
    _lock = threading.Lock()
    _awake = threading.Event()
    _loops.clear()
    _running = False
    asleep = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

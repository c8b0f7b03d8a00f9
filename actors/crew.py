"""The engine's spare threads.

`run(work)` gives work to a parked thread or starts one; a thread that found no work for a second ends. All are daemons: whether the
interpreter may exit is the program's business, and `shutdown` has its own deadline.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from itertools import count
from queue import Empty, SimpleQueue
from time import monotonic

__all__ = ["IDLE_SECONDS", "dismiss", "run", "threads"]

log = logging.getLogger("actorbus.engine")

IDLE_SECONDS = 1.0

Work = Callable[[], object]
_lock = threading.Lock()
_parked: list[SimpleQueue[Work]] = []
_threads: set[threading.Thread] = set()
_dismissed: set[threading.Thread] = set()  # those of them that leave instead of parking
_numbers = count(1)


def run(work: Work) -> bool:
    """Have `work()` done on another thread. False, with a warning, when the system gives us none."""
    with _lock:
        if _parked:
            _parked.pop().put(work)
            return True
    inbox: SimpleQueue[Work] = SimpleQueue()
    inbox.put(work)
    thread = threading.Thread(target=_live, args=(inbox,), name=f"actorbus-{next(_numbers)}", daemon=True)
    with _lock:  # before it starts, so that whoever dismisses knows of it
        _threads.add(thread)
    try:
        thread.start()
    except RuntimeError as exc:  # out of threads, or the interpreter is exiting (Python 3.12)
        with _lock:
            _threads.discard(thread)
        level = logging.DEBUG if "shutdown" in str(exc) else logging.WARNING  # at the interpreter's end that is no news
        log.log(level, "no thread to be had (%s): going on with those there are", exc)
        return False
    return True


def _live(inbox: SimpleQueue[Work]) -> None:
    thread = threading.current_thread()
    try:
        while True:
            try:
                work = inbox.get(timeout=IDLE_SECONDS)
            except Empty:
                with _lock:
                    if inbox in _parked:
                        _parked.remove(inbox)
                        return
                continue  # somebody has just taken us off the list: work is on its way
            try:
                work()
            except _Leave:
                return
            except BaseException:
                log.exception("a job of the engine failed")
            del work
            with _lock:
                if thread in _dismissed:
                    return
                _parked.append(inbox)
    finally:
        with _lock:
            if inbox in _parked:  # something was thrown into it
                _parked.remove(inbox)
            _threads.discard(thread)
            _dismissed.discard(thread)


def dismiss(timeout: float) -> None:
    """Have the parked threads end now and the others after their work; wait for all, `timeout` seconds at most."""
    deadline = monotonic() + timeout
    with _lock:
        inboxes = list(_parked)
        _parked.clear()
        _dismissed.update(_threads)
        waited_for = list(_threads)
    for inbox in inboxes:
        inbox.put(_leave)
    for thread in waited_for:
        if thread.is_alive() and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - monotonic()))


class _Leave(Exception):
    pass


def _leave() -> None:
    raise _Leave


def threads() -> list[threading.Thread]:
    """Those that live now, parked ones included."""
    with _lock:
        return list(_threads)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _parked.clear()
    _threads.clear()
    _dismissed.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""Which reader threads there are, and how all of it ends."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Any

from actors import crew, keeper
from actors.ending import at_exit
from actors.readerthread import ReaderThread

if TYPE_CHECKING:
    from actors.actor import SocketActor

__all__ = ["BEFORE_FORK", "dedicated", "end_last", "is_a", "is_shared", "live_actors", "release", "shared", "shutdown", "vacated"]

log = logging.getLogger("actorbus.engine")

SHUTDOWN_SECONDS = 5.0
BEFORE_FORK = "it was opened before a fork and belongs to the parent process; open it again in the child"

_lock = threading.Lock()
_shared: ReaderThread | None = None
_loops: set[ReaderThread] = set()
_last: list[Callable[[float], bool]] = []  # what ends after the actors: it carries what they still say
_released: set[ReaderThread] = set()  # given back, and still hosting somebody: a connection outlives the listener it came from


def shared() -> ReaderThread:
    """The reader thread that serves the process unless somebody asks for another. Raises RuntimeError when no thread can be had."""
    global _shared
    with _lock:
        if _shared is None:
            loop = ReaderThread()
            if not loop.start():
                loop.discard()
                raise RuntimeError("actorbus cannot start its reader thread: the system gives no more threads")
            _shared = loop
            _loops.add(loop)
            keeper.add(loop)
        return _shared


def dedicated() -> ReaderThread:
    """A reader thread of one's own, to be given back with `release`; the shared one when no thread can be had."""
    loop = ReaderThread()
    if not loop.start():
        loop.discard()
        return shared()
    with _lock:
        _loops.add(loop)
    keeper.add(loop)
    return loop


def is_shared(loop: ReaderThread) -> bool:
    return loop is _shared


def release(loop: ReaderThread) -> None:
    """End a dedicated reader thread as soon as it hosts nobody. On any thread."""
    with _lock:
        if loop is _shared:
            return
        if loop.hosted:
            _released.add(loop)
            return
        _released.discard(loop)
        _loops.discard(loop)
    loop.stop()


def vacated(loop: ReaderThread) -> None:
    """An actor has left the loop."""
    if loop is _shared:
        return
    with _lock:
        released = loop in _released
    if released:
        release(loop)


def end_last(close: Callable[[float], bool]) -> None:
    """Have every `shutdown` call `close(seconds)` when all actors have closed. It returns whether all that was taken got out."""
    _last.append(close)


def live_actors() -> list[SocketActor]:
    """The oldest first: a server before its clients."""
    # Copies in single C calls: a signal handler may ask.
    return sorted((actor for loop in list(_loops) for actor in list(loop.hosted)), key=attrgetter("born"))


def is_a(actor: Any, kind: str) -> bool:
    """`isinstance` of an actor, without the import of a class that there may be no actor of."""
    return any(one.__name__ == kind for one in type(actor).__mro__)


def shutdown(timeout: float | None = SHUTDOWN_SECONDS) -> bool:
    """Close everything that is open, the oldest first, and end the engine's threads. Returns whether all that was accepted for sending got
    out in time.

    Outboxes are flushed until the timeout (seconds; None takes the default). The library can be used again afterwards.
    """
    global _shared
    deadline = monotonic() + (SHUTDOWN_SECONDS if timeout is None else timeout)
    in_order = True
    asked: set[SocketActor] = set()
    while actors := [actor for actor in live_actors() if actor not in asked]:  # again, for what a callback opened meanwhile
        asked.update(actors)
        waits = [actor.close_from_outside(max(0.0, deadline - monotonic())) for actor in actors]
        for wait in reversed(waits):  # the last to be asked ends last, as a rule: this thread is woken once, and not by each
            in_order = wait(deadline) and in_order
    for close in _last:
        in_order = close(max(0.0, deadline - monotonic())) and in_order
    with _lock:
        loops, _shared = list(_loops), None
        _loops.clear()
        _released.clear()
    for loop in loops:
        loop.stop()
    for loop in loops:
        loop.stopped.wait(max(0.1, deadline - monotonic()))
    crew.dismiss(max(0.1, deadline - monotonic()))
    return in_order


def _after_fork() -> None:
    global _lock, _shared
    loops = list(_loops)
    _lock = threading.Lock()
    _shared = None
    _loops.clear()
    _released.clear()
    if loops:
        from actors import forking  # it knows every kind of actor, and they know this module

        forking.disown(loops)


at_exit(shutdown)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""Threads that a script starts work for it: they print, import and open things in its name, and it waits for them.

As under plain Python a script goes on while a non-daemon thread of its runs. A pool's workers are not waited for:
they end only with the interpreter, or with the pool, and whoever wants the results waits for those.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from time import monotonic

from actors import scope
from actors.scope import Scope

__all__ = ["Threads"]

# Who starts a thread in one of these does so for the process, not for the script that happened to call.
ENGINE = frozenset({"actors", "bus", "pykka"})
POOL = "concurrent.futures.thread"


class _Running:
    """A thread as its script's scope holds it."""

    def __init__(self, owner: Scope, *, keeps_alive: bool) -> None:
        self.owner = owner
        self.keeps_alive = keeps_alive

    def close_soon(self) -> None:
        """A thread cannot be closed. What it waits for can, and is."""


class Threads:
    """Which threads each script has started that have not ended. The dict belongs to the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[threading.Thread, _Running] = {}

    def of(self, owner: Scope) -> list[threading.Thread]:
        return [thread for thread, running in self._now() if running.owner is owner]

    def join(self, owner: Scope, timeout: float | None = None) -> None:
        """Wait for those that would have kept the script alive, until they have ended or the timeout has."""
        deadline = None if timeout is None else monotonic() + timeout
        for thread, running in self._now():
            if running.owner is owner and running.keeps_alive:
                thread.join(None if deadline is None else max(0.0, deadline - monotonic()))

    def _now(self) -> list[tuple[threading.Thread, _Running]]:
        with self._lock:
            return list(self._running.items())

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """Within: `Thread.start` hands the starter's scope on."""
        plain_start = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            owner = scope.current()
            starter = sys._getframe(1).f_globals.get("__name__", "")
            # A thread that was started before is Python's to refuse.
            if owner is None or starter.partition(".")[0] in ENGINE or thread.ident is not None:
                plain_start(thread)
                return
            running = _Running(owner, keeps_alive=not thread.daemon and starter != POOL)
            self._lend(thread, running)
            try:
                plain_start(thread)
            except BaseException:
                self._ended(thread, running)
                raise

        threading.Thread.start = start  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            threading.Thread.start = plain_start  # type: ignore[method-assign]

    def _lend(self, thread: threading.Thread, running: _Running) -> None:
        work = thread.run

        def run() -> None:
            scope.enter(running.owner)
            try:
                work()
            except SystemExit:
                pass
            except KeyboardInterrupt:
                pass  # somebody ended the script; nothing went wrong here
            except BaseException as error:
                # Reported here and not above, where the scope would be forgotten before the traceback is out.
                _report(thread, error)
            finally:
                self._ended(thread, running)

        thread.run = run  # type: ignore[method-assign]
        with self._lock:
            self._running[thread] = running
        running.owner.add(running)

    def _ended(self, thread: threading.Thread, running: _Running) -> None:
        vars(thread).pop("run", None)  # it holds the thread that holds it
        with self._lock:
            self._running.pop(thread, None)
        running.owner.discard(running)


def _report(thread: threading.Thread, error: BaseException) -> None:
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next  # the first frame is ours
    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, thread)))

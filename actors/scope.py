"""Which script a thread works for, and what that script opened.

The runner gives every script a `Scope`; without a runner there is none, and `current()` is None everywhere. The
engine files what it starts under the scope of the thread that asked for it, and enters that scope around the script's
callbacks.

Guarantees
- `current()` and `enter()` cost one look at a thread-local; no lock.
- A scope holds each object until `discard`, so that an actor to which only weak references exist lives as long as it
  is open.
- Once `close()` was called nothing stays open in the scope's name: what is added later is asked to close at once.
- `wait()` sleeps on a condition until there is a reason to wake; nothing polls.

Every field belongs to the scope's condition. Of the objects only `keeps_alive` is looked at while it is held; it has
to be a plain attribute, or a property that takes no lock. `close_soon` is called without it. The lock is re-entrant:
a finalizer may discard while its own thread is inside.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

__all__ = ["Held", "Scope", "current", "enter"]


class Held(Protocol):
    """What a scope holds: an actor, as a rule."""

    @property
    def keeps_alive(self) -> bool:
        """Whether the script goes on for this object's sake although its code has returned."""
        ...

    def close_soon(self) -> None:
        """Ask for a close in order, without waiting for it."""
        ...


class Scope:
    """What one script opened. Any thread may call any method; `wait` is for the script's own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._changed = threading.Condition()
        self._held: dict[int, Held] = {}  # by id: objects need be neither hashable nor unequal
        self._alive: set[int] = set()  # the keys of those that keep the script alive, so that no change costs a scan
        self._calls: deque[Callable[[], object]] = deque()
        self._stopping = False
        self._over = False

    def __repr__(self) -> str:
        return f"<Scope {self.name}: {len(self._held)} open, {len(self._alive)} keep it alive>"

    def add(self, held: Held) -> None:
        """File something the script opened. It has to be discarded when it has ended."""
        with self._changed:
            self._held[id(held)] = held
            self._file(held)
            over = self._over
        if over:
            held.close_soon()

    def refile(self, held: Held) -> None:
        """Look again at `held.keeps_alive`, which has changed. Nothing happens if it was discarded meanwhile."""
        with self._changed:
            if id(held) in self._held:
                self._file(held)

    def discard(self, held: Held) -> None:
        """Forget what has ended. Doing so twice is nothing."""
        with self._changed:
            self._held.pop(id(held), None)
            self._alive.discard(id(held))
            if not self._alive:
                self._changed.notify_all()

    def _file(self, held: Held) -> None:
        if held.keeps_alive:
            self._alive.add(id(held))
            return
        self._alive.discard(id(held))
        if not self._alive:
            self._changed.notify_all()

    @property
    def kept_alive(self) -> bool:
        """Whether the script owns something that keeps it alive."""
        return bool(self._alive)

    @property
    def stopping(self) -> bool:
        """Whether the script was told to stop."""
        return self._stopping

    def post(self, call: Callable[[], object]) -> bool:
        """Have `call` run on the script's own thread once its code has returned, first come, first served.

        False once nobody will run it any more. The queue has no bound of its own: who posts for every message keeps
        them in a bounded queue, and posts one call that drains it.
        """
        with self._changed:
            if self._over or self._stopping:
                return False
            self._calls.append(call)
            self._changed.notify_all()
            return True

    def run_posted(self) -> bool:
        """Run one call that was posted, without waiting for any. False when there is none. What it raises comes out here."""
        with self._changed:
            if not self._calls:
                return False
            call = self._calls.popleft()
        call()
        return True

    @property
    def idle(self) -> bool:
        """Whether no call waits to be run."""
        return not self._calls

    def wait(self) -> None:
        """Run what was posted until nothing keeps the script alive. What a call raises comes out here.

        KeyboardInterrupt if the script was told to stop while something still kept it alive.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._calls or not self._alive)
                if self._stopping and self._alive:
                    raise KeyboardInterrupt
                if self._stopping or not self._calls:
                    return
                call = self._calls.popleft()
            call()

    def stop(self) -> None:
        """Have `wait` raise KeyboardInterrupt, now or when it is called."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def close(self) -> None:
        """The script is over: ask everything it left open to close, oldest first, and forget what was posted."""
        with self._changed:
            self._over = True
            self._calls.clear()
            left = list(self._held.values())
        for held in left:
            held.close_soon()


class _Here(threading.local):
    scope: Scope | None = None


_here = _Here()


def current() -> Scope | None:
    """The scope of the script for which the calling thread works."""
    return _here.scope


def enter(scope: Scope | None) -> Scope | None:
    """From here on the calling thread works for `scope`. Returns what it worked for before, to be entered again."""
    previous = _here.scope
    _here.scope = scope
    return previous

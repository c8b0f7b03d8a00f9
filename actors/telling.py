"""How a script hears that its link or its server is lost, back, or over: `on_state(state, reason)`.

It is called on a spare thread, one call after the other, in the scope of the script that gave it, and may do what it likes there: what
happens meanwhile waits, up to `MAX_STATES`. "closed" is the last word. `_lock` owns the queue.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Literal, TypeAlias

from actors import crew, scope
from actors.errors import BusError
from actors.scope import Scope

__all__ = ["LinkState", "OnState", "Teller"]

MAX_STATES = 100  # that wait to be told; the oldest go

LinkState = Literal["reconnecting", "connected", "closed"]
OnState: TypeAlias = Callable[[LinkState, BusError | None], object]


class Teller:
    """See the module. Without `on_state` it tells nobody. `address()` is for the log."""

    def __init__(self, on_state: OnState | None, whose: Scope | None, address: Callable[[], str], log: logging.Logger) -> None:
        self._on_state = on_state
        self._scope = whose
        self._address = address
        self._log = log
        self._lock = Lock()
        self._states: deque[tuple[LinkState, BusError | None]] = deque(maxlen=MAX_STATES)
        self._telling = False
        self._over = False

    def tell(self, state: LinkState, reason: BusError | None) -> None:
        """Have it told. From any thread; waits for nothing."""
        if self._on_state is None:
            return
        with self._lock:
            if self._over:
                return
            self._over = state == "closed"
            self._states.append((state, reason))
            start = not self._telling
            self._telling = True
        if start and not crew.run(self._tell_all):
            self._telling = False  # the next one tells this one, too

    def _tell_all(self) -> None:
        previous = scope.enter(self._scope)
        try:
            while (told := self._next()) is not None:
                state, reason = told
                try:
                    assert self._on_state is not None
                    self._on_state(state, reason)
                except BaseException:
                    self._log.exception("on_state failed on %r for %s", state, self._address())
        finally:
            scope.enter(previous)

    def _next(self) -> tuple[LinkState, BusError | None] | None:
        with self._lock:
            self._telling = bool(self._states)
            return self._states.popleft() if self._states else None

    def after_fork(self) -> None:
        """In the child: it is told nothing."""
        self._lock = Lock()
        self._states.clear()
        self._over = True

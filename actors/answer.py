"""A value that one thread gives and others wait for."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

from actors.waiting import Waiter, current

__all__ = ["Answer", "Call", "Tally"]

T = TypeVar("T")


class Answer(Generic[T]):
    """A value that one thread will give and others wait for. The first `set` counts."""

    __slots__ = ("_lock", "_value", "_waiters", "given")

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiters: list[Waiter] = []
        self._value: T | None = None
        self.given = False

    def set(self, value: T) -> None:
        with self._lock:
            if not self.given:
                self._value = value
                self.given = True
            self._unpark_all()

    def _unpark_all(self) -> None:
        for waiter in self._waiters:
            waiter.unpark()
        self._waiters.clear()

    def wait(self, deadline: float | None) -> T | None:
        """The value; None when the deadline came first."""
        waiter = current()
        with self._lock:
            if not self.given and waiter not in self._waiters:  # once, however often it waits with a timeout
                self._waiters.append(waiter)
        while not self.given:
            if deadline is not None and monotonic() >= deadline:
                return None
            waiter.wait(deadline, on=self)
        return self._value


class Tally(Answer[bool]):
    """The answer of `count` together, who each set it once: given by the last of them, and True if all said so."""

    __slots__ = ("_all", "_missing")

    def __init__(self, count: int) -> None:
        super().__init__()
        self._missing = count
        self._all = True

    def set(self, value: bool) -> None:
        with self._lock:
            self._missing -= 1
            self._all = self._all and value
            last = not self._missing
        if last:
            super().set(self._all)


class Call(Answer[bool]):
    """An answer that calls somebody instead of being waited for."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__()
        self._call = call

    def set(self, value: bool) -> None:
        if not self.given:
            super().set(value)
            self._call()

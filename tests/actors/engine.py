"""A reader thread of a test's own, and a small actor to put on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from actors import keeper
from actors.actor import SocketActor
from actors.answer import Answer
from actors.readerthread import ReaderThread
from actors.waiting import deadline_after

__all__ = ["BOUND", "Notebook", "held", "in_thread", "joined", "on_loop", "reader_thread", "settle"]

BOUND = 30.0  # what would wait for ever ends here instead

T = TypeVar("T")


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def joined(thread: threading.Thread) -> bool:
    thread.join(BOUND)
    return not thread.is_alive()


@contextmanager
def reader_thread() -> Iterator[ReaderThread]:
    """One that runs, and has ended when the block is left."""
    loop = ReaderThread()
    assert loop.start()
    keeper.add(loop)
    try:
        yield loop
    finally:
        loop.stop()
        assert loop.stopped.wait(BOUND), "the reader thread does not end"


def on_loop(loop: ReaderThread, call: Callable[[], T]) -> T:
    """Have it done on the reader thread, and wait for what it gives."""
    answer: Answer[tuple[T | None, BaseException | None]] = Answer()

    def task() -> None:
        try:
            answer.set((call(), None))
        except BaseException as exc:
            answer.set((None, exc))

    loop.call_soon(task)
    outcome = answer.wait(deadline_after(BOUND))
    assert outcome is not None, "the reader thread does not come to it"
    value, error = outcome
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def settle(loop: ReaderThread) -> None:
    """Return once everything that was asked for before has been done."""
    on_loop(loop, lambda: None)


@contextmanager
def held(loop: ReaderThread) -> Iterator[None]:
    """The reader thread stands still inside the block, so that things can be put in its way."""
    stands, go_on = threading.Event(), threading.Event()

    def stand() -> None:
        stands.set()
        assert go_on.wait(BOUND)

    loop.call_soon(stand)
    assert stands.wait(BOUND)
    try:
        yield
    finally:
        go_on.set()


class Notebook(SocketActor):
    """Writes down what it gets. A callable message is called, and what that gives is the reply."""

    def __init__(self, loop: ReaderThread, **options: Any) -> None:
        super().__init__(loop, **options)
        self.got: list[Any] = []
        self.failures: list[BaseException | None] = []
        self.stops = 0
        self.cover = "red"
        self.threads: set[threading.Thread] = set()

    def on_receive(self, message: Any) -> Any:
        self.threads.add(threading.current_thread())
        self.got.append(message)
        return message() if callable(message) else message

    def on_stop(self) -> None:
        self.stops += 1

    def failed(self, exc: BaseException | None) -> None:
        self.failures.append(exc)
        super().failed(exc)

    def paint(self, colour: str) -> str:
        previous, self.cover = self.cover, colour
        return previous

    def tear(self) -> None:
        raise LookupError("torn")

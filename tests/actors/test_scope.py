"""A scope: which script a thread works for, what that script opened, and when it is over."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from actors import scope
from actors.scope import Scope

LIMIT = 30.0


class Opened:
    def __init__(self, keeps_alive: bool = False) -> None:
        self.keeps_alive = keeps_alive
        self.asked_to_close = 0

    def close_soon(self) -> None:
        self.asked_to_close += 1


class Waiting(threading.Thread):
    """A script's thread in `wait`; it says what came out."""

    def __init__(self, owner: Scope) -> None:
        super().__init__(daemon=True)
        self.owner = owner
        self.result: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.owner.wait()
        except BaseException as error:
            self.result = error

    def finish(self) -> BaseException | None:
        self.join(LIMIT)
        assert not self.is_alive()
        return self.result


def test_a_thread_works_for_nobody_until_it_enters_a_scope() -> None:
    one, two = Scope("one"), Scope("two")
    assert scope.current() is None
    assert scope.enter(one) is None
    try:
        assert scope.enter(two) is one
        seen: list[Scope | None] = []
        other = threading.Thread(target=lambda: seen.append(scope.current()))
        other.start()
        other.join(LIMIT)
        assert seen == [None]
        assert scope.current() is two
    finally:
        scope.enter(None)
    assert scope.current() is None


def test_waiting_ends_at_once_where_nothing_keeps_the_script_alive() -> None:
    owner = Scope("script")
    owner.add(Opened())
    owner.wait()
    assert not owner.kept_alive


@pytest.mark.parametrize("end", [Scope.discard, Scope.refile, Scope.add])
def test_waiting_ends_with_the_last_that_kept_it_alive(end: Callable[[Scope, Opened], None]) -> None:
    owner, first, last = Scope("script"), Opened(True), Opened(True)
    owner.add(first)
    owner.add(last)
    waiting = Waiting(owner)
    owner.discard(first)
    owner.discard(first)
    assert owner.kept_alive
    last.keeps_alive = False
    end(owner, last)
    assert waiting.finish() is None


def test_what_was_discarded_is_not_brought_back() -> None:
    owner, held = Scope("script"), Opened(True)
    owner.add(held)
    owner.discard(held)
    owner.refile(held)
    owner.wait()
    assert "0 open" in repr(owner)


def test_calls_run_in_order_on_the_thread_that_waits() -> None:
    owner, held = Scope("script"), Opened(True)
    owner.add(held)
    ran: list[tuple[int, int]] = []

    def call(number: int) -> Callable[[], object]:
        return lambda: ran.append((number, threading.get_ident()))

    assert owner.post(call(1))
    waiting = Waiting(owner)
    assert owner.post(call(2))
    assert owner.post(lambda: owner.discard(held))
    assert waiting.finish() is None
    assert ran == [(1, waiting.ident), (2, waiting.ident)]


def test_a_call_that_was_posted_in_time_runs_although_nothing_keeps_the_script_alive() -> None:
    owner, ran = Scope("script"), threading.Event()
    owner.post(ran.set)
    owner.wait()
    assert ran.is_set()


def test_calls_can_be_run_one_by_one_without_waiting() -> None:
    owner, ran = Scope("script"), list[int]()
    assert owner.idle
    assert not owner.run_posted()
    for number in (1, 2):
        owner.post(lambda number=number: ran.append(number))  # type: ignore[misc]
    assert not owner.idle
    assert owner.run_posted()
    assert ran == [1]
    assert owner.run_posted()
    assert not owner.run_posted()
    assert ran == [1, 2]


def test_what_a_call_raises_ends_the_wait() -> None:
    owner = Scope("script")
    owner.add(Opened(True))
    waiting = Waiting(owner)

    def leave() -> None:
        raise SystemExit(3)

    owner.post(leave)
    assert isinstance(waiting.finish(), SystemExit)


@pytest.mark.parametrize("before", [True, False])
def test_stop_ends_the_wait_with_keyboard_interrupt(before: bool) -> None:
    owner = Scope("script")
    owner.add(Opened(True))
    if before:
        owner.stop()
    waiting = Waiting(owner)
    owner.stop()
    assert isinstance(waiting.finish(), KeyboardInterrupt)
    assert not owner.post(print)


def test_a_script_that_was_over_anyway_is_not_interrupted() -> None:
    owner = Scope("script")
    owner.stop()
    owner.wait()


def test_close_asks_everything_to_close_and_also_what_comes_late() -> None:
    owner, early, late = Scope("script"), Opened(True), Opened()
    owner.add(early)
    owner.close()
    assert (early.asked_to_close, owner.kept_alive) == (1, True)  # held until it has ended
    owner.add(late)
    assert late.asked_to_close == 1
    owner.discard(early)
    assert not owner.kept_alive
    assert not owner.post(print)


def test_objects_are_told_apart_that_say_they_are_equal() -> None:
    class Equal(Opened):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    owner, one, two = Scope("script"), Equal(True), Equal(True)
    owner.add(one)
    owner.add(two)
    owner.discard(one)
    assert owner.kept_alive


def test_an_object_may_close_itself_when_asked() -> None:
    owner = Scope("script")

    class Quick(Opened):
        def close_soon(self) -> None:
            owner.discard(self)

    owner.add(Quick(True))
    owner.add(Quick(True))
    owner.close()
    assert not owner.kept_alive

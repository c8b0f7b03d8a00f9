"""Answers: the first counts, and all who wait hear of it."""

from __future__ import annotations

from time import monotonic

from actors.answer import Answer, Call, Tally
from tests.actors.engine import BOUND, in_thread, joined


def test_an_answer_given_before_is_there_at_once() -> None:
    answer: Answer[int] = Answer()
    assert answer.wait(monotonic()) is None
    answer.set(1)
    answer.set(2)
    assert answer.given
    assert answer.wait(None) == answer.wait(monotonic()) == 1


def test_an_answer_wakes_all_who_wait() -> None:
    answer: Answer[int] = Answer()
    got: list[int | None] = []
    threads = [in_thread(lambda: got.append(answer.wait(monotonic() + BOUND))) for _ in range(5)]
    answer.set(7)
    assert all(joined(thread) for thread in threads)
    assert got == [7] * 5


def test_of_many_who_answer_one_counts() -> None:
    answer: Answer[int] = Answer()
    threads = [in_thread(lambda number=number: answer.set(number)) for number in range(8)]  # type: ignore[misc]
    assert all(joined(thread) for thread in threads)
    assert answer.wait(None) == answer.wait(None)
    assert answer.wait(None) in range(8)


def test_one_that_calls_does_so_once() -> None:
    calls: list[None] = []
    call = Call(lambda: calls.append(None))
    call.set(True)
    call.set(False)
    assert call.wait(None) is True
    assert calls == [None]


def test_several_answer_together_with_the_last_of_them() -> None:
    tally = Tally(3)
    tally.set(True)
    tally.set(True)
    assert not tally.given
    tally.set(True)
    assert tally.wait(monotonic()) is True


def test_together_they_say_so_only_if_each_did() -> None:
    for odd in range(3):
        tally = Tally(3)
        for number in range(3):
            tally.set(number != odd)
        assert tally.wait(monotonic()) is False


def test_whoever_is_the_last_the_one_who_waits_hears_of_it() -> None:
    tally = Tally(8)
    waiting = in_thread(lambda: tally.wait(monotonic() + BOUND))
    threads = [in_thread(lambda: tally.set(True)) for _ in range(8)]
    assert all(joined(thread) for thread in (*threads, waiting))
    assert tally.wait(monotonic()) is True

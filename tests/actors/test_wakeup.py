"""The wake-up: one descriptor, readable from a set until the next clear. Both ways of making one."""

from __future__ import annotations

import gc
import os
import select
import threading
from collections.abc import Iterator

import pytest

from actors import wakeup
from actors.wakeup import Wakeup
from tests.conftest import LeakWatch

native_is_portable = wakeup.PORTABLE


@pytest.fixture(params=[False, True], ids=["native", "portable"], autouse=True)
def portable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param and native_is_portable:
        pytest.skip("there is only the portable one here")
    monkeypatch.setattr(wakeup, "PORTABLE", request.param)
    return bool(request.param)


@pytest.fixture
def bell() -> Iterator[Wakeup]:
    made = Wakeup()
    yield made
    made.close()


def readable(bell: Wakeup) -> bool:
    return bool(select.select([bell.fd], [], [], 0)[0])


def test_it_is_readable_from_set_to_clear(bell: Wakeup) -> None:
    assert not readable(bell)
    bell.set()
    assert readable(bell)
    assert readable(bell), "level-triggered"
    bell.clear()
    assert not readable(bell)


def test_many_sets_are_one(bell: Wakeup) -> None:
    # More than a socket pair's buffer and an eight-bit counter hold; a set that finds it full is nothing.
    for _ in range(20_000):
        bell.set()
    bell.clear()
    assert not readable(bell)


def test_clearing_what_is_not_set_does_not_wait(bell: Wakeup) -> None:
    bell.clear()
    bell.clear()
    assert not readable(bell)


def test_a_set_from_another_thread_ends_a_poll(bell: Wakeup) -> None:
    thread = threading.Thread(target=bell.set)
    thread.start()
    assert select.select([bell.fd], [], [], 30)[0]
    thread.join(30)


def test_no_set_is_lost_between_poll_and_clear(bell: Wakeup) -> None:
    """A producer that stores and then sets is always seen by a consumer that clears and then looks."""
    rounds = 500
    produced: list[int] = []
    consumed = threading.Semaphore(1)

    def produce() -> None:
        for number in range(rounds):
            assert consumed.acquire(timeout=30)
            produced.append(number)
            bell.set()

    thread = threading.Thread(target=produce)
    thread.start()
    seen = 0
    while seen < rounds:
        assert select.select([bell.fd], [], [], 30)[0]
        bell.clear()
        while seen < len(produced):
            seen += 1
            consumed.release()
    thread.join(30)
    assert not thread.is_alive()


def test_after_close_everything_is_nothing() -> None:
    bell = Wakeup()
    fd = bell.fd
    bell.close()
    with pytest.raises(OSError):
        os.fstat(fd)
    other = os.open(os.devnull, os.O_RDONLY)  # most likely the same number
    try:
        bell.set()
        bell.clear()
        bell.close()
        os.fstat(other)
    finally:
        os.close(other)


def test_it_is_not_inherited(bell: Wakeup) -> None:
    assert not os.get_inheritable(bell.fd)


def test_dropping_it_closes_it() -> None:
    watch = LeakWatch()
    bells = [Wakeup() for _ in range(20)]
    assert watch.leftovers()
    bells.clear()
    gc.collect()
    assert watch.leftovers() == []

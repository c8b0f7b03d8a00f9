"""The spare threads: work is done, threads are reused, park for a while, and leave when they are dismissed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from actors import crew

BOUND = 30.0


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A crew of this test's own, beside the one that serves the process."""
    monkeypatch.setattr(crew, "_lock", threading.Lock())
    monkeypatch.setattr(crew, "_parked", [])
    monkeypatch.setattr(crew, "_threads", set())
    monkeypatch.setattr(crew, "_dismissed", set())
    monkeypatch.setattr(crew, "IDLE_SECONDS", BOUND)
    yield
    crew.dismiss(BOUND)
    assert crew.threads() == []


def on_crew(call: Callable[[], object]) -> threading.Thread:
    """Have it done, and tell by whom."""
    done = threading.Event()
    by: list[threading.Thread] = []

    def work() -> None:
        by.append(threading.current_thread())
        try:
            call()
        finally:
            done.set()

    assert crew.run(work)
    assert done.wait(BOUND)
    return by[0]


def parked(count: int) -> None:
    """Wait until so many threads have parked: nothing announces that they have."""
    deadline = monotonic() + BOUND
    pause = threading.Event()
    while len(crew._parked) != count:
        assert monotonic() < deadline
        pause.wait(0.001)


def test_work_is_done_on_a_daemon_thread_of_ours() -> None:
    thread = on_crew(lambda: None)
    assert thread.daemon
    assert thread.name.startswith("actorbus-")
    assert thread is not threading.current_thread()
    assert thread in crew.threads()


def test_a_parked_thread_is_used_again() -> None:
    first = on_crew(lambda: None)
    parked(1)
    assert on_crew(lambda: None) is first
    parked(1)
    assert crew.threads() == [first]


def test_work_never_waits_for_other_work() -> None:
    go_on = threading.Event()
    running = threading.Semaphore(0)

    def block() -> None:
        running.release()
        assert go_on.wait(BOUND)

    for _ in range(5):
        assert crew.run(block)
    for _ in range(5):
        assert running.acquire(timeout=BOUND)
    assert len(crew.threads()) == 5
    go_on.set()


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_work_that_fails_is_logged_and_its_thread_lives_on(error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise error("no luck")

    with caplog.at_level(logging.ERROR, "actorbus.engine"):
        first = on_crew(fail)
        parked(1)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [error]
    assert on_crew(lambda: None) is first


def test_a_thread_without_work_leaves_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "IDLE_SECONDS", 0.01)
    thread = on_crew(lambda: None)
    thread.join(BOUND)
    assert not thread.is_alive()
    assert crew.threads() == []
    assert crew._parked == []
    assert on_crew(lambda: None) is not thread


def test_work_given_while_threads_leave_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "IDLE_SECONDS", 0.0005)
    done = threading.Semaphore(0)
    pause = threading.Event()
    for _ in range(200):
        assert crew.run(done.release)
        pause.wait(0.0004)
    for _ in range(200):
        assert done.acquire(timeout=BOUND)


def test_dismissed_threads_end_at_once() -> None:
    go_on = threading.Event()
    threads = [on_crew(lambda: None)]
    assert crew.run(lambda: go_on.wait(BOUND))
    threads = crew.threads()
    go_on.set()
    parked(len(threads))
    crew.dismiss(BOUND)
    assert not any(thread.is_alive() for thread in threads)
    assert crew.threads() == []


def test_dismissing_waits_for_busy_threads_no_longer_than_it_may() -> None:
    go_on, started = threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        assert go_on.wait(BOUND)

    assert crew.run(block)
    assert started.wait(BOUND)
    crew.dismiss(0.01)
    (thread,) = crew.threads()
    go_on.set()
    thread.join(BOUND / 3)
    assert not thread.is_alive(), "it leaves after its work, and does not park first"


def test_a_thread_that_dismisses_does_not_wait_for_itself() -> None:
    on_crew(lambda: crew.dismiss(BOUND))


def test_without_a_thread_to_be_had_it_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = threading.Event()
    with caplog.at_level(logging.WARNING, "actorbus.engine"):
        assert crew.run(done.set) is False
    assert "can't start new thread" in caplog.text
    assert not done.is_set()
    assert crew.threads() == []


def test_a_parked_thread_serves_also_when_no_other_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    first = on_crew(lambda: None)
    parked(1)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert on_crew(lambda: None) is first

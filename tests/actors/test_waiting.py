"""Timeouts as users give them, and one thread's place to wait: woken by a message, a close, an interrupt, a deadline or a descriptor."""

from __future__ import annotations

import math
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import waiting
from actors.waiting import READ, WRITE, Waiter, check_timeout, current, deadline_after, interrupt, remaining, sleep
from tests.actors.engine import BOUND, in_thread, joined
from tests.actors.interrupts import interrupted
from tests.conftest import LeakWatch

HAS_POLL = hasattr(select, "poll")

ROOT = Path(__file__).resolve().parent.parent.parent


# --- timeouts and deadlines ---


@pytest.mark.parametrize("timeout", [None, 0, 0.0, 1, 2.5])
def test_a_timeout_is_none_or_seconds(timeout: float | None) -> None:
    assert check_timeout(timeout) == timeout


@pytest.mark.parametrize("timeout", [-1, -0.001, -math.inf, math.nan, -(10**400)])
def test_a_timeout_is_not_negative_and_is_a_number(timeout: float) -> None:
    with pytest.raises(ValueError, match="patience must be 0 or more seconds"):
        check_timeout(timeout, "patience")
    with pytest.raises(ValueError, match="patience"):
        deadline_after(timeout, "patience")


@pytest.mark.parametrize("timeout", [True, False, "1", b"1", [1], 1j, object()])
def test_a_timeout_of_another_type_is_refused_by_its_name(timeout: Any) -> None:
    with pytest.raises(TypeError, match=f"patience must be a number of seconds or None, not {type(timeout).__name__}"):
        check_timeout(timeout, "patience")
    with pytest.raises(TypeError, match="patience"):
        deadline_after(timeout, "patience")


@pytest.mark.parametrize("timeout", [math.inf, 1e300, 10**400, threading.TIMEOUT_MAX * 2])
def test_a_huge_timeout_is_clamped(timeout: float) -> None:
    assert check_timeout(timeout) == threading.TIMEOUT_MAX
    deadline = deadline_after(timeout)
    assert deadline is not None
    assert math.isfinite(deadline)


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()))
def test_any_timeout_is_accepted_or_refused_as_documented(timeout: Any) -> None:
    try:
        checked = check_timeout(timeout)
    except (TypeError, ValueError):
        with pytest.raises((TypeError, ValueError)):
            deadline_after(timeout)
        return
    deadline = deadline_after(timeout)
    if checked is None:
        assert deadline is None
    else:
        assert deadline is not None
        assert 0 <= checked <= threading.TIMEOUT_MAX
        assert deadline <= monotonic() + checked


def test_what_remains_is_never_negative() -> None:
    assert remaining(None) is None
    assert remaining(monotonic() - 5) == 0
    left = remaining(monotonic() + 1000)
    assert left is not None
    assert 900 < left <= 1000


# --- waiting ---


@pytest.fixture(params=[False, True], ids=["poll", "select"])
def waiter(request: pytest.FixtureRequest) -> Waiter:
    """One of this thread's; the second kind is for systems without `poll`."""
    made = Waiter()
    if request.param:
        made.equip()
        made._poller = None
    elif not HAS_POLL:
        pytest.skip("this system has no poll")
    return made


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@pytest.mark.parametrize("ago", [0, 5, math.inf])
def test_a_deadline_that_has_passed_only_looks(waiter: Waiter, ago: float) -> None:
    assert waiter.wait(monotonic() - ago) is False


def test_a_far_deadline_is_no_error(waiter: Waiter) -> None:
    waiter.unpark()
    assert waiter.wait(deadline_after(math.inf)) is False


def test_an_unpark_before_the_wait_is_not_lost_and_counts_once(waiter: Waiter) -> None:
    waiter.unpark()
    waiter.unpark()
    assert waiter.wait(None) is False
    before = monotonic()
    assert waiter.wait(before + 0.01) is False
    assert monotonic() >= before + 0.01, "the second wait has nothing to end it but its deadline"


def test_an_unpark_from_another_thread_ends_the_wait(waiter: Waiter) -> None:
    thread = in_thread(waiter.unpark)
    assert waiter.wait(monotonic() + BOUND) is False
    assert joined(thread)


def test_a_descriptor_that_is_ready_ends_it_with_true(waiter: Waiter, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    assert waiter.wait(monotonic(), left.fileno()) is False
    right.send(b"!")
    assert waiter.wait(None, left.fileno()) is True
    assert waiter.wait(None, left.fileno(), WRITE) is True
    left.recv(1)
    assert waiter.wait(monotonic(), left.fileno(), READ) is False


def test_it_tells_a_descriptor_also_when_it_is_unparked_at_once(waiter: Waiter, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    right.send(b"!")
    waiter.unpark()
    assert waiter.wait(None, left.fileno()) is True


def test_it_watches_the_descriptor_of_this_wait_and_no_other(waiter: Waiter, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    left.send(b"!")
    right.send(b"!")
    assert waiter.wait(None, left.fileno()) is True
    assert waiter.wait(None, right.fileno()) is True
    assert waiter.wait(monotonic()) is False
    right.recv(1)
    assert waiter.wait(monotonic(), right.fileno()) is False


def test_a_closed_descriptor_ends_no_later_wait(waiter: Waiter) -> None:
    left, right = socket.socketpair()
    with right:
        right.send(b"!")
        assert waiter.wait(None, left.fileno()) is True
        left.close()
    assert waiter.wait(monotonic()) is False


def test_the_host_hears_before_the_callback_blocks(waiter: Waiter) -> None:
    class Host:
        asked = 0

        def about_to_block(self) -> None:
            self.asked += 1

    host = Host()
    waiter.wait(monotonic())
    waiter.host = host
    waiter.wait(monotonic())
    assert host.asked == 1


# --- interrupts ---


def test_an_interrupt_before_the_wait_ends_the_next_one_only(waiter: Waiter) -> None:
    waiter.interrupt()
    with pytest.raises(KeyboardInterrupt):
        waiter.wait(None)
    assert waiter.wait(monotonic()) is False


def test_an_interrupt_from_another_thread_ends_the_wait(waiter: Waiter, pair: tuple[socket.socket, socket.socket]) -> None:
    thread = in_thread(waiter.interrupt)
    with pytest.raises(KeyboardInterrupt):
        waiter.wait(monotonic() + BOUND, pair[0].fileno())
    assert joined(thread)


def test_one_interrupts_a_thread_by_its_id() -> None:
    waiting_now = threading.Event()
    outcome: list[str] = []

    def work() -> None:
        current()  # it has waited before
        waiting_now.set()
        try:
            sleep(BOUND)
        except KeyboardInterrupt:
            outcome.append("interrupted")

    thread = in_thread(work)
    assert waiting_now.wait(BOUND)
    assert thread.ident is not None
    interrupt([thread.ident])
    assert joined(thread)
    assert outcome == ["interrupted"]


def test_an_interrupt_reaches_the_thread_that_has_the_number_now() -> None:
    kept: list[Waiter] = []  # as a traceback may, long after its thread

    def wait_for_ever() -> None:
        may_wait.wait(BOUND)
        try:
            sleep(BOUND)
        except KeyboardInterrupt:
            struck.append(True)

    struck: list[bool] = []
    for _ in range(200):
        may_wait = threading.Event()
        first = in_thread(lambda: kept.append(current()))
        number = first.ident
        assert joined(first)
        second = in_thread(wait_for_ever)
        if second.ident == number:
            interrupt([number] if number is not None else [])
            may_wait.set()
            assert joined(second)
            assert struck == [True]
            return
        assert second.ident is not None
        interrupt([second.ident])
        may_wait.set()
        assert joined(second)
        struck.clear()
    pytest.skip("thread numbers are not given again here")


def test_a_thread_can_be_struckbefore_it_waits_for_the_first_time() -> None:
    started, go_on = threading.Event(), threading.Event()
    outcome: list[str] = []

    def work() -> None:
        started.set()
        go_on.wait(BOUND)
        try:
            sleep(BOUND)
        except KeyboardInterrupt:
            outcome.append("interrupted")

    thread = in_thread(work)
    assert started.wait(BOUND)
    assert thread.ident is not None
    interrupt([thread.ident])
    go_on.set()
    assert joined(thread)
    assert outcome == ["interrupted"]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timer signals")
def test_a_signal_ends_the_wait_with_what_its_handler_raises() -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals go to the main thread")

    def raise_interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def wait_for_the_alarm() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        sleep(BOUND)  # looks again when it is woken for nothing

    previous = signal.signal(signal.SIGALRM, raise_interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            wait_for_the_alarm()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_waiter_that_never_waits_has_no_descriptor() -> None:
    watch = LeakWatch()
    waiters = [Waiter() for _ in range(3)]
    for waiter in waiters:
        waiter.unpark()
        waiter.interrupt()
    assert watch.leftovers() == []


@pytest.mark.skipif(not HAS_POLL, reason="the system has no poll")
def test_ctrl_c_between_any_two_calls_of_the_first_wait_costs_nothing_but_that_wait(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    number = 0
    more = True
    while more:
        number += 1
        assert number < 50
        waiter = Waiter()
        before_all = waiter.unpark
        more = interrupted(number, waiting, lambda waiter=waiter: waiter.wait(monotonic(), left.fileno()))  # type: ignore[misc]
        for unpark in (before_all, waiter.unpark):
            unpark()
            assert waiter.wait(monotonic() + BOUND) is False, f"place {number}"
        before = monotonic()
        assert waiter.wait(before + 0.002) is False
        assert monotonic() >= before + 0.002, f"place {number}: it does not sleep"
        right.send(b"!")
        assert waiter.wait(monotonic() + BOUND, left.fileno()) is True, f"place {number}"
        left.recv(1)
    assert number > 3


@pytest.mark.skipif(not HAS_POLL, reason="the system has no poll")
def test_ctrl_c_between_any_two_calls_leaves_it_watching_what_it_should(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    number = 0
    more = True
    while more:
        number += 1
        assert number < 50
        waiter = Waiter()
        assert waiter.wait(monotonic(), left.fileno()) is False
        more = interrupted(number, waiting, lambda waiter=waiter: waiter.wait(monotonic(), right.fileno()))  # type: ignore[misc]
        for one, other in (pair, pair[::-1]):
            other.send(b"!")
            assert waiter.wait(monotonic() + BOUND, one.fileno()) is True, f"place {number}"
            one.recv(1)
            before = monotonic()
            assert waiter.wait(before + 0.002, one.fileno()) is False
            assert monotonic() >= before + 0.002, f"place {number}: it does not sleep"
    assert number > 3


# --- places and threads ---


def test_each_thread_has_one_place_of_its_own() -> None:
    places: list[Waiter] = []
    thread = in_thread(lambda: places.extend((current(), current())))
    assert joined(thread)
    assert places[0] is places[1]
    assert places[0] is not current()
    assert current() is current()


def test_a_thread_takes_its_place_with_it() -> None:
    joined(in_thread(current))
    watch = LeakWatch()
    for _ in range(20):
        assert joined(in_thread(current))
    assert watch.leftovers() == []
    assert len(waiting._waiters) < 20 + threading.active_count()


def test_sleep_sleeps() -> None:
    before = monotonic()
    current().unpark()  # left over from something else
    sleep(0.02)
    assert monotonic() >= before + 0.02
    sleep(0)


@pytest.mark.parametrize("seconds", [-1, math.nan])
def test_sleep_refuses_what_is_no_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        sleep(seconds)


def test_a_signal_that_another_thread_took_ends_the_main_threads_wait() -> None:
    """The kernel may hand a signal of the process to any thread; the main thread's system call goes on then."""
    code = """
import os, signal, threading
from actors.waiting import current
from tests.bus.peers import until_blocked
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # so that it is the other one for sure
def other():
    until_blocked(threading.main_thread())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(60)
try:
    threading.Thread(target=other, daemon=True).start()
    while True:
        current().wait(None)
except KeyboardInterrupt:
    print("ended", flush=True)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=BOUND, check=False, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("ended\n", "")

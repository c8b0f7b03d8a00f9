"""The explorer finds what it is there to find in small programs known to be wrong, and nothing in right ones."""

from __future__ import annotations

import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock as RealLock
from time import monotonic as real_monotonic
from typing import Any

import pytest

from tests.interleaving.explorer import OPCODES_REPORTED, Report, ScheduleFailed, explore
from tests.interleaving.primitives import Lock, Parking, RLock, give_way, monotonic, parking, sleep

HERE = {__file__}

needs_opcodes = pytest.mark.skipif(not OPCODES_REPORTED, reason="opcodes cannot be relied on")


def find(setup: Callable[[], Any], threads: Sequence[Callable[[Any], object]], check: Any = None, **options: Any) -> ScheduleFailed:
    with pytest.raises(ScheduleFailed) as caught:
        explore(setup, threads, check, trace_files=HERE, **options)
    return caught.value


# --- a lost update ---


class Counter:
    def __init__(self) -> None:
        self.value = 0
        self.lock = Lock()

    def add(self) -> None:
        value = self.value
        self.value = value + 1

    def add_on_one_line(self) -> None:
        self.value = self.value + 1

    def add_locked(self) -> None:
        with self.lock:
            value = self.value
            self.value = value + 1

    def is_two(self) -> None:
        assert self.value == 2, f"an update was lost: {self.value}"


def test_a_lost_update_is_found() -> None:
    failure = find(Counter, [Counter.add, Counter.add], Counter.is_two)
    assert "an update was lost: 1" in failure.reason
    assert len(failure.schedule) == 1, "one preemption is enough, and fewer are tried first"
    assert isinstance(failure.__cause__, AssertionError)


@needs_opcodes
def test_a_lost_update_inside_a_line_is_found_between_opcodes_only() -> None:
    threads = [Counter.add_on_one_line, Counter.add_on_one_line]
    assert explore(Counter, threads, Counter.is_two, trace_files=HERE).complete
    failure = find(Counter, threads, Counter.is_two, opcodes=True)
    assert "an update was lost: 1" in failure.reason
    assert "LOAD_ATTR" in failure.trace


@pytest.mark.parametrize("opcodes", [False, pytest.param(True, marks=needs_opcodes)])
def test_a_lock_saves_the_update(opcodes: bool) -> None:
    report = explore(Counter, [Counter.add_locked, Counter.add_locked], Counter.is_two, trace_files=HERE, opcodes=opcodes)
    assert report.complete
    assert report.runs > 2


def test_a_failure_tells_the_steps_of_both_threads_and_how_to_see_it_again() -> None:
    failure = find(Counter, [Counter.add, Counter.add], Counter.is_two)
    steps = failure.trace.splitlines()
    assert "0:add" in steps[0]
    assert "value = self.value" in steps[0]
    assert sum("self.value = value + 1" in step for step in steps) == 2
    assert sum("1:add" in step for step in steps) == 2
    assert f"replay={failure.schedule}" in str(failure)


def test_a_replay_fails_in_the_same_way() -> None:
    failure = find(Counter, [Counter.add, Counter.add], Counter.is_two)
    again = find(Counter, [Counter.add, Counter.add], Counter.is_two, replay=failure.schedule)
    assert again.reason.splitlines()[0] == failure.reason.splitlines()[0]
    assert (again.schedule, again.trace) == (failure.schedule, failure.trace)


def test_a_replay_plays_one_schedule_only() -> None:
    report = explore(Counter, [Counter.add, Counter.add], Counter.is_two, trace_files=HERE, replay=[])
    assert report.runs == 1
    assert not report.complete


def test_a_replay_that_does_not_fit_the_code_says_so() -> None:
    failure = find(Counter, [Counter.add, Counter.add], Counter.is_two, replay=[(1, ~1)])
    assert "does not fit at decision 1" in failure.reason
    failure = find(Counter, [Counter.add_locked, Counter.add_locked], Counter.is_two, replay=[(2, 1), (3, 1)])
    assert "does not fit at decision 3" in failure.reason, "the second thread waits for the lock"


# --- how many schedules there are ---


class Page:
    def __init__(self) -> None:
        self.written: list[str] = []

    def write_abc(self) -> None:
        self.written.append("a")
        self.written.append("b")
        self.written.append("c")

    def write_xyz(self) -> None:
        self.written.append("x")
        self.written.append("y")
        self.written.append("z")

    def write_12(self) -> None:
        self.written.append("1")
        self.written.append("2")


def merges(*texts: str) -> list[str]:
    """Every merge of the texts."""
    if not any(texts):
        return [""]
    return [text[0] + rest for index, text in enumerate(texts) if text for rest in merges(*texts[:index], text[1:], *texts[index + 1 :])]


def preemptions_in(merge: str, *texts: str) -> int:
    """How often the turn was taken from a text that had more to come."""
    return sum(
        not any(a in text and b in text for text in texts) and not any(text.endswith(a) for text in texts)
        for a, b in itertools.pairwise(merge)
    )


@pytest.mark.parametrize("bound", range(6))
@pytest.mark.parametrize(
    ("threads", "texts"),
    [
        ([Page.write_abc, Page.write_xyz], ["abc", "xyz"]),
        ([Page.write_12, Page.write_abc], ["12", "abc"]),
        ([Page.write_12, Page.write_xyz, Page.write_abc], ["12", "xyz", "abc"]),
    ],
)
def test_every_order_within_the_bound_is_played_once(threads: list[Callable[[Page], None]], texts: list[str], bound: int) -> None:
    played: list[str] = []
    report = explore(Page, threads, lambda page: played.append("".join(page.written)), trace_files=HERE, preemptions=bound)
    within = [merge for merge in merges(*texts) if preemptions_in(merge, *texts) <= bound]
    assert sorted(played) == sorted(within)
    counts = [preemptions_in(merge, *texts) for merge in within]
    assert report == Report(len(within), tuple(counts.count(n) for n in range(bound + 1)), True, report.longest)
    assert [preemptions_in(merge, *texts) for merge in played] == sorted(counts), "the simplest orders come first"


def test_the_limit_of_runs_is_kept_and_told() -> None:
    threads = [Page.write_abc, Page.write_xyz]
    report = explore(Page, threads, trace_files=HERE, preemptions=5, max_runs=7)
    assert (report.runs, report.complete) == (7, False)
    report = explore(Page, threads, trace_files=HERE, preemptions=5, max_runs=20)
    assert (report.runs, report.complete) == (20, True)


class Quiet:
    def __init__(self) -> None:
        self.value = 1

    def compute(self) -> int:
        found = None
        value = self.value
        other = value
        if found is None:
            found = other
        return found


def test_moving_locals_about_is_no_reason_to_switch() -> None:
    report = explore(Quiet, [Quiet.compute, Quiet.compute], trace_files=HERE)
    assert report.runs == 2


# --- locks and deadlocks ---


class Pair:
    def __init__(self) -> None:
        self.a = Lock()
        self.b = Lock()

    def ab(self) -> None:
        with self.a:
            with self.b:
                pass

    def ba(self) -> None:
        with self.b, self.a:
            pass

    def ab_politely(self) -> bool:
        with self.a:
            if self.b.acquire(timeout=5):
                self.b.release()
                return True
        return False


def test_a_deadlock_is_found_and_tells_who_waits_where() -> None:
    failure = find(Pair, [Pair.ab, Pair.ba])
    assert "deadlock" in failure.reason
    assert "thread 0:ab: waits for <Lock held by thread 1:ba>" in failure.reason
    assert "thread 1:ba: waits for <Lock held by thread 0:ab>" in failure.reason
    assert " ab: with self.b:" in failure.reason
    assert " ba: with self.b, self.a:" in failure.reason


def test_locks_taken_in_one_order_do_not_deadlock() -> None:
    report = explore(Pair, [Pair.ab, Pair.ab, Pair.ab], trace_files=HERE)
    assert report.complete


def test_a_lock_with_a_timeout_ends_the_deadlock() -> None:
    outcomes: set[bool] = set()
    explore(Pair, [lambda pair: outcomes.add(pair.ab_politely()), Pair.ba], trace_files=HERE)
    assert outcomes == {True, False}


def test_a_lock_is_a_lock() -> None:
    def use(state: object) -> None:
        lock = Lock()
        assert not lock.locked()
        assert lock.acquire()
        assert lock.locked()
        assert not lock.acquire(blocking=False)
        assert not lock.acquire(timeout=0)
        lock.release()
        assert lock.acquire(False)
        lock.release()
        with pytest.raises(RuntimeError, match="release unlocked lock"):
            lock.release()

    assert explore(object, [use], trace_files=HERE).complete


def test_a_thread_that_takes_its_own_lock_twice_deadlocks() -> None:
    def twice(lock: Lock) -> None:
        with lock:
            lock.acquire()

    assert "deadlock" in find(Lock, [twice]).reason


def test_an_rlock_may_be_taken_again_by_its_owner_only() -> None:
    order: list[str] = []

    def nested(lock: RLock) -> None:
        with lock:
            with lock:
                order.append("in")
            order.append("out")

    def foreign(lock: RLock) -> None:
        if lock.acquire(blocking=False):
            lock.release()
        else:
            with pytest.raises(RuntimeError, match="un-acquired"):
                lock.release()

    def paired(lock: RLock) -> None:
        assert order == ["in", "out"] * (len(order) // 2)
        assert not lock.locked()

    assert explore(RLock, [nested, nested], paired, trace_files=HERE).complete
    assert explore(RLock, [nested, foreign], trace_files=HERE).complete


def test_sections_can_be_taken_for_one_step() -> None:
    threads = [Counter.add_locked, Counter.add_locked]
    finely = explore(Counter, threads, Counter.is_two, trace_files=HERE)
    coarsely = explore(Counter, threads, Counter.is_two, trace_files=HERE, atomic_sections=True)
    assert coarsely.complete
    assert coarsely.runs < finely.runs
    # What is not in a section, and the way from one lock to the next, is still interrupted.
    assert "lost" in find(Counter, [Counter.add, Counter.add_locked], Counter.is_two, atomic_sections=True).reason
    assert "deadlock" in find(Pair, [Pair.ab, Pair.ba], atomic_sections=True).reason


# --- parking and lost wake-ups ---


class Box:
    """A mailbox for one item, in three versions of the waiting."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.items: deque[str] = deque()
        self.waiter: Parking | None = None
        self.got: list[str | None] = []

    def put(self) -> None:
        with self.lock:
            self.items.append("item")
            waiter = self.waiter
        if waiter is not None:
            waiter.unpark()

    def get_naively(self) -> None:
        with self.lock:
            empty = not self.items
        if empty:
            self.waiter = parking()  # too late: the item may have come since
            self.waiter.park()
        self.got.append(self.items.popleft())

    def get(self) -> None:
        with self.lock:
            if not self.items:
                self.waiter = parking()
        if self.waiter is not None:
            self.waiter.park()
        self.got.append(self.items.popleft())

    def get_within_a_second(self) -> None:
        deadline = monotonic() + 1
        while True:
            with self.lock:
                if self.items:
                    self.got.append(self.items.popleft())
                    return
                self.waiter = parking()
            if monotonic() >= deadline:
                self.got.append(None)
                return
            self.waiter.park(deadline)

    def has_it(self) -> None:
        assert self.got == ["item"]

    def has_it_or_gave_up(self) -> None:
        assert self.got == ["item"] or (self.got == [None] and list(self.items) == ["item"])


def test_a_lost_wake_up_is_found() -> None:
    failure = find(Box, [Box.get_naively, Box.put], Box.has_it)
    assert "deadlock" in failure.reason
    assert "waits for <Parking empty>" in failure.reason
    assert "self.waiter.park()" in failure.reason


def test_no_wake_up_is_lost_by_the_correct_mailbox() -> None:
    assert explore(Box, [Box.get, Box.put], Box.has_it, trace_files=HERE).complete


def test_a_timeout_is_played_at_every_moment() -> None:
    # Among the runs: an item that came in time, one that came late, and one that came between timing out and looking.
    ends: set[str] = set()

    def check(box: Box) -> None:
        box.has_it_or_gave_up()
        ends.add(f"{box.got} at {'start' if monotonic() < 1001 else 'deadline'}")

    assert explore(Box, [Box.get_within_a_second, Box.put], check, trace_files=HERE).complete
    assert ends == {"['item'] at start", "['item'] at deadline", "[None] at deadline"}


def test_an_unpark_that_comes_first_is_kept_for_the_next_park() -> None:
    def park_twice(place: Parking) -> None:
        place.unpark()
        place.unpark()
        assert place.park()
        assert not place.park(monotonic() + 1)
        assert not place.park(monotonic() - 1)

    assert explore(Parking, [park_twice], trace_files=HERE).complete


def test_a_park_that_timed_out_before_the_unpark_leaves_it_for_the_next() -> None:
    results: set[tuple[bool, bool]] = set()

    def park(place: Parking) -> None:
        in_time = place.park(monotonic() + 1)
        results.add((in_time, place.token))

    explore(Parking, [park, Parking.unpark], trace_files=HERE)
    assert results == {(True, False), (False, False), (False, True)}


def test_deadlines_pass_in_their_order_when_all_wait() -> None:
    order: list[int] = []

    def late(state: object) -> None:
        sleep(2)
        order.append(2)

    def soon(state: object) -> None:
        sleep(1)
        order.append(1)

    explore(order.clear, [late, soon], trace_files=HERE, preemptions=0)
    assert order == [1, 2]


def test_time_may_pass_at_any_point_of_the_others() -> None:
    def read_the_clock_twice(seen: set[tuple[bool, bool]]) -> tuple[float, float]:
        first = monotonic()
        second = monotonic()
        elapsed.add((first > 1000, second > 1000))
        return first, second

    elapsed: set[tuple[bool, bool]] = set()
    explore(set, [read_the_clock_twice, lambda state: sleep(60)], trace_files=HERE)
    assert elapsed == {(False, False), (False, True), (True, True)}


# --- other ways to fail ---


def test_an_exception_in_a_thread_is_a_failure() -> None:
    def stumble(counter: Counter) -> None:
        counter.add()
        if counter.value == 2:
            raise KeyError("stumbled")

    failure = find(Counter, [Counter.add, stumble])
    assert "thread 1:stumble raised KeyError: 'stumbled'" in failure.reason
    assert isinstance(failure.__cause__, KeyError)


def test_an_exit_in_a_thread_is_a_failure_too() -> None:
    failure = find(object, [lambda state: sys.exit(3)])
    assert "raised SystemExit: 3" in failure.reason


def test_the_threads_of_a_failed_run_leave_through_their_finally() -> None:
    left: list[str] = []

    def hold(pair: Pair) -> None:
        try:
            with pair.a:
                pair.b.acquire()
                pair.b.acquire()
        finally:
            left.append("left")

    find(Pair, [hold], replay=[])
    assert left == ["left"] * 2, "once when it was found, once when it was told"


def test_a_loop_without_an_end_is_a_livelock() -> None:
    def poll(counter: Counter) -> None:
        while counter.value == 0:
            pass

    failure = find(Counter, [poll, Counter.add])
    assert "livelock" in failure.reason
    assert " more" in failure.trace, "nobody wants to read every turn of the loop"


def test_a_loop_that_gives_way_is_none() -> None:
    def poll(counter: Counter) -> None:
        while counter.value < 2:
            give_way()

    assert explore(Counter, [poll, poll, Counter.add_locked, Counter.add_locked], trace_files=HERE, preemptions=1).complete
    assert "livelock" in find(Counter, [poll, poll]).reason


def test_timeouts_without_an_end_are_a_livelock() -> None:
    def wait_for_what_never_comes(counter: Counter) -> None:
        while counter.value < 5:
            parking().park(monotonic() + 1)

    assert "livelock" in find(Counter, [wait_for_what_never_comes, Counter.add]).reason


def test_code_that_depends_on_more_than_the_schedule_is_noticed() -> None:
    calls = itertools.count()

    def fails_once(state: object) -> None:
        assert next(calls), "the first time"

    failure = find(object, [fails_once])
    assert "the first time" in failure.reason
    assert "not the second time" in failure.reason


def test_a_setup_that_would_wait_for_ever_raises() -> None:
    def setup() -> None:
        Lock().acquire()
        assert not Parking().park(monotonic() + 1)
        assert monotonic() > 1001
        Parking().park()

    with pytest.raises(AssertionError, match="setup or check would wait for ever for <Parking empty>"):
        explore(setup, [print], trace_files=HERE)


def test_a_file_that_was_not_run_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"no code of nowhere\.py was run"):
        explore(Counter, [Counter.add], trace_files={__file__, "nowhere.py"})


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="tracing does not touch cells any more")
def test_a_nonlocal_is_refused_because_tracing_would_undo_its_changes() -> None:
    value = 0

    def rebind(state: object) -> None:
        nonlocal value
        value += 1

    failure = find(object, [rebind])
    assert "rebinds value" in failure.reason


def test_primitives_work_only_where_there_is_a_scheduler() -> None:
    with pytest.raises(RuntimeError, match="only inside explore"):
        Lock().acquire()


def test_explorations_do_not_nest() -> None:
    failure = find(object, [lambda state: explore(object, [], trace_files=())])
    assert "do not nest" in failure.reason


# --- names replaced in modules ---


class Stamped:
    def __init__(self) -> None:
        self.lock = RealLock()
        self.stamp = 0.0

    def set(self) -> None:
        with self.lock:
            self.stamp = real_monotonic()


def test_names_are_replaced_while_exploring_and_put_back() -> None:
    def check(stamped: Stamped) -> None:
        assert isinstance(stamped.lock, Lock)
        assert stamped.stamp == 1000.0

    replace = {f"{__name__}.RealLock": Lock, f"{__name__}.real_monotonic": monotonic}
    assert explore(Stamped, [Stamped.set, Stamped.set], check, trace_files=HERE, replace=replace).complete
    assert RealLock is threading.Lock


def test_the_real_threads_are_the_same_in_each_run_and_end_with_the_exploration() -> None:
    before = set(threading.enumerate())
    idents: set[int] = set()
    report = explore(Page, [lambda page: idents.add(threading.get_ident()), Page.write_abc], trace_files=HERE)
    assert report.runs > 1
    assert len(idents) == 1
    assert set(threading.enumerate()) == before

"""The reader thread: order, timers, turns, and the baton that a slow callback has to give away."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest

import bus
from actors import crew, hosting, keeper, waiting
from actors import lane as lane_module
from actors.answer import Answer
from actors.reader import Reader
from actors.readerthread import ReaderThread
from tests.actors.engine import BOUND, held, on_loop, settle
from tests.conftest import LeakWatch


def until(holds: Callable[[], object]) -> None:
    """For what nothing announces."""
    deadline = monotonic() + BOUND
    pause = threading.Event()
    while not holds():
        assert monotonic() < deadline, "it never came to this"
        pause.wait(0.001)


# --- tasks ---


def test_tasks_run_in_the_order_they_were_asked_for(loop: ReaderThread) -> None:
    done: list[int] = []
    for number in range(1000):
        loop.call_soon(lambda number=number: done.append(number))  # type: ignore[misc]
    settle(loop)
    assert done == list(range(1000))


def test_tasks_of_many_threads_keep_each_threads_order(loop: ReaderThread) -> None:
    done: list[tuple[int, int]] = []

    def ask(thread: int) -> None:
        for number in range(300):
            loop.call_soon(lambda number=number: done.append((thread, number)))  # type: ignore[misc]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    settle(loop)
    for thread_number in range(4):
        assert [number for thread, number in done if thread == thread_number] == list(range(300))


def test_a_task_reaches_a_loop_that_sleeps(loop: ReaderThread) -> None:
    for _ in range(200):
        until(lambda: loop._sleeping)
        settle(loop)


def test_all_tasks_run_on_one_thread(loop: ReaderThread) -> None:
    assert len({on_loop(loop, threading.current_thread) for _ in range(20)}) == 1


def test_a_task_that_asks_for_itself_again_leaves_room_for_others(loop: ReaderThread) -> None:
    over = threading.Event()
    fired = threading.Event()

    def again() -> None:
        if not over.is_set():
            loop.call_soon(again)

    loop.call_soon(again)
    on_loop(loop, lambda: loop.call_later(0.001, fired.set))
    assert fired.wait(BOUND), "timers have their turn"
    settle(loop)
    over.set()


@pytest.mark.parametrize("error", [ValueError, OSError, AssertionError])
def test_a_task_that_fails_is_logged_and_the_loop_goes_on(
    loop: ReaderThread, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error("no luck")

    with caplog.at_level(logging.ERROR, "actorbus.engine"):
        loop.call_soon(fail)
        on_loop(loop, lambda: loop.call_later(0, fail))
        on_loop(loop, lambda: None)
        until(lambda: len(caplog.records) == 2)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [error, error]
    settle(loop)


# --- timers ---


def test_timers_come_in_the_order_of_their_times(loop: ReaderThread) -> None:
    done: list[int] = []
    last = threading.Event()

    def arm() -> None:
        for number in (4, 1, 3, 0, 2):
            loop.call_later(number * 0.001, lambda number=number: done.append(number))  # type: ignore[misc]
        loop.call_later(0.02, last.set)

    on_loop(loop, arm)
    assert last.wait(BOUND)
    assert done == [0, 1, 2, 3, 4]


def test_timers_of_one_time_come_in_the_order_they_were_asked_for(loop: ReaderThread, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    last = threading.Event()

    def arm() -> None:
        for number in range(50):
            loop.call_later(-1, lambda number=number: done.append(number))  # type: ignore[misc]
        loop.call_later(0, last.set)

    on_loop(loop, arm)
    assert last.wait(BOUND)
    assert done == list(range(50))


def test_a_timer_is_never_early(loop: ReaderThread) -> None:
    came: list[float] = []
    fired = threading.Event()
    asked = monotonic()

    def come() -> None:
        came.append(monotonic())
        fired.set()

    on_loop(loop, lambda: loop.call_later(0.01, come))
    assert fired.wait(BOUND)
    assert came[0] >= asked + 0.01


def test_a_cancelled_timer_does_not_come(loop: ReaderThread) -> None:
    done: list[str] = []
    last = threading.Event()

    def arm() -> None:
        timer = loop.call_later(0.001, lambda: done.append("cancelled"))
        loop.call_later(0.002, lambda: done.append("kept"))
        loop.call_later(0.01, last.set)
        timer.cancel()
        timer.cancel()

    on_loop(loop, arm)
    assert last.wait(BOUND)
    assert done == ["kept"]


def test_a_timer_can_arm_the_next(loop: ReaderThread) -> None:
    done = threading.Event()
    left = 20

    def tick() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_later(0.0005, tick)
        else:
            done.set()

    on_loop(loop, lambda: loop.call_later(0, tick))
    assert done.wait(BOUND)


def test_a_timer_of_another_thread_comes_on_the_loops_own_and_can_be_cancelled(loop: ReaderThread) -> None:
    came: list[tuple[int, threading.Thread]] = []
    last = threading.Event()

    def note(number: int) -> None:
        came.append((number, threading.current_thread()))

    with held(loop):
        timers = [loop.call_later_threadsafe(number * 0.001, lambda number=number: note(number)) for number in (2, 1, 0, 3)]  # type: ignore[misc]
        loop.call_later_threadsafe(0.02, last.set)
        assert not loop._timers, "the heap belongs to the loop's thread"
        loop.call_soon(timers[1].cancel)
    assert last.wait(BOUND)
    assert [number for number, _ in came] == [0, 2, 3]
    assert {thread for _, thread in came} == {on_loop(loop, threading.current_thread)}


def test_timers_asked_for_by_many_threads_all_come(loop: ReaderThread) -> None:
    came: list[int] = []

    def ask(thread: int) -> None:
        for number in range(100):
            loop.call_later_threadsafe(number * 0.00001, lambda: came.append(thread))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    until(lambda: len(came) == 400)
    assert sorted(came) == sorted([*range(4)] * 100)


@pytest.mark.parametrize("seconds", [86_400.0 * 365, threading.TIMEOUT_MAX])
def test_a_timer_in_the_far_future_is_a_timer(seconds: float) -> None:
    # `close(linger=...)` and `stall_timeout` come from users; epoll takes milliseconds in a C int.
    loop = ReaderThread()
    try:
        loop.call_later(seconds, lambda: None)
        timeout = loop._timeout()
        assert timeout is not None
        assert timeout * 1000 < 2**31
    finally:
        loop.discard()


# --- sockets ---


class Echo:
    """A socket on the loop that writes down what it reads, so much at a time."""

    def __init__(self, loop: ReaderThread, at_a_time: int = 1) -> None:
        self.got = bytearray()
        self.turns: list[int] = []
        self.far, self.near = socket.socketpair()
        self.near.setblocking(False)
        self.at_a_time = at_a_time
        self.reader = Reader(self.near, loop, fill=self.fill)
        self.reader.start()

    def fill(self) -> None:
        data = self.near.recv(self.at_a_time)
        self.got += data
        self.turns.append(len(data))

    def close(self, loop: ReaderThread) -> None:
        on_loop(loop, self.reader.release)
        until(lambda: self.reader.fd < 0)
        self.far.close()


@pytest.fixture
def echoes(loop: ReaderThread) -> Iterator[list[Echo]]:
    made = [Echo(loop) for _ in range(3)]
    yield made
    for echo in made:
        echo.close(loop)


def test_each_socket_has_a_turn_and_then_the_next(loop: ReaderThread, echoes: list[Echo]) -> None:
    order: list[int] = []
    for number, echo in enumerate(echoes):
        fill = echo.fill

        def noted(number: int = number, fill: Callable[[], None] = fill) -> None:
            order.append(number)
            fill()

        echo.reader.fill = noted
    with held(loop):
        for echo in echoes:
            echo.far.send(b"x" * 20)
    until(lambda: all(len(echo.got) == 20 for echo in echoes))
    for start in range(0, 60, 3):
        assert sorted(order[start : start + 3]) == [0, 1, 2], "nobody has two turns before all had one"


def test_a_busy_socket_leaves_room_for_tasks_and_timers(loop: ReaderThread, echoes: list[Echo]) -> None:
    fired = threading.Event()
    echoes[0].far.send(b"x" * 5000)
    on_loop(loop, lambda: loop.call_later(0, fired.set))
    assert fired.wait(BOUND)
    settle(loop)
    until(lambda: len(echoes[0].got) == 5000)


def test_a_reader_that_fails_is_closed_and_its_neighbours_are_not(
    loop: ReaderThread, echoes: list[Echo], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("no luck")

    echoes[1].reader.fill = fail
    with caplog.at_level(logging.ERROR, "actorbus.engine"):
        for echo in echoes:
            echo.far.send(b"x")
        until(lambda: echoes[1].reader.fd < 0)
    assert "no luck" in caplog.text
    until(lambda: echoes[0].got == echoes[2].got == b"x")


def test_a_connection_whose_reading_fails_ends_with_a_reason() -> None:
    def fail() -> None:
        raise MemoryError("a frame too many")

    with bus.listen("tcp://127.0.0.1:0") as listener, bus.connect(f"tcp://{listener.address}", timeout=BOUND) as conn:
        with listener.accept() as accepted:
            accepted.fileno()  # from here on the reader thread reads
            reader: Any = accepted._actor.reader
            reader.fill = fail
            conn.send("x")
            until(lambda: reader.fd < 0)
            settle(accepted._actor.loop)
            with pytest.raises(bus.Broken):
                accepted.receive(timeout=0)


def test_stop_closes_what_it_polls_and_ends_its_thread(no_leaks: LeakWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "IDLE_SECONDS", 0.01)
    loop = ReaderThread()
    assert loop.start()
    echo = Echo(loop)
    thread = on_loop(loop, threading.current_thread)
    loop.stop()
    loop.stop()
    assert loop.stopped.wait(BOUND)
    assert echo.near.fileno() == -1
    loop.call_soon(lambda: None)  # too late: nothing happens, and nothing is raised
    echo.far.close()
    crew_threads = crew.threads()
    assert thread in crew_threads or not thread.is_alive(), "it parks, or has left"


def test_stop_waits_for_who_is_reading(loop: ReaderThread) -> None:
    other = ReaderThread()
    assert other.start()
    echo = Echo(other)
    with echo.reader.read_lock:
        other.stop()
        assert not other.stopped.wait(0.05)
        assert echo.near.fileno() >= 0
    assert other.stopped.wait(BOUND)
    echo.far.close()


def test_a_loop_that_never_got_a_thread_can_be_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "run", lambda work: False)
    watch = LeakWatch()
    loop = ReaderThread()
    assert not loop.start()
    loop.discard()
    assert watch.leftovers() == []


# --- the baton ---


class Work:
    """A lane with one callback."""

    def __init__(self, loop: ReaderThread, callback: Callable[[], object]) -> None:
        self.loop = loop
        self.callback = callback
        self.thread: threading.Thread | None = None
        self.detached = 0
        self.kept: list[bool] = []
        self.returned = threading.Event()

    def drain(self) -> None:
        self.thread = threading.current_thread()
        self.callback()

    def detach(self) -> None:
        self.detached += 1

    def about_to_block(self) -> None:
        self.loop.take_over(self)

    def serve(self) -> None:
        def task() -> None:
            try:
                self.kept.append(self.loop.serve(self))
            finally:
                self.returned.set()

        self.loop.call_soon(task)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper never loses patience in this test."""
    monkeypatch.setattr(keeper, "PATIENCE", 1e9)


def test_a_quick_callback_keeps_the_baton(loop: ReaderThread, patient: None) -> None:
    before = on_loop(loop, threading.current_thread)
    for _ in range(50):
        work = Work(loop, lambda: None)
        work.serve()
        assert work.returned.wait(BOUND)
        assert work.kept == [True]
        assert not work.detached
        assert work.thread is before
    assert on_loop(loop, threading.current_thread) is before


def test_a_callback_that_does_not_come_back_loses_the_baton(loop: ReaderThread) -> None:
    go_on = threading.Event()
    work = Work(loop, lambda: go_on.wait(BOUND))
    work.serve()
    settle(loop)  # somebody else runs the loop by now, or this would not come back
    assert work.detached == 1
    assert on_loop(loop, threading.current_thread) is not work.thread
    assert not work.returned.is_set()
    go_on.set()
    assert work.returned.wait(BOUND)
    assert work.kept == [False]
    assert work.detached == 1


def test_a_callback_that_blocks_in_a_call_of_ours_gives_it_away_at_once(loop: ReaderThread, patient: None) -> None:
    go_on: Answer[bool] = Answer()
    work = Work(loop, lambda: go_on.wait(None))
    work.serve()
    settle(loop)
    assert work.detached == 1
    go_on.set(True)
    assert work.returned.wait(BOUND)
    assert work.kept == [False]


def test_many_slow_callbacks_delay_nobody_for_good(loop: ReaderThread) -> None:
    go_on = threading.Event()
    works = [Work(loop, lambda: go_on.wait(BOUND)) for _ in range(8)]
    for work in works:
        work.serve()
    settle(loop)
    assert [work.detached for work in works] == [1] * 8
    assert len({work.thread for work in works}) == 8
    go_on.set()
    for work in works:
        assert work.returned.wait(BOUND)


def test_what_was_waiting_when_the_baton_changed_is_not_lost(loop: ReaderThread, echoes: list[Echo]) -> None:
    go_on = threading.Event()
    fired = threading.Event()
    done: list[int] = []
    work = Work(loop, lambda: go_on.wait(BOUND))
    with held(loop):
        work.serve()
        for number in range(10):
            loop.call_soon(lambda number=number: done.append(number))  # type: ignore[misc]
        loop.call_soon(lambda: loop.call_later(0.001, fired.set))
        for echo in echoes:
            echo.far.send(b"x")
    assert fired.wait(BOUND)
    assert done == list(range(10))
    until(lambda: all(echo.got == b"x" for echo in echoes))
    go_on.set()
    assert work.returned.wait(BOUND)


def test_only_one_thread_runs_the_loop(loop: ReaderThread) -> None:
    inside = 0
    most = 0
    go_on = threading.Event()

    def count_up() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.0002)
        inside -= 1

    works = [Work(loop, lambda: go_on.wait(BOUND)) for _ in range(5)]
    for work in works:
        work.serve()
        for _ in range(10):
            loop.call_soon(count_up)
    settle(loop)
    go_on.set()  # the threads that lost the baton come back here, all at once
    for _ in range(100):
        loop.call_soon(count_up)
    settle(loop)
    for work in works:
        assert work.returned.wait(BOUND)
    settle(loop)
    assert most == 1


def test_without_a_spare_thread_the_callback_keeps_the_baton(loop: ReaderThread, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = threading.Event()

    def refuse(work: Callable[[], object]) -> bool:
        refused.set()
        return False

    go_on = threading.Event()
    work = Work(loop, lambda: go_on.wait(BOUND))
    done: list[str] = []
    settle(loop)
    keeper.watch(loop)  # while there are threads
    monkeypatch.setattr(crew, "run", refuse)
    work.serve()
    assert refused.wait(BOUND)
    loop.call_soon(lambda: done.append("later"))
    assert done == []
    go_on.set()
    assert work.returned.wait(BOUND)
    assert work.kept == [True]
    until(lambda: done == ["later"])


def test_a_callback_that_raises_gives_back_the_host(loop: ReaderThread, patient: None, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("no luck")

    work = Work(loop, fail)
    with caplog.at_level(logging.ERROR, "actorbus.engine"):
        work.serve()
        assert work.returned.wait(BOUND)
        settle(loop)
    assert on_loop(loop, lambda: waiting.current().host) is None
    assert loop._lane is None


# --- the keeper ---


def test_the_keeper_sleeps_while_no_callbacks_run(loop: ReaderThread, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    check = loop.check

    def counted(now: float) -> bool:
        nonlocal looks
        looks += 1
        return check(now)

    monkeypatch.setattr(loop, "check", counted)
    work = Work(loop, lambda: None)
    work.serve()
    assert work.returned.wait(BOUND)
    until(lambda: looks and keeper.asleep)
    pause = threading.Event()
    pause.wait(keeper.LOOK_SECONDS * 3)  # a last look may be under way
    before = looks
    for _ in range(20):
        settle(loop)
    pause.wait(keeper.LOOK_SECONDS * 10)
    assert looks == before
    again = Work(loop, lambda: None)
    again.serve()
    assert again.returned.wait(BOUND)
    until(lambda: looks > before)


def test_the_keeper_knows_a_loop_from_its_beginning_to_its_end() -> None:
    # Not from its first callback: awake for another loop's sake the keeper is not called by that.
    loop = hosting.dedicated()
    assert loop in keeper._loops
    hosting.release(loop)
    assert loop.stopped.wait(BOUND)
    assert loop not in keeper._loops


# --- callbacks of a server, end to end ---


class Served:
    """A server whose callback does what the message says, and on which thread it did."""

    def __init__(self, stack: ExitStack) -> None:
        self.go_on = threading.Event()
        self.threads: dict[str, list[threading.Thread]] = {}
        self.others: list[Any] = []
        self.server = stack.enter_context(bus.serve("tcp://127.0.0.1:0", self.on_message))
        stack.callback(self.go_on.set)
        self._stack = stack

    def on_message(self, message: bus.Message, client: bus.Client) -> bytes:
        name, _, what = message.text.partition(" ")
        self.threads.setdefault(name, []).append(threading.current_thread())
        if what == "block":
            assert self.go_on.wait(BOUND)
        elif what == "receive":
            assert self.others[0].receive(timeout=BOUND) is not None
        return message.data

    def connect(self) -> bus.Connection:
        return self._stack.enter_context(bus.connect(f"tcp://{self.server.address}", timeout=BOUND))

    def ask(self, conn: bus.Connection, text: str) -> None:
        conn.send(text)
        reply = conn.receive(timeout=BOUND)
        assert reply is not None
        assert reply.text == text

    @property
    def reader_thread(self) -> threading.Thread:
        return on_loop(self.server._actor.loop, threading.current_thread)


@pytest.fixture
def served() -> Iterator[Served]:
    with ExitStack() as stack:
        yield Served(stack)


def test_a_blocking_callback_does_not_hold_up_its_neighbours(served: Served) -> None:
    slow, quick = served.connect(), served.connect()
    slow.send("slow block")
    for _ in range(20):
        served.ask(quick, "quick")
    assert slow.receive(timeout=0) is None
    served.go_on.set()
    reply = slow.receive(timeout=BOUND)
    assert reply is not None
    assert reply.text == "slow block"


def test_a_callback_may_receive_from_another_connection(served: Served, patient: None) -> None:
    with bus.bind("udp://127.0.0.1:0") as other, bus.bind("udp://127.0.0.1:0") as sender:
        served.others.append(other)
        slow, quick = served.connect(), served.connect()
        slow.send("slow receive")
        until(lambda: "slow" in served.threads)
        served.ask(quick, "quick")
        sender.send_to(other.address, "go on")
        assert slow.receive(timeout=BOUND) is not None


def test_a_slow_client_is_served_apart_until_it_has_been_quick_for_a_while(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    streak = 5
    monkeypatch.setattr(lane_module, "QUICK", BOUND)
    monkeypatch.setattr(lane_module, "QUICK_STREAK", streak)
    slow, quick = served.connect(), served.connect()
    served.ask(slow, "first")
    assert served.threads["first"] == [served.reader_thread]
    slow.send("slow block")
    served.ask(quick, "quick")
    served.go_on.set()
    assert slow.receive(timeout=BOUND) is not None
    monkeypatch.setattr(keeper, "PATIENCE", 1e9)  # from here on the reader thread stays the same
    reader = served.reader_thread
    for _ in range(streak):
        served.ask(slow, "apart")
    assert reader not in served.threads["apart"]
    served.ask(quick, "quick")
    assert served.threads["quick"][-1] is reader, "only the slow one is served apart"
    for _ in range(streak):
        served.ask(slow, "back")
    assert served.threads["back"][-1] is reader


def test_a_client_that_is_slow_again_soon_after_is_served_apart_for_longer(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "QUICK", BOUND)
    monkeypatch.setattr(keeper, "PATIENCE", 1e9)
    slow = served.connect()

    def be_slow() -> int:
        """It is; after how many quick turns it is served on the reader thread again."""
        on_loop(loop, lane.detach)
        on_loop(loop, lane._finish)
        turns = 0
        while lane.slow:
            served.ask(slow, "quick")
            until(lambda: not lane.running)  # the answer comes before its turn is over
            turns += 1
        return turns

    served.ask(slow, "first")
    loop = served.server._actor.loop
    lane: Any = next(iter(served.server._actor.clients)).lane
    once = lane_module.QUICK_STREAK
    assert [be_slow(), be_slow(), be_slow()] == [once, 2 * once, 4 * once]
    for _ in range(8 * once):
        served.ask(slow, "quick for long")
    until(lambda: not lane.running)
    assert be_slow() == once


def test_patience_shrinks_with_each_slow_callback_and_comes_back_by_and_by() -> None:
    patience = 1.0
    for _ in range(10):
        patience = keeper.less(patience)
    assert patience == keeper.LEAST
    looks = 0
    while patience < 1.0:
        patience = keeper.more(patience)
        looks += 1
    assert 50 < looks < 100
    assert keeper.more(1.0) == 1.0


def test_a_loop_is_left_sooner_by_who_has_held_it_up_before() -> None:
    loop = ReaderThread()  # without a thread: the keeper does not know it
    now = monotonic()
    taken: list[object] = []
    loop._since, loop._lane = now - keeper.PATIENCE / 2, object()  # type: ignore[assignment]
    loop.take_over = taken.append  # type: ignore[method-assign, assignment]
    try:
        loop.check(now)
        assert taken == []
        loop.patience = 0.25
        loop.check(now)
        assert taken == [loop._lane]
        assert loop.patience == 0.125
    finally:
        loop.discard()


def test_callbacks_of_one_client_never_overlap_while_the_baton_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "PATIENCE", 0.0)
    inside: dict[str, int] = {}
    overlaps: list[str] = []
    got: dict[str, list[int]] = {}

    def on_message(message: bus.Message, client: bus.Client) -> bytes:
        who = client.remote_address
        inside[who] = inside.get(who, 0) + 1
        if inside[who] > 1:
            overlaps.append(who)
        got.setdefault(who, []).append(int(message.data))
        if int(message.data) % 10 == 0:
            threading.Event().wait(0.003)
        inside[who] -= 1
        return message.data

    with ExitStack() as stack:
        server = stack.enter_context(bus.serve("tcp://127.0.0.1:0", on_message))
        conns = [stack.enter_context(bus.connect(f"tcp://{server.address}", timeout=BOUND)) for _ in range(4)]
        for number in range(60):
            for conn in conns:
                conn.send(str(number))
        for conn in conns:
            replies = [conn.receive(timeout=BOUND) for _ in range(60)]
            assert [int(reply.data) for reply in replies if reply] == list(range(60))
        assert overlaps == []
        assert [got[conn.local_address] for conn in conns] == [list(range(60))] * 4

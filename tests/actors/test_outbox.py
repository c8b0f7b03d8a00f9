"""Whatever the kernel does, a message is taken whole or not at all, frames go out in order and once, and what waits is bounded."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from itertools import count
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors import outbox as outbox_module
from actors import waiting
from actors.errors import Broken, BusError, Closed, NotSent
from actors.outbox import JOIN_BYTES, LOW_WATER, MAX_MESSAGES, Outbox
from tests.actors.interrupts import interrupted

BOUND = 30.0
MAX = 100

Answer = int | OSError | KeyboardInterrupt


class Wire:
    """An outbox, the kernel behind it, and the reader thread as far as the outbox asks it for something.

    The kernel gives the next of `answers` to each write: how many bytes it takes at most, or what it raises. Without one it takes `room`.
    """

    def __init__(self, *, room: int = 0, max_bytes: int = MAX, max_messages: int = MAX_MESSAGES) -> None:
        self.answers: list[Answer] = []
        self.room = room
        self.gone = bytearray()
        self.writes: list[int] = []
        self.behind = False
        self.drained = 0
        self.failures: list[OSError] = []
        self.outbox = Outbox(
            self,
            address="peer",
            backlog=self.backlog,
            failed=self.failed,
            drained=self.count_drained,
            max_bytes=max_bytes,
            max_messages=max_messages,
        )

    def send(self, data: bytes | memoryview, /) -> int:
        assert self.outbox.lock.locked()
        answer = self.answers.pop(0) if self.answers else self.room
        if not isinstance(answer, int):
            raise answer
        taken = min(answer, len(data))
        if not taken and len(data):
            raise BlockingIOError(errno.EAGAIN, "full")
        self.gone += data[:taken]
        self.writes.append(taken)
        return taken

    def backlog(self, behind: bool) -> None:
        assert self.outbox.lock.locked()
        self.behind = behind

    def failed(self, exc: OSError) -> BusError:
        self.failures.append(exc)
        return Broken("peer", "reset").because(exc)

    def count_drained(self) -> None:
        self.drained += 1

    def flush_all(self) -> None:
        """The peer reads everything; the reader thread writes on as long as it was asked to."""
        self.answers.clear()
        self.room = 1 << 30
        for _ in range(1000):
            if not self.behind:
                return
            self.outbox.flush()
        raise AssertionError("it never comes to an end")


def past() -> float:
    return monotonic() - 1


# --- any order of anything ---

answers = st.lists(st.integers(0, 60) | st.sampled_from([BlockingIOError(errno.EAGAIN, "full"), InterruptedError(errno.EINTR, "again")]))
sizes = st.integers(1, 40) | st.sampled_from([MAX - 1, MAX, MAX + 1, MAX * 3])


class Traffic(RuleBasedStateMachine):
    """Every way into the outbox, with a kernel that takes what it likes. Each message is a run of one letter."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire()
        self.outbox = self.wire.outbox
        self.accepted: list[bytes] = []
        self.numbers = count()

    def frame(self, size: int) -> bytes:
        return bytes([65 + next(self.numbers) % 58]) * size

    def full_for(self, size: int) -> bool:
        return len(self.outbox) > 0 and len(self.outbox) + size > MAX

    @rule(answers=answers, room=st.sampled_from([0, 0, 7, 50, 1 << 20]))
    def the_kernel_will(self, answers: list[Answer], room: int) -> None:
        self.wire.answers[:] = answers
        self.wire.room = room

    @rule(size=sizes)
    def send(self, size: int) -> None:
        frame, full = self.frame(size), self.full_for(size)
        before = (len(self.outbox), self.outbox.messages, self.outbox.bytes, bytes(self.wire.gone))
        try:
            self.outbox.send(frame, past())
        except NotSent:
            assert full
            assert (len(self.outbox), self.outbox.messages, self.outbox.bytes, bytes(self.wire.gone)) == before
            assert self.outbox.congested
        else:
            assert not full
            self.accepted.append(frame)

    @rule(size=sizes.filter(lambda size: size < MAX))  # see test_a_short_send_that_fills_it_is_congestion_too
    def try_send(self, size: int) -> None:
        frame, empty = self.frame(size), not len(self.outbox)
        outcome = self.outbox.try_send(frame)
        assert (outcome is not None) is empty
        if outcome is not None:
            self.accepted.append(frame)
            assert (outcome == "taken") is (not len(self.outbox))

    @rule(many=st.lists(sizes, max_size=6))
    def send_many(self, many: list[int]) -> None:
        frames = [self.frame(size) for size in many]
        accepted = len(frames)
        try:
            self.outbox.send_many(frames, past())
        except NotSent as exc:
            accepted = exc.accepted
        self.accepted += frames[:accepted]

    @rule(size=sizes)
    def offer(self, size: int) -> None:
        frame, full = self.frame(size), self.full_for(size)
        outcome = self.outbox.offer(frame)
        assert (outcome == "skipped") is full
        if outcome != "skipped":
            self.accepted.append(frame)
            assert (outcome == "taken") is (not len(self.outbox))

    @precondition(lambda self: not self.outbox.congested)
    @rule(size=sizes)
    def force(self, size: int) -> None:
        frame = self.frame(size)
        self.outbox.force(frame)
        self.accepted.append(frame)

    @rule()
    def flush(self) -> None:
        self.outbox.flush()

    @invariant()
    def what_has_gone_is_the_beginning_of_what_was_accepted(self) -> None:
        assert b"".join(self.accepted).startswith(self.wire.gone)

    @invariant()
    def the_account_is_right(self) -> None:
        accepted = sum(map(len, self.accepted))
        assert self.outbox.bytes == accepted
        assert self.outbox.written == len(self.wire.gone)
        assert len(self.outbox) == accepted - len(self.wire.gone)
        assert self.outbox.messages == len(self.accepted)

    @invariant()
    def it_is_bounded(self) -> None:
        # One larger message fits when it is empty, and a reply is taken while it is not congested.
        largest = max(map(len, self.accepted), default=0)
        assert len(self.outbox) <= MAX + largest

    @invariant()
    def the_reader_thread_is_asked_exactly_while_something_waits(self) -> None:
        assert self.wire.behind is (len(self.outbox) > 0)

    @invariant()
    def it_is_congested_at_the_bound_and_never_when_empty(self) -> None:
        # In between it depends: on a sender that waits for room, and on how far it has drained.
        if len(self.outbox) >= MAX:
            assert self.outbox.congested
        if not len(self.outbox):
            assert not self.outbox.congested

    def teardown(self) -> None:
        congested, drained = self.outbox.congested, self.wire.drained
        self.wire.flush_all()
        assert bytes(self.wire.gone) == b"".join(self.accepted)
        assert not self.outbox.congested
        assert self.wire.drained == drained + congested


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=30)


# --- taken whole, or not at all ---


def test_what_the_kernel_takes_at_once_never_waits() -> None:
    wire = Wire(room=1 << 20)
    assert wire.outbox.try_send(b"one") == "taken"
    wire.outbox.send(b"two", None)
    wire.outbox.send_many([b"three", b"four"], None)
    assert wire.outbox.offer(b"five") == "taken"
    wire.outbox.force(b"six")
    assert bytes(wire.gone) == b"onetwothreefourfivesix"
    assert wire.writes == [3, 3, 9, 4, 3], "messages sent together go out in one write"
    assert not wire.behind


def test_a_message_over_the_bound_fits_an_empty_outbox_and_no_other() -> None:
    wire = Wire()
    wire.outbox.send(b"x" * MAX * 5, past())
    assert len(wire.outbox) == MAX * 5
    with pytest.raises(NotSent):
        wire.outbox.send(b"y", past())
    assert wire.outbox.offer(b"y") == "skipped"
    wire.flush_all()
    assert bytes(wire.gone) == b"x" * MAX * 5


def test_not_sent_tells_how_much_is_in_the_way() -> None:
    wire = Wire()
    wire.outbox.send(b"x" * MAX, past())
    with pytest.raises(NotSent, match=f"{MAX} bytes are still waiting.*nothing of this message was taken") as caught:
        wire.outbox.send(b"y", past())
    assert caught.value.address == "peer"
    assert caught.value.accepted == 0


def test_of_many_the_first_ones_are_taken_and_counted() -> None:
    wire = Wire()
    frames = [bytes([65 + number]) * 30 for number in range(8)]
    with pytest.raises(NotSent) as caught:
        wire.outbox.send_many(frames, past())
    assert caught.value.accepted == 3
    wire.flush_all()
    assert bytes(wire.gone) == b"".join(frames[:3])
    wire.outbox.send_many(frames[3:], past())
    assert bytes(wire.gone) == b"".join(frames)


def test_many_of_nothing_is_nothing() -> None:
    wire = Wire(room=100)
    wire.outbox.send_many([], past())
    assert wire.writes == []


def test_small_frames_that_wait_go_out_together() -> None:
    wire = Wire(max_bytes=10 * JOIN_BYTES)
    for number in range(2000):
        wire.outbox.send(b"%0100d" % number, None)
    wire.flush_all()
    assert bytes(wire.gone) == b"".join(b"%0100d" % number for number in range(2000))
    assert len(wire.writes) <= 2 + 2000 * 100 // JOIN_BYTES + 1
    assert max(wire.writes) <= JOIN_BYTES


@given(takes=st.lists(st.integers(0, 30), max_size=50))
def test_a_frame_that_goes_out_in_pieces_goes_out_once(takes: list[int]) -> None:
    wire = Wire()
    wire.answers[:] = takes
    wire.outbox.send(b"0123456789" * 6, None)
    while wire.answers and wire.behind:
        wire.outbox.flush()
    wire.flush_all()
    assert bytes(wire.gone) == b"0123456789" * 6


# --- a full outbox ---


def in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[BaseException | None]]:
    outcome: list[BaseException | None] = []

    def work() -> None:
        try:
            call()
            outcome.append(None)
        except BaseException as exc:
            outcome.append(exc)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, outcome


def until_queued(wire: Wire) -> None:
    deadline = monotonic() + BOUND
    pause = threading.Event()
    while not wire.outbox._waiters:
        assert monotonic() < deadline
        pause.wait(0.001)


def test_a_waiting_send_goes_on_when_there_is_room() -> None:
    wire = Wire()
    wire.outbox.send(b"x" * MAX, None)
    thread, outcome = in_thread(lambda: wire.outbox.send(b"y" * 10, monotonic() + BOUND))
    until_queued(wire)
    wire.flush_all()
    thread.join(BOUND)
    wire.flush_all()
    assert outcome == [None]
    assert bytes(wire.gone) == b"x" * MAX + b"y" * 10


@pytest.mark.parametrize("end", [Outbox.refuse, Outbox.drop])
def test_a_waiting_send_learns_the_reason_of_the_end(end: Callable[[Outbox, BusError], object]) -> None:
    wire = Wire()
    wire.outbox.send(b"x" * MAX, None)
    thread, outcome = in_thread(lambda: wire.outbox.send(b"y", None))
    until_queued(wire)
    end(wire.outbox, Closed("peer"))
    thread.join(BOUND)
    assert [type(error) for error in outcome] == [Closed]


def test_a_waiting_send_can_be_interrupted_and_took_nothing() -> None:
    wire = Wire()
    wire.outbox.send(b"x" * MAX, None)
    thread, outcome = in_thread(lambda: wire.outbox.send(b"y", None))
    until_queued(wire)
    assert thread.ident is not None
    waiting.interrupt([thread.ident])
    thread.join(BOUND)
    assert [type(error) for error in outcome] == [KeyboardInterrupt]
    wire.flush_all()
    assert bytes(wire.gone) == b"x" * MAX


def test_a_callback_never_waits() -> None:
    class Host:
        def about_to_block(self) -> None:
            raise AssertionError("it was about to block")

    def callback() -> None:
        waiting.current().host = Host()
        wire.outbox.send(b"y", None)

    wire = Wire()
    wire.outbox.send(b"x" * MAX, None)
    thread, outcome = in_thread(callback)
    thread.join(BOUND)
    (error,) = outcome
    assert isinstance(error, NotSent)
    assert "a callback never waits" in str(error)


def test_a_short_send_that_fills_it_is_congestion_too() -> None:
    wire = Wire(room=0)
    assert wire.outbox.try_send(b"x" * MAX) == "queued"
    assert wire.outbox.congested


def test_congestion_begins_at_the_bound_and_ends_at_a_quarter() -> None:
    wire = Wire()
    wire.outbox.force(b"x" * (MAX - 1))
    assert not wire.outbox.congested
    wire.outbox.force(b"y")
    assert wire.outbox.congested
    wire.answers[:] = [MAX - MAX // LOW_WATER - 1]
    wire.outbox.flush()
    assert wire.outbox.congested
    assert wire.drained == 0
    wire.answers[:] = [1]
    wire.outbox.flush()
    assert not wire.outbox.congested
    assert wire.drained == 1
    wire.flush_all()
    assert wire.drained == 1, "once for each congestion"


# --- the end ---


def enders() -> list[tuple[str, Callable[[Outbox], object]]]:
    return [
        ("send", lambda outbox: outbox.send(b"late", None)),
        ("send_many", lambda outbox: outbox.send_many([b"late"], None)),
        ("force", lambda outbox: outbox.force(b"late")),
    ]


@pytest.mark.parametrize("end", [Outbox.refuse, Outbox.drop])
@pytest.mark.parametrize("name, call", enders())
def test_after_the_end_everything_raises_its_reason(
    end: Callable[[Outbox, BusError], object], name: str, call: Callable[[Outbox], object]
) -> None:
    wire = Wire(room=1 << 20)
    end(wire.outbox, Closed("peer"))
    raised = []
    for _ in range(2):
        with pytest.raises(Closed) as caught:
            call(wire.outbox)
        raised.append(caught.value)
    assert raised[0] is not raised[1], "a traceback of its own each time"
    assert wire.outbox.offer(b"late") == "skipped"
    assert wire.outbox.try_send(b"late") is None
    assert wire.gone == b""


def test_what_was_taken_before_a_refusal_is_still_written() -> None:
    wire = Wire()
    wire.outbox.send(b"before", None)
    wire.outbox.refuse(Closed("peer"))
    wire.flush_all()
    assert bytes(wire.gone) == b"before"
    assert wire.outbox.unsent == 0


def test_a_drop_forgets_what_waits_and_counts_it() -> None:
    wire = Wire(room=10)
    wire.outbox.send(b"x" * 30, None)
    wire.outbox.send(b"y" * 30, None)
    assert wire.outbox.drop(Broken("peer", "reset")) == 50
    assert (wire.outbox.unsent, len(wire.outbox), wire.outbox.written) == (50, 0, 10)
    wire.room = 100
    wire.outbox.flush()
    assert bytes(wire.gone) == b"x" * 10
    assert wire.outbox.drop(Closed("peer")) == 0
    assert isinstance(wire.outbox.ended, Broken), "the first reason stays"


def test_a_drop_overrides_a_refusal() -> None:
    wire = Wire()
    wire.outbox.refuse(Closed("peer"))
    wire.outbox.drop(Broken("peer", "reset"))
    assert isinstance(wire.outbox.ended, Broken)


def test_of_two_breaks_the_first_is_the_reason() -> None:
    wire = Wire()
    first = Broken("peer", "a frame is too large")
    wire.outbox.refuse(first)
    wire.outbox.drop(Broken("peer", "reset"))
    assert wire.outbox.ended is first


FAILURES = [ConnectionResetError(errno.ECONNRESET, "reset"), BrokenPipeError(errno.EPIPE, "pipe"), OSError(errno.ETIMEDOUT, "timed out")]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_write_is_reported_and_its_reason_stays(failure: OSError) -> None:
    wire = Wire()
    wire.outbox.send(b"x" * 10, None)
    wire.answers[:] = [4, failure]
    wire.outbox.flush()
    wire.outbox.flush()
    assert wire.failures == [failure]
    assert isinstance(wire.outbox.ended, Broken)
    assert wire.outbox.ended.errno == failure.errno
    with pytest.raises(Broken):
        wire.outbox.send(b"y", None)
    assert wire.outbox.drop(Broken("peer", "reset")) == 6
    assert bytes(wire.gone) == b"x" * 4


@pytest.mark.parametrize("way", ["try_send", "send", "offer", "force", "send_many"])
def test_a_write_that_fails_in_the_senders_own_thread_is_reported_too(way: str) -> None:
    wire = Wire()
    wire.answers[:] = [FAILURES[0]] * 3
    argument: Any = [b"x"] if way == "send_many" else b"x"
    arguments = (argument, None) if way.startswith("send") else (argument,)
    getattr(wire.outbox, way)(*arguments)
    assert set(wire.failures) == {FAILURES[0]}
    assert isinstance(wire.outbox.ended, Broken)
    assert wire.outbox.drop(wire.outbox.ended) == 1


# --- Ctrl-C ---


WAYS: dict[str, Callable[[Outbox], object]] = {
    "try_send": lambda outbox: outbox.try_send(b"new!"),
    "send": lambda outbox: outbox.send(b"new!", past()),
    "send_many": lambda outbox: outbox.send_many([b"ne", b"w!"], past()),
    "offer": lambda outbox: outbox.offer(b"new!"),
    "flush": Outbox.flush,
}


def check_interrupted(way: str, before: bytes, takes: list[int], *, entering: bool) -> None:
    for number in range(1, 100):
        wire = Wire()
        if before:
            wire.outbox.send(before, None)
        wire.answers[:] = takes
        more = interrupted(number, outbox_module, lambda wire=wire: WAYS[way](wire.outbox), entering=entering)  # type: ignore[misc]
        assert not wire.outbox.lock.locked()
        wire.flush_all()
        assert bytes(wire.gone) in (before, before + b"new!"), f"place {number}"
        assert len(wire.outbox) == 0, f"place {number}: it lies there, and the reader thread was not asked to write it"
        assert wire.outbox.written == wire.outbox.bytes == len(wire.gone)
        wire.outbox.send(b"after", None)
        wire.flush_all()
        assert wire.gone.endswith(b"after")
        if not more:
            return
    raise AssertionError("it makes calls without end")


TAKES = [[0], [1], [3], [100], [2, 0], [2, 100]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", [b"", b"before"], ids=["empty", "behind"])
@pytest.mark.parametrize("takes", TAKES, ids=str)
def test_ctrl_c_after_any_call_tears_nothing_and_sends_nothing_twice(way: str, before: bytes, takes: list[int]) -> None:
    check_interrupted(way, before, takes, entering=False)


@pytest.mark.parametrize("way", ["try_send", "send", "send_many", "offer"])
def test_ctrl_c_on_entering_a_function_does_neither(way: str) -> None:
    check_interrupted(way, b"", [2, 0], entering=True)


def test_an_interrupted_write_is_written_on() -> None:
    wire = Wire()
    wire.answers[:] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        wire.outbox.send(b"whole", None)
    assert wire.behind, "the reader thread does the rest"
    wire.flush_all()
    assert bytes(wire.gone) == b"whole"


# --- many threads ---


def test_frames_of_many_threads_never_interleave() -> None:
    wire = Wire(room=5, max_bytes=300)
    senders, each = 4, 200
    outcomes = []
    for sender in range(senders):

        def work(sender: int = sender) -> None:
            for number in range(each):
                wire.outbox.send(b"<%d:%0*d>" % (sender, number % 40, number), monotonic() + BOUND)

        outcomes.append(in_thread(work))
    while any(thread.is_alive() for thread, _ in outcomes):
        wire.outbox.flush()
    wire.flush_all()
    assert [outcome for _, outcome in outcomes] == [[None]] * senders
    frames = [frame.split(b":") for frame in bytes(wire.gone)[1:-1].split(b"><")]
    for sender in range(senders):
        assert [int(number) for name, number in frames if name == b"%d" % sender] == list(range(each))


# --- the bound in messages, and ages ---


def test_it_is_bounded_in_messages_too() -> None:
    wire = Wire(max_messages=4)
    for number in range(5):  # one is being written, four wait
        wire.outbox.send(b"%d" % number, monotonic())
    assert wire.outbox.congested
    assert wire.outbox.offer(b"x") == "skipped"
    with pytest.raises(NotSent):
        wire.outbox.send(b"x", monotonic())
    with pytest.raises(NotSent) as caught:
        wire.outbox.send_many([b"x", b"y"], monotonic())
    assert caught.value.accepted == 0
    wire.room = MAX
    wire.outbox.flush()
    assert bytes(wire.gone) == b"01234"
    assert not wire.outbox.congested
    assert wire.drained == 1
    wire.outbox.send(b"x", monotonic())


def test_what_is_sent_together_waits_as_one() -> None:
    wire = Wire(max_messages=2)
    wire.outbox.send_many([b"1"] * 50, monotonic())
    wire.outbox.send_many([b"2"] * 20, monotonic())
    wire.outbox.send_many([b"3"] * 20, monotonic())
    with pytest.raises(NotSent):
        wire.outbox.send_many([b"4"], monotonic())


def test_the_age_of_the_oldest_byte_that_the_kernel_has_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(outbox_module, "monotonic", lambda: now)
    wire = Wire(room=10)
    wire.outbox.send(b"x" * 5, None)
    assert wire.outbox.oldest() is None
    wire.room = 0
    wire.outbox.send(b"a" * 10, None)
    assert wire.outbox.oldest() == 100.0
    now = 101.0
    wire.outbox.send(b"b" * 10, None)
    now = 101.01  # too soon for a mark of its own
    wire.outbox.send(b"c" * 10, None)
    now = 102.0
    wire.outbox.send(b"d" * 10, None)
    assert wire.outbox.oldest() == 100.0
    for taken, oldest in ((9, 100.0), (1, 101.0), (19, 101.0), (1, 102.0), (9, 102.0)):
        wire.answers = [taken, 0]
        wire.outbox.flush()
        assert wire.outbox.oldest() == oldest
    wire.answers = [1]
    wire.outbox.flush()
    assert wire.outbox.oldest() is None

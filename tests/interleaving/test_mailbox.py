"""The mailbox under every order of two or three threads: nothing is lost, nothing comes twice, nobody waits in vain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest

import actors.mailbox
from actors.errors import BusError, Closed, PeerClosed
from actors.mailbox import Mailbox
from tests.interleaving.explorer import OPCODES_REPORTED, Report, explore
from tests.interleaving.primitives import Lock, Parking, monotonic, parking
from tests.interleaving.stand_ins import Bell, current

WEIGHT = 10
ENDED = PeerClosed("tcp://peer")
CLOSED = Closed("tcp://peer")


class Desk:
    """A mailbox and what its takers got."""

    def __init__(
        self,
        *,
        max_items: int = 100,
        lossy: bool = False,
        pause: Callable[[], None] = lambda: None,
        resume: Callable[[], None] = lambda: None,
    ) -> None:
        self.mailbox: Mailbox[int] = Mailbox(weigh=lambda item: WEIGHT, max_items=max_items, lossy=lossy, pause=pause, resume=resume)
        self.got: list[list[int | None]] = []
        self.reasons: list[BusError] = []

    def put(self, *items: int) -> None:
        self.mailbox.put(items, len(items) * WEIGHT)

    def take(self, count: int, timeout: float | None = None) -> None:
        got: list[int | None] = []
        self.got.append(got)
        while len(got) < count:
            got.append(self.mailbox.get(None if timeout is None else monotonic() + timeout))

    def take_all(self) -> None:
        """Until the end, however it comes."""
        got: list[int | None] = []
        self.got.append(got)
        try:
            while True:
                got.append(self.mailbox.get(None))
        except BusError as reason:
            self.reasons.append(reason)

    def taken(self) -> list[int]:
        return [item for got in self.got for item in got if item is not None]

    def rest(self) -> list[int]:
        rest = []
        while len(self.mailbox):
            item = self.mailbox.get(None)
            assert item is not None
            rest.append(item)
        return rest

    def check_each_once(self, *items: int) -> None:
        for got in self.got:
            taken = [item for item in got if item is not None]
            assert taken == sorted(taken), "out of order"
        weight, expected = self.mailbox.weight, len(self.mailbox) * WEIGHT
        assert weight == expected
        assert sorted(self.taken() + self.rest()) == sorted(items)


def play(
    setup: Callable[[], Desk],
    threads: Sequence[Callable[[Desk], object]],
    check: Callable[[Desk], object],
    *,
    lock: type[Lock] = Lock,
    preemptions: int = 2,
    opcodes: bool = False,
) -> Report:
    # Two threads are interrupted anywhere. With a third that would take minutes, and in sections would show nothing
    # that two of them do not show: only `idle` and `len` look at the items without the lock.
    # The interpreter: without its lock anything may come between any two lines, but `quick` is not used; nor does that use ours.
    for locked in (False, True) if lock is Lock else (False,):
        report = explore(
            setup,
            threads,
            check,
            trace_files=[actors.mailbox],
            preemptions=1 if locked and len(threads) > 2 else preemptions,
            opcodes=opcodes and not locked,
            atomic_sections=len(threads) > 2 and not locked,
            between_calls=locked,
            replace={
                "actors.mailbox.LOCKED": locked,
                "actors.mailbox.Lock": lock,
                "actors.mailbox.monotonic": monotonic,
                "actors.mailbox.current": current,
                "actors.mailbox.Wakeup": Bell,
            },
        )
        assert report.complete
    return report


def put_one_then_two(desk: Desk) -> None:
    desk.put(1)
    desk.put(2, 3)


def test_one_taker_gets_everything_in_order() -> None:
    def check(desk: Desk) -> None:
        assert desk.got == [[1, 2, 3]]

    play(Desk, [lambda desk: desk.take(3), put_one_then_two], check)


@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_takers_share_without_losing_or_doubling(preemptions: int) -> None:
    play(
        Desk,
        [lambda desk: desk.take(2), lambda desk: desk.take(1), put_one_then_two],
        lambda desk: desk.check_each_once(1, 2, 3),
        preemptions=preemptions,
    )


def test_two_reader_loops_keep_their_own_order() -> None:
    def check(desk: Desk) -> None:
        (got,) = desk.got
        assert [item for item in got if item in (1, 2, 3)] == [1, 2, 3]
        assert [item for item in got if item in (11, 12)] == [11, 12]
        assert len(got) == 5

    play(Desk, [lambda desk: desk.take(5), put_one_then_two, lambda desk: desk.put(11, 12)], check)


@pytest.mark.parametrize("timeout", [0, 1])
def test_a_get_that_times_out_leaves_everything_for_the_next(timeout: float) -> None:
    play(
        Desk,
        [lambda desk: desk.take(3, timeout), put_one_then_two],
        lambda desk: desk.check_each_once(1, 2, 3),
    )


def test_a_get_never_times_out_on_what_was_there_before_it_began() -> None:
    def check(desk: Desk) -> None:
        assert all(got[0] is not None for got in desk.got)

    def setup() -> Desk:
        desk = Desk()
        desk.put(1, 2)
        return desk

    play(setup, [lambda desk: desk.take(1, 0), lambda desk: desk.take(1, 0), lambda desk: desk.put(3)], check)


@pytest.mark.skipif(not OPCODES_REPORTED, reason="opcodes cannot be relied on")
@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_order_holds_between_opcodes_too(preemptions: int) -> None:
    play(
        Desk,
        [lambda desk: desk.take(1, 1), lambda desk: desk.put(1)],
        lambda desk: desk.check_each_once(1),
        opcodes=True,
        preemptions=preemptions,
    )


# --- back-pressure ---


class Stream(Desk):
    """A reader loop that stops reading while it is paused."""

    def __init__(self) -> None:
        super().__init__(max_items=4, pause=self.pause, resume=self.resume)
        self.paused = False
        self.calls: list[str] = []
        self.place = Parking()

    def pause(self) -> None:
        self.calls.append("pause")
        self.paused = True

    def resume(self) -> None:
        self.calls.append("resume")
        self.paused = False
        self.place.unpark()

    def read(self, *batches: list[int]) -> None:
        for batch in batches:
            while self.paused:
                self.place.park()
            assert len(self.mailbox) < 4, "it was not told to stop"
            self.put(*batch)

    def check_flow(self, *items: int) -> None:
        self.check_each_once(*items)
        assert self.calls == ["pause", "resume"] * (len(self.calls) // 2), "it stands still, or was told so twice"
        assert not self.paused


@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_draining_resumes_the_reader_loop(preemptions: int) -> None:
    def check(stream: Desk) -> None:
        assert isinstance(stream, Stream)
        stream.check_flow(1, 2, 3, 4, 5, 6, 7)

    def read(stream: Desk) -> None:
        assert isinstance(stream, Stream)
        stream.read([1, 2], [3, 4], [5, 6, 7])

    play(Stream, [read, lambda desk: desk.take(7)], check, preemptions=preemptions)
    play(Stream, [lambda desk: desk.take(7), read], check, preemptions=preemptions)


@pytest.mark.slow
def test_two_takers_resume_the_reader_loop_once_per_pause() -> None:
    def check(stream: Desk) -> None:
        assert isinstance(stream, Stream)
        stream.check_flow(1, 2, 3, 4, 5)

    def read(stream: Desk) -> None:
        assert isinstance(stream, Stream)
        stream.read([1, 2, 3, 4], [5])

    play(Stream, [read, lambda desk: desk.take(2), lambda desk: desk.take(3)], check)


@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_reader_loop_is_paused_again_when_it_fills_the_mailbox_again(preemptions: int) -> None:
    pauses: set[int] = set()

    def check(stream: Desk) -> None:
        assert isinstance(stream, Stream)
        stream.check_flow(*range(1, 8))
        pauses.add(stream.calls.count("pause"))

    def read(stream: Desk) -> None:
        assert isinstance(stream, Stream)
        stream.read([1, 2, 3, 4], [5, 6, 7])

    play(Stream, [read, lambda desk: desk.take(7)], check, preemptions=preemptions)
    assert pauses == {0, 1, 2}  # none when it is emptied while it is being filled


@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_lossy_mailbox_counts_what_goes(preemptions: int) -> None:
    def check(desk: Desk) -> None:
        lost = desk.mailbox.lost
        everything = desk.taken() + desk.rest()
        assert everything == sorted(set(everything)), "doubled, or out of order"
        assert len(everything) + lost == 5
        assert everything[-1] == 5, "the newest is kept"

    def put(desk: Desk) -> None:
        for item in (1, 2):
            desk.put(item)
        desk.put(3, 4, 5)

    play(lambda: Desk(max_items=2, lossy=True), [put, lambda desk: desk.take(2, 1)], check, preemptions=preemptions)


# --- the end ---


def test_the_end_comes_after_everything_that_was_put_before() -> None:
    def check(desk: Desk) -> None:
        assert desk.got == [[1, 2, 3]]
        assert [type(reason) for reason in desk.reasons] == [PeerClosed]

    def put_and_end(desk: Desk) -> None:
        put_one_then_two(desk)
        assert desk.mailbox.end(ENDED)
        desk.put(4)

    play(Desk, [Desk.take_all, put_and_end], check)


@pytest.mark.slow
def test_the_end_reaches_every_taker() -> None:
    def check(desk: Desk) -> None:
        desk.check_each_once(1)
        assert [type(reason) for reason in desk.reasons] == [PeerClosed, PeerClosed]

    def put_and_end(desk: Desk) -> None:
        desk.put(1)
        desk.mailbox.end(ENDED)

    play(Desk, [Desk.take_all, Desk.take_all, put_and_end], check)


def test_a_close_from_another_thread_ends_the_waiting() -> None:
    def check(desk: Desk) -> None:
        (got,) = desk.got
        assert got == [1, 2, 3][: len(got)]
        assert [type(reason) for reason in desk.reasons] == [Closed]
        assert desk.mailbox.weight == len(desk.mailbox) == 0

    play(Desk, [Desk.take_all, put_one_then_two, lambda desk: desk.mailbox.close(CLOSED)], check)


def test_a_close_wins_over_an_end_and_only_one_of_two_closes_counts() -> None:
    outcomes: set[tuple[bool, bool]] = set()

    def check(desk: Desk) -> None:
        first, second = desk.got
        assert first != second
        assert isinstance(desk.mailbox.ended, Closed)

    def close(desk: Desk) -> None:
        desk.got.append([desk.mailbox.close(CLOSED)])

    def end(desk: Desk) -> None:
        ended = desk.mailbox.end(ENDED)
        outcomes.add((ended, isinstance(desk.mailbox.ended, Closed)))

    play(Desk, [close, close, end], check)
    assert {ended for ended, _ in outcomes} == {True, False}


# --- waiting for several, and descriptors ---


class TwoDesks(Desk):
    def __init__(self) -> None:
        super().__init__()
        self.other = Desk()

    def take_from_either(self, count: int, timeout: float | None = None) -> None:
        deadline = None if timeout is None else monotonic() + timeout
        waiter = current()
        mailboxes = [self.mailbox, self.other.mailbox]
        got: list[int | None] = []
        self.got.append(got)
        while len(got) < count:
            for mailbox in mailboxes:
                if not mailbox.idle:
                    got.append(mailbox.get(monotonic()))
                    break
            else:
                if deadline is not None and monotonic() >= deadline:
                    break
                if all(mailbox.park(waiter) for mailbox in mailboxes):
                    waiter.wait(deadline)


@pytest.mark.parametrize("timeout", [None, 1])
def test_a_thread_can_wait_for_two_mailboxes(timeout: float | None) -> None:
    def take(desks: Desk) -> None:
        assert isinstance(desks, TwoDesks)
        desks.take_from_either(2, timeout)

    def put_other(desks: Desk) -> None:
        assert isinstance(desks, TwoDesks)
        desks.other.put(2)

    def check(desks: Desk) -> None:
        assert isinstance(desks, TwoDesks)
        if timeout is None:
            assert sorted(desks.taken()) == [1, 2]
        assert sorted(desks.taken() + desks.rest() + desks.other.rest()) == [1, 2]

    play(TwoDesks, [take, lambda desks: desks.put(1), put_other], check)


@pytest.mark.parametrize("ending", [None, Mailbox.end, Mailbox.close])
@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_bell_rings_exactly_while_a_get_would_not_wait(
    ending: Callable[[Mailbox[int], BusError], bool] | None,
    preemptions: int,
) -> None:
    def check(desk: Desk) -> None:
        bell = desk.mailbox._bell
        assert isinstance(bell, Bell)
        assert bell.readable is not desk.mailbox.idle

    def put_and_end(desk: Desk) -> None:
        desk.put(1)
        if ending is not None:
            ending(desk.mailbox, CLOSED)
        else:
            desk.put(2)

    def take(desk: Desk) -> None:
        try:
            desk.take(2, 1)
        except BusError:
            pass

    play(Desk, [take, put_and_end, lambda desk: desk.mailbox.bell()], check, preemptions=preemptions)


# --- Ctrl-C ---


class CtrlCAfterIt(Lock):
    """Ctrl-C comes right after the lock was left, once, in the thread that is to be interrupted."""

    to_interrupt: ClassVar[list[Parking]] = []

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        if parking() in self.to_interrupt:
            self.to_interrupt.remove(parking())
            raise KeyboardInterrupt


def take_interrupted(desk: Desk) -> None:
    CtrlCAfterIt.to_interrupt[:] = [parking()]
    with pytest.raises(KeyboardInterrupt):
        desk.mailbox.get(None)
    desk.take(1, 0)


def with_two_items() -> Desk:
    desk = Desk()
    desk.put(1, 2)
    return desk


def test_an_interrupted_get_leaves_its_item_to_another_taker() -> None:
    play(
        with_two_items,
        [take_interrupted, lambda desk: desk.take(1, 1)],
        lambda desk: desk.check_each_once(1, 2),
        lock=CtrlCAfterIt,
    )


def test_the_bell_rings_for_what_an_interrupted_get_left() -> None:
    def setup() -> Desk:
        desk = Desk()
        desk.mailbox.bell()
        desk.put(1)
        return desk

    def interrupted(desk: Desk) -> None:
        CtrlCAfterIt.to_interrupt[:] = [parking()]
        with pytest.raises(KeyboardInterrupt):
            desk.mailbox.get(None)

    def check(desk: Desk) -> None:
        assert isinstance(desk.mailbox._bell, Bell)
        assert desk.mailbox._bell.readable
        desk.check_each_once(1)

    play(setup, [interrupted], check, lock=CtrlCAfterIt)


def test_an_interrupted_get_gives_nothing_back_after_the_close() -> None:
    def interrupted(desk: Desk) -> None:
        CtrlCAfterIt.to_interrupt[:] = [parking()]
        with pytest.raises((KeyboardInterrupt, Closed)):
            desk.mailbox.get(None)

    def check(desk: Desk) -> None:
        with pytest.raises(Closed):
            desk.mailbox.get(None)

    play(with_two_items, [interrupted, lambda desk: desk.mailbox.close(CLOSED)], check, lock=CtrlCAfterIt)

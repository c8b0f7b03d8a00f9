"""The mailbox as one thread sees it and as many do: in order, once, bounded, ended for a reason, and readable through a descriptor."""

from __future__ import annotations

import select
import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from time import monotonic

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors import mailbox as mailbox_module
from actors import waiting
from actors.errors import Broken, BusError, Closed, PeerClosed
from actors.mailbox import LOW_WATER, Mailbox
from actors.message import Message, after_loss
from actors.waiting import Waiter, current
from tests.actors.interrupts import interrupted

BOUND = 30.0
MAX_ITEMS = 8
MAX_BYTES = 100

Item = tuple[int, int]  # number, weight


def past() -> float:
    return monotonic() - 1


class Stream:
    """A mailbox and the reader that it pauses."""

    def __init__(self, *, max_items: int = MAX_ITEMS, max_bytes: int = MAX_BYTES, lossy: bool = False) -> None:
        self.paused = False
        self.calls: list[str] = []
        self.mailbox: Mailbox[Item] = Mailbox(
            weigh=lambda item: item[1], max_items=max_items, max_bytes=max_bytes, lossy=lossy, pause=self.pause, resume=self.resume
        )

    def pause(self) -> None:
        assert self.mailbox._lock.locked(), "its order is to be the order of the decisions"
        self.calls.append("pause")
        self.paused = True

    def resume(self) -> None:
        assert self.mailbox._lock.locked()
        self.calls.append("resume")
        self.paused = False

    def put(self, *items: Item) -> None:
        self.mailbox.put(items, sum(weight for _, weight in items))


def numbered(*numbers: int, weight: int = 1) -> list[Item]:
    return [(number, weight) for number in numbers]


def take_all(mailbox: Mailbox[Item]) -> tuple[list[int], BusError | None]:
    taken = []
    try:
        while (item := mailbox.get(past())) is not None:
            taken.append(item[0])
    except BusError as reason:
        return taken, reason
    return taken, None


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


# --- any order of anything ---


class Orders(RuleBasedStateMachine):
    """Every call in every order, against a queue that is easy to believe."""

    lossy = False

    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream(lossy=self.lossy)
        self.mailbox = self.stream.mailbox
        self.queue: deque[Item] = deque()
        self.reason: BusError | None = None
        self.numbers = count()
        self.bell: int | None = None
        self.lost = 0
        self.waiter = Waiter()
        self.parked = False

    def woken(self) -> bool:
        if not self.parked:
            return False
        self.waiter.wait(past())
        return self.waiter not in self.mailbox._waiters

    @precondition(lambda self: not self.stream.paused)
    @rule(weights=st.lists(st.integers(0, 30) | st.just(MAX_BYTES * 2), min_size=1, max_size=12), iterator=st.booleans())
    def put(self, weights: list[int], iterator: bool) -> None:
        batch = [(next(self.numbers), weight) for weight in weights]
        self.mailbox.put(iter(batch) if iterator else batch, sum(weights))
        if self.reason is None:
            self.queue.extend(batch)
            if self.lossy:
                while len(self.queue) > MAX_ITEMS or (self.weight() > MAX_BYTES and len(self.queue) > 1):
                    self.queue.popleft()
                    self.lost += 1
            if self.parked:
                assert self.woken()
                self.parked = False

    def weight(self) -> int:
        return sum(weight for _, weight in self.queue)

    def taken(self, take: Callable[[], Item | None]) -> None:
        if self.queue:
            assert take() == self.queue.popleft()
        elif self.reason is not None:
            with pytest.raises(type(self.reason)) as caught:
                take()
            assert caught.value.reason == self.reason.reason
            assert caught.value is not self.reason, "a traceback of its own each time"
        else:
            assert take() is None

    @rule()
    def get(self) -> None:
        self.taken(lambda: self.mailbox.get(past()))

    @rule()
    def take(self) -> None:
        self.taken(self.mailbox.take)

    @rule()
    def get_without_deadline(self) -> None:
        if self.queue or self.reason:
            self.taken(lambda: self.mailbox.get(None))

    @rule(reason=st.sampled_from([PeerClosed("p", "a"), Broken("p", "b"), Closed("p", "c")]))
    def end(self, reason: BusError) -> None:
        first = self.mailbox.end(reason)
        assert first is (self.reason is None)
        if first:
            self.reason = reason
            self.hear_of_the_end()

    @rule(reason=st.sampled_from([Closed("p", "d"), Closed("p", "e")]))
    def close(self, reason: BusError) -> None:
        self._close(reason)

    def _close(self, reason: BusError) -> None:
        first = self.mailbox.close(reason)
        assert first is not isinstance(self.reason, Closed)
        if first:
            self.queue.clear()
            self.reason = reason
            self.hear_of_the_end()

    def hear_of_the_end(self) -> None:
        if self.parked:
            assert self.woken()
            self.parked = False

    @rule()
    def park(self) -> None:
        parked = self.mailbox.park(self.waiter)
        assert parked is (not self.queue and self.reason is None)
        self.parked = parked or self.parked

    @rule()
    def ask_for_the_bell(self) -> None:
        self.bell = self.mailbox.bell()

    @rule(reason=st.sampled_from([Closed("p", "f")]))
    def drain(self, reason: BusError) -> None:
        """For a listener's end: what nobody accepted."""
        assert self.mailbox.drain() == list(self.queue)
        self.queue.clear()
        self._close(reason)

    @invariant()
    def it_holds_what_the_queue_holds(self) -> None:
        assert len(self.mailbox) == len(self.queue)
        assert self.mailbox.weight == self.weight()
        assert self.mailbox.idle is (not self.queue and self.reason is None)
        assert self.mailbox.ended is self.reason
        assert self.mailbox.lost == self.lost

    @invariant()
    def it_is_bounded(self) -> None:
        if self.lossy:
            assert len(self.queue) <= MAX_ITEMS
            assert self.weight() <= MAX_BYTES or len(self.queue) == 1
            assert not self.stream.calls
        elif self.reason is None:
            full = len(self.queue) >= MAX_ITEMS or self.weight() >= MAX_BYTES
            assert self.stream.paused or not full

    @invariant()
    def a_reader_is_resumed_at_low_water(self) -> None:
        assert self.stream.calls == ["pause", "resume"] * (len(self.stream.calls) // 2) + ["pause"] * self.stream.paused
        low = len(self.queue) <= MAX_ITEMS // LOW_WATER and self.weight() <= MAX_BYTES // LOW_WATER
        if self.stream.paused and self.reason is None:
            assert not low, "it would stand still for ever"

    @invariant()
    def the_bell_rings_exactly_while_a_get_would_not_wait(self) -> None:
        if self.bell is not None:
            assert readable(self.bell) is (bool(self.queue) or self.reason is not None)


class LossyOrders(Orders):
    lossy = True


TestOrders = Orders.TestCase
TestOrders.settings = settings(max_examples=60, stateful_step_count=30)
TestLossyOrders = LossyOrders.TestCase
TestLossyOrders.settings = settings(max_examples=60, stateful_step_count=30)


# --- bounds ---


def test_a_batch_in_hand_is_taken_whole_also_over_the_bound() -> None:
    stream = Stream()
    stream.put(*numbered(*range(MAX_ITEMS * 3)))
    assert stream.calls == ["pause"]
    assert take_all(stream.mailbox)[0] == list(range(MAX_ITEMS * 3))
    assert stream.calls == ["pause", "resume"]


def test_bytes_are_a_bound_too() -> None:
    stream = Stream()
    stream.put((0, MAX_BYTES - 1))
    assert not stream.paused
    stream.put((1, 1))
    assert stream.paused
    stream.mailbox.get(past())
    assert not stream.paused


def test_one_message_over_the_bound_fits_and_does_not_stop_the_stream_for_ever() -> None:
    stream = Stream()
    stream.put((0, MAX_BYTES * 10))
    assert stream.paused
    assert stream.mailbox.get(past()) == (0, MAX_BYTES * 10)
    assert not stream.paused


def test_low_water_counts_items_and_bytes() -> None:
    stream = Stream()
    stream.put((0, 1), (1, 90), (2, 9))
    stream.mailbox.get(past())
    assert stream.paused, "few items, but too many bytes"
    stream.mailbox.get(past())
    assert not stream.paused


def test_a_lossy_mailbox_keeps_the_newest_and_counts_the_rest() -> None:
    stream = Stream(lossy=True)
    stream.put(*numbered(*range(20)))
    assert stream.mailbox.lost == 20 - MAX_ITEMS
    assert take_all(stream.mailbox)[0] == list(range(20 - MAX_ITEMS, 20))
    stream.put((20, MAX_BYTES * 2))
    assert take_all(stream.mailbox)[0] == [20], "one that is larger than the bound fits alone"
    stream.put((21, 1), (22, MAX_BYTES * 2), (23, 1))
    assert take_all(stream.mailbox)[0] == [23]


def test_the_item_behind_a_gap_tells_how_many_went() -> None:
    mailbox: Mailbox[Message] = Mailbox(weigh=lambda item: 1, max_items=3, lossy=True, after_loss=after_loss)

    def put(*numbers: int) -> None:
        mailbox.put([Message(b"%d" % number) for number in numbers], len(numbers))

    def told() -> list[tuple[int, int]]:
        return [(int(item.data), item.lost_before) for item in iter(mailbox.take, None) if item]

    put(0, 1, 2, 3, 4)
    put(5)
    assert told() == [(3, 3), (4, 0), (5, 0)]
    put(6, 7)
    mailbox.put([after_loss(Message(b"10"), 2)], 1)
    put(11)
    assert told() == [(7, 1), (10, 2), (11, 0)], "what the reader told stays where it was"
    put(12, 13)
    mailbox.put([after_loss(Message(b"20"), 6)], 1)
    put(21, 22, 23)
    assert told() == [(21, 9), (22, 0), (23, 0)], "what those had told that went is for the next"


# --- the end ---


def test_an_end_comes_after_what_is_in_and_nothing_comes_after_it() -> None:
    stream = Stream()
    stream.put(*numbered(1, 2))
    assert stream.mailbox.end(PeerClosed("p"))
    stream.put(*numbered(3))
    taken, reason = take_all(stream.mailbox)
    assert taken == [1, 2]
    assert isinstance(reason, PeerClosed)


def test_a_close_comes_at_once_and_wins() -> None:
    stream = Stream()
    stream.put(*numbered(1, 2))
    assert stream.mailbox.end(PeerClosed("p"))
    assert not stream.mailbox.end(Broken("p", "later")), "the first reason stays"
    assert stream.mailbox.close(Closed("p"))
    assert not stream.mailbox.close(Closed("p", "again"))
    assert not stream.mailbox.end(Broken("p", "later"))
    taken, reason = take_all(stream.mailbox)
    assert taken == []
    assert isinstance(reason, Closed)
    assert reason.reason == ""


# --- waiting ---


class Taker:
    """A thread that takes until the end, or until something else comes out of `get`."""

    def __init__(self, mailbox: Mailbox[Item], timeout: float = BOUND, most: int = 1 << 30) -> None:
        self.taken: list[int] = []
        self.outcome: list[BaseException | None] = []

        def work() -> None:
            try:
                while len(self.taken) < most:
                    item = mailbox.get(monotonic() + timeout)
                    if item is None:
                        break
                    self.taken.append(item[0])
                self.outcome.append(None)
            except BaseException as exc:
                self.outcome.append(exc)

        self.mailbox = mailbox
        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def until_waiting(self) -> Taker:
        deadline = monotonic() + BOUND
        pause = threading.Event()
        while not self.mailbox._waiters:
            assert monotonic() < deadline
            pause.wait(0.001)
        return self

    def joined(self) -> BaseException | None:
        self.thread.join(BOUND)
        assert not self.thread.is_alive(), "it waits in vain"
        return self.outcome[0]


def test_a_waiting_get_gets_what_comes() -> None:
    stream = Stream()
    taker = Taker(stream.mailbox, most=1).until_waiting()
    stream.put(*numbered(1))
    assert taker.joined() is None
    assert taker.taken == [1]


@pytest.mark.parametrize("ending", [Mailbox.end, Mailbox.close])
def test_a_waiting_get_hears_of_the_end(ending: Callable[[Mailbox[Item], BusError], bool]) -> None:
    stream = Stream()
    takers = [Taker(stream.mailbox).until_waiting() for _ in range(3)]
    ending(stream.mailbox, Closed("p"))
    assert [type(taker.joined()) for taker in takers] == [Closed] * 3


def test_a_waiting_get_ends_with_its_deadline() -> None:
    taker = Taker(Stream().mailbox, timeout=0.01)
    assert taker.joined() is None
    assert taker.taken == []


def test_a_waiting_get_ends_with_an_interrupt_and_loses_nothing() -> None:
    stream = Stream()
    taker = Taker(stream.mailbox).until_waiting()
    assert taker.thread.ident is not None
    waiting.interrupt([taker.thread.ident])
    assert isinstance(taker.joined(), KeyboardInterrupt)
    stream.put(*numbered(1))
    assert take_all(stream.mailbox)[0] == [1]


def test_what_woke_one_of_two_reaches_one_of_two() -> None:
    stream = Stream()
    first, second = Taker(stream.mailbox, most=1).until_waiting(), Taker(stream.mailbox)
    stream.put(*numbered(1))
    stream.put(*numbered(2))
    stream.mailbox.end(PeerClosed("p"))
    first.joined()
    second.joined()
    assert sorted(first.taken + second.taken) == [1, 2]


# --- direct reads ---


def test_an_empty_mailbox_asks_for_a_direct_read() -> None:
    stream = Stream()
    asked: list[tuple[Waiter, float | None]] = []

    def direct(waiter: Waiter, deadline: float | None) -> bool:
        asked.append((waiter, deadline))
        stream.put(*numbered(1, 2))
        return True

    stream.mailbox.use_direct(direct)
    assert stream.mailbox.get(None) == (1, 1)
    assert asked == [(current(), None)]
    assert stream.mailbox.get(None) == (2, 1)
    assert len(asked) == 1, "what is in comes first"


def test_where_it_can_not_read_directly_it_parks() -> None:
    stream = Stream()
    stream.mailbox.use_direct(lambda waiter, deadline: False)
    taker = Taker(stream.mailbox, most=1).until_waiting()
    stream.put(*numbered(1))
    taker.joined()
    assert taker.taken == [1]


def test_a_direct_read_without_a_result_keeps_to_the_deadline() -> None:
    stream = Stream()
    stream.mailbox.use_direct(lambda waiter, deadline: True)
    assert stream.mailbox.get(monotonic() + 0.01) is None


def test_who_asks_for_the_bell_reads_directly_no_more() -> None:
    stream = Stream()
    stream.mailbox.use_direct(lambda waiter, deadline: pytest.fail("it was asked"))
    fd = stream.mailbox.bell()
    assert stream.mailbox.get(past()) is None
    assert stream.mailbox.bell() == fd


@pytest.mark.parametrize("ending", [None, Mailbox.end, Mailbox.close])
@pytest.mark.parametrize("items", [0, 1])
def test_a_bell_that_is_asked_for_late_knows_the_state(items: int, ending: Callable[[Mailbox[Item], BusError], bool] | None) -> None:
    stream = Stream()
    stream.put(*numbered(*range(items)))
    if ending is not None:
        ending(stream.mailbox, Closed("p"))
    assert readable(stream.mailbox.bell()) is (items > 0 or ending is not None)


# --- Ctrl-C ---


WAYS: dict[str, Callable[[Mailbox[Item], Iterable[Item]], object]] = {
    "put": lambda mailbox, batch: mailbox.put(batch, 3),
    "take": lambda mailbox, batch: mailbox.take(),
    "get": lambda mailbox, batch: mailbox.get(past()),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("inside", [0, 1, 2, MAX_ITEMS - 1, MAX_ITEMS])
def test_ctrl_c_anywhere_loses_nothing_and_delivers_nothing_twice(way: str, inside: int) -> None:
    """In one thread: an interrupted put is put again with the same iterator, an interrupted get returned nothing."""
    for number in range(1, 100):
        stream = Stream()
        stream.put(*numbered(*range(inside)))
        batch = iter(numbered(100, 101, 102))
        got: list[Item | None] = []

        def work(stream: Stream = stream, batch: Iterable[Item] = batch, got: list[Item | None] = got) -> None:
            got.append(WAYS[way](stream.mailbox, batch))  # type: ignore[arg-type]

        more = interrupted(number, mailbox_module, work)
        assert not stream.mailbox._lock.locked()
        if way == "put" and more:
            stream.mailbox.put(batch, 3)
        returned = [item[0] for item in got if item is not None]
        rest, _ = take_all(stream.mailbox)
        assert returned + rest == [*range(inside), *((100, 101, 102) if way == "put" else ())], f"place {number}"
        assert not stream.paused
        assert stream.mailbox.weight == 0
        if not more:
            return
    raise AssertionError("it makes calls without end")


# --- many threads ---


@pytest.mark.parametrize("takers", [1, 3])
def test_what_many_put_many_take_once_and_the_stream_goes_on(takers: int) -> None:
    """Readers that stop while they are paused; nobody is left standing."""
    resumed = threading.Condition()
    paused = False

    def pause() -> None:
        nonlocal paused
        paused = True

    def resume() -> None:
        nonlocal paused
        with resumed:
            paused = False
            resumed.notify_all()

    mailbox: Mailbox[Item] = Mailbox(weigh=lambda item: item[1], max_items=MAX_ITEMS, max_bytes=1000, pause=pause, resume=resume)
    taking = [Taker(mailbox) for _ in range(takers)]
    batches = 400

    def read(reader: int) -> None:
        for number in range(batches):
            with resumed:
                assert resumed.wait_for(lambda: not paused, BOUND)
            first = reader * 10_000 + number * 3
            mailbox.put(iter(numbered(first, first + 1, first + 2)), 3)

    readers = [threading.Thread(target=read, args=(reader,), daemon=True) for reader in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(BOUND)
        assert not reader.is_alive(), "a reader was never resumed"
    mailbox.end(PeerClosed("p"))
    assert [type(taker.joined()) for taker in taking] == [PeerClosed] * takers
    everything = sorted(number for taker in taking for number in taker.taken)
    assert everything == sorted([*range(batches * 3), *range(10_000, 10_000 + batches * 3)])
    for taker in taking:
        for start in (0, 10_000):
            own = [number for number in taker.taken if start <= number < start + 10_000]
            assert own == sorted(own), "out of order"

"""A subscriber's mailbox, without an engine: bounds, what waits, what an interrupt may not divide."""

from __future__ import annotations

import select
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import topicbox
from actors.errors import BusError, Closed, NotSent
from actors.topicbox import Overflow, TopicBox
from actors.topics import TopicMessage, topic_message
from actors.waiting import Waiter, current
from tests.actors.interrupts import interrupted
from tests.bus.peers import WAIT, InThread, until


def message(number: int, size: int = 4) -> TopicMessage:
    return TopicMessage(number.to_bytes(size, "big"), "t")


def number_of(message: TopicMessage | None) -> int:
    assert message is not None
    return int.from_bytes(message.data, "big")


def taken(box: TopicBox) -> list[int]:
    return [number_of(message) for message in box.drain()]


@pytest.fixture(params=["easy", "careful"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is that of an interpreter without a lock, for everything."""
    if request.param == "careful":
        monkeypatch.setattr(topicbox, "LOCKED", False)


@pytest.mark.usefixtures("ways")
class TestBounds:
    def test_first_in_first_out_and_the_account_is_exact(self) -> None:
        box = TopicBox("t")
        for number in range(100):
            box.deliver(message(number))
        assert (len(box), box.messages_in, box.bytes_in) == (100, 100, 400)
        assert [number_of(box.get(0.0)) for _ in range(100)] == list(range(100))
        assert (len(box), box.weight, box.get(0.0)) == (0, 0, None)

    @pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
    def test_what_is_too_much_goes_and_is_told(self, overflow: Overflow) -> None:
        box = TopicBox("t", overflow=overflow, max_messages=3)
        for number in range(5):
            box.deliver(message(number))
        kept = [2, 3, 4] if overflow == "drop_oldest" else [0, 1, 2]
        first = box.take()
        assert first is not None
        assert (number_of(first), first.lost_before) == (kept[0], 2 if overflow == "drop_oldest" else 0)
        assert (box.lost, taken(box)) == (2, kept[1:])
        box.deliver(message(5))
        last = box.take()
        assert last is not None
        assert (number_of(last), last.lost_before) == (5, 0 if overflow == "drop_oldest" else 2)
        box.deliver(message(6))
        assert box.drain()[0].lost_before == 0

    def test_a_message_that_tells_a_loss_is_another_than_the_others_got(self) -> None:
        box, other = TopicBox("t", max_messages=1), TopicBox("t")
        messages = [topic_message(b"", "t", {"a": "b"}, "reply"), topic_message(b"", "t", {"c": "d"}, "reply")]
        for one in messages:
            box.deliver(one)
            other.deliver(one)
        marked = box.take()
        assert marked is not None
        assert (marked.lost_before, marked.headers, marked.reply_to) == (1, {"c": "d"}, "reply")
        assert [each.lost_before for each in other.drain()] == [0, 0]

    def test_a_full_box_makes_publishers_wait_and_a_quarter_lets_them_go_on(self) -> None:
        box = TopicBox("t", overflow="wait", max_messages=8)
        for number in range(8):
            assert not box.full
            box.await_room(0.0)
            box.deliver(message(number))
        assert box.full
        assert not box.offer(message(8))
        with pytest.raises(NotSent, match="no room"):
            box.await_room(0.01)
        waiting = InThread(lambda: box.await_room(WAIT)).until_blocked()
        called: list[int] = []
        assert box.call_when_room(lambda: called.append(1))
        for number in range(5):
            assert number_of(box.take()) == number
        assert waiting.thread.is_alive()
        assert not called
        assert number_of(box.take()) == 5
        waiting.result()
        assert called == [1]
        assert not box.call_when_room(lambda: called.append(2))
        assert box.offer(message(8))
        assert taken(box) == [6, 7, 8]

    def test_a_publisher_that_waits_goes_on_when_the_box_ends(self) -> None:
        box = TopicBox("t", overflow="wait", max_messages=1)
        box.deliver(message(1))
        waiting = InThread(lambda: box.await_room(None)).until_blocked()
        box.close(Closed("t"))
        waiting.result()
        box.deliver(message(2))
        with pytest.raises(Closed):
            box.get(None)

    def test_after_an_end_what_is_in_comes_first(self) -> None:
        box = TopicBox("t")
        box.deliver(message(1))
        box.end(Closed("t"))
        box.deliver(message(2))
        assert number_of(box.get(None)) == 1
        with pytest.raises(Closed):
            box.get(None)

    def test_a_bell_rings_while_there_is_something(self) -> None:
        box = TopicBox("t")
        box.deliver(message(1))
        fd = box.bell()
        for number in (2, 3):
            assert select.select([fd], [], [], 0)[0]
            assert number_of(box.take()) == number - 1
            box.deliver(message(number))
        assert taken(box) == [3]
        assert not select.select([fd], [], [], 0)[0]
        box.deliver(message(4))
        assert select.select([fd], [], [], 0)[0]
        assert taken(box) == [4]
        box.close(Closed("t"))
        assert select.select([fd], [], [], 0)[0]

    def test_a_taker_is_woken_by_each_that_comes(self) -> None:
        box = TopicBox("t")
        for number in range(50):
            waiting = InThread(lambda: box.get(monotonic() + WAIT))
            if number % 2:
                until(lambda: box.awaited)
            box.deliver(message(number))
            assert number_of(waiting.result()) == number
        assert box.get(monotonic() + 0.01) is None

    @given(
        st.sampled_from(["drop_oldest", "drop_newest"]),
        st.integers(1, 5),
        st.integers(1, 60),
        st.lists(st.integers(0, 40) | st.none(), max_size=40),
    )
    def test_bounds_and_losses_as_a_list_would_have_them(self, overflow: Overflow, items: int, size: int, steps: list[int | None]) -> None:
        box = TopicBox("t", overflow=overflow, max_messages=items, max_bytes=size)
        model: list[bytes] = []
        lost = told = 0
        for step in steps:
            if step is None:
                one = box.take()
                assert (None if one is None else one.data) == (model.pop(0) if model else None)
                told += 0 if one is None else one.lost_before
                continue
            data = b"x" * step
            box.deliver(TopicMessage(data, "t"))
            over = len(model) >= items or (model and sum(map(len, model)) + step > size)
            if overflow == "drop_newest" and over:
                lost += 1
                continue
            model.append(data)
            while len(model) > items or (len(model) > 1 and sum(map(len, model)) > size):
                del model[0]
                lost += 1
        assert box.lost == lost
        assert len(box) == len(model)
        left = box.drain()
        assert [one.data for one in left] == model
        told += sum(one.lost_before for one in left)
        assert told + box._missed == lost


@pytest.mark.parametrize("easy", [True, False])
def test_an_interrupted_take_takes_nothing(easy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topicbox, "LOCKED", easy)
    place = 1
    while True:
        box = TopicBox("t", overflow="wait", max_messages=2)
        box.deliver(message(1))
        box.deliver(message(2))
        got: list[TopicMessage | None] = []
        if not interrupted(place, topicbox, lambda box=box, got=got: got.append(box.take())):  # type: ignore[misc]
            break
        rest = taken(box)
        assert [number_of(one) for one in got] + rest == [1, 2]
        assert box.weight == 0
        place += 1
    assert place > 3


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("waits", [True, False])
def test_after_an_interrupted_delivery_nobody_sleeps_beside_a_message(watched: bool, waits: bool) -> None:
    place = 1
    while True:
        box = TopicBox("t")
        sleeper = Waiter()
        fd = box.bell() if watched else -1
        if waits:
            assert box.park(sleeper.nap)
        if not interrupted(place, topicbox, lambda box=box: box.deliver(message(1))):  # type: ignore[misc]
            break
        assert box.weight == sum(item.weight for item in box.items)
        if waits and len(box):
            assert sleeper.nap.wait(0)
        if watched and len(box):
            assert select.select([fd], [], [], 0)[0]
        if not len(box):
            assert box.park(current().nap)  # who looks finds nothing, and the bell rings no more
            assert not watched or not select.select([fd], [], [], 0)[0]
        place += 1
    assert place > 2


def test_the_reason_of_an_end_is_the_first() -> None:
    box = TopicBox("t")
    assert box.end(Closed("one"))
    assert not box.end(Closed("two"))
    with pytest.raises(BusError, match="one"):
        box.take()

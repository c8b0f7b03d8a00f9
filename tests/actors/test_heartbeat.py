"""The heartbeat of framed streams, without a socket and without a clock: when it beats, when it gives up, and that no script sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors.errors import Broken
from actors.framing import ETX, LENGTH, LINES, FrameTooLarge, Framing, Unparsed, with_heartbeat
from actors.heartbeat import MISSES, Heartbeat
from actors.reader import FULL, LENT, SERVING
from actors.states import State

each_framing = pytest.mark.parametrize("framing", [LENGTH, ETX, LINES], ids=lambda framing: framing.name)


class Stream:
    """What a heartbeat asks of a connection. `pass_time` runs what is due, one interval later."""

    remote_address = "10.0.0.1:9"

    def __init__(self, heart: Heartbeat) -> None:
        self.heart = heart
        self.state = State.OPEN
        self.loop = self.outbox = self.reader = self.halves = self
        self.asked = False  # for the end of our half
        self.gates = 0
        self.bytes = 0
        self.size = 0
        self.beats: list[bytes] = []
        self.broken: Broken | None = None
        self._due: list[Callable[[], object]] = []
        heart.begin(self)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.size

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        assert seconds == 0.5
        self._due.append(call)

    call_later_threadsafe = call_later

    def append(self, frame: bytes) -> None:
        self.beats.append(frame)
        self.bytes += len(frame)

    def break_off(self, reason: Broken) -> None:
        self.broken = reason
        self.state = State.GONE

    def hear(self, data: bytes) -> Any:
        return self.heart.parse(Unparsed([data]), 100)

    def pass_time(self, intervals: int = 1) -> None:
        for _ in range(intervals):
            due, self._due = self._due, []
            for call in due:
                call()


@each_framing
def test_it_beats_where_nothing_else_was_sent(framing: Framing) -> None:
    stream = Stream(Heartbeat(framing, 0.5))
    stream.pass_time()
    assert stream.beats == [framing.frame(b"")]
    stream.bytes += 10  # the script sent something
    stream.hear(framing.frame(b""))
    stream.pass_time()
    assert len(stream.beats) == 1
    stream.pass_time()
    assert len(stream.beats) == 2
    stream.size = 1  # the peer does not read
    stream.pass_time()
    assert len(stream.beats) == 2


def test_behind_our_own_end_it_does_not_beat_and_goes_on_judging() -> None:
    stream = Stream(Heartbeat(LENGTH, 0.5))
    stream.asked = True
    stream.hear(LENGTH.frame(b"x"))
    stream.pass_time(MISSES)
    assert (stream.beats, stream.broken) == ([], None)
    stream.pass_time()
    assert stream.broken is not None


@each_framing
def test_a_peer_that_is_silent_for_three_intervals_is_given_up(framing: Framing) -> None:
    stream = Stream(Heartbeat(framing, 0.5))
    stream.hear(framing.frame(b"x"))
    stream.pass_time(MISSES)
    assert stream.broken is None
    stream.pass_time()
    assert stream.broken is not None
    assert "nothing for 1.5 s" in str(stream.broken)
    beats = len(stream.beats)
    stream.pass_time(5)
    assert len(stream.beats) == beats


@each_framing
def test_any_byte_is_a_sign_of_life(framing: Framing) -> None:
    stream = Stream(Heartbeat(framing, 0.5))
    for piece in (framing.frame(b""), framing.frame(b"message"), framing.frame(b"half of it")[:3]) * 5:
        stream.hear(piece)
        stream.pass_time(MISSES)
    stream.heart.sole(framing.frame(b"x"), 100)
    stream.pass_time(MISSES)
    assert stream.broken is None


@pytest.mark.parametrize("gate, judged", [(FULL, False), (SERVING, False), (LENT, True)])
def test_while_we_do_not_read_nobody_is_judged(gate: int, judged: bool) -> None:
    stream = Stream(Heartbeat(LENGTH, 0.5))
    stream.gates = gate
    stream.pass_time(10)
    assert (stream.broken is not None) == judged
    if not judged:
        stream.gates = 0
        stream.pass_time(MISSES - 1)
        assert stream.broken is None


@each_framing
def test_no_script_sees_a_beat(framing: Framing) -> None:
    heart = with_heartbeat(framing, 0.5)
    beat = framing.frame(b"")
    assert heart.sole(beat, 100) is None
    assert heart.sole(framing.frame(b"x"), 100) == b"x"
    messages, rest, _ = heart.parse(Unparsed([beat, framing.frame(b"1"), beat + beat, framing.frame(b"2") + beat]), 100)
    assert (messages, rest.chunks) == ([b"1", b"2"], [])
    with pytest.raises(FrameTooLarge) as caught:
        heart.parse(Unparsed([beat + framing.frame(b"1") + beat + framing.frame(b"x" * 101)]), 100)
    assert caught.value.messages == [b"1"]


@each_framing
def test_an_empty_message_cannot_be_sent_and_others_can(framing: Framing) -> None:
    heart = with_heartbeat(framing, 0.5)
    assert heart.frame(b"x") == framing.frame(b"x")
    with pytest.raises(ValueError, match="heartbeat"):
        heart.frame(b"")


def test_without_an_interval_nothing_changes() -> None:
    assert with_heartbeat(LENGTH, None) is LENGTH

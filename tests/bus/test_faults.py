"""What a FaultProxy's lines decide: chance, times and data in, what comes out and when. No I/O, no clock."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.testing.faults import CATCH_UP, DATAGRAM_BYTES, DATAGRAMS, HELD, STREAM_BYTES, DatagramLine, Faults, StreamLine, each_way

NONE = Faults()


def stream(seed: int = 0) -> StreamLine:
    return StreamLine(Random(seed))


def drain(line: StreamLine, now: float, faults: Faults = NONE) -> bytes:
    """Everything that may come out at that time."""
    out = b""
    while data := line.take(now, faults):
        line.taken(len(data), now, faults)
        out += data
    return out


@pytest.mark.parametrize("name", ["latency", "jitter", "trickle", "loss", "duplicate", "reorder"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, -math.inf])
def test_a_fault_that_cannot_be_is_refused_by_its_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Faults(**{name: value})


@pytest.mark.parametrize("name", ["latency", "loss", "trickle"])
@pytest.mark.parametrize("value", [True, "1", [1]])
def test_a_fault_is_a_number(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=name):
        Faults(**{name: value})


def test_limits_of_faults() -> None:
    assert Faults(loss=1, duplicate=0, reorder=1.0, trickle=0.1).loss == 1
    for wrong in ({"loss": 1.01}, {"trickle": 0}, {"latency": None}):
        with pytest.raises((ValueError, TypeError)):
            Faults(**wrong)


def test_directions() -> None:
    assert each_way("up") == ("up",)
    assert each_way("both") == ("up", "down")
    with pytest.raises(ValueError, match="'left'"):
        each_way("left")  # type: ignore[arg-type]


# -- streams ------------------------------------------------------------------------------------------------------------


def test_without_faults_everything_comes_out_at_once() -> None:
    line = stream()
    assert line.next_time(NONE) is None
    line.put(b"one", 5.0, NONE)
    line.put(b"two", 5.0, NONE)
    assert line.next_time(NONE) == 5.0
    assert drain(line, 5.0) == b"onetwo"
    assert (line.passed, line.waiting, line.next_time(NONE)) == (6, 0, None)


def test_latency_is_when_it_comes_out_and_the_end_takes_as_long() -> None:
    line, late = stream(), Faults(latency=2.0)
    line.put(b"x", 1.0, late)
    line.end(1.5, late)
    assert line.ended
    assert line.next_time(late) == 3.0
    assert drain(line, 2.9, late) == b""
    assert drain(line, 3.0, late) == b"x"
    assert not line.over(3.0)
    assert line.next_time(late) == 3.5
    assert line.over(3.5)


def test_a_shorter_latency_overtakes_nothing() -> None:
    line = stream()
    line.put(b"slow", 0.0, Faults(latency=10.0))
    line.put(b"quick", 1.0, NONE)
    assert drain(line, 9.0) == b""
    assert drain(line, 10.0) == b"slowquick"


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=30), st.integers(0, 1000), st.floats(0, 1), st.floats(0.5, 1e6))
def test_jitter_and_trickle_change_no_byte_and_no_order(chunks: list[bytes], seed: int, jitter: float, rate: float) -> None:
    line, faults = stream(seed), Faults(jitter=jitter, trickle=rate)
    for number, chunk in enumerate(chunks):
        line.put(chunk, number * 0.01, faults)
    line.end(1.0, faults)
    out, now = b"", 0.0
    while not line.over(now):
        time = line.next_time(faults)
        assert time is not None
        now = max(now, time) + 1e-6
        if portion := line.take(now, faults):
            line.taken(len(portion), now, faults)
            out += portion
    assert out == b"".join(chunks)


def test_a_trickle_of_a_byte_a_second() -> None:
    line, slow = stream(), Faults(trickle=1)
    line.put(b"abc", 0.0, slow)
    assert drain(line, 0.0, slow) == b"a"
    assert line.next_time(slow) == 1.0
    assert drain(line, 0.99, slow) == b""
    assert drain(line, 1.0, slow) == b"b"
    assert drain(line, 2.0, slow) == b"c"


def test_a_trickle_keeps_its_rate_with_a_coarse_clock() -> None:
    line, slow = stream(), Faults(trickle=10_000)
    line.put(b"x" * 100_000, 0.0, slow)
    passed = sum(len(drain(line, tick / 64, slow)) for tick in range(64 * 5 + 1))
    assert 49_000 <= passed <= 51_500


def test_a_late_clock_makes_up_for_little() -> None:
    line, slow = stream(), Faults(trickle=1000)
    line.put(b"x" * 100_000, 0.0, slow)
    drain(line, 0.0, slow)
    assert len(drain(line, 60.0, slow)) <= 1000 * CATCH_UP + 2 * 20


def test_a_trickle_that_is_lifted_is_lifted_at_once() -> None:
    line, slow = stream(), Faults(trickle=0.001)
    line.put(b"abc", 0.0, slow)
    assert drain(line, 0.0, slow) == b"a"
    assert line.next_time(slow) == 1000.0
    assert line.next_time(NONE) == 0.0
    assert drain(line, 0.1, NONE) == b"bc"


def test_a_trickle_does_not_pay_for_what_came_before_it() -> None:
    line, slow = stream(), Faults(trickle=0.001)
    line.put(b"x" * 1000, 0.0, NONE)
    drain(line, 0.0)
    line.put(b"abc", 0.0, slow)
    assert drain(line, 0.0, slow) == b"a"


def test_a_full_line_has_no_room() -> None:
    line, late = stream(), Faults(latency=1)
    assert line.room == STREAM_BYTES
    line.put(b"x" * STREAM_BYTES, 0.0, late)
    assert line.room == 0
    drain(line, 1.0, late)
    assert line.room == STREAM_BYTES
    line.end(1.0, late)
    assert line.room == 0, "nothing comes after the end"


@pytest.mark.parametrize("limit", range(7))
def test_no_more_than_the_limit_comes_out(limit: int) -> None:
    line = stream()
    line.limit = limit
    line.put(b"abc", 0.0, NONE)
    line.put(b"def", 0.0, NONE)
    assert drain(line, 0.0) == b"abcdef"[:limit]
    assert line.is_cut


def test_a_limit_not_reached_cuts_nothing() -> None:
    line = stream()
    line.limit = 4
    line.put(b"abc", 0.0, NONE)
    drain(line, 0.0)
    assert not line.is_cut


# -- datagrams ----------------------------------------------------------------------------------------------------------


def datagrams(faults: Faults, count: int = 1000, seed: int = 1, gap: float = 0.0) -> tuple[list[int], DatagramLine]:
    """What comes out of that many, sent one after the other."""
    line, out = DatagramLine(Random(seed)), []
    for number in range(count):
        line.put(b"%d" % number, number * gap, faults)
        out += line.take(number * gap)
    out += line.take(count * gap + 1000)
    return [int(datagram) for datagram in out], line


def test_datagrams_without_faults_come_at_once_and_in_order() -> None:
    out, line = datagrams(NONE)
    assert out == list(range(1000))
    assert (line.lost, line.duplicated, line.reordered, line.waiting) == (0, 0, 0, 0)


def test_what_is_lost_is_counted() -> None:
    out, line = datagrams(Faults(loss=0.3))
    assert len(out) + line.lost == 1000
    assert 200 < line.lost < 400
    assert out == sorted(set(out))


def test_all_and_nothing() -> None:
    assert datagrams(Faults(loss=1))[0] == []
    assert datagrams(Faults(duplicate=1), count=3)[0] == [0, 0, 1, 1, 2, 2]


def test_what_is_doubled_is_counted() -> None:
    out, line = datagrams(Faults(duplicate=0.3))
    assert len(out) == 1000 + line.duplicated
    assert set(Counter(out).values()) == {1, 2}


def test_what_is_overtaken_comes_right_after_who_overtook_it() -> None:
    assert datagrams(Faults(reorder=1), count=6)[0] == [1, 0, 3, 2, 5, 4]
    out, line = datagrams(Faults(reorder=0.2))
    assert sorted(out) == list(range(1000))
    assert sum(a > b for a, b in pairwise(out)) == line.reordered > 50


def test_whom_nobody_overtakes_goes_on_after_a_while() -> None:
    line = DatagramLine(Random(0))
    line.put(b"x", 1.0, Faults(reorder=1, latency=0.5))
    assert line.next_time() == 1.5 + HELD
    assert line.waiting == 1
    assert line.take(1.5) == []
    assert line.take(1.5 + HELD) == [b"x"]
    assert (line.reordered, line.waiting, line.next_time()) == (0, 0, None)


def test_latency_and_jitter_of_datagrams() -> None:
    out, _ = datagrams(Faults(latency=1), gap=0.001)
    assert out == list(range(1000))
    out, _ = datagrams(Faults(jitter=0.01), gap=0.001)
    assert sorted(out) == list(range(1000)) != out
    line = DatagramLine(Random(0))
    line.put(b"x", 0.0, Faults(latency=1, jitter=1))
    assert 1 <= (line.next_time() or 0) < 2


def test_the_same_seed_decides_the_same() -> None:
    faults = Faults(loss=0.2, duplicate=0.2, reorder=0.2)
    assert datagrams(faults, seed=5)[0] == datagrams(faults, seed=5)[0] != datagrams(faults, seed=6)[0]


def test_another_probability_changes_nothing_in_what_loss_decides() -> None:
    lost = set(range(1000)) - set(datagrams(Faults(loss=0.2))[0])
    assert lost == set(range(1000)) - set(datagrams(Faults(loss=0.2, duplicate=0.5, reorder=0.5, jitter=1))[0])


def test_more_than_fits_is_lost_and_counted() -> None:
    out, line = datagrams(Faults(latency=100), count=DATAGRAMS + 5)
    assert out == list(range(DATAGRAMS))
    assert line.lost == 5


def test_more_bytes_than_fit_are_lost_and_counted_until_some_have_arrived() -> None:
    line, late, large = DatagramLine(Random(0)), Faults(latency=1), b"x" * 65_536
    for _ in range(DATAGRAM_BYTES // len(large) + 3):
        line.put(large, 0.0, late)
    assert line.lost == 3
    assert len(line.take(1.0)) == DATAGRAM_BYTES // len(large)
    line.put(large, 1.0, late)
    assert line.lost == 3

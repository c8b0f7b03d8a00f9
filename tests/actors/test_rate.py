"""The token bucket: no more than the rate, no less either, and a wait that is over is over."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.rate import ROUNDING, TokenBucket

rates = st.floats(0.01, 1e9)
pauses = st.lists(st.floats(0, 3), min_size=1, max_size=30)


def test_it_begins_with_a_seconds_worth_and_saves_no_more() -> None:
    bucket = TokenBucket(10, now=100.0)
    assert bucket.available(100.0) == 10
    assert bucket.available(500.0) == 10
    assert bucket.take(10, 500.0) == 10
    assert bucket.available(500.0) == 0
    assert bucket.available(500.25) == 2
    assert bucket.available(501.0) == 10


def test_what_is_taken_too_much_is_waited_for() -> None:
    bucket = TokenBucket(10, now=0.0)
    bucket.take(25, 0.0)
    assert bucket.available(0.0) == 0
    assert bucket.wait(0.0) == pytest.approx(1.6)
    assert bucket.available(1.4) == 0
    assert bucket.wait(1.6) == 0
    assert bucket.available(1.6) == 1


def test_under_one_a_second_one_can_be_saved_up() -> None:
    bucket = TokenBucket(0.5, now=0.0)
    assert bucket.available(0.0) == 1
    bucket.take(1, 0.0)
    assert bucket.wait(0.0) == pytest.approx(2.0)
    assert bucket.available(1.9) == 0
    assert bucket.available(60.0) == 1


def test_with_a_high_rate_it_is_worth_waiting_for_more_than_one() -> None:
    bucket = TokenBucket(1_000_000, now=0.0)
    bucket.take(1_000_000, 0.0)
    assert bucket.available(bucket.wait(0.0)) == 50_000


def test_what_is_added_comes_on_top_and_does_not_fade() -> None:
    bucket = TokenBucket(10, now=0.0)
    bucket.add(2.5)
    assert bucket.available(0.0) == 35
    assert bucket.available(1000.0) == 35
    bucket.take(35, 1000.0)
    assert bucket.available(2000.0) == 10


@given(rates, pauses)
def test_never_more_than_the_rate_and_a_second_on_top(rate: float, pauses: list[float]) -> None:
    bucket = TokenBucket(rate, now=0.0)
    taken = [(now, bucket.take(bucket.available(now), now)) for now in accumulate(pauses)]
    for first, (begin, _) in enumerate(taken):
        total = 0
        for now, count in taken[first:]:
            total += count
            assert total <= max(1, rate) + rate * (now - begin) + 1e-9 * rate + ROUNDING


@given(rates, pauses)
def test_who_takes_all_there_is_gets_no_less_than_the_rate(rate: float, pauses: list[float]) -> None:
    bucket = TokenBucket(rate, now=0.0)
    now, total = 0.0, bucket.take(bucket.available(0.0), 0.0)
    for _ in pauses:
        now += bucket.wait(now)
        total += bucket.take(bucket.available(now), now)
    assert total >= max(1, rate) + rate * now - 1 - 1e-9 * rate * (1 + now)


@given(rates, st.integers(0, 10**7), st.floats(0, 1e6))
def test_after_the_wait_there_is_something(rate: float, count: int, now: float) -> None:
    bucket = TokenBucket(rate, now)
    bucket.take(count, now)
    wait = bucket.wait(now)
    assert wait >= 0
    if wait:
        assert bucket.available(now) == 0
        # The clock's own resolution, times the rate, is what may be missing.
        missing = 1e-9 * rate * max(1.0, now + wait)
        assert missing > 0.5 or bucket.available(now + wait + 1e-9 * (now + wait)) >= 1

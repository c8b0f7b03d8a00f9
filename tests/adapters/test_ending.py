"""When `actorbus cat` ends, and how: events and times in, a verdict out."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.ending import Ending


def over(ending: Ending) -> str | bool | None:
    """False while it goes on, then what failed, or None."""
    return ending.failure if ending.over else False


def begun(says_end: bool = True, **options: Any) -> Ending:
    """Somebody came at 10."""
    ending = Ending(0.0, **options)
    ending.came(10.0, says_end)
    return ending


def test_a_stream_ends_when_both_have_ended_whoever_is_first() -> None:
    ending = begun()
    ending.input_over(11.0)
    assert over(ending) is False
    assert ending.deadline() is None
    ending.left("peer", still_hears=True)
    assert over(ending) is None

    ending = begun()
    ending.left("peer", still_hears=True)
    assert over(ending) is False
    ending.input_over(11.0)
    assert over(ending) is None


def test_a_peer_that_leaves_ends_what_a_person_types() -> None:
    ending = begun(waits_for_input=False)
    ending.left("peer", still_hears=True)
    assert over(ending) is None


def test_a_peer_that_can_hear_no_more_before_all_was_sent_is_a_failure() -> None:
    ending = begun(says_end=False)
    ending.left("127.0.0.1:9")
    assert over(ending) == "127.0.0.1:9 closed the connection before all of the input was sent"


@pytest.mark.parametrize("options", [{}, {"waits_for_input": False}])
def test_a_broken_link_is_a_failure(options: dict[str, Any]) -> None:
    ending = begun(**options)
    ending.left("peer", "it broke", still_hears=False)
    assert over(ending) == "it broke"


def test_input_that_cannot_be_sent_is_a_failure() -> None:
    ending = begun()
    ending.input_over(11.0, "line 3 is too long")
    assert over(ending) == "line 3 is too long"


def test_the_first_verdict_stays() -> None:
    ending = begun()
    ending.input_over(11.0, "the cause")
    ending.left("peer", "its consequence")
    assert over(ending) == "the cause"


def test_where_no_end_can_be_said_it_lingers_from_the_last_message_on() -> None:
    ending = begun(says_end=False, linger=2.0)
    assert ending.deadline() is None
    ending.input_over(20.0)
    assert ending.deadline() == 22.0
    ending.got(21.0)
    assert ending.deadline() == 23.0
    ending.passed(22.9, False)
    assert over(ending) is False
    ending.passed(23.0, False)
    assert over(ending) is None


def test_the_count_ends_it() -> None:
    ending = begun(count=2)
    ending.got(11.0)
    assert over(ending) is False
    ending.got(12.0)
    assert over(ending) is None
    assert ending.messages == 2


def test_an_end_before_the_count_is_a_failure() -> None:
    ending = begun(count=2)
    ending.got(11.0)
    ending.input_over(12.0)
    ending.left("peer")
    assert over(ending) == "1 of 2 messages came: that was the end"

    ending = begun(says_end=False, count=2, linger=1.0)
    ending.input_over(12.0)
    ending.passed(13.0, False)
    assert over(ending) == "0 of 2 messages came: 1 s after the end of the input"


def test_the_timeout_is_for_silence_in_both_directions() -> None:
    ending = begun(timeout=5.0)
    assert ending.deadline() == 15.0
    ending.moved(12.0)
    ending.moved(11.0)  # looked at late
    assert ending.deadline() == 17.0
    ending.got(13.0)
    assert ending.deadline() == 18.0
    ending.passed(18.0, False)
    assert over(ending) is None


def test_the_timeout_is_a_failure_when_messages_are_missing_nothing_is_taken_or_nobody_came() -> None:
    ending = begun(timeout=5.0, count=1)
    ending.passed(15.0, False)
    assert over(ending) == "0 of 1 messages came: nothing more came for 5 s"

    ending = begun(timeout=5.0)
    ending.passed(15.0, True)
    assert over(ending) == "nothing of the input was taken for 5 s"

    ending = Ending(0.0, timeout=5.0)
    ending.passed(5.0, False)
    assert over(ending) == "nobody came within 5 s"


def test_one_that_stays_open_outlives_input_and_peers() -> None:
    ending = begun(says_end=False, stays=True, timeout=5.0)
    ending.input_over(11.0)
    ending.left("one")
    ending.left("another", "it broke")
    assert over(ending) is False
    assert ending.deadline() == 16.0
    ending.passed(16.0, True)
    assert over(ending) is None

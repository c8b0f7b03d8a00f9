"""Names of topics, and the table that says who hears of one: pure, against the plainest way to say the same."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import BadTopic
from actors.routing import Router, one_of
from actors.subjects import check_headers, check_pattern, check_topic, matches

tokens = st.sampled_from(["a", "b", "c", "$x"])
topics = st.lists(tokens, min_size=1, max_size=4).map(".".join)
patterns = st.builds(
    lambda parts, tail: ".".join([*parts, *tail]) or ">", st.lists(tokens | st.just("*"), max_size=4), st.sampled_from([[], [">"]])
)
entries = st.tuples(patterns, st.none() | st.sampled_from(["q", "r"]), st.integers(0, 3))


def plainly(pattern: str, topic: str) -> bool:
    """One token after the other, as NATS's document says it."""
    wanted, tokens = pattern.split("."), topic.split(".")
    if topic.startswith("$") and wanted[0] in ("*", ">"):
        return False
    for number, one in enumerate(wanted):
        if one == ">":
            return len(tokens) > number
        if number >= len(tokens) or one not in ("*", tokens[number]):
            return False
    return len(tokens) == len(wanted)


@given(patterns, topics)
def test_matching_is_token_by_token(pattern: str, topic: str) -> None:
    assert matches(pattern, topic) == plainly(pattern, topic)


@given(st.lists(st.tuples(st.booleans(), entries), max_size=30), topics)
def test_a_route_is_what_going_through_all_patterns_finds(steps: list[tuple[bool, tuple[str, str | None, int]]], topic: str) -> None:
    router = Router[int]()
    table: dict[tuple[str, str | None, int], None] = {}
    for adds, entry in steps:
        if adds:
            router.add(*entry)
            table[entry] = None
        else:
            router.remove(*entry)
            table.pop(entry, None)
        route = router.route(topic)
        heard = [entry for entry in table if plainly(entry[0], topic)]
        assert Counter(route.each) == Counter(target for _, queue, target in heard if queue is None)
        groups = {queue: {target for _, other, target in heard if other == queue} for _, queue, _ in heard if queue is not None}
        assert sorted(map(sorted, route.groups)) == sorted(map(sorted, groups.values()))
        assert router.route(topic) is route  # kept until the next change
    assert len(router) == len(table)
    for entry in table:
        router.remove(*entry)
    assert len(router) == 0
    assert not router._root.children  # nothing is left of what was there


def test_a_route_costs_what_matches_and_not_what_does_not() -> None:
    looked: list[str] = []

    class Token(str):
        def __eq__(self, other: object) -> bool:
            looked.append(self)
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    router = Router[int]()
    for number in range(1000):
        router.add(f"robots.{number}.moved", None, number)
    router.add("robots.*.moved", None, -1)
    robots = router._root.children["robots"]
    robots.children = {Token(name): node for name, node in robots.children.items()}
    looked.clear()
    assert router.route("robots.7.moved").each in ((7, -1), (-1, 7))
    assert len(looked) < 20


def test_routes_that_are_kept_are_bounded() -> None:
    router = Router[int]()
    for number in range(1000):
        router.add(">", None, number)
    for number in range(1000):
        assert len(router.route(f"{number}").each) == 1000
    assert sum(len(route.each) for route in router.known.values()) <= 100_000


def test_one_of_a_group_is_any_of_them() -> None:
    assert {one_of((1, 2, 3)) for _ in range(200)} == {1, 2, 3}


@given(st.text(st.characters(codec=None), max_size=12) | st.text("a.*>$ \t", max_size=8))
def test_a_name_is_taken_or_refused(name: str) -> None:
    outcomes = []
    for check in (check_topic, check_pattern):
        try:
            check(name)
            outcomes.append(True)
        except BadTopic:
            outcomes.append(False)
    assert outcomes[0] <= outcomes[1]  # a topic is a pattern, too
    if outcomes[0]:
        assert matches(name, name)
        assert not any(character.isspace() or character in "*>" for character in name)
        assert all(name.split("."))


def test_what_is_no_name_at_all_is_a_type_error() -> None:
    for check in (check_topic, check_pattern):
        with pytest.raises(TypeError, match="must be a str"):
            check(b"a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="headers"):
        check_headers({"a": 1})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="headers"):
        check_headers([("a", "b")])  # type: ignore[arg-type]


def test_a_queue_counts_once_whatever_patterns_its_members_came_by() -> None:
    router = Router[int]()
    for number, pattern in enumerate(("a.*", "a.>", "a.b", ">")):
        router.add(pattern, "q", number)
    (group,) = router.route("a.b").groups
    assert sorted(group) == [0, 1, 2, 3]

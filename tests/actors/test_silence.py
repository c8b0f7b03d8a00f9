"""How looks at a peer become a verdict on its silence."""

from __future__ import annotations

from actors.silence import Quiet


def looks(*found: tuple[object, bool]) -> list[int]:
    quiet = Quiet()
    return [quiet.look(signs, reading) for signs, reading in found]


def test_only_what_the_look_before_had_found_too_counts() -> None:
    assert looks(("a", True), ("a", True), ("a", True), ("b", True), ("b", True)) == [0, 1, 2, 0, 1]


def test_while_we_do_not_read_nothing_counts_and_it_begins_anew_behind_that() -> None:
    found = [("a", True), ("a", True), ("a", False), ("a", False), ("a", True), ("a", True), ("a", True)]
    assert looks(*found) == [0, 1, 0, 0, 0, 1, 2]


def test_a_sign_of_life_that_comes_while_we_do_not_read_counts_once() -> None:
    assert looks(("a", True), ("b", False), ("b", True), ("b", True)) == [0, 0, 0, 1]

"""An alarm: one call at a time to come, which keeps its script alive until then."""

from __future__ import annotations

import threading
from time import monotonic

import pykka
import pytest

from actors.alarm import AlarmActor
from actors.readerthread import ReaderThread
from actors.scope import Scope
from tests.actors.engine import BOUND, settle
from tests.bus.peers import until


def test_it_rings_once_and_has_ended(loop: ReaderThread) -> None:
    rung: list[float] = []
    due = monotonic() + 0.02
    alarm = AlarmActor.start_at(due, lambda: rung.append(monotonic()), loop)
    until(alarm.actor_stopped.is_set)
    settle(loop)
    assert len(rung) == 1
    assert rung[0] >= due
    assert alarm not in loop.hosted


def test_alarms_ring_in_the_order_of_their_times(loop: ReaderThread) -> None:
    rung: list[int] = []
    now = monotonic()
    for number in (3, 1, 2):
        AlarmActor.start_at(now + number / 100, lambda number=number: rung.append(number), loop)  # type: ignore[misc]
    until(lambda: len(rung) == 3)
    assert rung == [1, 2, 3]


def test_it_keeps_its_script_alive_until_it_has_rung(loop: ReaderThread) -> None:
    owner = Scope("script")
    go_on = threading.Event()
    alarm = AlarmActor.start_at(monotonic(), lambda: go_on.wait(BOUND), loop, owner)
    assert owner.kept_alive
    go_on.set()
    until(alarm.actor_stopped.is_set)
    assert not owner.kept_alive


@pytest.mark.parametrize("how", ["close_soon", "close", "scope"])
def test_it_can_be_prevented(loop: ReaderThread, how: str) -> None:
    owner = Scope("script")
    rung: list[int] = []
    alarm = AlarmActor.start_at(monotonic() + 3600, lambda: rung.append(1), loop, owner)
    if how == "close_soon":
        alarm.close_soon()
    elif how == "close":
        wait = alarm.close_from_outside(0)
        assert wait(monotonic() + BOUND)
        assert alarm.close_from_outside(0)(monotonic() + BOUND)  # it has ended already
    else:
        owner.close()
    until(alarm.actor_stopped.is_set)
    settle(loop)
    assert not rung
    assert not owner.kept_alive
    assert alarm.actor_ref not in pykka.ActorRegistry.get_all()


def test_one_that_fails_has_ended_all_the_same(loop: ReaderThread) -> None:
    def ring() -> None:
        raise LookupError

    alarm = AlarmActor.start_at(monotonic(), ring, loop)
    until(alarm.actor_stopped.is_set)

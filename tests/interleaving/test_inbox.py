"""An actor's inbox under every order of two senders, its turns on the reader thread, and its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pykka
import pytest
from pykka import messages
from pykka._envelope import Envelope

import actors.actor
from actors.actor import Control, Inbox, SocketActor
from tests.interleaving.explorer import Report, explore
from tests.interleaving.primitives import Lock, wait_for


class Data:
    def __init__(self, number: int) -> None:
        self.number = number


class Overtaking(Control):
    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class Future:
    """Pykka's, as far as an inbox knows it."""

    def __init__(self) -> None:
        self.results: list[object] = []

    def set(self, value: object = None) -> None:
        self.results.append(value)

    def set_exception(self, info: tuple[Any, ...]) -> None:
        self.results.append(info[0])


class Office:
    """An inbox, the reader thread that turns to it, and what became of each message."""

    def __init__(self, *, bound: bool = True) -> None:
        self.actor_inbox = Inbox()
        self.turns_due = 0
        self.senders = 0  # that have finished
        self.stopped = False
        self.handled: list[int] = []
        self.taken: list[int] = []
        self.refused: list[int] = []
        self.left: list[int] = []
        self.futures: list[Future] = []
        if bound:
            self.bind()

    def bind(self) -> None:
        self.actor_inbox.bind(self.ask_for_turn)

    def ask_for_turn(self) -> None:
        self.turns_due += 1

    def ready(self) -> bool:
        return self.turns_due > 0 or self.senders == 2

    def tell(self, *items: Data | Overtaking) -> None:
        for item in items:
            taken = self.actor_inbox.offer(Envelope(item))
            (self.taken if taken else self.refused).append(item.number)
        self.senders += 1

    def ask(self, number: int) -> None:
        future = Future()
        self.futures.append(future)
        self.actor_inbox.put(Envelope(Data(number), reply_to=future))  # type: ignore[arg-type]
        self.senders += 1

    def _handle(self, envelope: Envelope[Any]) -> None:
        if isinstance(envelope.message, messages._ActorStop):
            self.stop()
            return
        self.handled.append(envelope.message.number)
        if envelope.reply_to is not None:
            envelope.reply_to.set("answer")

    def stop(self) -> None:
        """As `SocketActor.ended` does it."""
        self.stopped = True
        for envelope in self.actor_inbox.close():
            self.left.append(envelope.message.number)
            actors.actor._refuse(envelope)

    def live(self) -> None:
        """The reader thread: a turn whenever one is due, until both senders have finished and nothing is due."""
        while True:
            wait_for(self)
            if not self.turns_due:
                return
            self.turns_due -= 1
            assert not self.turns_due, "asked for a second turn before the first was over"
            SocketActor._turn(self)  # type: ignore[arg-type]

    def check_each_once(self) -> None:
        assert sorted(self.handled + self.left) == sorted(self.taken)
        assert self.actor_inbox.empty()


def play(
    setup: Callable[[], Office],
    threads: Sequence[Callable[[Office], object]],
    check: Callable[[Office], object],
    *,
    turn: int = 256,
) -> Report:
    report = explore(
        setup,
        threads,
        check,
        trace_files=[actors.actor],
        atomic_sections=len(threads) > 2,
        replace={"actors.actor.Lock": Lock, "actors.actor.INBOX_TURN": turn},
    )
    assert report.complete
    return report


@pytest.mark.parametrize("turn", [1, 2, 256])
def test_every_message_gets_its_turn_however_short_the_turns_are(turn: int) -> None:
    def check(office: Office) -> None:
        office.check_each_once()
        assert [number for number in office.handled if number < 10] == [1, 2]
        assert len(office.handled) == 3

    play(
        Office,
        [Office.live, lambda office: office.tell(Data(1), Data(2)), lambda office: office.tell(Data(11))],
        check,
        turn=turn,
    )


def test_no_turn_is_forgotten_between_emptying_the_inbox_and_resting() -> None:
    def setup() -> Office:
        office = Office()
        office.senders = 1
        return office

    def check(office: Office) -> None:
        assert office.handled == [1, 2]

    play(setup, [Office.live, lambda office: office.tell(Data(1), Data(2))], check)


def test_what_comes_before_the_loop_is_bound_waits_for_it() -> None:
    def bind_and_live(office: Office) -> None:
        office.bind()
        office.live()

    def check(office: Office) -> None:
        office.check_each_once()
        assert len(office.handled) == 3

    play(
        lambda: Office(bound=False),
        [bind_and_live, lambda office: office.tell(Data(1), Data(2)), lambda office: office.tell(Overtaking(3))],
        check,
    )


def test_control_overtakes_data() -> None:
    def setup() -> Office:
        office = Office(bound=False)
        office.tell(Data(1), Data(2))
        return office

    def check(office: Office) -> None:
        office.check_each_once()
        assert [number for number in office.handled if number < 3] == [1, 2]
        assert office.handled[0] == 3, "all were there before the first turn"

    def control_and_bind(office: Office) -> None:
        office.actor_inbox.offer(Envelope(Overtaking(3)))
        office.taken.append(3)
        office.bind()
        office.senders += 1

    play(setup, [Office.live, control_and_bind], check)


def test_a_message_beside_the_stop_is_handled_or_left_or_refused_and_never_lost() -> None:
    fates: set[str] = set()

    def stop(office: Office) -> None:
        office.actor_inbox.offer(Envelope(messages._ActorStop()))
        office.senders += 1

    def check(office: Office) -> None:
        office.check_each_once()
        assert office.stopped
        assert len(office.taken) + len(office.refused) == 2
        fates.update(name for name in ("handled", "left", "refused") if getattr(office, name))

    play(Office, [Office.live, lambda office: office.tell(Data(1), Data(2)), stop], check)
    assert fates == {"handled", "left", "refused"}


def test_an_ask_beside_the_stop_gets_exactly_one_answer() -> None:
    answers: set[object] = set()

    def stop(office: Office) -> None:
        office.actor_inbox.offer(Envelope(messages._ActorStop()))
        office.senders += 1

    def check(office: Office) -> None:
        (future,) = office.futures
        (answer,) = future.results
        answers.add(answer)

    play(Office, [Office.live, lambda office: office.ask(1), stop], check)
    assert answers == {"answer", pykka.ActorDeadError}

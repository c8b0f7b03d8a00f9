"""Our Pykka actor type: Pykka's outside works on it, and each thing it mends is mended."""

from __future__ import annotations

import gc
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pykka
import pytest
from pykka import messages
from pykka._envelope import Envelope

from actors import hosting, scope
from actors.actor import INBOX_TURN, REQUIRED_INSIDES, Control, Inbox, SocketActor, post
from actors.readerthread import ReaderThread
from actors.scope import Scope
from tests.actors.engine import BOUND, Notebook, held, on_loop, settle


class Urgent(Control):
    """Overtakes what is not."""


@pytest.fixture
def ref(loop: ReaderThread) -> Iterator[pykka.ActorRef[Notebook]]:
    started = Notebook.start(loop)
    yield started
    started.stop(timeout=BOUND)


def actor_of(ref: pykka.ActorRef[Notebook]) -> Notebook:
    actor = ref._actor_weakref()
    assert actor is not None
    return actor


# --- Pykka's insides and outside ---


def test_what_it_needs_of_pykkas_insides_is_there(ref: pykka.ActorRef[Notebook]) -> None:
    # Of actors and refs an instance is looked at: some of it is set when they are made.
    owners = {
        "pykka.Actor": actor_of(ref),
        "pykka.ActorRef": ref,
        "pykka.ActorRegistry": pykka.ActorRegistry,
        "pykka.messages": messages,
        "pykka._envelope.Envelope": Envelope(None),
    }
    assert owners.keys() == REQUIRED_INSIDES.keys()
    missing = {(path, name) for path, names in REQUIRED_INSIDES.items() for name in names if not hasattr(owners[path], name)}
    assert not missing


def test_pykkas_hooks_for_actor_types_are_there() -> None:
    for name in ("_create_actor_inbox", "_create_future", "_start_actor_loop"):
        assert name in pykka.Actor.__abstractmethods__


def test_ask_gets_the_reply_and_tell_none(ref: pykka.ActorRef[Notebook]) -> None:
    assert ref.ask("a", timeout=BOUND) == "a"
    ref.tell("b")
    assert ref.ask("c", timeout=BOUND) == "c"
    assert actor_of(ref).got == ["a", "b", "c"]


def test_ask_can_give_a_future(ref: pykka.ActorRef[Notebook]) -> None:
    futures = [ref.ask(number, block=False) for number in range(10)]
    assert pykka.get_all(futures, timeout=BOUND) == list(range(10))


def test_messages_of_one_sender_keep_their_order(loop: ReaderThread, ref: pykka.ActorRef[Notebook]) -> None:
    count = INBOX_TURN * 3
    for number in range(count):
        ref.tell(number)
    settle(loop)
    assert ref.ask("last", timeout=BOUND)
    assert actor_of(ref).got == [*range(count), "last"]


def test_its_handlers_run_on_the_reader_thread(loop: ReaderThread, ref: pykka.ActorRef[Notebook]) -> None:
    ref.ask("a", timeout=BOUND)
    assert actor_of(ref).threads == {on_loop(loop, threading.current_thread)}


def test_a_proxy_reads_writes_calls_and_raises(ref: pykka.ActorRef[Notebook]) -> None:
    proxy: Any = ref.proxy()
    assert proxy.cover.get(timeout=BOUND) == "red"
    assert proxy.paint("blue").get(timeout=BOUND) == "red"
    proxy.cover = "green"
    assert proxy.cover.get(timeout=BOUND) == "green"
    with pytest.raises(LookupError, match="torn"):
        proxy.tear().get(timeout=BOUND)
    assert ref.is_alive()
    with pytest.raises(AttributeError):
        _ = proxy.nonsense


def test_the_registry_knows_it_while_it_lives(ref: pykka.ActorRef[Notebook]) -> None:
    assert ref in pykka.ActorRegistry.get_by_class(Notebook)
    assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) == ref
    assert ref.stop(timeout=BOUND)
    assert ref not in pykka.ActorRegistry.get_all()


def test_a_broadcast_of_the_registry_reaches_it(ref: pykka.ActorRef[Notebook]) -> None:
    pykka.ActorRegistry.broadcast("all", target_class=Notebook)
    assert ref.ask("then", timeout=BOUND)
    assert actor_of(ref).got == ["all", "then"]


def test_stop_waits_until_it_has_stopped_and_tells_whether_it_lived(ref: pykka.ActorRef[Notebook]) -> None:
    actor = actor_of(ref)
    assert ref.stop(timeout=BOUND) is True
    assert not ref.is_alive()
    assert actor.stops == 1
    assert ref.stop(timeout=BOUND) is False
    assert actor.stops == 1


def test_it_can_stop_itself(loop: ReaderThread, ref: pykka.ActorRef[Notebook]) -> None:
    ref.ask(actor_of(ref).stop, timeout=BOUND)
    settle(loop)
    assert not ref.is_alive()


def test_somebody_holds_it_although_a_ref_is_weak(loop: ReaderThread) -> None:
    ref = Notebook.start(loop)
    gc.collect()
    assert ref.ask("still here", timeout=BOUND) == "still here"
    assert ref.stop(timeout=BOUND)
    settle(loop)
    gc.collect()
    assert ref._actor_weakref() is None, "and lets go of it when it has stopped"


def test_one_loop_hosts_many(loop: ReaderThread) -> None:
    refs = [Notebook.start(loop) for _ in range(200)]
    futures = [ref.ask(number, block=False) for number, ref in enumerate(refs)]
    assert pykka.get_all(futures, timeout=BOUND) == list(range(200))
    assert len(loop.hosted) == 200
    for ref in refs:
        assert ref.stop(timeout=BOUND)
    assert not loop.hosted


def test_a_flooded_actor_shares_its_thread(loop: ReaderThread) -> None:
    flooded, neighbour = Notebook.start(loop), Notebook.start(loop)
    with held(loop):
        for number in range(INBOX_TURN * 4):
            flooded.tell(number)
        reply = neighbour.ask(lambda: len(actor_of(flooded).got), block=False)
    assert reply.get(timeout=BOUND) <= INBOX_TURN
    assert flooded.ask("last", timeout=BOUND)
    assert len(actor_of(flooded).got) == INBOX_TURN * 4 + 1
    for ref in (flooded, neighbour):
        ref.stop(timeout=BOUND)


# --- what is mended: closing and putting ---


def test_an_ask_to_a_stopped_actor_fails_at_once(ref: pykka.ActorRef[Notebook]) -> None:
    ref.stop(timeout=BOUND)
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("late", timeout=BOUND)
    with pytest.raises(pykka.ActorDeadError):
        ref.tell("late")


def test_an_ask_that_passed_pykkas_look_before_the_stop_fails_at_once(ref: pykka.ActorRef[Notebook]) -> None:
    # Stock Pykka looks whether the actor lives, and then puts: in between it may have drained its inbox for the last time.
    future: pykka.Future[Any] = pykka.ThreadingFuture()
    ref.stop(timeout=BOUND)
    ref.actor_inbox.put(Envelope("late", reply_to=future))
    with pytest.raises(pykka.ActorDeadError):
        future.get(timeout=BOUND)
    with pytest.raises(pykka.ActorDeadError):
        ref.actor_inbox.put(Envelope("late"))
    stopping: pykka.Future[Any] = pykka.ThreadingFuture()
    ref.actor_inbox.put(Envelope(messages._ActorStop(), reply_to=stopping))
    assert stopping.get(timeout=BOUND) is None


def test_asks_that_wait_when_it_stops_are_answered(loop: ReaderThread, ref: pykka.ActorRef[Notebook]) -> None:
    with held(loop):
        waiting = [ref.ask(number, block=False) for number in range(3)]
        stopped = ref.stop(block=False)
    assert stopped.get(timeout=BOUND) is True
    for future in waiting:
        with pytest.raises(pykka.ActorDeadError):
            future.get(timeout=BOUND)
    assert len(waiting) == 3


@pytest.mark.parametrize("attempt", range(5))
def test_no_ask_is_lost_between_putting_and_closing(loop: ReaderThread, attempt: int) -> None:
    refs = [Notebook.start(loop) for _ in range(40)]
    actors = [actor_of(ref) for ref in refs]
    gate = threading.Barrier(5)
    answered: list[Any] = []
    refused: list[int] = []
    stopped: list[Any] = []

    def ask() -> None:
        gate.wait(BOUND)
        for number, ref in enumerate(refs):
            for _ in range(3):
                try:
                    answered.append(ref.ask(number, timeout=BOUND))
                except pykka.ActorDeadError:
                    refused.append(number)

    def stop() -> None:
        gate.wait(BOUND)
        stopped.extend(ref.stop(timeout=BOUND) for ref in refs)

    threads = [threading.Thread(target=ask) for _ in range(4)] + [threading.Thread(target=stop)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND * 2)
    assert not any(thread.is_alive() for thread in threads)
    assert len(answered) + len(refused) == 4 * 3 * 40, "a pykka.Timeout: that ask was never answered"
    assert sorted(answered) == sorted(number for actor in actors for number in actor.got)
    assert all(stopped)


# --- control overtakes data ---


def test_control_overtakes_data(loop: ReaderThread, ref: pykka.ActorRef[Notebook]) -> None:
    actor, urgent = actor_of(ref), Urgent()
    with held(loop):
        for number in range(5):
            ref.tell(number)
        ref.tell(urgent)
    settle(loop)
    assert actor.got == [urgent, *range(5)]


def test_a_stop_overtakes_data(loop: ReaderThread, ref: pykka.ActorRef[Notebook]) -> None:
    actor = actor_of(ref)
    with held(loop):
        for number in range(5):
            ref.tell(number)
        stopped = ref.stop(block=False)
    assert stopped.get(timeout=BOUND) is True
    assert actor.got == []


def test_control_overtakes_data_that_keeps_coming(loop: ReaderThread, ref: pykka.ActorRef[Notebook]) -> None:
    actor, urgent = actor_of(ref), Urgent()

    def again() -> None:
        if not any(isinstance(message, Urgent) for message in actor.got):
            ref.tell(again)

    ref.tell(again)
    ref.ask(urgent, timeout=BOUND)
    assert ref.ask("last", timeout=BOUND)


# --- exceptions ---


ENDINGS = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit]


def raising(error: type[BaseException]) -> Callable[[], None]:
    def fail() -> None:
        raise error("in a handler")

    return fail


@pytest.mark.parametrize("error", ENDINGS)
def test_an_exception_goes_to_who_asked_and_ends_nothing(ref: pykka.ActorRef[Notebook], error: type[BaseException]) -> None:
    with pytest.raises(error, match="in a handler"):
        ref.ask(raising(error), timeout=BOUND)
    assert ref.ask("alive", timeout=BOUND) == "alive"
    assert actor_of(ref).failures == []


@pytest.mark.parametrize("error", ENDINGS)
def test_an_exception_that_nobody_asked_for_ends_its_actor_and_nothing_else(
    loop: ReaderThread, ref: pykka.ActorRef[Notebook], error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    neighbour = Notebook.start(loop)
    with caplog.at_level(logging.ERROR, "actorbus.engine"), held(loop):
        actor = actor_of(ref)
        ref.tell(raising(error))
        waiting = ref.ask("behind it", block=False)
    with pytest.raises(pykka.ActorDeadError):
        waiting.get(timeout=BOUND)
    assert not ref.is_alive()
    assert [type(failure) for failure in actor.failures] == [error]
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [error]
    # SystemExit makes stock Pykka stop every actor there is.
    assert neighbour.ask("alive", timeout=BOUND) == "alive"
    assert neighbour.stop(timeout=BOUND)


def test_even_a_failing_end_leaves_the_loop_and_the_inbox_working(loop: ReaderThread, caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(Notebook):
        def stop_requested(self, stopped: Callable[[], object]) -> None:
            if self.got:
                super().stop_requested(stopped)
            else:
                raise ValueError("will not")

    ref = Stubborn.start(loop)
    neighbour = Notebook.start(loop)
    with caplog.at_level(logging.ERROR, "actorbus.engine"):
        first = ref.stop(block=False)
        settle(loop)
    assert "will not" in caplog.text
    assert neighbour.ask("alive", timeout=BOUND) == "alive"
    assert ref.ask("alive", timeout=BOUND) == "alive"
    assert ref.stop(timeout=BOUND)
    neighbour.stop(timeout=BOUND)
    with pytest.raises(pykka.Timeout):
        first.get(timeout=0)


# --- post ---


def test_post_tells_and_says_whether_it_could(loop: ReaderThread, ref: pykka.ActorRef[Notebook]) -> None:
    actor = actor_of(ref)
    assert post(ref, "a") is True
    settle(loop)
    assert actor.got == ["a"]
    ref.stop(timeout=BOUND)
    assert post(ref, "b") is False
    assert actor.got == ["a"]


def test_one_dead_actor_does_not_hurt_a_broadcast(loop: ReaderThread) -> None:
    refs = [Notebook.start(loop) for _ in range(5)]
    refs[2].stop(timeout=BOUND)
    assert [post(ref, "news") for ref in refs] == [True, True, False, True, True]
    for ref in refs:
        ref.stop(timeout=BOUND)


# --- the beginning and the end ---


def test_what_comes_before_the_loop_starts_waits_for_it(loop: ReaderThread) -> None:
    actor = Notebook(loop)
    ref = actor.actor_ref
    pykka.ActorRegistry.register(ref)
    urgent = Urgent()
    ref.tell("a")
    reply = ref.ask("b", block=False)
    ref.tell(urgent)
    settle(loop)
    assert actor.got == []
    actor._start_actor_loop()
    assert reply.get(timeout=BOUND) == "b"
    assert actor.got == [urgent, "a", "b"]
    ref.stop(timeout=BOUND)


def test_an_inbox_rings_once_for_a_batch() -> None:
    rings: list[int] = []
    inbox = Inbox()
    assert inbox.offer(Envelope("early"))
    inbox.bind(lambda: rings.append(1))
    assert len(rings) == 1
    assert inbox.offer(Envelope("second"))
    assert len(rings) == 1, "the turn it asked for has not come yet"
    inbox.get()
    inbox.rest()
    assert len(rings) == 2, "one is left over"
    inbox.get()
    inbox.rest()
    assert len(rings) == 2
    with pytest.raises(IndexError):
        inbox.get()
    inbox.offer(Envelope("third"))
    assert len(rings) == 3
    assert [envelope.message for envelope in inbox.close()] == ["third"]
    assert not inbox.offer(Envelope("late"))
    assert inbox.empty()
    assert len(rings) == 3


def test_ending_twice_is_nothing(loop: ReaderThread, ref: pykka.ActorRef[Notebook]) -> None:
    actor = actor_of(ref)
    on_loop(loop, actor.ended)
    on_loop(loop, actor.ended)
    assert actor.stops == 1


def test_close_soon_asks_and_does_not_wait(loop: ReaderThread, ref: pykka.ActorRef[Notebook]) -> None:
    with held(loop):
        actor_of(ref).close_soon()
        assert ref.is_alive()
    settle(loop)
    assert not ref.is_alive()


def test_it_belongs_to_the_script_that_started_it(loop: ReaderThread) -> None:
    mine = Scope("script.py")
    previous = scope.enter(mine)
    try:
        ref = Notebook.start(loop)
    finally:
        scope.enter(previous)
    other = Notebook.start(loop)
    assert list(mine._held.values()) == [actor_of(ref)]
    mine.close()
    settle(loop)
    assert not ref.is_alive()
    assert not mine._held
    assert other.ask("alive", timeout=BOUND)
    other.stop(timeout=BOUND)


def test_a_reader_thread_of_its_own_ends_with_it() -> None:
    loop = hosting.dedicated()
    ref = Notebook.start(loop, dedicated=True)
    assert ref.ask("a", timeout=BOUND) == "a"
    assert not loop.stopped.is_set()
    ref.stop(timeout=BOUND)
    assert loop.stopped.wait(BOUND)


class Owner(SocketActor):
    """Fails where it is told to, with a socket."""

    def __init__(self, sock: socket.socket, loop: ReaderThread, *, fail: str, dedicated: bool = False) -> None:
        if fail == "init":
            raise ValueError("init")
        super().__init__(loop, dedicated=dedicated)
        self.sock = sock
        self.fail = fail

    def on_start(self) -> None:
        if self.fail == "start":
            raise ValueError("start")


@pytest.mark.parametrize("dedicated", [False, True])
@pytest.mark.parametrize("fail", ["init", "start"])
def test_an_actor_that_can_not_start_leaves_nothing_behind(loop: ReaderThread, fail: str, dedicated: bool) -> None:
    host = hosting.dedicated() if dedicated else loop
    mine = Scope("script.py")
    previous = scope.enter(mine)
    sock = socket.socket()
    try:
        with pytest.raises(ValueError, match=fail):
            Owner.open(sock, host, fail=fail, dedicated=dedicated)
    finally:
        scope.enter(previous)
    done = threading.Event()  # it ends where it would be read
    host.call_soon(done.set)
    assert (host.stopped if dedicated else done).wait(BOUND)
    if fail == "start" and not dedicated:
        settle(host)  # its reader may be registered already, so it is closed on the reader thread
    elif dedicated:
        assert host.stopped.wait(BOUND)
    assert sock.fileno() == -1
    assert not mine._held
    assert not host.hosted
    assert pykka.ActorRegistry.get_by_class(Owner) == []


def test_stock_pykka_still_has_what_is_mended_here() -> None:
    """If this fails, a part of the mending has become needless: look into Pykka's changelog."""

    class Stock(pykka.ThreadingActor):
        pass

    ref = Stock.start()
    ref.stop(timeout=BOUND)
    lost: pykka.Future[Any] = pykka.ThreadingFuture()
    ref.actor_inbox.put(Envelope("late", reply_to=lost))
    with pytest.raises(pykka.Timeout):
        lost.get(timeout=0)

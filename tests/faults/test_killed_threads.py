"""Actors and threads of the engine are killed from outside; two actors ask each other. What comes next works."""

from __future__ import annotations

import threading
from typing import Any

import pykka
import pytest

from actors.readerthread import ReaderThread
from tests.actors.engine import Notebook, reader_thread
from tests.bus.peers import WAIT, InThread
from tests.faults.ends import each_stream, script

pytestmark = pytest.mark.fault

KILLING = """
import ctypes, logging, random, sys, threading, time
sys.path.insert(0, ".")
import pykka
import bus
from actors import crew
from tests.faults.ends import serve, take
logging.getLogger("actorbus").addHandler(logging.NullHandler())
logging.getLogger("actorbus").propagate = False  # it has much to say here

scheme, victim = sys.argv[1:]
over = threading.Event()
chance = random.Random(5)
trips = [0] * 100

class Killed(BaseException):
    pass

def kill_an_actor():
    if refs := pykka.ActorRegistry.get_all():
        chance.choice(refs).stop(block=False)

def kill_a_thread():
    threads = [thread for thread in crew.threads() if thread.is_alive()]
    if threads:
        ident = chance.choice(threads).ident
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Killed))

def come_and_go(number):
    while not over.is_set():
        try:
            with bus.connect(f"{scheme}://{server.address}", timeout=1) as conn:
                while not over.is_set():
                    conn.send("x", timeout=1)
                    if conn.receive(timeout=1) is None:
                        break
                    trips[number] += 1
                    over.wait(0.05)
        except bus.BusError:
            over.wait(0.05)

server = serve(scheme)
guests = [threading.Thread(target=come_and_go, args=(number,), daemon=True) for number in range(len(trips))]
for guest in guests:
    guest.start()
while not all(trips):
    time.sleep(0.01)
for _ in range(50):
    if victim != "thread":
        kill_an_actor()
    if victim != "actor":
        kill_a_thread()
    time.sleep(0.1)  # the rhythm of the kills; nothing waits for it
over.set()
deadline = time.monotonic() + 20
for guest in guests:
    guest.join(max(0.0, deadline - time.monotonic()))
assert not any(guest.is_alive() for guest in guests), "a call of theirs does not end"
server.stop(linger=1)
with serve(scheme) as after:
    for _ in range(20):
        with bus.connect(f"{scheme}://{after.address}", timeout=5) as conn:
            conn.send("works")
            assert conn.receive(timeout=5).text == "works"
print("works")
"""


@each_stream
@pytest.mark.parametrize("victim", ["actor", "thread", "both"])
def test_a_hundred_connections_while_parts_of_the_engine_are_killed(scheme: str, victim: str) -> None:
    out, _ = script(KILLING, scheme, victim)
    assert out == "works\n"


# -- actors that ask each other -----------------------------------------------------------------------------------------


class Asker(Notebook):
    """Told whom to ask, it asks, and that one asks it in turn."""

    def on_receive(self, message: Any) -> Any:
        match message:
            case ("ask", pykka.ActorRef() as other, seconds):
                return other.ask(("ask back", self.actor_ref, seconds), timeout=seconds)
            case ("ask back", pykka.ActorRef() as other, seconds):
                return other.ask("are you there", timeout=seconds)
        return super().on_receive(message)


def asked(one: ReaderThread, two: ReaderThread) -> tuple[pykka.ActorRef[Asker], pykka.ActorRef[Asker]]:
    return Asker.start(one), Asker.start(two)


@pytest.mark.parametrize("threads", [1, 2])
def test_two_that_ask_each_other_end_with_a_timeout_and_work_on(threads: int) -> None:
    with reader_thread() as first, reader_thread() as second:
        one, two = asked(first, first if threads == 1 else second)
        with pytest.raises(pykka.Timeout):
            InThread(lambda: one.ask(("ask", two, 0.2), timeout=WAIT)).result()
        assert one.ask("still there", timeout=WAIT) == "still there"
        assert two.ask("still there", timeout=WAIT) == "still there"
        one.stop(timeout=WAIT)
        two.stop(timeout=WAIT)


def test_one_that_asks_who_has_stopped_gets_an_error_at_once() -> None:
    with reader_thread() as first, reader_thread() as second:
        one, two = asked(first, second)
        two.stop(timeout=WAIT)
        with pytest.raises(pykka.ActorDeadError):
            InThread(lambda: one.ask(("ask", two, None), timeout=WAIT)).result()
        one.stop(timeout=WAIT)


def test_one_that_is_stopped_while_others_ask_it_answers_them_with_an_error() -> None:
    with reader_thread() as first:
        one = Asker.start(first)
        gate = threading.Event()
        inside = threading.Event()

        def block() -> bool:
            inside.set()
            return gate.wait(WAIT)

        blocking = one.ask(block, block=False)
        assert inside.wait(WAIT)
        waiting = [one.ask(number, block=False) for number in range(100)]
        stopping = InThread(lambda: one.stop(timeout=WAIT))
        stopping.until_blocked()
        gate.set()
        stopping.result()
        assert blocking.get(timeout=WAIT) is True
        for future in waiting:
            with pytest.raises(pykka.ActorDeadError):
                future.get(timeout=WAIT)

"""A server's client under every order of the reader thread, a spare thread, the keeper and a script that closes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pykka
import pytest

import actors.lane
import actors.readerthread
from actors.callbacks import Callbacks
from actors.draining import ClientDrain
from actors.errors import BusError, Closed
from actors.framing import LENGTH
from actors.lane import Lane
from actors.message import Message
from actors.readerthread import ReaderThread
from actors.stream import StreamActor
from tests.interleaving.explorer import Report, explore
from tests.interleaving.primitives import Lock, monotonic, step
from tests.interleaving.stand_ins import Bell, Poller, Socket, SpareThread, current


class Client:
    """The actor of a client, whose callbacks write down what they hear."""

    latest: ClassVar[Client | None] = None

    def __init__(self, *, slow: bool = False) -> None:
        Client.dismiss()
        self.heard: list[str] = []
        self.inside = 0
        self.quiets = 0
        self.open_ends = 2  # the last callback, and the descriptor
        self.crew = SpareThread()
        self.loop = ReaderThread()
        self.sock = Socket(5)
        self.actor = StreamActor.open(
            self.sock,
            self.loop,
            remote_address="tcp://peer",
            local_address="tcp://here",
            stall_timeout=None,
            make_lane=self.make_lane,
            ready=self.ready,
            on_gone=self.gone,
        )
        assert self.actor.lane is not None
        self.lane = self.actor.lane
        self.lane.slow = slow
        Client.latest = self

    @staticmethod
    def dismiss() -> None:
        """A run that failed has left its actor in the registry."""
        client, Client.latest = Client.latest, None
        if client is not None and client.actor.actor_ref in pykka.ActorRegistry.get_all():
            pykka.ActorRegistry.unregister(client.actor.actor_ref)

    def make_lane(self, actor: StreamActor, *reader: Any, **options: Any) -> Lane:
        return Lane(
            actor,
            *reader,
            client=self,
            entered=lambda: None,
            left=lambda: None,
            finished=self.end,
            **options,
        )

    def ready(self, actor: StreamActor) -> None:
        assert actor.lane is not None
        actor.lane.admit(Callbacks(self.on_message, self.on_connect, self.on_disconnect), self)
        actor.loop.call_soon(actor.lane.settle)

    # What it hears.

    def hear(self, what: str) -> None:
        self.inside += 1
        step()
        assert self.inside == 1, "two callbacks of one client at once"
        self.heard.append(what)
        self.inside -= 1

    def on_connect(self, client: Any) -> None:
        self.hear("connected")

    def on_message(self, message: Message, client: Any) -> str:
        self.hear(message.text)
        return message.text.upper()

    def on_disconnect(self, client: Any, reason: BusError) -> None:
        self.hear(type(reason).__name__)

    def gone(self, actor: StreamActor, reason: BusError) -> None:
        self.end()

    def end(self) -> None:
        self.open_ends -= 1
        if not self.open_ends:
            self.loop.stop()
            self.crew.leave()

    # The threads.

    def run_loop(self) -> None:
        self.loop._run(0)
        self.crew.live()  # whose loop was taken over is a spare thread itself

    def run_spare(self) -> None:
        self.crew.live()

    def close(self) -> None:
        self.actor.close_from_outside(5.0)

    def drain(self) -> None:
        self.loop.call_soon(ClientDrain(self.actor, Closed("tcp://here"), self.quiet).begin)

    def quiet(self) -> None:
        assert not self.inside, "it is not through: a callback runs"
        assert len(self.heard) > self.lane.messages_in, "it is not through: a message was not handled"
        self.quiets += 1
        self.close()

    def keep(self) -> None:
        """The keeper finds that a callback has not come back."""
        self.loop.check(monotonic() + 1)

    # What must hold in the end.

    def check_order(self) -> None:
        if self.heard:  # closed before it was met, a client is never heard of
            assert self.heard[0] == "connected", f"not met: {self.heard}"
            assert self.heard[-1] in ("Closed", "PeerClosed"), f"not the last: {self.heard}"
            before = self.heard[:-1]
            assert before == ["connected", "one", "two"][: len(before)]
        assert not self.open_ends
        assert self.sock.closed

    def check_all(self) -> None:
        assert self.heard == ["connected", "one", "two", "PeerClosed"]
        self.check_order()
        assert bytes(self.sock.sent) == LENGTH.frame(b"ONE") + LENGTH.frame(b"TWO")


def says(*texts: str, slow: bool = False, leaves: bool = True) -> Callable[[], Client]:
    """A client whose peer has said this, each in a segment of its own, and left."""

    def setup() -> Client:
        client = Client(slow=slow)
        client.sock.arrive(*[LENGTH.frame(text.encode()) for text in texts])
        if leaves:
            client.sock.arrive(b"")
        return client

    return setup


def run_on_spare(work: Callable[[], object]) -> bool:
    assert Client.latest is not None
    return Client.latest.crew.run(work)


def play(
    setup: Callable[[], Client],
    threads: Sequence[Callable[[Client], object]],
    check: Callable[[Client], object] = Client.check_order,
    *,
    preemptions: int = 2,
    loop_too: bool = False,
) -> Report:
    try:
        report = explore(
            setup,
            threads,
            check,
            trace_files=[actors.lane, *([actors.readerthread] if loop_too else [])],
            preemptions=preemptions,
            atomic_sections=True,
            replace={
                "actors.actor.Lock": Lock,
                "actors.crew.run": run_on_spare,
                "actors.keeper.watch": lambda loop: None,
                "actors.lane.monotonic": monotonic,
                "actors.mailbox.Lock": Lock,
                "actors.outbox.Lock": Lock,
                "actors.outbox.monotonic": monotonic,
                "actors.reader.Lock": Lock,
                "actors.readerthread.Lock": Lock,
                "actors.readerthread.Wakeup": Bell,
                "actors.readerthread.make_poller": Poller,
                "actors.readerthread.monotonic": monotonic,
                "actors.sockets.unacknowledged": lambda sock: 0,
                "actors.waiting.current": current,
                "actors.waiting.monotonic": monotonic,
            },
        )
    finally:
        Client.dismiss()
    assert report.complete
    return report


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_callbacks_come_one_by_one_and_in_order(slow: bool, preemptions: int) -> None:
    play(says("one", "two", slow=slow), [Client.run_loop, Client.run_spare], Client.check_all, preemptions=preemptions)


@pytest.mark.slow
def test_a_takeover_loses_and_doubles_nothing() -> None:
    taken_over: set[bool] = set()

    def check(client: Client) -> None:
        client.check_all()
        taken_over.add(client.lane.slow)

    play(says("one", "two"), [Client.run_loop, Client.run_spare, Client.keep], check, preemptions=1, loop_too=True)
    assert taken_over == {False, True}


@pytest.mark.parametrize("slow", [False, True])
def test_a_close_beside_the_peers_leaving_is_one_disconnect(slow: bool) -> None:
    play(says(slow=slow), [Client.run_loop, Client.run_spare, Client.close], preemptions=1)


@pytest.mark.parametrize("preemptions", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_drain_is_through_once_all_that_was_read_is_handled(preemptions: int) -> None:
    told: set[int] = set()

    def check(client: Client) -> None:
        client.check_order()
        told.add(client.quiets)

    play(says("one", "two", slow=True), [Client.run_loop, Client.run_spare, Client.drain], check, preemptions=preemptions)
    assert told == {0, 1}, "at most once; not at all when it was gone before"


def test_nothing_is_heard_after_the_disconnect() -> None:
    play(says("one", "two"), [Client.run_loop, Client.run_spare, Client.close], preemptions=1)

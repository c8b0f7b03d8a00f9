"""What a server grants its clients: so many of them, so many messages and bytes a second. Who goes over that costs itself."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import bus
from actors.reader import DELAYED, SERVING
from tests.bus.peers import WAIT, Peer, frame, until
from tests.bus.test_server import Diary, echo, every_mode, serve
from tests.bus.test_tls import TlsPeer
from tests.certificates import Certificate


class Clock:
    """The time as the rates see it: it goes on when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        self.now += seconds
        return 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("actors.paced.monotonic", clock)
    return clock


def only(server: bus.Server) -> Any:
    """The one client there is."""
    until(lambda: len(server.clients) == 1)
    return server.clients[0]


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


# --- so many messages and bytes a second ---


@every_mode
def test_messages_over_the_rate_come_later_and_in_order(mode: dict[str, Any], clock: Clock) -> None:
    seen: list[bytes] = []
    with (
        serve(lambda message, client: seen.append(message.data), max_messages_per_second=10, **mode) as server,
        Peer.to(server.address) as peer,
    ):
        peer.send(*numbers(25))
        client = only(server)
        until(lambda: len(seen) == 10)
        until(lambda: client.stats().waiting_in == 15)
        assert client._actor.reader.gates & DELAYED
        until(lambda: "not read for a moment, because it sent more than its rate" in bus.explain())
        clock.advance(0.3)
        until(lambda: len(seen) == 13)
        clock.advance(60)
        until(lambda: len(seen) == 23)  # no more is saved up than one second's worth
        clock.advance(1)
        until(lambda: len(seen) == 25)
        assert seen == numbers(25)
        assert client.connected()


def test_the_others_notice_nothing_of_one_that_is_delayed(clock: Clock) -> None:
    with serve(max_messages_per_second=300) as server, Peer.to(server.address) as greedy:
        greedy.send(*numbers(1000))
        client = only(server)
        until(lambda: client.stats().waiting_in)
        with Peer.to(server.address) as modest:
            for number in range(300):
                modest.send(b"%d" % number)
                assert modest.receive() == b"%d" % number
        assert [greedy.receive() for _ in range(300)] == numbers(300)


def test_bytes_over_the_rate_are_not_even_read(clock: Clock) -> None:
    seen: list[bytes] = []
    payload = b"x" * 96  # a hundred bytes with its length
    with (
        serve(lambda message, client: seen.append(message.data), max_bytes_per_second=1000) as server,
        Peer.to(server.address) as peer,
    ):
        peer.send(*[payload] * 30)
        client = only(server)
        until(lambda: len(seen) == 10)
        assert client.stats().waiting_in == 0
        clock.advance(0.5)
        until(lambda: len(seen) == 15)
        clock.advance(1)
        until(lambda: len(seen) == 25)
        peer.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):  # nobody reads: TCP holds it up
            for _ in range(1000):
                peer.sock.sendall(b"\0" * 65_536)
        assert len(seen) == 25


def test_a_message_larger_than_a_seconds_worth_gets_through(clock: Clock) -> None:
    with serve(max_bytes_per_second=1000, max_size=10_000) as server, Peer.to(server.address) as peer:
        peer.send(b"x" * 5000)
        client = only(server)
        until(lambda: client._actor.reader.unparsed_bytes == 1000)

        def through() -> bool:
            clock.advance(1)
            return bool(client.stats().messages_in)

        until(through)
        assert peer.receive() == b"x" * 5000


@pytest.mark.parametrize("framing", ["length", "etx", "lines", "raw"])
def test_nothing_is_lost_at_any_rate(framing: Any) -> None:
    rates: dict[str, Any] = {"max_messages_per_second": 20_000, "max_bytes_per_second": 500_000}
    seen: SimpleQueue[bytes] = SimpleQueue()
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: seen.put(message.data), framing=framing, **rates) as server:
        with bus.connect(f"tcp://{server.address}", framing=framing) as conn:
            sent = [b"%d " % number + b"." * (number * 7 % 900) for number in range(1500)]
            for message in sent:
                conn.send(message, timeout=WAIT)
        whole = b"".join(sent)
        came = b""
        while len(came) < len(whole):
            came += seen.get(timeout=WAIT)
        assert came == whole


def test_who_leaves_behind_what_is_held_is_told_of_after_it(clock: Clock) -> None:
    diary = Diary()
    with serve(diary.message, diary, max_messages_per_second=10) as server, Peer.to(server.address) as peer:
        peer.send(*numbers(28))
        peer.finish()
        client = only(server)
        until(lambda: client.stats().waiting_in == 18)
        assert client.ended is None
        clock.advance(1)
        until(lambda: client.stats().waiting_in == 8)
        clock.advance(1)
        told = [diary.next() for _ in range(30)]
        assert [data for what, _, data in told if what == "message"] == numbers(28)
        assert told[-1][0] == "disconnect"
        assert isinstance(told[-1][2], bus.PeerClosed)


def test_a_fault_behind_what_is_held_waits_for_its_turn(clock: Clock) -> None:
    diary = Diary()
    with serve(diary.message, diary, max_messages_per_second=10, max_size=10) as server, Peer.to(server.address) as peer:
        peer.sock.sendall(b"".join(map(frame, numbers(12))) + frame(b"over ten bytes"))
        client = only(server)
        until(lambda: client.stats().waiting_in == 2)
        assert client.ended is None
        clock.advance(1)
        assert [diary.next()[2] for _ in range(13)] == [None, *numbers(12)]
        assert "max_size=10" in str(diary.reason())


def test_one_who_is_delayed_can_be_closed_and_stopped(clock: Clock, all_returns: object) -> None:
    for end in ("close", "stop", "reset"):
        diary = Diary()
        with serve(diary.message, diary, max_messages_per_second=10, max_bytes_per_second=1e6) as server, Peer.to(server.address) as peer:
            peer.send(*numbers(14))
            client = only(server)
            until(lambda: client.stats().waiting_in == 4)  # noqa: B023
            if end == "close":
                client.close(linger=0.2)
            elif end == "stop":
                server.stop(linger=0.2)
            else:
                peer.reset()
                until(lambda: clock.advance(1) or not server.clients)
            assert isinstance(diary.reason(), bus.Broken if end == "reset" else bus.Closed)


def test_a_drain_handles_what_is_held_and_a_stop_without_one_counts_it(clock: Clock) -> None:
    for drain in (WAIT, 0):
        seen: list[bytes] = []
        with (
            serve(lambda message, client: seen.append(message.data), max_messages_per_second=10) as server,  # noqa: B023
            Peer.to(server.address) as peer,
        ):
            peer.send(*numbers(25))
            client = only(server)
            until(lambda: client.stats().waiting_in == 15)  # noqa: B023
            report = server.stop(linger=0.1, drain=drain)
            assert seen == numbers(25 if drain else 10)
            assert [cut.unhandled for cut in report.cut] == ([] if drain else [15])


def test_of_one_who_was_delayed_for_long_nothing_stays(clock: Clock) -> None:
    with serve(lambda message, client: None, max_messages_per_second=1e-6) as server, Peer.to(server.address) as peer:
        peer.send(*numbers(2))
        client = only(server)
        until(lambda: client.stats().waiting_in == 1)
        client.close(linger=0.1)
        client = weakref.ref(client)
        until(lambda: gc.collect() >= 0 and client() is None)


def test_over_rate_disconnect_handles_what_is_within_the_rate_and_no_more(clock: Clock) -> None:
    diary = Diary()
    with serve(diary.message, diary, max_messages_per_second=3, over_rate="disconnect") as server:
        with Peer.to(server.address) as good, Peer.to(server.address) as bad:
            good.send(*numbers(3))
            assert sum(diary.next()[0] == "message" for _ in range(5)) == 3
            bad.send(*numbers(5))
            entries = [diary.next() for _ in range(4)]
            assert [data for what, _, data in entries if what == "message"] == numbers(3)
            what, client, reason = entries[-1]
            assert (what, client.remote_address) == ("disconnect", bad.address)
            assert isinstance(reason, bus.Broken)
            assert "it sent more than 3 messages per second (max_messages_per_second)" in str(reason)
            clock.advance(1)
            good.send(b"still here")
            assert diary.next()[2] == b"still here"


def test_over_rate_disconnect_counts_bytes(clock: Clock) -> None:
    diary = Diary()
    with serve(diary.message, diary, max_bytes_per_second=1000, over_rate="disconnect") as server, Peer.to(server.address) as peer:
        peer.send(b"x" * 996)
        assert [diary.next()[0] for _ in range(2)] == ["connect", "message"]
        peer.sock.sendall(b"\0")
        assert "it sent more than 1000 bytes per second (max_bytes_per_second)" in str(diary.reason())
        assert diary.entries.empty()


def test_what_gathers_while_a_callback_runs_is_not_held_against_its_client(clock: Clock) -> None:
    seen: list[bytes] = []
    entered, leave = threading.Event(), threading.Event()

    def slow(message: bus.Message, client: bus.Client) -> None:
        seen.append(message.data)
        if message.data == b"slow":
            entered.set()
            assert leave.wait(WAIT)

    diary = Diary()
    with serve(slow, diary, max_messages_per_second=3, over_rate="disconnect") as server, Peer.to(server.address) as peer:
        peer.send(b"slow")
        assert entered.wait(WAIT)
        client = only(server)
        until(lambda: client._actor.reader.gates & SERVING)
        for second in range(4):
            peer.send(*numbers(3, 3 * second))
            clock.advance(1)
        leave.set()
        until(lambda: len(seen) == 13)
        assert seen == [b"slow", *numbers(12)]
        peer.send(*numbers(9))
        assert "max_messages_per_second" in str(diary.reason())


def test_rates_hold_behind_tls_as_well(clock: Clock, certificate: Certificate) -> None:
    seen: list[bytes] = []
    with (
        bus.serve(
            "tls://127.0.0.1:0",
            lambda message, client: seen.append(message.data),
            tls=certificate.server(),
            max_messages_per_second=4,
            max_bytes_per_second=1000,
        ) as server,
        TlsPeer.visiting(server.address, certificate) as peer,
    ):
        peer.send(*numbers(6))
        until(lambda: len(seen) == 4)
        clock.advance(1)
        until(lambda: len(seen) == 6)
        peer.send(b"x" * 1500)
        until(lambda: len(seen) == 7)
        peer.send(b"waits for the debt")
        client = only(server)
        until(lambda: client._actor.reader.gates & DELAYED)
        assert len(seen) == 7
        clock.advance(2)
        until(lambda: len(seen) == 8)
        assert seen[:6] == numbers(6)


# --- how many, from where, and what else is promised ---


def test_clients_of_a_unix_socket_have_no_address_to_be_counted_by(tmp_path: Path) -> None:
    url = f"unix://{tmp_path / 'a:b'}"
    with pytest.raises(ValueError, match="max_clients_per_address .* use max_clients"):
        bus.serve(url, echo, max_clients_per_address=1)
    with bus.serve(url, echo, max_clients=2) as server, Peer.to(server.address) as a, Peer.to(server.address) as b:
        a.send(b"a")
        b.send(b"b")
        assert (a.receive(), b.receive()) == (b"a", b"b")
        with Peer.to(server.address) as c:
            assert c.sock.recv(1) == b""
        assert server.stats().refused == 1
    with bus.serve(url, echo, max_clients=20_000) as server:
        assert server._actor._max_per_address == 20_000


@pytest.mark.parametrize("name", ["idle_timeout", "handshake_timeout"])
def test_a_timeout_of_zero_would_let_nobody_in(name: str) -> None:
    zero: Any
    for zero in (0, 0.0):
        with pytest.raises(ValueError, match=f"{name} must be over 0"):
            serve(**{name: zero})

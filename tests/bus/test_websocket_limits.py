"""The limits of a server's clients, for WebSockets: sessions, closing handshakes and the keepalive under a rate."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

import pytest

import bus
from actors.reader import DELAYED
from tests.bus.peers import WAIT, InThread, fill_up, until
from tests.bus.test_limits import Clock, clock, numbers, only  # noqa: F401
from tests.bus.test_server import Diary


def test_a_session_receives_no_faster_than_the_rate(clock: Clock) -> None:  # noqa: F811
    seen: SimpleQueue[str] = SimpleQueue()

    def session(client: bus.Session) -> None:
        for message in client:
            seen.put(message.text)

    with bus.serve("ws://127.0.0.1:0", routes={"/": session}, max_messages_per_second=20) as server:
        with bus.connect(f"ws://{server.address}") as conn:
            conn.send_many([f"{number}" for number in range(50)])
            client = only(server)
            assert [seen.get(timeout=WAIT) for _ in range(20)] == [f"{number}" for number in range(20)]
            until(lambda: client.stats().waiting_in == 30)
            assert seen.empty()
            clock.advance(0.5)
            assert [seen.get(timeout=WAIT) for _ in range(10)] == [f"{number}" for number in range(20, 30)]
            until(lambda: clock.advance(0.5) or seen.qsize() == 20)


def test_a_session_that_waits_for_each_message_is_held_to_the_rate_as_well(clock: Clock) -> None:  # noqa: F811
    seen: SimpleQueue[str] = SimpleQueue()

    def session(client: bus.Session) -> None:
        for message in client:
            seen.put(message.text)

    with bus.serve("ws://127.0.0.1:0", routes={"/": session}, max_messages_per_second=10) as server:
        with bus.connect(f"ws://{server.address}") as conn:
            client = only(server)
            for number in range(10):
                conn.send(f"{number}")
                assert seen.get(timeout=WAIT) == f"{number}"
            conn.send("10")
            until(lambda: client._actor.reader.gates & DELAYED)
            assert seen.empty()
            clock.advance(1)
            assert seen.get(timeout=WAIT) == "10"


def test_one_who_is_delayed_can_shake_hands_to_close(clock: Clock) -> None:  # noqa: F811
    with bus.serve("ws://127.0.0.1:0", lambda message, client: None, max_messages_per_second=10) as server:
        with bus.connect(f"ws://{server.address}") as conn:
            conn.send_many(map(str, range(50)))
            client = only(server)
            until(lambda: client.stats().waiting_in == 40)
            closing = InThread(lambda: client.close(linger=2 * WAIT, code=4002))
            with pytest.raises(bus.PeerClosed, match="4002"):
                conn.receive(timeout=WAIT)
            until(lambda: client._actor.framing.protocol.close_rcvd)
            assert closing.result()


def test_a_close_frame_behind_what_is_held_is_told_of_after_it(clock: Clock) -> None:  # noqa: F811
    diary = Diary()
    options: dict[str, Any] = {"on_disconnect": diary.disconnect, "max_messages_per_second": 10}
    with bus.serve("ws://127.0.0.1:0", diary.message, **options) as server:
        with bus.connect(f"ws://{server.address}") as conn:
            conn.send_many(map(str, range(11)))
            closing = InThread(lambda: conn.close(code=4001))
            client = only(server)
            until(lambda: client.stats().waiting_in == 1)
            clock.advance(1)
            assert [diary.next()[2] for _ in range(11)] == numbers(11)
            assert "4001" in str(diary.reason())
            assert closing.result()


def test_the_keepalive_judges_nobody_whom_we_delay(clock: Clock) -> None:  # noqa: F811
    diary = Diary()
    pings: dict[str, Any] = {"ping_interval": 0.02, "ping_timeout": 0.1}
    with bus.serve("ws://127.0.0.1:0", diary.message, on_disconnect=diary.disconnect, max_messages_per_second=20, **pings) as server:
        with bus.connect(f"ws://{server.address}", ping_interval=None) as conn:
            conn.send_many(map(str, range(25)))
            client = only(server)
            until(lambda: client.stats().waiting_in == 5)
            pings_before = client._actor._pings
            until(lambda: client._actor._pings >= pings_before + 20)  # whose answers all wait in the kernel
            assert client.connected()
            until(lambda: clock.advance(1) or not client.stats().waiting_in)
            assert [diary.next()[2] for _ in range(25)] == numbers(25)


def test_a_websocket_over_the_rate_is_closed_with_1008(clock: Clock) -> None:  # noqa: F811
    diary = Diary()
    options: dict[str, Any] = {"on_disconnect": diary.disconnect, "max_messages_per_second": 1, "over_rate": "disconnect"}
    with bus.serve("ws://127.0.0.1:0", diary.message, **options) as server:
        with bus.connect(f"ws://{server.address}") as conn:
            conn.send_many(["a", "b"])
            with pytest.raises(bus.PeerClosed, match="1008: it sent more than 1 messages per second"):
                conn.receive(timeout=WAIT)
            assert isinstance(diary.reason(), bus.Broken)


def test_a_session_that_does_not_receive_holds_no_more_than_its_mailbox() -> None:
    leave = threading.Event()

    def session(client: bus.Session) -> None:
        assert leave.wait(WAIT)

    payload = b"x" * 100_000
    with bus.serve("ws://127.0.0.1:0", routes={"/": session}, ping_interval=None) as server:
        with bus.connect(f"ws://{server.address}", ping_interval=None) as conn:
            assert fill_up(conn, payload)
            client = only(server)
            assert client.stats().waiting_in * len(payload) <= 4 * 2**20 + 4 * 65_536 + len(payload)
            leave.set()

"""A client that says nothing for too long is disconnected; silence that is our own doing does not count."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import bus
from actors.silence import LOOKS
from tests.bus.peers import WAIT, InThread, Peer, frame, until
from tests.bus.test_limits import Clock, clock, only  # noqa: F401
from tests.bus.test_server import Diary, echo, full_client, serve
from tests.certificates import Certificate


@contextmanager
def silent(scheme: str, path: Path, certificate: Certificate, **options: Any) -> Iterator[tuple[bus.Server, Any]]:
    """A server of that scheme, and a client of it that says nothing."""
    url = f"unix://{path}" if scheme == "unix" else f"{scheme}://127.0.0.1:0"
    encrypted = scheme in ("tls", "wss")
    if encrypted:
        options["tls"] = certificate.server()
    with bus.serve(url, echo, ping_interval=None, **options) as server:
        tls = certificate.client() if encrypted else None
        with bus.connect(f"{scheme}://{server.address}", tls=tls, ping_interval=None) as conn:
            yield server, conn


@pytest.mark.parametrize("scheme", ["tcp", "unix", "tls", "ws", "wss"])
def test_who_is_silent_for_too_long_is_disconnected(scheme: str, tmp_path: Path, certificate: Certificate) -> None:
    diary = Diary()
    with silent(scheme, tmp_path / "socket", certificate, on_disconnect=diary.disconnect, idle_timeout=0.05) as (_, conn):
        reason = diary.reason()
        assert isinstance(reason, bus.Broken)
        assert "nothing came from it for 0.05 s (idle_timeout)" in str(reason)
        with pytest.raises(bus.PeerClosed, match="1008: nothing came" if scheme.startswith("ws") else None):
            conn.receive(timeout=WAIT)


def look(client: Any, times: int = 1) -> None:
    """Have the server look at its client, as it does a few times in an idle time."""
    for _ in range(times):
        looked = threading.Event()
        client._actor.loop.call_soon(client._actor.silence._look)
        client._actor.loop.call_soon(looked.set)
        assert looked.wait(WAIT)


LONG = 1e6  # an idle time whose own looks are not to come


def test_single_bytes_are_signs_of_life() -> None:
    diary = Diary()
    with serve(diary.message, diary, idle_timeout=LONG) as server, Peer.to(server.address) as peer:
        client = only(server)
        for byte in frame(b"one byte at a time"):
            before = client._actor.reader.signs_of_life
            peer.sock.sendall(bytes([byte]))
            until(lambda: client._actor.reader.signs_of_life != before)  # noqa: B023
            look(client)
        assert [diary.next()[0] for _ in range(2)] == ["connect", "message"]
        look(client, LOOKS - 1)
        assert client.connected()
        look(client, 3)
        assert "idle_timeout" in str(diary.reason())


def test_heartbeats_are_signs_of_life() -> None:
    diary = Diary()
    with serve(diary.message, diary, idle_timeout=LONG, heartbeat=LONG) as server, Peer.to(server.address) as peer:
        client = only(server)
        for _ in range(3 * LOOKS):
            before = client._actor.reader.signs_of_life
            peer.send(b"")
            until(lambda: client._actor.reader.signs_of_life != before)  # noqa: B023
            look(client)
        assert client.connected()
        look(client, LOOKS + 3)
        assert "idle_timeout" in str(diary.reason())


def test_silence_while_its_callback_runs_does_not_count() -> None:
    diary = Diary()
    entered, leave = threading.Event(), threading.Event()

    def slow(message: bus.Message, client: bus.Client) -> None:
        entered.set()
        assert leave.wait(WAIT)

    with serve(slow, diary, idle_timeout=LONG) as server, Peer.to(server.address) as peer:
        peer.send(b"work")
        assert entered.wait(WAIT)
        client = only(server)
        look(client, 3 * LOOKS)
        leave.set()
        until(lambda: not client._actor.reader.gates)
        look(client, LOOKS)  # the first of them still belongs to the callback's time
        assert client.connected()
        look(client, 3)
        assert "idle_timeout" in str(diary.reason())


def test_silence_while_its_outbox_is_full_does_not_count() -> None:
    diary = Diary()
    payload = b"x" * 50_000
    with serve(echo, diary, idle_timeout=LONG, outbox_bytes=200_000) as server, Peer.to(server.address, receive_buffer=8192) as peer:
        client = full_client(server, payload)
        look(client, 3 * LOOKS)
        assert client.connected()
        reading = InThread(peer.receive_all)
        until(lambda: not client.stats().waiting_out)
        look(client, LOOKS + 4)
        assert "idle_timeout" in str(diary.reason())
        assert set(reading.result()) == {payload}


def test_silence_of_one_we_delay_does_not_count(clock: Clock) -> None:  # noqa: F811
    diary = Diary()
    with serve(diary.message, diary, idle_timeout=LONG, max_messages_per_second=10) as server, Peer.to(server.address) as peer:
        peer.send(*[b"one"] * 11)
        client = only(server)
        until(lambda: client.stats().waiting_in == 1)
        look(client, 3 * LOOKS)
        assert client.connected()
        until(lambda: clock.advance(1) or not client._actor.reader.gates)
        look(client, LOOKS + 4)
        assert "idle_timeout" in str(diary.reason())


def test_pongs_are_signs_of_life() -> None:
    diary = Diary()
    options: dict[str, Any] = {"ping_interval": LONG, "idle_timeout": LONG}
    with bus.serve("ws://127.0.0.1:0", echo, on_disconnect=diary.disconnect, **options) as server:
        with bus.connect(f"ws://{server.address}", ping_interval=None):
            client = only(server)
            for number in range(3 * LOOKS):
                client._actor.loop.call_soon(client._actor._ping)
                until(lambda: client._actor.framing.judged > number)  # noqa: B023
                look(client)
            assert client.connected()
            look(client, LOOKS + 3)
            assert "idle_timeout" in str(diary.reason())


def test_a_session_learns_that_its_client_was_idle() -> None:
    seen: SimpleQueue[BaseException] = SimpleQueue()

    def session(client: bus.Session) -> None:
        try:
            client.receive()
        except bus.BusError as exc:
            seen.put(exc)

    with bus.serve("ws://127.0.0.1:0", routes={"/": session}, idle_timeout=0.05, ping_interval=None) as server:
        with bus.connect(f"ws://{server.address}", ping_interval=None):
            assert "idle_timeout" in str(seen.get(timeout=WAIT))

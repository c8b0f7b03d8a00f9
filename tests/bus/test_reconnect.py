"""bus.connect(…, reconnect=True): a link that comes back, and what it says about what may have been lost."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import bus
from actors.link import pause_before
from tests.bus.peers import WAIT, InThread, Peer, fill_up, frame, until
from tests.conftest import LeakWatch

QUICK = (0.001, 0.05)


class Diary:
    """What on_state was told."""

    def __init__(self) -> None:
        self._told: SimpleQueue[tuple[str, bus.BusError | None]] = SimpleQueue()

    def __call__(self, state: str, reason: bus.BusError | None) -> None:
        self._told.put((state, reason))

    def next(self) -> tuple[str, bus.BusError | None]:
        return self._told.get(timeout=WAIT)

    def until(self, state: str) -> bus.BusError | None:
        while True:
            told, reason = self.next()
            if told == state:
                return reason


class Home:
    """A listening socket that keeps its port, whoever comes and goes."""

    def __init__(self, listening: socket.socket, **options: Any) -> None:
        self._listening = listening
        host, port = listening.getsockname()
        self.conn = bus.connect(f"tcp://{host}:{port}", reconnect=True, backoff=QUICK, **options)

    def accept(self) -> Peer:
        return Peer(self._listening.accept()[0])


@contextmanager
def home(receive_buffer: int = 0, **options: Any) -> Iterator[Home]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WAIT)
        if receive_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        place = Home(listening, **options)
        try:
            yield place
        finally:
            place.conn.close(0)


def texts(messages: list[bus.Message]) -> list[str]:
    return [message.text for message in messages]


# --- what a script sees ---


def test_receive_goes_on_over_the_gap_in_order(no_leaks: LeakWatch) -> None:
    with home() as place:
        with place.accept() as first:
            first.send(b"1", b"2")
        with place.accept() as second:
            second.send(b"3")
            assert texts([place.conn.receive() for _ in range(3)]) == ["1", "2", "3"]
        with place.accept() as third:
            waiting = InThread(place.conn.receive).until_blocked()
            third.send(b"4")
            assert waiting.result().text == "4"
            stats = place.conn.stats()
            assert (stats.reconnects, stats.messages_in, stats.bytes_in) == (2, 4, 4)


@pytest.mark.parametrize("how", ["in order", "reset", "inside a message"])
def test_every_end_of_a_connection_is_followed_by_another(how: str) -> None:
    diary = Diary()
    with home(on_state=diary) as place:
        with place.accept() as first:
            first.send(b"whole")
            assert place.conn.receive().text == "whole"
            if how == "reset":
                first.reset()
            elif how == "inside a message":
                first.sock.sendall(frame(b"0123456789")[:7])
        state, reason = diary.next()
        assert state == "reconnecting"
        assert isinstance(reason, bus.PeerClosed if how == "in order" else bus.Broken)
        with place.accept() as second:
            assert diary.next() == ("connected", None)
            place.conn.send("anew")
            assert second.receive() == b"anew"
            second.send(b"answer")
            assert place.conn.receive().text == "answer"
            assert place.conn.stats().dropped == (7 if how == "inside a message" else 0)
            assert place.conn.unconfirmed == ()


def test_a_server_that_stops_and_comes_back(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/server"
    diary = Diary()
    with bus.serve(url, lambda message, client: message) as server:
        conn = bus.connect(url, reconnect=True, backoff=QUICK, on_state=diary)
        conn.send("one")
        assert conn.receive().text == "one"
        server.stop()
    assert isinstance(diary.until("reconnecting"), bus.PeerClosed)
    failed = diary.until("reconnecting")
    assert isinstance(failed, bus.ConnectFailed)
    assert not conn.connected()
    assert "reconnecting" in repr(conn)
    with pytest.raises(bus.NotSent, match="no connection at present .*no such file"):
        conn.send("nobody takes it", timeout=0.01)
    with pytest.raises(bus.NotSent) as caught:
        conn.send_many(["neither", "of them"], timeout=0)
    assert caught.value.accepted == 0
    waiting = InThread(lambda: conn.send("as soon as it is back", timeout=WAIT)).until_blocked()
    got: list[str] = []
    with bus.serve(url, lambda message, client: got.append(message.text)):
        waiting.result()
        diary.until("connected")
        until(lambda: got == ["as soon as it is back"])
        assert conn.connected()
        assert "connected" in repr(conn)
        assert conn.close()
    assert isinstance(diary.until("closed"), bus.Closed)


def test_a_websocket_comes_back() -> None:
    clients: list[Any] = []
    diary = Diary()
    with bus.serve("ws://127.0.0.1:0", lambda message, client: message, on_connect=clients.append) as server:
        with bus.connect(f"ws://{server.address}/", reconnect=True, backoff=QUICK, on_state=diary) as conn:
            for trip in range(3):
                conn.send(f"trip {trip}")
                answer = conn.receive()
                assert (answer.text, answer.is_text) == (f"trip {trip}", True)
                clients[-1].close()
                assert isinstance(diary.until("reconnecting"), bus.PeerClosed)
                assert diary.until("connected") is None
            assert conn.stats().reconnects == 3
            assert conn.latency is None
            conn.close(code=4000)
            until(lambda: clients[-1].close_code == 4000)


def test_receive_any_and_fileno_go_on_over_the_gap() -> None:
    with home() as place, bus.bind("udp://127.0.0.1:0") as other:
        with place.accept() as first:
            first.send(b"1")
            source, message = bus.receive_any([place.conn, other], timeout=WAIT)
            assert source is place.conn
            assert message == bus.Message(b"1", place.conn.remote_address)
        with place.accept() as second:
            second.send(b"2")
            source, message = bus.receive_any([place.conn, other], timeout=WAIT)
            assert source is place.conn
            assert message == bus.Message(b"2", place.conn.remote_address)
            place.conn.fileno()
        with place.accept() as third:
            third.send(b"3")
            assert place.conn.receive(timeout=WAIT).text == "3"  # type: ignore[union-attr]


def test_a_script_that_does_not_receive_slows_the_next_connection_too() -> None:
    """The mailbox is full when a connection ends: the next one is not read either, until there is room."""
    with home(mailbox_messages=8) as place:
        with place.accept() as first:
            first.send(*[b"a"] * 8)
            until(lambda: len(place.conn._mailbox) == 8)
            first.reset()
        place.conn.send("nobody reads it")  # and so the end is noticed, though nothing is read
        with place.accept() as second:
            second.send(*[b"b"] * 8)
            until(lambda: place.conn.stats().reconnects == 1)
            assert texts([place.conn.receive() for _ in range(16)]) == ["a"] * 8 + ["b"] * 8


# --- what may have been lost ---


def test_what_the_peer_did_not_acknowledge_is_told_message_by_message() -> None:
    with home(receive_buffer=4096) as place:
        with place.accept() as first:
            count = fill_up(place.conn, b"x" * 10_000)
            assert first.receive() == b"x" * 10_000
            queued = struct.unpack("i", fcntl.ioctl(first.sock.fileno(), termios.FIONREAD, bytes(4)))[0]
            first.reset()
        with place.accept():
            until(lambda: place.conn.unconfirmed)
            unconfirmed = len(place.conn.unconfirmed)
            confirmed = count - unconfirmed
            assert place.conn.stats().unconfirmed == unconfirmed
            assert all(message.data == b"x" * 10_000 for message in place.conn.unconfirmed)
            # Confirmed are only such as the peer's machine had whole; what its program had read is among them.
            arrived = 10_004 + queued + 65_536  # between the look and the reset more may have come
            assert 1 <= confirmed <= arrived // 10_004
            assert len(place.conn.take_unconfirmed()) == unconfirmed
            assert place.conn.unconfirmed == ()
            assert place.conn.stats().unconfirmed == unconfirmed


def test_unconfirmed_messages_are_the_last_ones_as_they_were_sent() -> None:
    with home(receive_buffer=4096) as place:
        with place.accept() as first:
            for number in range(2000):
                place.conn.send({"n": number, "pad": "x" * 1000})
            first.receive()
            first.reset()
        with place.accept() as second:
            until(lambda: place.conn.unconfirmed)
            again = place.conn.take_unconfirmed()
            numbers = [message.json()["n"] for message in again]
            assert numbers == list(range(2000 - len(again), 2000))
            reading = InThread(lambda: [second.receive() for _ in again])
            place.conn.send_many(again)
            assert reading.result() == [message.data for message in again]


def test_what_was_acknowledged_is_not_told() -> None:
    with home() as place:
        with place.accept() as first:
            for number in range(5000):
                place.conn.send(f"{number}")
            assert place.conn.flush(timeout=WAIT)
            first.reset()
        with place.accept():
            until(lambda: place.conn.stats().reconnects == 1)
            assert place.conn.unconfirmed == ()


def test_a_journal_does_not_grow_while_the_peer_acknowledges() -> None:
    with home() as place, place.accept() as peer:
        reading = InThread(lambda: peer.read(2000 * 1004))
        for _ in range(20):
            place.conn.send_many([b"x" * 1000] * 100)
            assert place.conn.flush(WAIT)
        assert len(place.conn._actor.stream.outbox._journal.rest()) < 500  # type: ignore[union-attr]
        assert len(reading.result()) == 2000 * 1004


def test_a_close_says_whether_all_of_it_arrived_over_every_connection() -> None:
    with home(receive_buffer=4096) as place:
        with place.accept() as first:
            fill_up(place.conn, b"x" * 10_000)
            first.reset()
        with place.accept() as second:
            until(lambda: place.conn.unconfirmed)
            second.finish()
            assert place.conn.close() is False
            assert place.conn.unconfirmed


# --- the end ---


def shake_hands(listening: socket.socket) -> socket.socket:
    """A WebSocket server's handshake, by hand (RFC 6455, section 4.2.2)."""
    sock = listening.accept()[0]
    sock.settimeout(WAIT)
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += sock.recv(65_536)
    key = next(line.split(b": ")[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    sock.sendall(b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    return sock


def test_close_ends_an_attempt_that_is_under_way_at_once(all_returns: object) -> None:
    """The next server takes the connection and never shakes hands."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WAIT)
        host, port = listening.getsockname()
        serving = InThread(lambda: shake_hands(listening))
        conn = bus.connect(f"ws://{host}:{port}", proxy=False, timeout=600, reconnect=True, backoff=QUICK)
        serving.result().close()
        silent, _ = listening.accept()
        with silent:
            silent.settimeout(WAIT)
            assert silent.recv(1)  # it has begun its handshake
            receiving = InThread(conn.receive).until_blocked()
            sending = InThread(lambda: conn.send("x", timeout=None)).until_blocked()
            conn.close()
            for call in (receiving, sending):
                with pytest.raises(bus.Closed):
                    call.result()
            while silent.recv(65_536):  # ends when the attempt has closed its socket
                pass


def test_close_in_a_gap(tmp_path: Path, all_returns: object) -> None:
    url = f"unix://{tmp_path}/server"
    ways: list[Callable[[bus.Connection], object]] = [
        lambda conn: conn.close(),
        lambda conn: conn.close_soon(),
        lambda conn: conn._actor.actor_ref.stop(),
    ]
    for close in ways:
        diary = Diary()
        with bus.serve(url, lambda message, client: message):
            conn = bus.connect(url, reconnect=True, backoff=(60, 60), on_state=diary)
        diary.until("reconnecting")
        receiving = InThread(conn.receive).until_blocked()
        close(conn)
        with pytest.raises(bus.Closed):
            receiving.result()
        diary.until("closed")
        with pytest.raises(bus.Closed):
            conn.send("x")
        until(conn._actor.actor_stopped.is_set)


def test_the_process_ends_in_a_gap(tmp_path: Path) -> None:
    code = f"""
import bus
url = "unix://{tmp_path}/server"
server = bus.serve(url, lambda message, client: message)
conn = bus.connect(url, reconnect=True)
server.stop()
print("over")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=WAIT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")


def test_a_dropped_link_closes_with_a_warning(no_leaks: LeakWatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WAIT)
        host, port = listening.getsockname()
        conn = bus.connect(f"tcp://{host}:{port}", reconnect=True)
        with Peer(listening.accept()[0]) as peer:
            with pytest.warns(ResourceWarning):
                del conn
            assert peer.receive() is None


def test_on_state_may_use_the_connection_and_may_raise(caplog: pytest.LogCaptureFixture) -> None:
    told = threading.Event()

    def on_state(state: str, reason: bus.BusError | None) -> None:
        if state == "connected":
            place.conn.send("hello again")
            told.set()
            raise RuntimeError("on purpose")

    with home(on_state=on_state) as place:
        place.accept().close()
        with place.accept() as second:
            assert second.receive() == b"hello again"
            assert told.wait(WAIT)
        with place.accept() as third:
            assert third.receive() == b"hello again"
    assert "on_state failed" in caplog.text


@pytest.mark.parametrize(
    "options, error",
    [
        ({"backoff": (0, 1)}, ValueError),
        ({"backoff": (2, 1)}, ValueError),
        ({"backoff": (float("nan"), 1)}, ValueError),
        ({"backoff": (None, 1)}, TypeError),
        ({"backoff": 1}, TypeError),
        ({"backoff": (1, 2, 3)}, TypeError),
        ({"on_state": "print"}, TypeError),
        ({"reconnect": False, "on_state": print}, ValueError),
    ],
)
def test_bad_options_are_refused_before_anything_is_opened(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        bus.connect("tcp://127.0.0.1:1", **{"reconnect": True, **options})


def test_udp_has_nothing_to_reconnect() -> None:
    with pytest.raises(ValueError, match="streams"):
        bus.connect("udp://127.0.0.1:9", reconnect=True)


def test_the_first_connection_has_to_succeed(tmp_path: Path) -> None:
    with pytest.raises(bus.ConnectFailed):
        bus.connect(f"unix://{tmp_path}/nobody", reconnect=True)


def test_pauses_double_up_to_the_longest_and_are_shortened_by_chance() -> None:
    pauses: Callable[[float], list[float]] = lambda chance: [pause_before(n, (0.5, 3.0), chance) for n in (0, 1, 2, 3, 5000)]  # noqa: E731
    assert pauses(0.0) == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert pauses(1.0) == [0.25, 0.5, 1.0, 1.5, 1.5]

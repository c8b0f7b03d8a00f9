"""One direction of a stream ends, and the other goes on: `send_eof`, and `half_open` for the peer's end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bus
from actors.heartbeat import MISSES
from tests.bus.peers import WAIT, InThread, Peer, fill_up, pair, until
from tests.bus.test_tls import tls_pair
from tests.certificates import Certificate
from tests.conftest import LeakWatch

# --- our end ---


def test_behind_send_eof_the_peer_can_still_answer(no_leaks: LeakWatch) -> None:
    with pair() as (conn, peer):
        conn.send("one")
        conn.send("two")
        conn.send_eof()
        assert peer.receive_all() == [b"one", b"two"]
        for _ in range(3):
            peer.send(b"answer")
        peer.finish()
        assert [message.text for message in conn] == ["answer"] * 3
        assert conn.close() is True


def test_what_was_accepted_goes_out_before_the_end() -> None:
    with pair(receive_buffer=8192) as (conn, peer):
        count = fill_up(conn)  # the kernel is full, and the outbox, too
        conn.send_eof()
        assert sum(map(len, peer.receive_all())) == count * 65_536
        peer.send(b"all there")
        peer.finish()
        assert [message.text for message in conn] == ["all there"]
        assert conn.close() is True


def test_after_send_eof_nothing_more_is_sent_and_a_second_one_is_nothing() -> None:
    with pair() as (conn, peer):
        conn.send_eof()
        conn.send_eof()
        with pytest.raises(bus.Closed, match="send_eof"):
            conn.send("too late")
        assert peer.receive() is None
        assert conn.connected()
        peer.send(b"hello")
        assert conn.receive(timeout=WAIT) is not None


def test_when_both_have_ended_the_connection_is_over_without_a_close(no_leaks: LeakWatch) -> None:
    with pair(half_open=True) as (conn, peer):
        conn.send_eof()
        peer.finish()
        with pytest.raises(bus.PeerClosed):
            conn.receive(timeout=WAIT)
        until(conn._actor.actor_stopped.is_set, "the actor ends")
        assert conn.close() is True


def test_who_has_said_all_is_silent_and_not_given_up_for_it() -> None:
    with bus.listen("tcp://127.0.0.1:0", heartbeat=0.05, half_open=True) as listener:
        with bus.connect(f"tcp://{listener.address}", timeout=WAIT, heartbeat=0.05) as conn, next(listener) as peer:
            conn.send_eof()
            with pytest.raises(bus.PeerClosed):
                peer.receive(timeout=WAIT)
            heart: Any = conn._actor.framing  # type: ignore[union-attr]
            until(lambda: heart.heard > 2 * MISSES)
            peer.send("still there")
            assert next(conn).text == "still there"


def test_a_reset_behind_send_eof_is_told_as_one() -> None:
    with pair() as (conn, peer):
        conn.send_eof()
        assert peer.receive() is None
        peer.reset()
        with pytest.raises(bus.Broken):
            conn.receive(timeout=WAIT)


def test_a_server_of_ours_answers_who_has_said_all(tmp_path: Path) -> None:
    with bus.serve(f"unix://{tmp_path}/s", lambda message, client: message.text.upper()) as server:
        with bus.connect(f"unix://{server.address}", timeout=WAIT) as conn:
            conn.send_many(["a", "b", "c"])
            conn.send_eof()
            assert [message.text for message in conn] == ["A", "B", "C"]


@pytest.mark.parametrize("scheme", ["udp", "reconnect", "ws"])
def test_it_is_refused_where_one_direction_cannot_end_alone(scheme: str) -> None:
    with bus.serve("ws://127.0.0.1:0" if scheme == "ws" else "tcp://127.0.0.1:0", lambda message, client: None) as server:
        url = f"{'tcp' if scheme == 'reconnect' else scheme}://{server.address}"
        with bus.connect(url, timeout=WAIT, reconnect=scheme == "reconnect") as conn:
            with pytest.raises(ValueError, match="close"):
                conn.send_eof()
        with pytest.raises(ValueError, match="half_open"):
            bus.connect(url, timeout=WAIT, half_open=True, reconnect=scheme == "reconnect")


# --- the peer's end ---


def test_half_open_goes_on_sending_when_the_peer_has_said_all(no_leaks: LeakWatch) -> None:
    with pair(half_open=True) as (conn, peer):
        peer.send(b"all I have")
        peer.finish()
        assert [message.text for message in conn] == ["all I have"]
        conn.send("still here")
        assert peer.receive() == b"still here"
        conn.send("and now the end")
        conn.send_eof()
        assert peer.receive_all() == [b"and now the end"]


def test_half_open_with_a_peer_that_never_says_a_word() -> None:
    with pair(half_open=True) as (conn, peer):
        peer.finish()
        with pytest.raises(bus.PeerClosed):
            conn.receive(timeout=WAIT)
        received = InThread(peer.receive_all)
        for _ in range(100):
            conn.send(b"x" * 65_536)
        assert conn.close() is True
        assert len(received.result()) == 100


def test_without_half_open_the_connection_is_over_once_the_script_knows() -> None:
    with pair() as (conn, peer):
        peer.send(b"all I have")
        peer.finish()
        assert [message.text for message in conn] == ["all I have"]
        with pytest.raises(bus.PeerClosed):
            conn.send("too late")


def test_half_open_on_accepted_connections(no_leaks: LeakWatch) -> None:
    with bus.listen("tcp://127.0.0.1:0", half_open=True) as listener, Peer.to(listener.address) as peer:
        peer.finish()
        with listener.accept(timeout=WAIT) or pytest.fail("nobody came") as conn:
            with pytest.raises(bus.PeerClosed):
                conn.receive(timeout=WAIT)
            conn.send("late")
            assert peer.receive() == b"late"


def test_half_open_hears_of_a_reset() -> None:
    with pair(half_open=True) as (conn, peer):
        peer.finish()
        with pytest.raises(bus.PeerClosed):
            conn.receive(timeout=WAIT)
        peer.reset()

        def refused() -> bool:
            try:
                conn.send("x")
            except bus.Broken:
                return True
            return False

        until(refused, "send is told")


# --- TLS ---


def test_tls_says_its_own_end_and_goes_on_reading(certificate: Certificate) -> None:
    with tls_pair(certificate, half_open=True) as (conn, peer):
        conn.send("question")
        conn.send_eof()
        assert peer.receive_all() == [b"question"]  # b"" is what Python's ssl makes of close_notify
        for _ in range(50):
            peer.send(b"x" * 20_000)  # more than one record each
        peer.sock.close()
        assert [len(message.data) for message in conn] == [20_000] * 50


def test_tls_sends_on_when_the_peer_has_said_all(certificate: Certificate) -> None:
    with bus.listen("tls://127.0.0.1:0", half_open=True, tls=certificate.server()) as listener:
        with bus.connect(f"tls://{listener.address}", tls=certificate.client(), timeout=WAIT) as theirs:
            theirs.send("the only one")
            theirs.send_eof()
            with listener.accept(timeout=WAIT) or pytest.fail("nobody came") as conn:
                assert [message.text for message in conn] == ["the only one"]
                for _ in range(50):
                    conn.send(b"x" * 20_000)
                conn.send_eof()
                assert [len(message.data) for message in theirs] == [20_000] * 50

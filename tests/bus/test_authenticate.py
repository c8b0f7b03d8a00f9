"""Who has to say first who it is: until `authenticate` has admitted it, nobody hears of it, and it hears nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bus
from tests.bus.peers import WAIT, InThread, Peer, frame, until
from tests.bus.test_server import Diary, echo, every_mode, serve
from tests.bus.test_tls import TlsPeer
from tests.bus.test_tls_hostile import until_closed
from tests.certificates import Certificate


def knows_the_word(message: bus.Message, client: bus.Client) -> bool:
    return message.data == b"sesame"


def enter(server: bus.Server, word: bytes = b"sesame") -> Peer:
    peer = Peer.to(server.address)
    peer.send(word)
    return peer


def is_served(server: bus.Server) -> bool:
    with enter(server) as peer:
        peer.send(b"hello")
        return peer.receive() == b"hello"


LONG = 1e6  # a deadline that does not come by itself


def visitor(server: bus.Server) -> Any:
    """The actor of the one who has come and is not admitted."""
    until(lambda: len(server._actor._present) == len(server.clients) + 1)
    return next(actor for actor in server._actor._present if actor not in server._actor.clients)


def let_the_deadline_pass(actor: Any) -> None:
    passed = threading.Event()
    actor.loop.call_soon(actor.silence._late)
    actor.loop.call_soon(passed.set)
    assert passed.wait(WAIT)


class Gate:
    """An `authenticate` that blocks until it is told what to say."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()
        self.verdict: Any = True

    def __call__(self, message: bus.Message, client: bus.Client) -> Any:
        self.asked.set()
        assert self.answer.wait(WAIT)
        return self.verdict


# --- admitted ---


@every_mode
def test_the_first_message_is_for_authenticate_and_the_rest_for_the_callback(mode: dict[str, Any]) -> None:
    diary = Diary()

    def authenticate(message: bus.Message, client: bus.Client) -> bool:
        diary.entries.put(("authenticate", client, message.data))
        client.state.name = "ali"
        client.send("welcome")
        return True

    def answer(message: bus.Message, client: bus.Client) -> str:
        diary.message(message, client)
        return f"{client.state.name} {message.text}"

    with serve(answer, diary, authenticate=authenticate, **mode) as server, Peer.to(server.address) as peer:
        peer.send(b"sesame", b"one", b"two")
        assert [peer.receive() for _ in range(3)] == [b"welcome", b"ali one", b"ali two"]
        peer.finish()
        told = [diary.next() for _ in range(5)]
        assert [what for what, _, _ in told] == ["authenticate", "connect", "message", "message", "disconnect"]
        assert [data for _, _, data in told[:4]] == [b"sesame", None, b"one", b"two"]
        assert len({client for _, client, _ in told}) == 1
    assert server.stats() == bus.ServerStats(accepted=1)


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_it_does_not_matter_in_what_pieces_it_comes(piece: int) -> None:
    with serve(authenticate=knows_the_word) as server, Peer.to(server.address) as peer:
        said = frame(b"sesame") + frame(b"one") + frame(b"two")
        for start in range(0, len(said), piece):
            peer.sock.sendall(said[start : start + piece])
        assert [peer.receive() for _ in range(2)] == [b"one", b"two"]


def test_a_heartbeat_is_no_first_message() -> None:
    with serve(authenticate=knows_the_word, heartbeat=LONG) as server, Peer.to(server.address) as peer:
        peer.send(b"", b"sesame", b"", b"hello")
        assert peer.receive() == b"hello"


@every_mode
def test_before_its_verdict_nobody_hears_of_it_and_it_hears_nothing(mode: dict[str, Any]) -> None:
    gate = Gate()
    diary = Diary()
    with serve(diary.message, diary, authenticate=gate, **mode) as server:
        with Peer.to(server.address) as silent, enter(server) as peer:
            peer.send(b"behind it")
            assert gate.asked.wait(WAIT)
            until(lambda: server.stats().accepted == 2)
            assert server.clients == []
            said = [line for line in bus.explain().splitlines() if line.startswith(f"connection {server.address} to ")]
            assert [line.rpartition("; ")[2] for line in said] == ["no first message yet"] * 2
            assert server.send_to_all("to all") == bus.BroadcastReport()
            assert diary.entries.empty()
            gate.answer.set()
            assert [diary.next()[0] for _ in range(2)] == ["connect", "message"]
            assert [client.remote_address for client in server.clients] == [peer.address]
            assert len(server.send_to_all("to who is in").taken) == 1
            assert peer.receive() == b"to who is in"
            silent.finish()
            assert silent.receive_all() == []
            until(lambda: server.stats().unauthenticated == 1)


def test_a_slow_authenticate_holds_up_nobody_else() -> None:
    gate = Gate()
    with serve(authenticate=lambda message, client: message.data != b"slow" or gate(message, client)) as server:
        with enter(server, b"slow") as slow:
            assert gate.asked.wait(WAIT)
            for _ in range(10):
                assert is_served(server)
            gate.answer.set()
            slow.send(b"now")
            assert slow.receive() == b"now"


def test_a_verdict_may_come_after_the_deadline_for_the_message() -> None:
    gate = Gate()
    with serve(authenticate=gate, handshake_timeout=LONG) as server, enter(server) as peer:
        assert gate.asked.wait(WAIT)
        let_the_deadline_pass(visitor(server))
        gate.answer.set()
        peer.send(b"in")
        assert peer.receive() == b"in"


def test_one_who_leaves_while_it_is_judged_is_told_of_if_it_is_admitted() -> None:
    gate = Gate()
    diary = Diary()
    with serve(diary.message, diary, authenticate=gate) as server, enter(server) as peer:
        peer.send(b"last words")
        assert gate.asked.wait(WAIT)
        peer.finish()
        gate.answer.set()
        assert [diary.next()[0] for _ in range(2)] == ["connect", "message"]
        assert isinstance(diary.reason(), bus.PeerClosed)
        until(lambda: not server.clients)


# --- not admitted ---


@pytest.mark.parametrize("verdict", [False, None, 0, "", b""])
def test_who_is_not_admitted_gets_the_refusal_and_the_end(verdict: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "actorbus")
    diary = Diary()

    def authenticate(message: bus.Message, client: bus.Client) -> Any:
        client.send("who are you?")
        return verdict

    with serve(diary.message, diary, authenticate=authenticate) as server, enter(server, b"wrong") as peer:
        peer.send(b"all the same", b"let me in")
        assert peer.receive_all() == [b"who are you?"]
        peer.close()
        until(lambda: server.stats().unauthenticated == 1)
        assert server.clients == []
    assert diary.entries.empty()
    assert "authenticate did not admit it" in caplog.text


def test_a_large_refusal_reaches_one_who_reads_slowly() -> None:
    refusal = b"no " * 1_000_000

    def authenticate(message: bus.Message, client: bus.Client) -> bool:
        client.send(refusal)
        return False

    with serve(authenticate=authenticate, max_size=len(refusal)) as server:
        with Peer.to(server.address, receive_buffer=8192) as peer:
            peer.send(b"?")
            until(lambda: server._actor._present and all(actor.closing for actor in server._actor._present))
            assert peer.receive_all() == [refusal]


def test_an_authenticate_that_raises_refuses_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def authenticate(message: bus.Message, client: bus.Client) -> bool:
        if message.data != b"sesame":
            client.send("one moment")
            raise SystemExit("on purpose") if message.data == b"exit" else ValueError("on purpose")
        return True

    with serve(authenticate=authenticate) as server:
        for word in (b"raise", b"exit"):
            with enter(server, word) as peer:
                assert peer.receive_all() == [b"one moment"]
        assert is_served(server)
        until(lambda: server.stats().unauthenticated == 2)
    assert caplog.text.count("authenticate raised for 127.0.0.1:") == 2
    assert "ValueError: on purpose" in caplog.text
    assert "SystemExit: on purpose" in caplog.text


def half_a_message(peer: Peer) -> None:
    peer.sock.sendall(frame(b"sesame")[:7])


def nothing(peer: Peer) -> None:
    pass


@pytest.mark.parametrize("says", [nothing, half_a_message])
def test_who_is_silent_or_slow_is_disconnected_at_the_deadline(says: Callable[[Peer], None], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "actorbus")
    diary = Diary()
    with serve(on_connect=diary.connect, authenticate=knows_the_word, handshake_timeout=0.05) as server, Peer.to(server.address) as peer:
        says(peer)
        until_closed(peer)
        until(lambda: server.stats().unauthenticated == 1)
    assert diary.entries.empty()
    assert "no first message within 0.05 s" in caplog.text


@pytest.mark.parametrize("says", [nothing, half_a_message])
def test_who_is_sent_away_costs_nobody_else_anything(says: Callable[[Peer], None]) -> None:
    with serve(authenticate=knows_the_word, handshake_timeout=LONG) as server, enter(server) as neighbour:
        until(lambda: server.clients)
        with Peer.to(server.address) as peer:
            says(peer)
            let_the_deadline_pass(visitor(server))
            let_the_deadline_pass(server.clients[0]._actor)
            until_closed(peer)
        neighbour.send(b"unharmed")
        assert neighbour.receive() == b"unharmed"


def test_visitors_count_against_the_limit_and_make_room_again() -> None:
    with serve(authenticate=knows_the_word, max_clients=2) as server:
        with Peer.to(server.address), Peer.to(server.address):
            until(lambda: server.stats().accepted == 2)
            with Peer.to(server.address) as c:
                until_closed(c)
            assert server.stats().refused == 1

        def gets_in() -> bool:
            try:
                return is_served(server)
            except ConnectionError:
                return False

        until(gets_in)


def test_a_first_message_over_max_size_is_none() -> None:
    with serve(authenticate=knows_the_word, max_size=10) as server, Peer.to(server.address) as peer:
        peer.sock.sendall(frame(b"x" * 11))
        until_closed(peer)
        until(lambda: server.stats().unauthenticated == 1)


@pytest.mark.parametrize("mode", [{}, {"serial": True, "threads": 2}])
def test_stopping_while_somebody_is_judged(mode: dict[str, Any], all_returns: object) -> None:
    gate = Gate()
    diary = Diary()
    server = serve(diary.message, diary, authenticate=gate, **mode)
    with enter(server) as peer, Peer.to(server.address):
        assert gate.asked.wait(WAIT)
        stopping = InThread(lambda: server.stop(linger=0.2))
        until_closed(peer)
        gate.answer.set()
        stopping.result()
        assert server.wait(timeout=WAIT)
        assert server.clients == []
    assert diary.entries.empty()


# --- over TLS, over a Unix socket, and not over WebSocket ---


def test_over_tls_there_is_one_deadline_for_both(certificate: Certificate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "actorbus")
    options: dict[str, Any] = {"tls": certificate.server(), "authenticate": knows_the_word}
    with bus.serve("tls://127.0.0.1:0", echo, **options) as server:
        for word, replies in ((b"sesame", [b"hello"]), (b"wrong", [])):
            with TlsPeer.visiting(server.address, certificate) as peer:
                peer.send(word, b"hello")
                assert (peer.receive() == b"hello") is bool(replies)
                until(lambda: len(server.clients) == len(replies))  # noqa: B023
    with bus.serve("tls://127.0.0.1:0", echo, handshake_timeout=LONG, **options) as server:
        with Peer.to(server.address) as mute:
            let_the_deadline_pass(visitor(server))
            until_closed(mute)
        until(lambda: server.stats().unauthenticated == 1)
        assert "no TLS handshake within 1e+06 s" in caplog.text
        with Peer.to(server.address) as silent:
            actor = visitor(server)
            until(lambda: actor.silence._timer)
            timer = actor.silence._timer
            with certificate.client().wrap_socket(silent.sock, server_hostname="127.0.0.1") as encrypted:
                until(lambda: actor.silence.awaited == "first message")
                assert actor.silence._timer is timer
                let_the_deadline_pass(actor)
                until_closed(Peer(encrypted))
        until(lambda: server.stats().unauthenticated == 2)
        assert "no first message within 1e+06 s" in caplog.text


def test_over_a_unix_socket(tmp_path: Path) -> None:
    with bus.serve(f"unix://{tmp_path / 'socket'}", echo, authenticate=knows_the_word) as server:
        assert is_served(server)
        with enter(server, b"wrong") as peer:
            assert peer.receive_all() == []


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_websocket_server_has_on_request_for_that(scheme: str, certificate: Certificate) -> None:
    tls = certificate.server() if scheme == "wss" else None
    with pytest.raises(ValueError, match=f"authenticate is for tcp://, tls:// and unix://, not {scheme}://.*on_request"):
        bus.serve(f"{scheme}://127.0.0.1:0", echo, authenticate=knows_the_word, tls=tls)

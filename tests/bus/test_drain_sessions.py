"""A WebSocket server drains: session handlers end what they do, who is at the door is answered, nobody is judged by a silence of ours."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

import bus
from actors import crew, wshandshake
from tests.actors.test_wsframes import PING, TEXT
from tests.bus.peers import WAIT, InThread, Peer, fill_up, inet, until
from tests.bus.test_drain import LONG, Service, rest_of
from tests.bus.test_websocket import WebPeer, upgrade

pytestmark = pytest.mark.usefixtures("no_proxy_of_this_machine")

each_scheme = pytest.mark.parametrize("scheme", ["ws", "wss"])


class Sessions(Service):
    """A WebSocket server with one handler. It puts its client into `entered` where it stays until `go`."""

    def __init__(
        self, request: pytest.FixtureRequest, handler: Callable[[Sessions, bus.Session], object], scheme: str = "ws", **options: Any
    ) -> None:
        self.over: SimpleQueue[str] = SimpleQueue()

        def handle(client: bus.Session) -> None:
            how = "returned"
            try:
                handler(self, client)
            except BaseException as exc:
                how = type(exc).__name__
                raise
            finally:
                self.over.put(how)

        super().__init__(scheme, request, routes={"/": handle}, **options)

    def stay(self, client: bus.Client) -> None:
        self.entered.put(client)
        assert self.go.wait(LONG)


def talk(sessions: Sessions, client: bus.Session) -> None:
    """Repeat everything; stay after "wait"; say goodbye after the last one."""
    for message in client:
        if message.text == "wait":
            sessions.stay(client)
        client.send(message.text.upper())
    client.send("bye")


# --- handlers ---


@each_scheme
def test_a_handler_gets_what_had_come_and_can_send_on(scheme: str, request: pytest.FixtureRequest, all_returns: object) -> None:
    sessions = Sessions(request, talk, scheme)
    with sessions.connect() as conn, sessions.connect() as idle:
        idle.send("hello")
        assert rest_of_one(idle) == "HELLO"
        sessions.busy(conn, "two", "three")
        stopping = sessions.draining()
        conn.send("too late")
        sessions.go.set()
        assert rest_of(conn) == ["WAIT", "TWO", "THREE", "bye"]
        assert rest_of(idle) == ["bye"]
        assert (conn.close_code, idle.close_code) == (1001, 1001)
        assert stopping.result() == bus.StopReport(True)
    assert [sessions.over.get(timeout=WAIT) for _ in range(2)] == ["returned"] * 2


def rest_of_one(conn: bus.Connection) -> str:
    message = conn.receive(timeout=WAIT)
    assert message is not None
    return message.text


@pytest.mark.parametrize("timeout", [None, LONG])
def test_a_handler_that_waits_in_receive_is_told_at_once(timeout: float | None, request: pytest.FixtureRequest) -> None:
    heard: SimpleQueue[Any] = SimpleQueue()

    def handler(sessions: Sessions, client: bus.Session) -> None:
        heard.put(client.connected())
        try:
            client.receive(timeout)
        finally:
            heard.put(client.connected())

    sessions = Sessions(request, handler)
    with sessions.connect() as conn:
        assert heard.get(timeout=WAIT) is True
        assert sessions.draining().result() == bus.StopReport(True)
        assert heard.get(timeout=WAIT) is False
        assert rest_of(conn) == []
    assert sessions.over.get(timeout=WAIT) == "Closed"


def test_a_handler_that_has_hardly_begun_counts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Event()
    request.addfinalizer(start.set)
    late = SimpleNamespace(run=lambda work: crew.run(lambda: (start.wait(LONG), work())))
    monkeypatch.setattr("bus.websocket.crew", late)
    sessions = Sessions(request, talk)
    with sessions.connect() as conn:
        conn.send("first")
        until(lambda: any(client.stats().waiting_in for client in sessions.server.clients))
        stopping = sessions.draining()
        assert not sessions.server.wait(timeout=0.05)
        start.set()
        assert rest_of(conn) == ["FIRST", "bye"]
        assert stopping.result() == bus.StopReport(True)


def test_a_handler_that_polls_connected_ends(request: pytest.FixtureRequest) -> None:
    def handler(sessions: Sessions, client: bus.Session) -> None:
        while client.connected():
            client.receive(timeout=0.01)

    sessions = Sessions(request, handler)
    with sessions.connect() as conn:
        assert sessions.draining().result() == bus.StopReport(True)
        assert rest_of(conn) == []
    assert sessions.over.get(timeout=WAIT) in ("returned", "Closed")


def test_a_handler_that_does_not_end_is_reported(request: pytest.FixtureRequest) -> None:
    sessions = Sessions(request, talk)
    with sessions.connect() as conn, sessions.connect():
        client = sessions.busy(conn, "two", "three")
        report = InThread(lambda: sessions.server.stop(drain=0.05)).result()
        assert report.cut == (bus.Cut(client, unhandled=2, running=True),)
        assert rest_of(conn) == []
        sessions.go.set()
    assert {sessions.over.get(timeout=WAIT), sessions.over.get(timeout=WAIT)} == {"returned", "Closed"}


def test_a_handler_that_waits_for_room_is_told_at_the_deadline(request: pytest.FixtureRequest) -> None:
    def handler(sessions: Sessions, client: bus.Session) -> None:
        fill_up(client)
        sessions.entered.put(client)
        client.send(b"x" * 65_536, timeout=None)

    sessions = Sessions(request, handler, outbox_bytes=200_000)
    with WebPeer.visiting(sessions.server, receive_buffer=4096):
        client = sessions.entered.get(timeout=WAIT)
        report = InThread(lambda: sessions.server.stop(linger=0.05, drain=0.05)).result()
        assert sessions.over.get(timeout=WAIT) == "Closed"
        assert not report
        (cut,) = report.cut
        assert (cut.client, cut.running, cut.unhandled) == (client, True, 0)
        assert cut.unsent >= 65_536


def test_a_stop_without_drain_does_not_report_handlers_that_only_wait(request: pytest.FixtureRequest) -> None:
    sessions = Sessions(request, talk)
    with sessions.connect() as conn, sessions.connect() as idle:
        idle.send("hello")
        assert rest_of_one(idle) == "HELLO"
        client = sessions.busy(conn)
        lanes = [each._actor.lane for each in sessions.server.clients]
        until(lambda: sum(lane is not None and lane.receiving for lane in lanes) == 1)
        assert sessions.server.stop().cut == (bus.Cut(client, running=True),)
        sessions.go.set()


def test_a_handler_may_ask_for_the_drain_itself(request: pytest.FixtureRequest) -> None:
    def handler(sessions: Sessions, client: bus.Session) -> None:
        for message in client:
            if message.text == "stop":
                client.send(repr(sessions.server.stop(drain=LONG)))

    sessions = Sessions(request, handler)
    with sessions.connect() as conn, sessions.connect() as other:
        conn.send("stop")
        assert rest_of(conn) == [repr(bus.StopReport(False))]
        assert rest_of(other) == []
        assert sessions.server.wait(WAIT)


def test_a_handler_that_raises_meanwhile_closes_as_ever(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> None:
    def handler(sessions: Sessions, client: bus.Session) -> None:
        sessions.stay(client)
        raise LookupError("on purpose")

    sessions = Sessions(request, handler)
    with sessions.connect() as conn:
        sessions.entered.get(timeout=WAIT)
        stopping = sessions.draining()
        sessions.go.set()
        assert rest_of(conn) == []
        assert conn.close_code == 1011
        assert stopping.result().cut == ()
    assert "on purpose" in caplog.text


# --- silence ---


@pytest.mark.parametrize("kind", ["callback", "session"])
def test_nobody_is_judged_by_pings_while_it_drains(kind: str, request: pytest.FixtureRequest) -> None:
    options: dict[str, Any] = {"ping_interval": 0.02, "ping_timeout": 0.02}
    service = Sessions(request, talk, **options) if kind == "session" else Service("ws", request, **options)
    with WebPeer.visiting(service.server) as peer:
        peer.put(TEXT, b"wait")
        service.entered.get(timeout=WAIT)
        stopping = service.draining()
        for _ in range(10):  # none of which is answered: the verdict would fall after the second
            frame = peer.get()
            assert frame is not None
            assert frame.first == 0x80 | PING
        service.go.set()
        while (frame := peer.get()) is not None and frame.first == 0x80 | PING:
            pass
        assert frame is not None
        assert frame.payload == b"WAIT"
        assert peer.the_close() == (1001, "")
        peer.say_close(1001)
        assert stopping.result()


# --- at the door ---


@pytest.mark.parametrize(("answer", "status"), [(bus.Response(200, "made it"), 200), (None, 503)])
def test_a_request_that_is_being_answered_is_answered(
    answer: Any, status: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wshandshake, "LINGER", LONG)  # who is answered holds nothing up by staying
    entered, go = threading.Event(), threading.Event()
    request.addfinalizer(go.set)

    def on_request(request: bus.Request) -> Any:
        entered.set()
        assert go.wait(LONG)
        return answer

    service = Service("ws", request, on_request=on_request)
    with WebPeer.to(service.server.address) as peer, Peer.to(service.server.address) as half:
        half.sock.sendall(upgrade()[:20])
        peer.sock.sendall(upgrade(service.server.address))
        assert entered.wait(WAIT)
        stopping = service.draining()
        half.sock.sendall(upgrade()[20:])
        go.set()
        assert peer.head().startswith(b"HTTP/1.1 %d " % status)
        assert half.read(4096)[:13] in (b"", b"HTTP/1.1 503 ")  # if the rest came just before the last look at it
        assert stopping.result() == bus.StopReport(True)


@pytest.mark.parametrize("scheme", ["tls", "wss"])
def test_who_has_not_shaken_hands_does_not_hold_it_up(scheme: str, request: pytest.FixtureRequest) -> None:
    service = Service(scheme, request)
    with socket.create_connection(inet(service.server.address), WAIT) as silent:
        until(lambda: service.server.stats().accepted == 1)
        stopping = service.draining()
        assert silent.recv(1) == b""
        assert stopping.result() == bus.StopReport(True)

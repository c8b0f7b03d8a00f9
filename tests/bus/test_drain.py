"""`stop(drain=…)`: what has begun is finished before a server closes, within the deadline; the report tells what was cut off."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import bus
from actors import sockets, waiting
from tests.bus.peers import WAIT, InThread, Peer, fill_up, until
from tests.bus.test_server import Diary, every_mode
from tests.bus.test_websocket import take

pytestmark = pytest.mark.usefixtures("no_proxy_of_this_machine")

LONG = 10 * WAIT  # a drain that only ends in time because all is done

each_scheme = pytest.mark.parametrize("scheme", ["tcp", "tls", "unix", "ws", "wss"])


class Service:
    """A server on any carrier whose callbacks, told "wait", stay until `go`. `heard` is what they were given."""

    def __init__(self, scheme: str, request: pytest.FixtureRequest, **options: Any) -> None:
        self.heard: list[str] = []
        self.entered: SimpleQueue[bus.Client] = SimpleQueue()
        self.go = threading.Event()
        self.scheme = scheme
        self._tls = request.getfixturevalue("certificate") if scheme in ("tls", "wss") else None
        path: Path = request.getfixturevalue("tmp_path") / "s" if scheme == "unix" else Path()
        url = f"unix://{path}" if scheme == "unix" else f"{scheme}://127.0.0.1:0"
        if self._tls is not None:
            options["tls"] = self._tls.server()
        if "routes" not in options:
            options["on_message"] = self.answer
        self.server = bus.serve(url, **options)
        request.addfinalizer(lambda: self.server.stop(linger=0.1))
        request.addfinalizer(self.go.set)

    def answer(self, message: bus.Message, client: bus.Client) -> str:
        self.heard.append(message.text)
        if message.text == "wait":
            self.entered.put(client)
            assert self.go.wait(LONG)
        return message.text.upper()

    def connect(self) -> bus.Connection:
        options: dict[str, Any] = {} if self._tls is None else {"tls": self._tls.client()}
        return bus.connect(f"{self.scheme}://{self.server.address}", timeout=WAIT, **options)

    def busy(self, conn: bus.Connection, *more: str) -> bus.Client:
        """Have a callback wait, with more messages behind its own, which came in the same read; its client."""
        conn.send_many(["wait", *more])
        return self.entered.get(timeout=WAIT)

    def draining(self, **options: Any) -> InThread[bus.StopReport]:
        """A `stop` on a thread of its own, which has begun: new connections are refused, and nothing more is read."""
        clients = self.server.clients
        stopping = InThread(lambda: self.server.stop(**{"linger": LONG, "drain": LONG, **options}))
        until(lambda: self.server._actor.draining)  # before that, the next line would bring one more client
        until(lambda: refused(self.server.address), "new connections are refused")
        until(lambda: all(no_longer_read(client) for client in clients), "clients are read no more")
        present = self.server._actor._present  # with those at the door
        until(lambda: all(actor.draining is not None for actor in list(present)), "everybody has been told")
        return stopping


def refused(address: str) -> bool:
    try:
        Peer.to(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    except ConnectionResetError:  # it closed with us at the door
        pass
    return False


def no_longer_read(client: bus.Client) -> bool:
    lane = client._actor.lane
    return lane is not None and lane._handled is not None


def rest_of(conn: bus.Connection) -> list[str]:
    """What comes until the server has closed in order."""
    texts = []
    while True:
        try:
            texts.append(take(conn).text)
        except bus.PeerClosed:
            return texts


# --- all is finished ---


@each_scheme
def test_what_has_come_is_answered_and_nothing_more_comes_in(scheme: str, request: pytest.FixtureRequest) -> None:
    service = Service(scheme, request)
    with service.connect() as conn, service.connect() as idle:
        client = service.busy(conn, "two", "three")
        stopping = service.draining()
        assert repr(service.server).endswith("draining, 2 clients>")
        assert f"server {service.server.address}, draining for" in bus.explain()
        assert client.connected()
        assert client.ended is None
        conn.send("too late")
        service.server.send_to_all("to all")
        service.go.set()
        assert sorted(rest_of(conn)) == ["THREE", "TWO", "WAIT", "to all"]
        assert rest_of(idle) == ["to all"]
        report = stopping.result()
        assert report
        assert report.cut == ()
        assert service.heard == ["wait", "two", "three"]
        assert service.server.wait(timeout=0)
        assert "stopped" in repr(service.server)


@every_mode
def test_callbacks_run_to_their_end_on_every_kind_of_thread(mode: dict[str, Any], request: pytest.FixtureRequest) -> None:
    diary = Diary()
    service = Service("tcp", request, on_connect=diary.connect, on_disconnect=diary.disconnect, **mode)
    with service.connect() as one, service.connect() as two:
        assert {diary.next()[0], diary.next()[0]} == {"connect"}
        two.send("quick")
        assert take(two).text == "QUICK"
        service.busy(one, "more")
        two.send("wait" if "serial" not in mode else "in line")
        if "serial" not in mode:
            service.entered.get(timeout=WAIT)
        stopping = service.draining()
        service.go.set()
        assert rest_of(one) == ["WAIT", "MORE"]
        assert rest_of(two) in (["WAIT"], ["IN LINE"], [])  # what was on its way when the drain began may not have come
        assert stopping.result()
    assert isinstance(diary.reason(), bus.Closed)
    assert isinstance(diary.reason(), bus.Closed)
    assert diary.entries.empty()


@pytest.mark.skipif(not hasattr(socket, "SO_MEMINFO") and os.name != "posix", reason="asks the kernel what was acknowledged")
def test_what_the_kernel_had_counts_as_having_come(request: pytest.FixtureRequest) -> None:
    service = Service("tcp", request)
    with Peer.to(service.server.address) as peer:
        peer.send(b"wait")
        service.entered.get(timeout=WAIT)
        peer.send(b"behind it")  # not read, because its callback runs
        until(lambda: sockets.unacknowledged(peer.sock) <= 0)
        stopping = service.draining()
        service.go.set()
        assert peer.receive_all() == [b"WAIT", b"BEHIND IT"]
        peer.close()
        assert stopping.result()


@each_scheme
def test_a_busy_crowd_gets_every_reply_there_is(scheme: str, request: pytest.FixtureRequest) -> None:
    service = Service(scheme, request, threads=2)
    crowd = [service.connect() for _ in range(5)]

    def talk(conn: bus.Connection) -> int:
        replies = 0
        try:
            while True:
                conn.send_many(["more"] * 10)
                for _ in range(10):
                    take(conn)
                    replies += 1
        except (bus.PeerClosed, bus.Broken):
            return replies + len(rest_of(conn))

    talking = [InThread(lambda conn=conn: talk(conn)) for conn in crowd]  # type: ignore[misc]
    until(lambda: len(service.heard) > 100)
    report = InThread(lambda: service.server.stop(linger=LONG, drain=LONG)).result()
    assert report == bus.StopReport(True)
    assert sum(each.result() for each in talking) == len(service.heard)
    for conn in crowd:
        conn.close(linger=0)


def test_outboxes_are_flushed_however_short_the_linger(request: pytest.FixtureRequest) -> None:
    service = Service("tcp", request, max_size=1 << 26, outbox_bytes=1 << 26)
    with Peer.to(service.server.address, receive_buffer=8192) as peer:
        until(lambda: service.server.clients)
        (client,) = service.server.clients
        client.send(b"x" * (1 << 24))
        stopping = service.draining().until_blocked()
        assert client.stats().waiting_out
        assert client._actor.state.value == "open"  # no linger runs yet
        assert peer.receive_all() == [b"x" * (1 << 24)]
        peer.close()
        assert stopping.result() == bus.StopReport(True)


def test_a_client_that_leaves_meanwhile_is_through(request: pytest.FixtureRequest, all_returns: object) -> None:
    service = Service("tcp", request)
    with Peer.to(service.server.address, receive_buffer=8192) as peer:
        until(lambda: service.server.clients)
        (client,) = service.server.clients
        fill_up(client)
        stopping = service.draining()
        peer.reset()
        report = stopping.result()
    assert not report
    (cut,) = report.cut
    assert cut.client is client
    assert cut.unsent >= client.stats().unsent > 0
    assert (cut.unhandled, cut.running) == (0, False)


def test_a_server_without_clients_has_nothing_to_drain() -> None:
    server = bus.serve("tcp://127.0.0.1:0", lambda message, client: message)
    assert InThread(lambda: server.stop(drain=None)).result() == bus.StopReport(True)
    assert server.stop(drain=LONG) == bus.StopReport(True), "stopping twice is nothing"


# --- not all is finished ---


@each_scheme
def test_a_callback_that_does_not_end_is_reported(scheme: str, request: pytest.FixtureRequest) -> None:
    diary = Diary()
    service = Service(scheme, request, on_disconnect=diary.disconnect)
    with service.connect() as conn, service.connect() as idle:
        client = service.busy(conn, "two", "three")
        report = InThread(lambda: service.server.stop(drain=0.05)).result()
        assert report == bus.StopReport(False, (bus.Cut(client, unhandled=2, running=True),))
        assert rest_of(conn) == rest_of(idle) == []
        service.go.set()
        assert service.server.wait(WAIT)
    assert {type(diary.reason()), type(diary.reason())} == {bus.Closed}
    assert service.heard == ["wait"]


def test_a_client_that_does_not_read_is_reported(request: pytest.FixtureRequest) -> None:
    service = Service("tcp", request)
    with Peer.to(service.server.address, receive_buffer=8192) as peer:
        until(lambda: service.server.clients)
        (client,) = service.server.clients
        sent = fill_up(client, b"x" * 65_532) * 65_536
        report = InThread(lambda: service.server.stop(linger=0.05, drain=0.05)).result()
        assert not report
        (cut,) = report.cut
        assert cut.client is client
        received = 0
        try:
            while piece := peer.sock.recv(1 << 20):
                received += len(piece)
        except ConnectionResetError:
            pass
        assert received <= sent - client.stats().unsent
        assert client.stats().unsent <= cut.unsent <= sent


def test_replies_wait_for_room_while_it_drains(request: pytest.FixtureRequest) -> None:
    # A callback's replies do not grow without bound because of the drain: with a full outbox, messages stay unhandled.
    service = Service("tcp", request, outbox_bytes=50_000)
    with Peer.to(service.server.address, receive_buffer=8192) as peer:
        peer.send(b"wait", b"one", b"two")
        service.entered.get(timeout=WAIT)
        (client,) = service.server.clients
        fill_up(client)
        stopping = service.draining(drain=0.2, linger=0.05)
        service.go.set()
        (cut,) = stopping.result().cut
        assert cut.unhandled == 2
        assert cut.unsent > 50_000
        assert service.heard == ["wait"]


def test_a_stop_without_drain_reports_too(request: pytest.FixtureRequest) -> None:
    for options in ({}, {"drain": 0}):
        service = Service("tcp", request)
        with service.connect() as conn, service.connect():
            client = service.busy(conn, "two")
            stopping = InThread(lambda server=service.server, options=options: server.stop(**options))  # type: ignore[misc]
            assert rest_of(conn) == []
            service.go.set()
            report = stopping.result()
            assert report, "every client's TCP took everything, and the callback has ended"
            assert report.cut == (bus.Cut(client, unhandled=1, running=True),)


def test_another_stop_cuts_a_drain_short(request: pytest.FixtureRequest) -> None:
    service = Service("tcp", request)
    with service.connect() as conn:
        client = service.busy(conn)
        stopping = service.draining()
        another = InThread(service.server.stop)
        assert rest_of(conn) == []
        service.go.set()
        assert another.result().cut == (bus.Cut(client, running=True),)
        assert stopping.result().cut in ((), (bus.Cut(client, running=True),))


def test_ctrl_c_ends_the_wait_and_not_the_drain(request: pytest.FixtureRequest) -> None:
    service = Service("tcp", request)
    with service.connect() as conn:
        service.busy(conn)
        stopping = service.draining().until_blocked()
        assert stopping.thread.ident is not None
        waiting.interrupt([stopping.thread.ident])
        with pytest.raises(KeyboardInterrupt):
            stopping.result()
        service.go.set()
        assert rest_of(conn) == ["WAIT"]
        assert service.server.wait(WAIT)


# --- asked in a callback ---


@every_mode
def test_in_a_callback_it_only_asks(mode: dict[str, Any], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(self: Service, message: bus.Message, client: bus.Client) -> str:
        self.heard.append(message.text)
        return repr(self.server.stop(drain=LONG)) if message.text == "stop" else "more"

    monkeypatch.setattr(Service, "answer", answer)
    service = Service("tcp", request, **mode)
    with service.connect() as conn, service.connect() as other:
        until(lambda: len(service.server.clients) == 2)
        conn.send_many(["stop", "behind it"])
        assert rest_of(conn) == [repr(bus.StopReport(False)), "more"]
        assert rest_of(other) == []
    assert service.server.wait(WAIT)


def test_a_drain_that_was_only_asked_for_has_its_deadline(request: pytest.FixtureRequest) -> None:
    service = Service("tcp", request, on_connect=lambda client: client.state)
    with service.connect() as conn, service.connect() as other:
        service.busy(conn)
        until(lambda: len(service.server.clients) == 2)
        asked: list[bus.StopReport] = []
        service.answer = lambda message, client: None  # type: ignore[assignment, method-assign, return-value]
        quick = bus.serve("tcp://127.0.0.1:0", lambda message, client: asked.append(service.server.stop(linger=0.1, drain=0.05)))
        with quick, bus.connect(f"tcp://{quick.address}", timeout=WAIT) as asking:
            asking.send("stop the other server")
            assert rest_of(conn) == rest_of(other) == []
        assert asked == [bus.StopReport(False)]
        service.go.set()
        assert service.server.wait(WAIT)


def test_a_report_is_a_value() -> None:
    cut = bus.Cut("somebody", unsent=1)
    assert dataclasses.astuple(cut) == ("somebody", 1, 0, False)
    assert not bus.StopReport(False, (cut,))
    assert bus.StopReport(True, (cut,))
    with pytest.raises(dataclasses.FrozenInstanceError):
        cut.unsent = 2  # type: ignore[misc]

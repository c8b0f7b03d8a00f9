"""A WebSocket server that stops goes away for everybody, whichever ends first: the server, a handler, or a handshake."""

from __future__ import annotations

import logging
import threading

import pytest

import bus
from tests.actors.engine import held
from tests.bus.peers import WAIT, InThread, until
from tests.bus.test_websocket import WebPeer, connect, take, upgrade

GOING_AWAY = 1001  # RFC 6455, section 7.4.1


def closed_with(conn: bus.Connection) -> int | None:
    with pytest.raises(bus.PeerClosed):
        conn.receive(timeout=WAIT)
    return conn.close_code


def test_a_handler_that_returns_because_the_server_stops_goes_away_as_well() -> None:
    first_has_ended = threading.Event()

    def first(client: bus.Session) -> None:
        client.send("ready")
        for _ in client:
            pass
        first_has_ended.set()

    def follower(client: bus.Session) -> None:
        client.send("ready")
        assert first_has_ended.wait(WAIT)

    with bus.serve("ws://127.0.0.1:0", routes={"/first": first, "/follower": follower}) as server, connect(server, "/first") as one:
        take(one)
        others = [connect(server, "/follower") for _ in range(10)]
        for conn in others:
            take(conn)
        assert server.stop()
        assert [closed_with(conn) for conn in (one, *others)] == [GOING_AWAY] * 11
        for conn in others:
            conn.close()


class Door:
    """An `on_request` that thinks until it may `go_on`."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()

    def __call__(self, request: bus.Request) -> None:
        self.asked.set()
        assert self.go_on.wait(WAIT)


def test_who_waits_at_the_door_of_a_server_that_stops_is_told_so_at_once() -> None:
    door = Door()
    with bus.serve("ws://127.0.0.1:0", lambda message, client: None, on_request=door) as server, WebPeer.to(server.address) as peer:
        peer.sock.sendall(upgrade(server.address))
        assert door.asked.wait(WAIT)
        stopping = InThread(server.stop)
        assert peer.head().startswith(b"HTTP/1.1 503 ")
        peer.read(1 << 20)
        door.go_on.set()
        assert stopping.result()


def test_who_is_at_the_door_of_a_server_that_stops_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    door = Door()
    with bus.serve("ws://127.0.0.1:0", lambda message, client: None, on_request=door, threads=1) as server:
        with WebPeer.to(server.address) as peer, caplog.at_level(logging.WARNING, "actorbus"):
            peer.sock.sendall(upgrade(server.address))
            assert door.asked.wait(WAIT)
            (loop,) = server._actor._loops
            (guest,) = server._actor._present
            with held(loop):  # so that both are decided in this order: go on, and stop
                tasks = len(loop._tasks)
                door.go_on.set()
                until(lambda: len(loop._tasks) > tasks)
                stopping = InThread(server.stop)
                until(lambda: guest.closing)
            assert peer.head().startswith(b"HTTP/1.1 503 ")
            peer.read(1 << 20)
            assert stopping.result()
    assert not caplog.records

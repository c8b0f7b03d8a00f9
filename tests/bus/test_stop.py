"""A server stops: each of its clients is closed once, on its own reader thread, and together they have one answer."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import bus
from actors.reader import ENDED
from actors.states import State
from actors.stream import StreamActor
from tests.actors.engine import held
from tests.bus.peers import WAIT, InThread, Peer, until


def the_client(server: bus.Server) -> StreamActor:
    until(lambda: len(server.clients) == 1)
    (actor,) = server._actor.clients
    return actor


@pytest.mark.parametrize("mode", [{}, {"threads": 1}, {"serial": True}], ids=["default", "threads=1", "serial"])
def test_behind_a_callback_that_stops_the_server_no_other_begins(mode: dict[str, Any]) -> None:
    heard: list[bytes] = []

    def stop(message: bus.Message, client: bus.Client) -> None:
        heard.append(message.data)
        server.stop()
        with pytest.raises(bus.Closed):
            client.send("more")
        assert not client.connected()

    with bus.serve("tcp://127.0.0.1:0", stop, **mode) as server, Peer.to(server.address) as peer:
        peer.send(*[b"%d" % number for number in range(100)])
        assert peer.receive_all() == []
        assert server.wait(WAIT)
    assert heard == [b"0"]


def test_nobody_waits_for_a_client_that_has_left_meanwhile() -> None:
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: None, threads=1) as server, Peer.to(server.address) as peer:
        client = the_client(server)
        with held(server._actor.loop):  # so that the client has ended when the server comes to close it
            stopping = InThread(lambda: server.stop(linger=2 * WAIT))
            until(lambda: server._actor.closing)
            peer.close()
            until(client.actor_stopped.is_set)
        assert stopping.result(), "its TCP took everything"


def test_what_is_wrong_with_one_client_keeps_no_other_from_an_orderly_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reasons: list[bus.BusError] = []

    def left(client: bus.Client, reason: bus.BusError) -> None:
        reasons.append(reason)

    with bus.serve("tcp://127.0.0.1:0", lambda message, client: None, on_disconnect=left) as server:
        with Peer.to(server.address), caplog.at_level(logging.CRITICAL, "actorbus"):
            monkeypatch.setattr(the_client(server), "_take_over_input", None)
            with Peer.to(server.address) as peer:
                until(lambda: len(server.clients) == 2)
                server.send_to_all("the last")
                stopping = InThread(server.stop)
                assert peer.receive_all() == [b"the last"]
                peer.close()
                assert not stopping.result(), "one was not closed in order"
    assert len(reasons) == 2


def test_a_peer_that_has_said_all_is_not_polled_for_more_while_it_reads_the_rest() -> None:
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: None) as server, Peer.to(server.address, receive_buffer=8192) as peer:
        client = the_client(server)
        payload = b"x" * 1_000_000
        server.clients[0].send(payload)
        while not len(client.outbox):
            server.clients[0].send(payload)
        stopping = InThread(lambda: server.stop(linger=2 * WAIT))
        until(lambda: client.state is State.FLUSHING)
        peer.finish()
        until(lambda: client.reader.gates & ENDED, "or its end would be reported again and again")
        assert client.state is State.FLUSHING
        assert set(peer.receive_all()) == {payload}
        assert stopping.result()

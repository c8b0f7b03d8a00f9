"""What tells that a silent peer is gone: heartbeat= and user_timeout=, at clients, listeners and servers."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import bus
from tests.bus.peers import WAIT, Peer, pair, until

QUICK = 0.01


def test_a_client_beats_and_gives_up_a_silent_peer() -> None:
    with pair(heartbeat=QUICK) as (conn, peer):
        assert [peer.receive() for _ in range(2)] == [b"", b""]
        with pytest.raises(bus.Broken, match="nothing for 0.03 s, not even a heartbeat"):
            conn.receive(timeout=WAIT)
        assert conn.stats().messages_out == 0


def test_a_servers_clients_and_a_listeners_connections_too() -> None:
    reasons: list[bus.BusError] = []
    with (
        bus.serve(
            "tcp://127.0.0.1:0", lambda message, client: None, on_disconnect=lambda client, reason: reasons.append(reason), heartbeat=QUICK
        ) as server,
        bus.listen("tcp://127.0.0.1:0", heartbeat=QUICK) as listener,
        Peer.to(server.address) as client,
        Peer.to(listener.address) as other,
        listener.accept() as accepted,
    ):
        assert client.receive() == other.receive() == b""
        until(lambda: reasons)
        assert "not even a heartbeat" in str(reasons[0])
        with pytest.raises(bus.Broken, match="heartbeat"):
            accepted.receive(timeout=WAIT)
        with pytest.raises(ValueError, match="heartbeat"):
            server.send_to_all("")


def test_two_ends_that_beat_see_no_beat() -> None:
    got: list[str] = []
    with (
        bus.serve("tcp://127.0.0.1:0", lambda message, client: got.append(message.text), heartbeat=60) as server,
        bus.connect(f"tcp://{server.address}", heartbeat=60) as conn,
    ):
        for _ in range(3):
            conn._actor.outbox.append(b"\0\0\0\0")  # type: ignore[union-attr]
        conn.send("after them")
        until(lambda: got)
        assert got == ["after them"]


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
def test_user_timeout_is_set_at_both_ends(scheme: str) -> None:
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        with pytest.raises(ValueError, match="this system"):
            bus.connect(f"{scheme}://127.0.0.1:9", user_timeout=1)
        return
    clients: list[Any] = []
    with (
        bus.serve(f"{scheme}://127.0.0.1:0", lambda message, client: None, on_connect=clients.append, user_timeout=2.5) as server,
        bus.connect(f"{scheme}://{server.address}", user_timeout=1.5) as conn,
    ):
        until(lambda: clients)
        for actor, milliseconds in ((conn._actor, 1500), (clients[0]._actor, 2500)):
            assert actor.reader.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds
    with bus.listen("tcp://127.0.0.1:0", user_timeout=3) as listener, Peer.to(listener.address), listener.accept() as conn:
        assert conn._actor.reader.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000


@pytest.mark.parametrize(
    "url, options",
    [
        ("tcp://127.0.0.1:9", {"heartbeat": 0}),
        ("tcp://127.0.0.1:9", {"heartbeat": -1}),
        ("tcp://127.0.0.1:9", {"heartbeat": 1, "framing": "raw"}),
        ("udp://127.0.0.1:9", {"heartbeat": 1}),
        ("ws://127.0.0.1:9", {"heartbeat": 1}),
        ("tcp://127.0.0.1:9", {"user_timeout": 0}),
        ("udp://127.0.0.1:9", {"user_timeout": 1}),
        ("unix:///nowhere", {"user_timeout": 1}),
    ],
)
def test_what_cannot_mean_anything_is_refused(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        bus.connect(url, **options)

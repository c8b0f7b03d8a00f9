"""Links that are slow: a timeout inside a message loses nothing, and who trickles costs itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import bus
from bus.testing import FaultProxy
from tests.bus.peers import WAIT, InThread, fill_up, until
from tests.faults.ends import connect, each_stream, neighbours, serve, take, trip, until_only

pytestmark = pytest.mark.fault

NEXT_BYTE = 0.0001  # bytes a second: one now, and the next one after this test


@contextmanager
def linked(scheme: str, **options: Any) -> Iterator[tuple[bus.Connection, FaultProxy, bus.Server]]:
    """A connection of ours through a proxy to a server of ours."""
    with serve(scheme) as server, FaultProxy(f"{scheme}://{server.address}") as proxy:
        with bus.connect(proxy.url, timeout=WAIT, **options) as conn:
            until_only(server, 1)
            yield conn, proxy, server


@each_stream
@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_a_receive_that_times_out_inside_a_message_loses_nothing(scheme: str, size: int, all_returns: object) -> None:
    with linked(scheme) as (conn, proxy, server):
        proxy.set("down", trickle=NEXT_BYTE)
        before = proxy.stats().bytes_down
        server.clients[0].send(bytes(index % 256 for index in range(size)))
        server.clients[0].send("next")
        until(lambda: proxy.stats().bytes_down == before + 1, "it has begun")
        for _ in range(20):
            assert conn.receive(timeout=0.005) is None
            assert conn.receive(timeout=0) is None
        proxy.set("down", trickle=None)
        assert take(conn).data == bytes(index % 256 for index in range(size))
        assert take(conn).text == "next"


@each_stream
def test_timeouts_while_messages_trickle_in_lose_nothing(scheme: str, all_returns: object) -> None:
    with linked(scheme) as (conn, proxy, server):
        proxy.set("down", trickle=5000)
        sent = [f"message {number} " * 10 for number in range(40)]
        for text in sent:
            server.clients[0].send(text)
        got: list[str] = []

        def all_came() -> bool:
            message = conn.receive(timeout=0.002)
            if message is not None:
                got.append(message.text)
            return len(got) == len(sent)

        until(all_came)
        assert got == sent


@each_stream
def test_a_send_that_times_out_behind_half_a_message_loses_nothing(scheme: str, all_returns: object) -> None:
    with linked(scheme, outbox_bytes=100_000) as (conn, proxy, _):
        proxy.stall("up")
        sent = fill_up(conn, b"x" * 30_000)  # the last of them is half in the kernel and half in the outbox
        for number in range(5):
            with pytest.raises(bus.NotSent):
                conn.send(f"refused {number}" * 10_000, timeout=0.01)
        proxy.release()
        reading = InThread(lambda: [take(conn).data for _ in range(sent)])
        assert reading.result() == [b"x" * 30_000] * sent
        trip(conn)
        assert conn.stats().messages_out == sent + 1, "what was refused was not sent"


def test_who_trickles_the_handshake_is_sent_away(all_returns: object) -> None:
    with serve("ws", handshake_timeout=4) as server, FaultProxy(f"ws://{server.address}", trickle=2) as proxy:
        with neighbours(server, "ws"):
            with pytest.raises(bus.ConnectFailed):
                InThread(lambda: bus.connect(proxy.url, timeout=WAIT)).result()
        until_only(server, 0)


def test_a_server_that_trickles_the_handshake_is_given_up_at_the_timeout(all_returns: object) -> None:
    with serve("ws") as server, FaultProxy(f"ws://{server.address}") as proxy:
        proxy.set("down", trickle=10)
        with pytest.raises(bus.ConnectTimeout):
            InThread(lambda: bus.connect(proxy.url, timeout=0.3)).result()
        until_only(server, 0)


def test_a_handshake_that_trickles_in_time_is_one(all_returns: object) -> None:
    with serve("ws") as server, FaultProxy(f"ws://{server.address}", trickle=1000) as proxy:
        with bus.connect(proxy.url, timeout=WAIT) as conn:
            trip(conn)


@each_stream
def test_who_trickles_its_messages_costs_itself(scheme: str, all_returns: object) -> None:
    with serve(scheme, stall_timeout=0.5) as server, FaultProxy(f"{scheme}://{server.address}") as proxy:
        with neighbours(server, scheme), bus.connect(proxy.url, timeout=WAIT) as conn:
            proxy.set(trickle=100)
            conn.send("x" * 50)
            assert take(conn).text == "x" * 50


@each_stream
def test_what_takes_long_to_arrive_arrives(scheme: str, all_returns: object) -> None:
    with serve(scheme) as server, FaultProxy(f"{scheme}://{server.address}", latency=0.05, jitter=0.05, seed=1) as proxy:
        with connect(server, scheme) as near, bus.connect(proxy.url, timeout=WAIT) as far:
            far.send_many([str(number) for number in range(200)])
            trip(near)
            assert [take(far).text for _ in range(200)] == [str(number) for number in range(200)]


def test_a_listener_whose_queue_is_full_costs_the_connect_its_timeout_only() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(8)]
        try:
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(address)
            with pytest.raises(bus.ConnectTimeout):
                InThread(lambda: bus.connect(f"tcp://127.0.0.1:{address[1]}", timeout=0.3)).result()
        finally:
            for sock in waiting:
                sock.close()

"""A peer that connects, shakes hands, and never reads: every call that has to do with it ends, and nobody else waits for it."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import bus
from tests.bus.peers import WAIT, InThread, Peer, fill_up, until
from tests.bus.test_websocket import WebPeer
from tests.faults.ends import SMALL_BUFFER, connected, each_stream, neighbours, script, serve, trip, until_only, visit

pytestmark = pytest.mark.fault


@each_stream
def test_a_send_ends_with_nothing_taken(scheme: str, all_returns: object) -> None:
    with connected(scheme, receive_buffer=SMALL_BUFFER) as (conn, _):
        taken = InThread(lambda: fill_up(conn)).result()
        assert conn.stats().messages_out == taken
        with pytest.raises(bus.NotSent):
            conn.send("x" * 65_536, timeout=0.1)
        conn.close(linger=0)


@each_stream
def test_a_send_from_a_server_ends_too_and_the_others_go_on(scheme: str, all_returns: object) -> None:
    with serve(scheme) as server, visit(server, scheme, receive_buffer=SMALL_BUFFER):
        until_only(server, 1)
        with neighbours(server, scheme):
            InThread(lambda: fill_up(server.clients[0])).result()
        server.stop(linger=0.1)


@each_stream
def test_a_send_without_a_timeout_ends_with_the_stall(scheme: str, all_returns: object) -> None:
    with connected(scheme, receive_buffer=SMALL_BUFFER, stall_timeout=0.3) as (conn, _):

        def send_for_ever() -> None:
            while True:
                conn.send("x" * 65_536, timeout=None)

        with pytest.raises(bus.Broken, match="has not read"):
            InThread(send_for_ever).result()


@each_stream
@pytest.mark.parametrize("overflow", ["skip", "disconnect"])
def test_send_to_all_waits_for_nobody(scheme: str, overflow: Any, all_returns: object) -> None:
    with serve(scheme, overflow=overflow, outbox_bytes=100_000) as server, visit(server, scheme, receive_buffer=SMALL_BUFFER):
        until_only(server, 1)

        def broadcast() -> None:
            deaf = server.clients[0]
            while deaf not in server.send_to_all("x" * 50_000).skipped and deaf in server.clients:
                pass

        with neighbours(server, scheme):
            InThread(broadcast).result()
        if overflow == "skip":
            assert server.stats().skipped > 0
        else:
            until_only(server, 0)
        server.stop(linger=0.1)


@each_stream
def test_a_close_ends_within_linger_and_says_that_something_is_lost(scheme: str, all_returns: object) -> None:
    with connected(scheme, receive_buffer=SMALL_BUFFER, stall_timeout=None) as (conn, peer):
        sent = fill_up(conn)
        assert InThread(lambda: conn.close(linger=0.2)).result() is False
        with pytest.raises(bus.Closed):
            conn.send("x")
        until(lambda: conn.stats().unsent, "it has been given up")
        received = 0
        try:
            while data := peer.sock.recv(1 << 20):
                received += len(data)
        except ConnectionError:
            pass
        assert received < 65_536 * sent


@each_stream
def test_a_stop_ends_within_linger(scheme: str, all_returns: object) -> None:
    server = serve(scheme)
    deaf = [visit(server, scheme, receive_buffer=SMALL_BUFFER) for _ in range(5)]
    until_only(server, 5)
    while server.stats().skipped < 3 * len(deaf):  # their outboxes are full
        server.send_to_all(b"x" * 500_000)
    assert not InThread(lambda: server.stop(linger=0.2)).result()
    assert server.wait(timeout=WAIT)
    assert not server.clients
    for peer in deaf:
        peer.close()


LEAVES = """
import sys, bus
conn = bus.connect(sys.argv[1], timeout=30)
refused = 0
while refused < 3:
    try:
        conn.send("x" * 100_000, timeout=0.1)
    except bus.NotSent:
        refused += 1
print("leaves")
"""


@each_stream
@pytest.mark.parametrize("end", ["", "conn.close(linger=0.3)", "sys.exit()", "bus.shutdown(0.3)"])
def test_the_interpreter_exits(scheme: str, end: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
        running = InThread(lambda: script(LEAVES + end, url))
        with (Peer if scheme == "tcp" else WebPeer)(listening.accept()[0]) as peer:
            if isinstance(peer, WebPeer):
                peer.welcome()
            running.thread.join(2 * WAIT)
            out, err = running.result()
            assert out == "leaves\n"
            assert "are lost" in err


@each_stream
def test_a_server_whose_client_never_reads_exits(scheme: str) -> None:
    code = f"""
import bus, socket, sys
sys.path.insert(0, ".")
from tests.faults.ends import serve, visit
from tests.bus.peers import until
server = serve({scheme!r})
peer = visit(server, {scheme!r}, receive_buffer=8192)
until(lambda: server.clients)
while server.stats().skipped < 3:  # its outbox is full
    server.send_to_all("x" * 500_000)
print("leaves")
"""
    out, err = script(code)
    assert out == "leaves\n"
    assert "are lost" in err


def test_a_callback_that_answers_who_never_reads_does_not_wait(all_returns: object) -> None:
    options: Any = {"outbox_bytes": 100_000, "stall_timeout": 0.5}
    with serve("tcp", **options) as server, Peer.to(server.address, receive_buffer=SMALL_BUFFER) as peer:
        until_only(server, 1)

        def ask() -> None:
            try:
                while True:
                    peer.send(b"x" * 10_000)
            except OSError:
                pass  # given up at last

        asking = InThread(ask)
        with neighbours(server, "tcp"):
            until(lambda: len(server.clients) == 2, "the deaf one is given up")
        asking.result()


@each_stream
def test_who_reads_again_gets_everything(scheme: str, all_returns: object) -> None:
    with serve(scheme) as server, bus.connect(f"{scheme}://{server.address}", mailbox_messages=5, max_size=100_000) as conn:
        until_only(server, 1)
        sent = fill_up(server.clients[0], b"y" * 65_536)
        assert all(conn.receive(timeout=WAIT) for _ in range(sent))
        trip(conn)

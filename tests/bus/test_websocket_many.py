"""A thousand idle WebSocket clients cost no thread, and what each costs in memory is what the README says; and a script ends in spite of
a peer that never reads."""

from __future__ import annotations

import threading
import tracemalloc
from contextlib import ExitStack

import pytest

import bus
from tests.bus.peers import run_script, until
from tests.bus.test_many_clients import descriptors  # noqa: F401
from tests.bus.test_websocket import WebPeer, upgrade

CLIENTS = 1000
KIB_EACH = 8  # of Python's memory; the README says 5


def nothing(message: bus.Message, client: bus.WebSocketClient) -> None:
    raise AssertionError("they are idle")


@pytest.mark.slow
def test_a_thousand_idle_clients(descriptors: None, all_returns: object) -> None:  # noqa: F811
    with ExitStack() as stack, bus.serve("ws://127.0.0.1:0", nothing, handshake_timeout=60) as server:
        # The clients' sockets are ours, too: they are made first, and shake hands when the counting has begun.
        peers = [stack.enter_context(WebPeer.to(server.address)) for _ in range(CLIENTS)]
        until(lambda: server.stats().accepted == CLIENTS)
        threads = threading.active_count()
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        before = tracemalloc.take_snapshot()
        for peer in peers:
            peer.masked = True
            peer.sock.sendall(upgrade(server.address))
            assert peer.head().startswith(b"HTTP/1.1 101 ")
        until(lambda: len(server.clients) == CLIENTS)
        assert threading.active_count() <= threads
        grown = sum(line.size_diff for line in tracemalloc.take_snapshot().compare_to(before, "filename"))
        assert grown / CLIENTS < KIB_EACH * 1024
        report = server.send_to_all("are you there?")
        assert len(report.taken) == CLIENTS
        for peer in peers:
            frame = peer.get()
            assert frame is not None
            assert frame.payload == b"are you there?"


def test_a_script_ends_although_a_peer_never_reads() -> None:
    code = """
import bus, threading
def many(client):
    begun.set()
    while True:
        client.send(b"x" * 1_000_000, timeout=None)
begun = threading.Event()
server = bus.serve("ws://127.0.0.1:0", routes={"/": many})
conn = bus.connect("ws://" + server.address, mailbox_bytes=1)
print(begun.wait(10))
"""
    assert run_script(code) == "True\n"

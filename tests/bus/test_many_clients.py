"""A thousand clients at once, five of them in callbacks that do not return; and hundreds that come and go. Nothing stays behind."""

from __future__ import annotations

import gc
import itertools
import resource
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pykka
import pytest

import bus
from tests.bus.peers import WAIT, InThread, Peer, until

BLOCKED = 5


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Room for both ends of 1,200 connections in one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 4096
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            pytest.skip(f"this needs {needed} open files and may have {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Gate:
    """An echo whose callbacks for b"block" do not return until the test lets them."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.inside = 0
        self.connects = itertools.count()
        self.disconnects = itertools.count()
        self._lock = threading.Lock()

    def echo(self, message: bus.Message, client: bus.Client) -> bus.Message:
        if message.data == b"block":
            with self._lock:
                self.inside += 1
            assert self.release.wait(4 * WAIT)
        return message

    def on_connect(self, client: bus.Client) -> None:
        next(self.connects)

    def on_disconnect(self, client: bus.Client, reason: bus.BusError) -> None:
        assert isinstance(reason, bus.PeerClosed)
        next(self.disconnects)


def echoed(peers: list[Peer], trip: int) -> None:
    """Every one of them sends a message of its own, all at the same time, and gets it back."""
    for number, peer in enumerate(peers):
        peer.send(b"%d of %d" % (number, trip))
    for number, peer in enumerate(peers):
        assert peer.receive() == b"%d of %d" % (number, trip)


@contextmanager
def left_in_order(server: bus.Server) -> Iterator[None]:
    """Not stopped under its clients: at the end it has heard of everybody's leaving."""
    yield
    until(lambda: not server.clients)


def open_peers(server: bus.Server, count: int, stack: ExitStack) -> list[Peer]:
    peers = [stack.enter_context(Peer.to(server.address)) for _ in range(count)]
    until(lambda: len(server.clients) == count)
    return peers


@pytest.mark.parametrize(
    ("count", "mode"),
    [(1000, {}), pytest.param(1000, {"threads": 2}, marks=pytest.mark.slow), (200, {"threads": "own"})],
    ids=["default", "threads=2", "threads=own"],
)
def test_a_thousand_at_once_and_five_that_block(
    count: int, mode: dict[str, Any], descriptors: None, all_returns: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    with bus.serve(
        "tcp://127.0.0.1:0", gate.echo, on_connect=gate.on_connect, on_disconnect=gate.on_disconnect, **mode
    ) as server, left_in_order(server), ExitStack() as stack:
        peers = open_peers(server, count, stack)
        echoed(peers, 0)

        blocked = peers[:: count // BLOCKED]
        free = [peer for peer in peers if peer not in blocked]
        for peer in blocked:
            peer.send(b"block")
        until(lambda: gate.inside == BLOCKED, "all five are inside their callbacks at the same time")
        for trip in range(3):
            echoed(free, trip)

        report = server.send_to_all("to everybody")
        assert (len(report.taken) + len(report.queued), report.skipped) == (count, ())
        for peer in peers:
            assert peer.receive() == b"to everybody"

        gate.release.set()
        for peer in blocked:
            assert peer.receive() == b"block"
        echoed(peers, 4)
        assert server.stats() == bus.ServerStats(clients=count, accepted=count)
    assert next(gate.connects) == next(gate.disconnects) == count
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.slow
def test_a_thousand_with_serial_callbacks(descriptors: None, all_returns: Callable[[], None]) -> None:
    """One callback at a time: one that blocks holds up all the others', and nobody's connection or broadcast."""
    count = 1000
    gate = Gate()
    with bus.serve(
        "tcp://127.0.0.1:0", gate.echo, on_connect=gate.on_connect, on_disconnect=gate.on_disconnect, serial=True
    ) as server, left_in_order(server), ExitStack() as stack:
        peers = open_peers(server, count, stack)
        echoed(peers, 0)
        peers[0].send(b"block")
        until(lambda: gate.inside == 1)
        for peer in peers[1:]:
            peer.send(b"behind it")
        report = server.send_to_all("to everybody")
        assert (len(report.taken) + len(report.queued), report.skipped) == (count, ())
        for peer in peers:
            assert peer.receive() == b"to everybody"
        gate.release.set()
        assert peers[0].receive() == b"block"
        for peer in peers[1:]:
            assert peer.receive() == b"behind it"
        echoed(peers, 1)
    assert next(gate.connects) == next(gate.disconnects) == count


@pytest.mark.slow
def test_a_thousand_connections_of_ours(descriptors: None, all_returns: Callable[[], None]) -> None:
    """Both ends in one process, on one reader thread, and a script that reads them one after the other."""
    count = 1000
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: message) as server, ExitStack() as stack:
        conns = [stack.enter_context(bus.connect(f"tcp://{server.address}")) for _ in range(count)]
        for number, conn in enumerate(conns):
            conn.send(str(number))
        for number, conn in enumerate(conns):
            assert conn.receive().text == str(number)
        assert len(server.send_to_all("tick").taken) == count
        heard = set()
        for _ in range(50):
            source, message = bus.receive_any(conns, timeout=WAIT)
            assert source is not None
            assert message is not None
            assert message.text == "tick"
            heard.add(source)
        for conn in conns:
            if conn not in heard:
                assert conn.receive().text == "tick"


@pytest.mark.slow
def test_stopping_parts_from_a_thousand_at_once(descriptors: None, all_returns: Callable[[], None]) -> None:
    reasons: list[bus.BusError] = []
    server = bus.serve(
        "tcp://127.0.0.1:0", lambda message, client: message, on_disconnect=lambda client, reason: reasons.append(reason)
    )
    with ExitStack() as stack:
        peers = open_peers(server, 1000, stack)
        echoed(peers, 0)
        server.send_to_all("the last one")
        stopping = InThread(lambda: server.stop(linger=3 * WAIT))  # a busy machine takes its time with so many
        for peer in peers:
            assert peer.receive_all() == [b"the last one"]
            peer.close()
        assert stopping.result()
    assert len(reasons) == 1000
    assert all(isinstance(reason, bus.Closed) for reason in reasons)


ROUNDS = 200


@pytest.mark.parametrize(
    "mode", [{}, {"threads": 2}, {"threads": "own"}, {"serial": True}], ids=["default", "threads=2", "threads=own", "serial"]
)
def test_hundreds_of_rounds_at_a_server_leave_nothing(mode: dict[str, Any], all_returns: Callable[[], None]) -> None:
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: message, **mode) as server:
        for number in range(ROUNDS):
            with Peer.to(server.address) as peer:
                peer.send(b"%d" % number)
                assert peer.receive() == b"%d" % number
        until(lambda: not server.clients)
        until(lambda: len(pykka.ActorRegistry.get_all()) == 1, "only the server itself is registered")
        assert server.stats() == bus.ServerStats(accepted=ROUNDS)


@pytest.mark.parametrize("threads", [None, "own"])
def test_hundreds_of_connections_leave_nothing(threads: Any, all_returns: Callable[[], None]) -> None:
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: message) as server:
        for number in range(ROUNDS):
            with bus.connect(f"tcp://{server.address}", threads=threads) as conn:
                conn.send(str(number))
                assert conn.receive().text == str(number)


def test_hundreds_of_servers_listeners_and_sockets_leave_nothing(all_returns: Callable[[], None]) -> None:
    for number in range(ROUNDS // 2):
        modes: list[dict[str, Any]] = [{}, {"threads": 1}, {"serial": True}, {"threads": "own"}]
        mode = modes[number % 4]
        with bus.serve("tcp://127.0.0.1:0", lambda message, client: message, **mode) as server:
            with Peer.to(server.address) as peer:
                peer.send(b"x")
                assert peer.receive() == b"x"
        with bus.listen("tcp://127.0.0.1:0") as listener, Peer.to(listener.address), listener.accept():
            pass
        with bus.bind("udp://127.0.0.1:0") as sock:
            sock.send_to(sock.address, "x")
            assert sock.receive().text == "x"


def test_visitors_that_come_all_at_once_and_leave_without_a_word(all_returns: Callable[[], None]) -> None:
    gate = Gate()
    with bus.serve("tcp://127.0.0.1:0", gate.echo, on_connect=gate.on_connect, on_disconnect=gate.on_disconnect) as server:
        for _ in range(4):
            peers = [Peer.to(server.address) for _ in range(100)]
            for peer in peers:
                peer.close()
        until(lambda: server.stats().accepted == 400 and not server.clients)
    assert next(gate.connects) == next(gate.disconnects) == 400


def test_an_idle_client_costs_at_most_8_kib_of_pythons_memory() -> None:
    count = 100
    with bus.serve("tcp://127.0.0.1:0", on_message=lambda msg, client: None) as server, ExitStack() as stack:
        host, port = server.address.rsplit(":", 1)
        stack.enter_context(socket.create_connection((host, int(port))))
        until(lambda: len(server.clients) == 1)  # what the first one has imported and made for all is there
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(count):
                stack.enter_context(socket.create_connection((host, int(port))))
            until(lambda: len(server.clients) == 1 + count)
            gc.collect()
            each = (tracemalloc.get_traced_memory()[0] - before) / count
        finally:
            tracemalloc.stop()
        assert each <= 8 * 1024  # the peer's socket included

"""bus.deadline: one time limit over several blocking calls."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import bus
from tests.bus.peers import WAIT, InThread, fill_up, pair

SHORT = 0.02


Ends = tuple[bus.Connection, bus.Listener, bus.Server, bus.UdpSocket]

BLOCKED: dict[str, Callable[[Ends], object]] = {
    "receive": lambda ends: ends[0].receive(),
    "receive with a longer timeout": lambda ends: ends[0].receive(timeout=WAIT),
    "iteration": lambda ends: list(ends[0]),
    "accept": lambda ends: ends[1].accept(),
    "a server's wait": lambda ends: ends[2].wait(),
    "datagrams": lambda ends: ends[3].receive(),
    "receive_any": lambda ends: bus.receive_any([ends[0], ends[3]]),
}


@pytest.mark.parametrize("call", BLOCKED.values(), ids=list(BLOCKED))
def test_every_blocking_call_ends_with_the_scope(call: Callable[[Ends], object]) -> None:
    with (
        pair() as (conn, _),
        bus.listen("tcp://127.0.0.1:0") as listener,
        bus.serve("tcp://127.0.0.1:0", lambda message, client: None) as server,
        bus.bind("udp://127.0.0.1:0") as sock,
    ):
        ends = (conn, listener, server, sock)
        with pytest.raises(bus.DeadlinePassed, match="over: 0.02 s") as caught, bus.deadline(SHORT):
            call(ends)
        assert isinstance(caught.value, TimeoutError)
        waiting = InThread(lambda: call(ends)).until_blocked()  # without the scope it waits as ever
        for each in ends:
            each.close()
        with suppress(bus.Closed):
            waiting.result()


def test_a_send_that_waits_for_room_takes_nothing() -> None:
    with pair(receive_buffer=4096) as (conn, _):
        fill_up(conn)
        sent = conn.stats().messages_out
        with pytest.raises(bus.DeadlinePassed), bus.deadline(SHORT):
            conn.send(b"x" * 65_536, timeout=WAIT)
        assert conn.stats().messages_out == sent
        conn.close(0)


def test_a_connect_ends_with_the_scope() -> None:
    """The listener's queue is full: nobody answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, socket.create_connection(listening.getsockname()):
        host, port = listening.getsockname()
        with pytest.raises(bus.DeadlinePassed), bus.deadline(SHORT):
            for _ in range(100):
                bus.connect(f"ws://{host}:{port}", timeout=WAIT, proxy=False)


def test_an_own_timeout_that_ends_before_gives_what_it_always_gives() -> None:
    with pair() as (conn, _), bus.deadline(WAIT):
        assert conn.receive(timeout=0.001) is None
        assert conn.receive(timeout=0) is None


def test_it_covers_several_calls_together() -> None:
    with pair() as (conn, peer):
        began = time.monotonic()
        received = 0
        with pytest.raises(bus.DeadlinePassed), bus.deadline(0.2):
            while True:
                peer.send(b"x")
                conn.receive(timeout=WAIT)
                received += 1
                assert time.monotonic() - began < WAIT
                if received > 3:
                    conn.receive()
        assert received > 3
        peer.send(b"y")
        assert conn.receive(timeout=WAIT).text == "y"  # type: ignore[union-attr]


def test_what_need_not_wait_goes_on_and_close_does_not_raise() -> None:
    with pair() as (conn, peer):
        peer.send(b"1")
        conn.receive(timeout=WAIT)
        with pytest.raises(bus.DeadlinePassed), bus.deadline(0):
            peer.send(b"2")
            with pair() as (other, _):
                other.send("into the kernel")
                conn.receive()
        assert conn.receive(timeout=WAIT).text == "2"  # type: ignore[union-attr]


@pytest.mark.parametrize("drain", [0, 5])
def test_a_server_and_its_clients_are_closed_also_when_the_time_is_over(drain: float) -> None:
    server = bus.serve("tcp://127.0.0.1:0", lambda message, client: message)
    with bus.connect(f"tcp://{server.address}") as conn:
        conn.send("here")
        conn.receive(timeout=WAIT)
        (client,) = server.clients
        with bus.bind("udp://127.0.0.1:0") as sock, pytest.raises(bus.DeadlinePassed), bus.deadline(0):
            assert client.close() in (True, False)
            assert server.stop(drain=drain).cut == ()
            sock.receive()
    assert server.wait(timeout=WAIT)


def test_the_nearest_end_counts() -> None:
    with pair() as (conn, _):
        with bus.deadline(WAIT):
            with pytest.raises(bus.DeadlinePassed, match="0.02 s"), bus.deadline(SHORT):
                conn.receive()
            assert conn.receive(timeout=0.001) is None
        with pytest.raises(bus.DeadlinePassed, match="0.02 s"), bus.deadline(SHORT):
            with bus.deadline(WAIT):
                conn.receive()


def test_it_is_the_calling_threads_alone() -> None:
    with pair() as (conn, peer):
        over = threading.Event()
        receiving = InThread(conn.receive).until_blocked()
        with pytest.raises(bus.DeadlinePassed), bus.deadline(0), bus.bind("udp://127.0.0.1:0") as sock:
            sock.receive()
        over.set()
        peer.send(b"for the other thread")
        assert receiving.result().text == "for the other thread"


@pytest.mark.parametrize(
    "seconds, error", [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError), (None, TypeError)]
)
def test_seconds_are_checked(seconds: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="seconds"), bus.deadline(seconds):
        raise AssertionError("it was entered")

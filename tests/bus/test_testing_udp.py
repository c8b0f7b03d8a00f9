"""A FaultProxy between UDP sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bus
import bus.testing
from bus.testing import FaultProxy
from tests.bus.peers import WAIT, until
from tests.conftest import LeakWatch


def received(source: bus.Connection | bus.UdpSocket) -> str:
    return source.receive(timeout=WAIT).text  # type: ignore[union-attr]


@contextmanager
def datagrams(**options: Any) -> Iterator[tuple[bus.Connection, FaultProxy, bus.UdpSocket]]:
    with bus.bind("udp://127.0.0.1:0") as target, FaultProxy(f"udp://{target.address}", **options) as proxy:
        with bus.connect(proxy.url) as conn:
            yield conn, proxy, target


def test_datagrams_pass_both_ways(no_leaks: LeakWatch) -> None:
    with datagrams() as (conn, proxy, target):
        conn.send("ping")
        message = target.receive(timeout=WAIT)
        assert message is not None
        target.send_to(message.source, "pong")
        assert received(conn) == "pong"
        with bus.connect(proxy.url) as other:
            other.send("me too")
            second = target.receive(timeout=WAIT)
            assert second is not None
            assert second.source != message.source, "clients are told apart"
            target.send_to(second.source, "yours")
            assert received(other) == "yours"
        assert conn.receive(timeout=0) is None
        until(lambda: proxy.stats() == bus.testing.ProxyStats(connections=2, bytes_up=10, bytes_down=9))


def test_what_is_lost_and_doubled_is_counted() -> None:
    with datagrams(loss=0.5, duplicate=0.2, seed=3) as (conn, proxy, target):
        for number in range(200):
            conn.send(str(number))
        until(lambda: target.stats().messages_in == 200 - proxy.stats().lost + proxy.stats().duplicated)
        got = [int(received(target)) for _ in range(target.stats().messages_in)]
        stats = proxy.stats()
        assert stats.lost > 50
        assert stats.duplicated > 5
        assert got == sorted(got)


def test_every_second_overtakes_the_one_before() -> None:
    with datagrams(reorder=1) as (conn, proxy, target):
        proxy.stall("up")  # so that none goes on before the next one is there
        for number in range(6):
            conn.send(str(number))
        proxy.release()
        assert [received(target) for _ in range(6)] == list("103254")
        assert proxy.stats().reordered == 3


def test_only_the_replies_are_lost() -> None:
    with datagrams() as (conn, proxy, target):
        proxy.set("down", loss=1)
        conn.send("ping")
        message = target.receive(timeout=WAIT)
        assert message is not None
        target.send_to(message.source, "pong")
        until(lambda: proxy.stats().lost == 1)
        proxy.set("down", loss=0)
        target.send_to(message.source, "again")
        assert received(conn) == "again"


def test_stalled_datagrams_come_after_the_release() -> None:
    with datagrams() as (conn, proxy, target):
        proxy.stall()
        conn.send("held")
        assert target.receive(timeout=0.05) is None
        proxy.release()
        assert received(target) == "held"


def test_a_target_that_is_not_there_costs_only_the_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{target.getsockname()[1]}"
    with FaultProxy(f"udp://{address}") as proxy, bus.connect(proxy.url) as conn:
        conn.send("nobody")
        until(lambda: proxy.stats().bytes_up == 6)
        with bus.bind(f"udp://{address}") as late:
            conn.send("somebody")
            assert received(late) == "somebody"

"""Connections that are made again: a server that restarts under fifty of them, and links that are cut and recover."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

import bus
from bus.testing import FaultProxy
from tests.bus.peers import WAIT, InThread, until
from tests.faults.ends import each_stream, serve

pytestmark = pytest.mark.fault

CLIENTS = 50
BACKOFF = (0.02, 0.2)


def ask_until_answered(conn: bus.Connection, text: str) -> None:
    """A question may be lost with its connection, and an answer too: both are told, and the question is asked again."""
    asked = 0

    def answered() -> bool:
        nonlocal asked
        try:
            conn.send(f"{text}.{asked}", timeout=1)
        except bus.NotSent:
            return False
        asked += 1
        message = conn.receive(timeout=1)
        while message is not None and not message.text.startswith(text):
            message = conn.receive(timeout=1)
        return message is not None

    until(answered, text)


def opened_again(url: str, on_message: Any) -> bus.Server:
    opened: list[bus.Server] = []

    def can_open() -> bool:
        try:
            opened.append(bus.serve(url, on_message))
        except OSError:
            return False  # its port is another's for a moment: a client's that connects from it
        return True

    until(can_open)
    return opened[0]


@each_stream
def test_a_server_that_restarts_under_fifty_reconnecting_clients(scheme: str, all_returns: object) -> None:
    got: Counter[str] = Counter()
    lock = threading.Lock()

    def on_message(message: bus.Message, client: bus.Client) -> bus.Message:
        with lock:
            got[message.text] += 1
        return message

    server = serve(scheme, on_message)
    address = server.address
    with ExitStack() as stack:
        conns = [
            stack.enter_context(bus.connect(f"{scheme}://{address}", timeout=WAIT, reconnect=True, backoff=BACKOFF)) for _ in range(CLIENTS)
        ]
        for life in range(3):
            asking = [InThread(partial(ask_until_answered, conn, f"{life} {number}")) for number, conn in enumerate(conns)]
            for each in asking:
                each.result()
            server.stop(linger=0.5)
            until(lambda: not any(conn.connected() for conn in conns), "all have noticed")
            server = opened_again(f"{scheme}://{address}", on_message)
        until(lambda: len(server.clients) == CLIENTS, "all are back")
    InThread(lambda: server.stop(linger=1)).result()
    assert max(got.values()) == 1, "no message comes twice"
    assert {text.partition(".")[0] for text in got} == {f"{life} {number}" for life in range(3) for number in range(CLIENTS)}


CUTS: dict[str, Any] = {
    "reset": lambda proxy: proxy.cut(),
    "in order": lambda proxy: proxy.cut(in_order=True),
    "in a frame": lambda proxy: proxy.cut(after=3),
    "half open": lambda proxy: proxy.half_open(),
    "silent": lambda proxy: proxy.stall(),
}


@each_stream
@pytest.mark.parametrize("cut", CUTS)
def test_a_link_that_is_cut_for_a_while_and_recovers(scheme: str, cut: str, all_returns: object) -> None:
    alive: dict[str, Any] = {"ping_interval": 0.2, "ping_timeout": 0.2} if scheme == "ws" else {"heartbeat": 0.2}
    states: list[str] = []
    with serve(scheme, **alive) as server, FaultProxy(f"{scheme}://{server.address}") as proxy:
        with bus.connect(
            proxy.url, timeout=1, reconnect=True, backoff=BACKOFF, on_state=lambda state, reason: states.append(state), **alive
        ) as conn:
            ask_until_answered(conn, "before")
            CUTS[cut](proxy)
            proxy.refuse()
            if cut == "in a frame":
                conn.send("cut in the middle")
            until(lambda: states.count("reconnecting") >= 3, "it is lost, and some attempts fail")
            assert not conn.connected()
            with pytest.raises(bus.NotSent):
                conn.send("into the gap", timeout=0.05)
            proxy.release()
            ask_until_answered(conn, "after")
            assert "connected" in states
            until(lambda: len(server.clients) == 1, "the server has given the old one up")

"""A descriptor that the script closes behind our back (a stray `os.close`): it costs that connection, with a reason, and nothing else."""

from __future__ import annotations

import logging
import os

import pytest

import bus
from tests.bus.peers import WAIT, until
from tests.conftest import LeakWatch


def take_away(conn: bus.Connection | bus.Client) -> None:
    """The number stays taken, or another thread of this process would get it, and lose it when ours is closed."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, conn._actor.reader.fd)
    os.close(nothing)


@pytest.mark.parametrize("lent", [True, False])
def test_it_breaks_that_connection_and_its_neighbour_does_not_notice(
    lent: bool, no_leaks: LeakWatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "actorbus")
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: message) as server:
        with bus.connect(f"tcp://{server.address}") as conn, bus.connect(f"tcp://{server.address}") as neighbour:
            if lent:  # to this thread, which has read it itself
                conn.send("hello")
                assert conn.receive(timeout=WAIT) is not None
            take_away(conn)
            with pytest.raises(bus.Broken):
                while True:
                    conn.send("to nobody")
                    conn.receive(timeout=0.1)
            until(lambda: not conn.connected())
            conn.close()
            neighbour.send("still there")
            answer = neighbour.receive(timeout=WAIT)
            assert answer is not None
            assert answer.text == "still there"
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) <= 3, "it is told, and not again and again"


def test_a_servers_other_clients_do_not_notice(no_leaks: LeakWatch) -> None:
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: message) as server:
        with bus.connect(f"tcp://{server.address}") as conn, bus.connect(f"tcp://{server.address}") as neighbour:
            for each in (conn, neighbour):
                each.send("hello")
                assert each.receive(timeout=WAIT) is not None
            lost = next(client for client in server.clients if client.remote_address == conn.local_address)
            take_away(lost)
            lost.close(linger=0)
            until(lambda: len(server.clients) == 1)
            neighbour.send("still there")
            answer = neighbour.receive(timeout=WAIT)
            assert answer is not None
            assert answer.text == "still there"

"""A script reads its socket itself: what may come between."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import pytest

import bus
from actors.reader import PAUSED
from actors.streamreader import StreamReader
from actors.wakeup import PORTABLE
from tests.actors.engine import held
from tests.bus.peers import WAIT

pytestmark = pytest.mark.skipif(PORTABLE, reason="no direct read here")


@pytest.fixture
def ends() -> Iterator[tuple[bus.Connection, bus.Connection]]:
    """Two ends of a connection; the first has received, and so its socket is lent to this thread."""
    with bus.listen("tcp://127.0.0.1:0") as listener, bus.connect(f"tcp://{listener.address}", timeout=WAIT) as far:
        conn = listener.accept(timeout=WAIT)
        assert conn is not None
        with conn:
            far.send("first")
            assert conn.receive(timeout=WAIT) is not None
            yield conn, far


def reader_of(conn: bus.Connection) -> Any:
    reader = conn._actor.reader
    assert isinstance(reader, StreamReader)
    return reader


def send_and_wait(far: bus.Connection, reader: Any) -> None:
    """The message is in the other end's kernel."""
    far.send("next")
    ready, _, _ = select.select([reader.sock], [], [], WAIT)
    assert ready


def test_a_signal_handler_in_the_middle_of_a_read_reads_nothing(ends: tuple[bus.Connection, bus.Connection]) -> None:
    conn, far = ends
    reader = reader_of(conn)
    with held(reader.thread):  # so that the loan stays in force
        assert conn.receive(timeout=0) is None
        loan = reader.loan
        loan.reading = True  # as the handler finds it
        send_and_wait(far, reader)
        assert conn.connected()
        assert conn.receive(timeout=0) is None
        assert loan.reading
        assert not conn._mailbox.items
        loan.reading = False
    msg = conn.receive(timeout=WAIT)
    assert msg is not None
    assert msg.text == "next"


def test_who_paused_the_reading_is_not_overheard_by_a_script_that_asks_again(ends: tuple[bus.Connection, bus.Connection]) -> None:
    conn, far = ends
    reader = reader_of(conn)
    with held(reader.thread):
        assert conn.receive(timeout=0) is None
        reader.pause()
        send_and_wait(far, reader)
        assert [conn.receive(timeout=0) for _ in range(3)] == [None] * 3
    reader.open(PAUSED)
    msg = conn.receive(timeout=WAIT)
    assert msg is not None
    assert msg.text == "next"

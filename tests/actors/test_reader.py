"""Lending a socket to a script's thread, and Ctrl-C in the midst of it. (Every order of the threads: tests/interleaving/test_reader.py.)"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from threading import Lock
from time import monotonic
from typing import Any

import pytest

from actors.mailbox import Mailbox
from actors.reader import Reader
from actors.readerthread import ReaderThread
from actors.wakeup import PORTABLE
from tests.actors.engine import BOUND, on_loop

pytestmark = pytest.mark.skipif(PORTABLE, reason="no direct read here")


class Struck:
    """A lock; Ctrl-C comes to the first who wait for it."""

    def __init__(self, lock: Lock, strikes: int) -> None:
        self.acquire = lock.acquire
        self.release = lock.release
        self.strikes = strikes

    def __enter__(self) -> None:
        if self.strikes:
            self.strikes -= 1
            raise KeyboardInterrupt
        self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class Line:
    """A socket on the loop whose bytes go into a mailbox, each by itself."""

    def __init__(self, loop: ReaderThread) -> None:
        self.loop = loop
        self.far, self.near = socket.socketpair()
        self.near.setblocking(False)
        self.mailbox: Mailbox[bytes] = Mailbox(weigh=len)
        self.reader = Reader(self.near, loop, fill=self.fill, mailbox=self.mailbox)
        self.reader.start()

    def fill(self) -> None:
        self.mailbox.put([self.near.recv(1)], 1)

    def receive(self) -> bytes | None:
        return self.mailbox.get(monotonic() + BOUND)


@pytest.fixture
def line(loop: ReaderThread) -> Iterator[Line]:
    made = Line(loop)
    made.mailbox.use_direct(made.reader.direct)
    yield made
    on_loop(loop, made.reader.release)
    made.far.close()


def test_ctrl_c_while_it_waits_for_the_reader_threads_turn_does_not_let_it_read_beside_that(line: Line) -> None:
    reader: Any = line.reader
    turn = reader.read_lock
    reader.read_lock = Struck(turn, strikes=2)
    with turn:  # the reader thread reads this moment
        line.far.send(b"12")
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                line.receive()
        line.reader.look()
        line.reader.give_back()
        assert not line.mailbox.items
    assert [line.receive(), line.receive()] == [b"1", b"2"]

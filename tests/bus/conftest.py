"""Whether threads, descriptors and actors return to the count before; a plain peer for UDP; no proxies."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pykka
import pytest

from actors import crew, waiting
from actors.wakeup import PORTABLE
from tests.bus.peers import WAIT, until
from tests.conftest import open_descriptors, start_what_stays


class Holdings(NamedTuple):
    """Counts, not identities: after a slow callback another thread runs the loop, and the one before it has ended."""

    threads: int
    descriptors: int
    actors: int

    @classmethod
    def now(cls) -> Holdings:
        threads = threading.enumerate()
        # Each thread that ever waited keeps a descriptor (or a pair) as long as it lives; which of them have is a matter of chance.
        waiters = sum(waiter._equipped for waiter in waiting.waiters())
        descriptors = open_descriptors().total() - waiters * (2 if PORTABLE else 1)
        return cls(len(threads), descriptors, len(pykka.ActorRegistry.get_all()))


class Returned:
    """Counts from where it was made."""

    def __init__(self) -> None:
        start_what_stays()
        until(lambda: not crew._parked, "spare threads go")  # or one that goes later would hide one that stays
        gc.collect()
        self.before = Holdings.now()

    def check(self) -> None:
        """Give everything time to go away; fail if something stays."""
        start_what_stays()  # a reader thread remembers what it read last
        deadline = time.monotonic() + WAIT / 2
        while any(now > before for now, before in zip(Holdings.now(), self.before, strict=True)) and time.monotonic() < deadline:
            gc.collect()  # an exception holds the frames that it came through, and they what their threads waited with
            time.sleep(0.03)
        after = Holdings.now()
        assert all(now <= before for now, before in zip(after, self.before, strict=True)), f"{self.before} became {after}"


@pytest.fixture
def all_returns(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """The test must leave as many threads, descriptors and actors as it found. It may check that itself, too."""
    monkeypatch.setattr(crew, "IDLE_SECONDS", 0.05)  # spare threads leave soon
    returned = Returned()
    yield returned.check
    caplog.get_records("call").clear()  # they hold exceptions
    returned.check()


@pytest.fixture
def plain() -> Iterator[socket.socket]:
    """Somebody else's UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.bind(("127.0.0.1", 0))
        plain.settimeout(WAIT)
        yield plain


@pytest.fixture
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)

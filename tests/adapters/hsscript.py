"""A script of `hs` inside a test: its callbacks run when the test says so, on the test's thread."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from actors import scope
from actors.scope import Scope
from actors.sockets import has_ipv6
from tests.bus.peers import WAIT

__all__ = ["EVERYBODY", "Heard", "Log", "Script", "SlowName", "free_port", "plain_socket", "script_of_test"]

EVERYBODY = "127.255.255.255"  # the broadcast address of loopback

# Not the seeded one: the workers of a run would all throw the same.
dice = random.SystemRandom()


class Script:
    """What the runner does for a script whose code has returned."""

    def __init__(self) -> None:
        self.scope = Scope("script")

    def run(self) -> int:
        """Run the callbacks that wait now; how many turns that took."""
        turns = 0
        while self.scope.run_posted():
            turns += 1
        return turns

    def until(self, holds: Callable[[], object], what: str = "") -> None:
        """Run callbacks until it holds."""
        deadline = time.monotonic() + WAIT
        while not holds():
            assert time.monotonic() < deadline, f"it never came to this: {what or holds}"
            if not self.scope.run_posted():
                time.sleep(0.001)


@contextmanager
def script_of_test() -> Iterator[Script]:
    script = Script()
    previous = scope.enter(script.scope)
    try:
        yield script
    finally:
        scope.enter(previous)
        script.scope.close()


class Heard(list[tuple[str, bytes]]):
    """A read callback that writes down what it gets."""

    def __call__(self, data: str, sockaddr: bytes) -> None:
        self.append((data, sockaddr))

    @property
    def data(self) -> list[str]:
        return [data for data, _ in self]


def free_port() -> int:
    """A port that nobody has, for IPv4 and IPv6, below those that the system gives away."""
    for _ in range(1000):
        port = dice.randrange(10_000, 32_000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
            try:
                four.bind(("0.0.0.0", port))
                if has_ipv6():
                    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
                        six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                        six.bind(("::", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def plain_socket(family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    sock.settimeout(WAIT)
    return sock


class Log:
    """The lines that hs has logged since it was last asked."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def take(self, level: int) -> list[str]:
        lines = [record.getMessage() for record in self._caplog.records if record.name == "actorbus.hs" and record.levelno == level]
        self._caplog.clear()
        return lines

    def next_error(self, script: Script) -> str:
        """The next error, which a callback's turn may have to come to first."""
        lines: list[str] = []

        def come() -> bool:
            lines.extend(self.errors())
            return bool(lines)

        script.until(come)
        (line,) = lines
        return line

    def errors(self) -> list[str]:
        return self.take(logging.ERROR)

    def debug(self) -> list[str]:
        return self.take(logging.DEBUG)


class SlowName:
    """The name slow.example, which is looked up until the test says what comes of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._known = threading.Event()
        self._address = ""
        real = socket.getaddrinfo

        def getaddrinfo(host: str, port: int, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0) -> Any:
            if host != "slow.example" or flags & socket.AI_NUMERICHOST:
                return real(host, port, family, kind, proto, flags)
            assert self._known.wait(30)
            if not self._address:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return real(self._address, port, family, kind, proto, flags)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    def answers(self, address: str) -> None:
        self._address = address
        self._known.set()

"""What the rows have in common: a verdict, a bound for every call, and the peers by hand in threads and processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from tests.faults.byhand import Wire, wires
from tests.faults.libraries import End, Library, Serving

__all__ = ["BOUND", "Call", "Hangs", "Row", "Verdict", "child", "connected", "holds", "fails", "resident", "served", "until", "within"]

ROOT = Path(__file__).resolve().parents[2]
BOUND = 30.0  # seconds for a call, where a row names no other
SMALL_BUFFER = 8192

T = TypeVar("T")

_kept: list[socket.socket] = []  # to the end of the process: dropped, a guest would be one that left


class Verdict(NamedTuple):
    holds: bool
    how: str = ""


def holds(how: str = "") -> Verdict:
    return Verdict(True, how)


def fails(how: str) -> Verdict:
    return Verdict(False, how)


class Hangs(Exception):
    """A call did not end within its bound."""


class Row(NamedTuple):
    """One line of the table. `holds` says what has to be true, the same for all; `play(library)` finds out."""

    name: str
    title: str
    holds: str
    play: Callable[[Library], Verdict]
    suits: Callable[[Library], bool]
    limit: float = 120.0  # seconds for the whole process


class Call(Generic[T]):
    """A call on a thread of its own."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._outcome: list[tuple[T | None, BaseException | None]] = []
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome.append((self._call(), None))
        except BaseException as exc:
            self._outcome.append((None, exc))

    def over(self) -> bool:
        return bool(self._outcome)

    def result(self, seconds: float = BOUND) -> T:
        """What it returned, or raises what it raised; Hangs if it does not end."""
        self._thread.join(seconds)
        if not self._outcome:
            raise Hangs
        value, error = self._outcome[0]
        if error is not None:
            raise error
        return value  # type: ignore[return-value]


def within(seconds: float, call: Callable[[], T]) -> T:
    return Call(call).result(seconds)


def until(condition: Callable[[], object], seconds: float = BOUND) -> bool:
    """Whether it came true in that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@contextmanager
def connected(library: Library, receive_buffer: int = 0) -> Iterator[tuple[End, socket.socket, Wire]]:
    """The library's end of a connection, and the server by hand at the other end, after the handshake."""
    assert library.connect is not None
    wire = wires[library.wire]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        if receive_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        welcoming = Call(lambda: wire.welcome(listening))
        end = library.connect("127.0.0.1", listening.getsockname()[1])
        yield end, welcoming.result(), wire


@contextmanager
def served(library: Library) -> Iterator[tuple[Serving, Wire]]:
    """The library's server."""
    assert library.serve is not None
    yield library.serve("127.0.0.1"), wires[library.wire]


def guest(serving: Serving, wire: Wire, receive_buffer: int = 0) -> socket.socket:
    """A client by hand that the server knows: it has said something, and has not read the echo."""
    before = serving.clients()
    sock = wire.visit(serving.port, receive_buffer)
    _kept.append(sock)
    sock.sendall(wire.message(b"hello", client=True))
    if not until(lambda: serving.clients() > before):
        raise Hangs
    return sock


def repeat(count: int, call: Callable[[], object]) -> None:
    for _ in range(count):
        call()


def echoes(sock: socket.socket, wire: Wire, data: bytes = b"are you there") -> bool:
    sock.sendall(wire.message(data, client=True))
    while (got := wire.next(sock)) != data:
        assert got
    return True


@contextmanager
def child(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`python -m tests.faults` with these arguments, and its first line."""
    process = subprocess.Popen([sys.executable, "-m", "tests.faults", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def resident() -> int:
    """Bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def name_of(exc: BaseException) -> str:
    return type(exc).__name__


def is_client(library: Library) -> bool:
    return library.connect is not None


def is_server(library: Library) -> bool:
    return library.serve is not None


def shakes_hands(library: Library) -> bool:
    return library.wire in ("ws", "zmtp")


def tells_of_ends(library: Library) -> bool:
    """Whether a script can hold a connection and be told of its end; a ZeroMQ socket has any number, and makes them again."""
    return library.wire != "zmtp"

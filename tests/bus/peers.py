"""The other side: plain sockets that speak the framing by hand, threads that block, scripts in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import bus

ROOT = Path(__file__).resolve().parent.parent.parent

# How long anything that has to happen may take on a busy machine. It is reached only by what does not happen.
WAIT = 30.0

T = TypeVar("T")


def frame(payload: bytes) -> bytes:
    """The default framing, written down once more and apart from the code under test."""
    return struct.pack(">I", len(payload)) + payload


def inet(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class Peer:
    """A blocking socket that speaks the length framing by hand."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(WAIT)

    @classmethod
    def to(cls, address: str, *, receive_buffer: int = 0) -> Self:
        """Connected to "ip:port", or to the path of a Unix socket."""
        unix = address.startswith("/")
        sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET6 if address.startswith("[") else socket.AF_INET)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(WAIT)
        try:
            sock.connect(address if unix else inet(address))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    @property
    def address(self) -> str:
        host, port = self.sock.getsockname()[:2]
        return f"{host}:{port}"

    def send(self, *payloads: bytes) -> None:
        self.sock.sendall(b"".join(map(frame, payloads)))

    def read(self, size: int) -> bytes:
        """That many bytes, or fewer if the stream ends before."""
        chunks = []
        while size and (chunk := self.sock.recv(min(size, 1 << 20))):
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)

    def receive(self) -> bytes | None:
        """The next message; None at the end of the stream."""
        head = self.read(4)
        if not head:
            return None
        (size,) = struct.unpack(">I", head)
        payload = self.read(size)
        assert len(payload) == size, f"the stream ends after {len(payload)} bytes of a frame of {size}"
        return payload

    def receive_all(self) -> list[bytes]:
        """Every message until the end of the stream."""
        return list(iter(self.receive, None))

    def finish(self) -> None:
        """Send FIN; go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@contextmanager
def pair(receive_buffer: int = 0, timeout: float | None = WAIT, **options: Any) -> Iterator[tuple[bus.Connection, Peer]]:
    """A Connection of ours, made by `bus.connect` with these options, and the plain socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        if receive_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        host, port = listening.getsockname()
        with bus.connect(f"tcp://{host}:{port}", timeout=timeout, **options) as conn, Peer(listening.accept()[0]) as peer:
            yield conn, peer


def until(holds: Callable[[], object], what: str = "") -> None:
    """Look again and again until it holds: for what nothing announces."""
    deadline = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < deadline, f"it never came to this: {what or holds}"
        time.sleep(0.002)


def fill_up(conn: bus.Connection | bus.Client, payload: bytes = b"x" * 65_536) -> int:
    """Send to a peer that does not read until no more is taken, not even after a while; returns how many were.

    A while, because the kernel makes its buffers larger as they fill.
    """
    count = 0
    refusals = 0
    while refusals < 3:
        try:
            conn.send(payload, timeout=0.05)
            count += 1
            refusals = 0
        except bus.NotSent:
            refusals += 1
        assert count < 100_000, "the outbox has no bound"
    return count


class InThread(Generic[T]):
    """A call on a thread of its own, whose outcome comes out of `result`."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._outcome: list[T] = []
        self._raised: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._outcome.append(self._call())
        except BaseException as exc:
            self._raised.append(exc)

    def until_blocked(self) -> Self:
        until_blocked(self.thread)
        return self

    def result(self) -> T:
        """What it returned. Raises what it raised, and AssertionError if it goes on for ever."""
        self.thread.join(WAIT)
        assert not self.thread.is_alive(), "the call does not end"
        if self._raised:
            raise self._raised[0]
        return self._outcome[0]


def until_blocked(thread: threading.Thread) -> None:
    """Return once the thread waits for something outside of it, as the kernel sees it: asleep, and not even woken up in between.

    A thread that waits for the interpreter's lock wakes up every few milliseconds. (Python's own view of another thread's frames, in
    `sys._current_frames`, crashed CPython 3.11 once in some ten thousand looks.)
    """
    status = Path(f"/proc/self/task/{thread.native_id}/status")
    if not status.parent.parent.exists():
        time.sleep(0.5)  # long enough, as a rule
        return
    before: list[str] = []
    looks = 0

    def sleeps() -> bool:
        nonlocal before, looks
        assert thread.is_alive(), "it has ended, and was to block"
        try:
            now = [line for line in status.read_text().splitlines() if line.startswith("State") or "ctxt_switches" in line]
        except OSError:
            return False  # about to end
        looks = looks + 1 if now == before and "S (sleeping)" in now[0] else 0
        before = now
        return looks >= 8

    until(sleeps, "the thread blocks")


def interrupt_when_blocked() -> None:
    """Ctrl-C for this process's main thread, once it blocks inside the library. For a script in a process of its own."""

    def watch() -> None:
        until_blocked(threading.main_thread())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-X", "faulthandler", "-W", "error", "-c", code, *arguments]


def run_script(code: str, *arguments: str, status: int = 0) -> str:
    """Run a script to its end in a process of its own; what it printed."""
    done = subprocess.run(python(code, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=2 * WAIT, check=False)
    assert done.returncode == status, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert status or not done.stderr, done.stderr
    return done.stdout

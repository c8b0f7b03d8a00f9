"""`actorbus cat` inside a test, its stdin a pipe, its stdout what pytest captures; and somebody to talk to."""

from __future__ import annotations

import os
import queue
import socket

import pytest

import bus
from actors.message import Sendable
from adapters import cat as command
from adapters import options
from tests.bus.peers import WAIT, InThread


class Cat:
    """`actorbus cat` with these words. `said` is what it says on stderr."""

    def __init__(self, capture: pytest.CaptureFixture[bytes], lines: queue.SimpleQueue[str], words: tuple[str, ...]) -> None:
        self._capture = capture
        self._lines = lines
        self.said: list[str] = []
        reader, self._writer = os.pipe()
        self._source = reader
        wanted = options.parse(["cat", *words])
        self.running = InThread(lambda: command.cat(wanted, None if wanted.no_stdin else reader))

    def type(self, data: bytes, *, end: bool = True) -> None:
        """Write to its stdin, in a thread: it may not read all of it."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._writer, rest) :]
        if end:
            self.end_input()

    def end_input(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def address(self) -> str:
        """Where it listens."""
        while True:
            line = self._lines.get(timeout=WAIT)
            self.said.append(line)
            if line.startswith("listening on "):
                return line.removeprefix("listening on ")

    def hear(self, wanted: str) -> None:
        while not any(wanted in line for line in self.said):
            self.said.append(self._lines.get(timeout=WAIT))

    def end(self) -> tuple[int, bytes]:
        """Its exit status and all that it printed."""
        status = self.running.result()
        while not self._lines.empty():
            self.said.append(self._lines.get())
        return status, self._capture.readouterr().out

    def close(self) -> None:
        self.end_input()
        self.running.thread.join(WAIT)
        if self._source >= 0:
            os.close(self._source)
            self._source = -1


def upper(message: bus.Message, client: bus.Client) -> Sendable:
    return message.data.upper() if not message.is_text else message.text.upper()


class PlainServer:
    """One connection by hand: what came until its FIN, and what it is sent. `first` says who sends and ends first."""

    def __init__(self, answer: bytes, *, wait: bool = True) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self._answer = answer
        self._wait = wait
        self.serving = InThread(self._serve)

    def _serve(self) -> bytes:
        with self._listening, self._listening.accept()[0] as sock:
            sock.settimeout(WAIT)
            if not self._wait:
                sock.sendall(self._answer)
                sock.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: sock.recv(1 << 16), b""))
            if self._wait:
                sock.sendall(self._answer)
            return received

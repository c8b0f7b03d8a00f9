"""The two ends of a link by transport: servers and connections of ours, and peers by hand."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

import bus
from tests.bus.peers import ROOT, WAIT, InThread, Peer, pair, python, until
from tests.bus.test_websocket import WebPeer, web_pair

each_stream = pytest.mark.parametrize("scheme", ["tcp", "ws"])

SMALL_BUFFER = 8192


def echo(message: bus.Message, client: bus.Client) -> bus.Message:
    return message


def serve(scheme: str, on_message: Callable[[bus.Message, Any], Any] = echo, **options: Any) -> bus.Server:
    return bus.serve(f"{scheme}://127.0.0.1:0", on_message, **options)


def connect(server: bus.Server, scheme: str, **options: Any) -> bus.Connection:
    return bus.connect(f"{scheme}://{server.address}", **{"timeout": WAIT, **options})


def visit(server: bus.Server, scheme: str, *, receive_buffer: int = 0) -> Peer:
    """A client by hand, after the handshake if there is one."""
    if scheme == "tcp":
        return Peer.to(server.address, receive_buffer=receive_buffer)
    return WebPeer.visiting(server, receive_buffer=receive_buffer)


def connected(scheme: str, **options: Any) -> AbstractContextManager[tuple[bus.Connection, Peer]]:
    """A connection of ours and the peer by hand at its other end."""
    return pair(**options) if scheme == "tcp" else web_pair(**options)


def take(conn: bus.Connection) -> bus.Message:
    message = conn.receive(timeout=WAIT)
    assert message is not None, "no message came"
    return message


def trip(conn: bus.Connection, text: str = "are you there") -> None:
    conn.send(text)
    while take(conn).text != text:
        pass  # a broadcast


@contextmanager
def neighbours(server: bus.Server, scheme: str) -> Iterator[None]:
    """Two clients that go on with their round trips as long as the block runs; they must not notice a thing."""
    over = threading.Event()
    with connect(server, scheme) as one, connect(server, scheme) as two:

        def trips() -> None:
            count = 0
            while not over.is_set() or count < 20:
                for conn in (one, two):
                    trip(conn, f"trip {count}")
                count += 1

        talking = InThread(trips)
        try:
            yield
        finally:
            over.set()
            talking.result()


def script(code: str, *arguments: str) -> tuple[str, str]:
    """Run it to its end in a process of its own, which has to come: what it printed, and what it said to stderr."""
    done = subprocess.run(python(code, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=2 * WAIT, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr


@contextmanager
def child(code: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of its own and its first line, once it has said that. It is ended whatever happens."""
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(python(code, *arguments), cwd=ROOT, text=True, **pipes)
    overdue = threading.Timer(2 * WAIT, process.kill)
    overdue.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line, process.communicate()[1]
        yield process, line
    finally:
        process.kill()
        process.communicate()
        overdue.cancel()
        overdue.join()


def until_only(server: bus.Server, count: int) -> None:
    until(lambda: len(server.clients) == count, f"{count} clients")

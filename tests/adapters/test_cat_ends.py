"""How `actorbus cat` ends, over real sockets: counts, timeouts, errors, and what it does not begin."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import bus
from adapters.screen import Screen
from tests.adapters.conversation import Cat, PlainServer, upper
from tests.bus.peers import WAIT, Peer


def test_the_count_ends_it_and_a_missing_one_is_a_failure(cat: Callable[..., Cat]) -> None:
    with bus.serve("tcp://127.0.0.1:0", upper) as server:
        running = cat("--count", "2", f"tcp://{server.address}")
        running.type(b"1\n2\n3\n", end=False)
        assert running.end() == (0, b"1\n2\n")
        running = cat("--count", "2", f"tcp://{server.address}")
        running.type(b"1\n")
        assert running.end() == (1, b"1\n")
        assert running.said[-1] == "1 of 2 messages came: that was the end"


def test_a_timeout_ends_what_nobody_says_anything_in(cat: Callable[..., Cat], tmp_path: Path) -> None:
    with bus.serve(f"unix://{tmp_path}/s", upper) as server:  # where connecting, for which it is the time, too, takes none
        assert cat("--no-stdin", "--timeout", "0.1", f"unix://{server.address}").end() == (0, b"")
        running = cat("--no-stdin", "--timeout", "0.1", "--count", "1", f"unix://{server.address}")
        assert running.end() == (1, b"")
    running = cat("--listen", "--timeout", "0.1", "tcp://127.0.0.1:0")
    assert running.end() == (1, b"")
    assert running.said[-1] == "nobody came within 0.1 s"


def test_without_stdin_it_prints_until_the_peer_ends(cat: Callable[..., Cat]) -> None:
    server = PlainServer(b"a banner", wait=False)
    assert cat("--no-stdin", "--framing", "raw", server.url).end() == (0, b"a banner")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["tcp://127.0.0.1:1"], 1, "cannot connect to 127.0.0.1:1: "),
        (["127.0.0.1:1"], 2, "write for example tcp://127.0.0.1:1"),
        (["--ttl", "2", "tcp://127.0.0.1:1"], 2, "--ttl is for multicast groups"),
        (["--listen", "tcp://192.0.2.1:1"], 1, "192.0.2.1:1"),
        (["--ca", "/no/such.pem", "tls://127.0.0.1:1"], 1, "/no/such.pem: No such file"),
        (["--listen", "udp://127.0.0.1"], 2, "bad address"),
        (["ftp://127.0.0.1:1"], 2, "unknown scheme 'ftp'"),
        (["nats://127.0.0.1:1"], 2, "nats:// carries topics: bus.open takes it"),
        (["-l", "nats+tls://127.0.0.1:1"], 2, "; here it is --bus URL of `actorbus pub`, `sub`, `req` and `run`"),
    ],
)
def test_what_cannot_begin_is_told_in_one_line(cat: Callable[..., Cat], words: list[str], status: int, said: str) -> None:
    running = cat(*words)
    assert running.end() == (status, b"")
    (line,) = running.said
    assert said in line


def test_another_framing_is_guessed_at(cat: Callable[..., Cat]) -> None:
    server = PlainServer(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    running = cat(server.url)
    running.type(b"GET / HTTP/1.1\n")
    assert running.end() == (1, b"")
    assert "does it speak the framing 'length'?" in running.said[-1]


def test_what_a_framing_cannot_carry_ends_it_behind_the_lines_before(cat: Callable[..., Cat]) -> None:
    received: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: received.put(message.data), framing="etx") as server:
        running = cat("--framing", "etx", f"tcp://{server.address}")
        running.type(b"good\nb\x03d\n", end=False)
        status, _ = running.end()
        assert received.get(timeout=WAIT) == b"good"
    assert status == 1
    assert "0x03" in running.said[-1]


def test_a_reset_is_a_failure(cat: Callable[..., Cat]) -> None:
    running = cat("--listen", "tcp://127.0.0.1:0")
    with Peer.to(running.address().removeprefix("tcp://")) as peer:
        peer.send(b"hello")
        running.hear("is there")
        peer.reset()
    status, _ = running.end()
    assert status == 1
    assert "broke" in running.said[-1]


def test_a_message_is_printed_when_it_comes(cat: Callable[..., Cat], monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = threading.Event()
    monkeypatch.setattr(Screen, "flush", lambda self: flushed.set())
    with bus.listen("tcp://127.0.0.1:0") as listener:
        running = cat("--no-stdin", f"tcp://{listener.address}")
        with listener.accept(timeout=WAIT) or pytest.fail("nobody came") as conn:
            conn.send("hello")
            assert flushed.wait(WAIT)
    assert running.end() == (0, b"hello\n")


def test_nothing_piles_up_while_nobody_reads_stdout(cat: Callable[..., Cat], monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(Screen, "flush", lambda self: go.wait(WAIT))
    sent = 0
    with bus.listen("tcp://127.0.0.1:0", framing="raw") as listener:
        running = cat("--no-stdin", "--framing", "raw", f"tcp://{listener.address}")
        with listener.accept(timeout=WAIT) or pytest.fail("nobody came") as conn:
            with pytest.raises(bus.NotSent):
                while sent < 1 << 30:
                    conn.send(b"x" * 65_536, timeout=0.2)
                    sent += 65_536
            go.set()
    status, out = running.end()
    assert status == 0
    assert len(out) == sent

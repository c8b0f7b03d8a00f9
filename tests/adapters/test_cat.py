"""`actorbus cat` over real sockets, each transport, as a client and as a server."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bus
from actors import hosting
from actors.datagram import DatagramActor
from tests.adapters.conversation import Cat, PlainServer, upper
from tests.bus.peers import WAIT, InThread, Peer, inet, until
from tests.bus.test_group import fresh_group
from tests.certificates import Certificate
from tests.conftest import LeakWatch

BIG = os.urandom(1_000_000)


# --- each transport, as a client ---


@pytest.mark.parametrize("framing", ["length", "etx", "lines"])
def test_each_line_is_a_message_and_each_answer_a_line(cat: Callable[..., Cat], framing: Any, no_leaks: LeakWatch) -> None:
    with bus.serve("tcp://127.0.0.1:0", upper, framing=framing) as server:
        running = cat("--framing", framing, f"tcp://{server.address}")
        running.type(b"one\n\ntwo\nthree")
        assert running.end() == (0, b"ONE\n\nTWO\nTHREE\n")
        running.close()


def test_unix_and_tls(cat: Callable[..., Cat], tmp_path: Path, certificate: Certificate) -> None:
    with bus.serve(f"unix://{tmp_path}/s", upper) as server:
        running = cat(f"unix://{server.address}")
        running.type(b"one\n")
        assert running.end() == (0, b"ONE\n")
    with bus.serve("tls://127.0.0.1:0", upper, tls=certificate.server()) as server:
        running = cat("--ca", str(certificate.certificate), f"tls://{server.address}")
        running.type(b"one\ntwo\n")
        assert running.end() == (0, b"ONE\nTWO\n")


@pytest.mark.parametrize("secure", [False, True])
def test_websocket_lines_are_text(cat: Callable[..., Cat], secure: bool, certificate: Certificate) -> None:
    kinds: list[bool | None] = []

    def note(message: bus.Message, client: bus.Client) -> bus.Message:
        kinds.append(message.is_text)
        return message

    context = certificate.server() if secure else None
    with bus.serve("wss://127.0.0.1:0" if secure else "ws://127.0.0.1:0", note, tls=context) as server:
        trust = ["--ca", str(certificate.certificate)] if secure else []
        running = cat(*trust, "--count", "2", f"{'wss' if secure else 'ws'}://{server.address}/")
        running.type("é\n".encode() + b"\xff\n")
        assert running.end() == (0, "é\n".encode() + b"\xff\n")
    assert kinds == [True, False]


def test_websocket_ends_when_nothing_more_comes_after_the_input(cat: Callable[..., Cat]) -> None:
    with bus.serve("ws://127.0.0.1:0", upper) as server:
        running = cat("--linger", "0.05", f"ws://{server.address}/")
        running.type(b"")
        assert running.end() == (0, b"")


def test_udp(cat: Callable[..., Cat]) -> None:
    with bus.bind("udp://127.0.0.1:0") as sock:
        running = cat("--count", "1", f"udp://{sock.address}")
        running.type(b"ping\n")
        message = sock.receive(timeout=WAIT)
        assert message is not None
        assert message.data == b"ping"
        sock.send_to(message.source, "pong")
        assert running.end() == (0, b"pong\n")


def test_udp_that_nobody_listens_to_is_a_failure_where_the_system_tells(cat: Callable[..., Cat]) -> None:
    with bus.bind("udp://127.0.0.1:0") as sock:
        address = sock.address
    running = cat("--linger", "0.05", f"udp://{address}")
    running.type(b"ping\n", end=False)
    until(lambda: any(isinstance(actor, DatagramActor) and actor.stats().refused for actor in hosting.live_actors()), "it is refused")
    running.end_input()
    status, _ = running.end()
    assert (status, running.said) == (1, [f"nobody listens on {address}: start the server first, or look whether the port is right"])


def test_a_group_is_joined(cat: Callable[..., Cat]) -> None:
    url = f"udp://{fresh_group()}"
    with bus.join(url, interface="127.0.0.1") as group:
        running = cat("--interface", "127.0.0.1", "--count", "1", url)
        running.type(b"hello\n", end=False)
        message = group.receive(timeout=WAIT)
        assert message is not None
        assert message.data == b"hello"
        assert running.end() == (0, b"hello\n")  # a member hears itself


def test_broadcast_prints_who_answers(cat: Callable[..., Cat]) -> None:
    with bus.bind("udp://0.0.0.0:0") as sock:
        port = sock.address.rpartition(":")[2]
        running = cat("--broadcast", "--count", "1", f"udp://127.255.255.255:{port}")
        running.type(b"who is there?\n", end=False)
        message = sock.receive(timeout=WAIT)
        assert message is not None
        sock.send_to(message.source, "me")
        assert running.end() == (0, b"me\n")


# --- a million bytes each way, untouched ---


@pytest.mark.parametrize("wait", [True, False], ids=["the peer ends last", "the peer ends first"])
def test_raw_both_ways_whoever_ends_first(cat: Callable[..., Cat], wait: bool) -> None:
    server = PlainServer(BIG[::-1], wait=wait)
    running = cat("--framing", "raw", server.url)
    running.type(BIG)
    assert running.end() == (0, BIG[::-1])
    assert server.serving.result() == BIG


def test_raw_as_the_server(cat: Callable[..., Cat]) -> None:
    running = cat("--listen", "--framing", "raw", "tcp://127.0.0.1:0")
    with Peer.to(running.address().removeprefix("tcp://")) as peer:
        typing = InThread(lambda: running.type(BIG))
        sending = InThread(lambda: peer.sock.sendall(BIG[::-1]))
        assert peer.read(len(BIG) + 1) == BIG
        sending.result()
        peer.finish()
        typing.result()
    assert running.end() == (0, BIG[::-1])


def test_raw_over_a_websocket(cat: Callable[..., Cat]) -> None:
    received = bytearray()

    def echo(message: bus.Message, client: bus.Client) -> None:
        received.extend(message.data)
        client.send(message.data)
        if len(received) == len(BIG):
            client.close()

    with bus.serve("ws://127.0.0.1:0", echo) as server:
        running = cat("--framing", "raw", "--linger", str(WAIT), f"ws://{server.address}/")
        running.type(BIG)
        status, out = running.end()
    assert (status, out == BIG) == (0, True)


# --- as a server ---


def test_the_server_ends_with_the_one_who_came(cat: Callable[..., Cat], no_leaks: LeakWatch) -> None:
    running = cat("--listen", "tcp://127.0.0.1:0")
    with bus.connect(running.address(), timeout=WAIT, half_open=True) as conn:
        conn.send("hello")
        running.type(b"welcome\n")
        assert [message.text for message in conn] == ["welcome"]
        conn.send("bye")
        conn.send_eof()
        assert running.end() == (0, b"hello\nbye\n")
    running.close()


def test_the_server_of_websockets(cat: Callable[..., Cat]) -> None:
    running = cat("--listen", "--json", "--count", "2", "ws://127.0.0.1:0/talk")
    with bus.connect(running.address() + "/talk", timeout=WAIT) as conn:
        running.type(b"welcome\n", end=False)
        welcome = conn.receive(timeout=WAIT)
        assert welcome is not None
        assert (welcome.text, welcome.is_text) == ("welcome", True)
        conn.send("hello")
        conn.send(b"\0")
        assert list(conn) == []  # it ends in order
    status, out = running.end()
    told = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [{name: value for name, value in each.items() if name not in ("time", "source")} for each in told] == [
        {"data": "hello"},
        {"base64": "AA=="},
    ]
    running.close()


def test_keep_open_talks_to_all_who_come(cat: Callable[..., Cat], no_leaks: LeakWatch) -> None:
    running = cat("-lk", "--count", "3", "tcp://127.0.0.1:0")
    url = running.address()
    with bus.connect(url, timeout=WAIT) as first:
        first.send("one")
        running.type(b"hello\n", end=False)
        assert first.receive(timeout=WAIT) is not None
    running.hear("closed the connection")
    with bus.connect(url, timeout=WAIT) as second, bus.connect(url, timeout=WAIT) as third:
        for conn in (second, third):
            running.hear(f"{conn.local_address} is there")
        running.type(b"hello, both\n", end=False)
        answers = [conn.receive(timeout=WAIT) for conn in (second, third)]
        assert [answer and answer.text for answer in answers] == ["hello, both"] * 2
        second.send("two")
        third.send("three")
        status, out = running.end()
    assert status == 0
    assert sorted(out.split()) == [b"one", b"three", b"two"]
    running.close()


def test_a_udp_server_answers_whom_it_heard_last(cat: Callable[..., Cat]) -> None:
    running = cat("--listen", "--count", "1", "udp://127.0.0.1:0")
    address = running.address().removeprefix("udp://")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.settimeout(WAIT)
        plain.bind(("127.0.0.1", 0))
        plain.sendto(b"hello", inet(address))
        assert running.end() == (0, b"hello\n")

"""bus.explain: one text that says what every open object is doing, and who waits on it where."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

import bus
from tests.bus.peers import WAIT, InThread, Peer, fill_up, pair, until


def paragraph(text: str, beginning: str) -> str:
    """The lines about one object."""
    lines = text.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.lstrip().startswith(beginning)]
    indent = len(lines[start]) - len(lines[start].lstrip())
    end = start + 1
    while end < len(lines) and len(lines[end]) - len(lines[end].lstrip()) > indent:
        end += 1
    return "\n".join(lines[start:end])


def line_of(function: Any) -> str:
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def test_a_connection_says_to_whom_what_waits_and_who_waits_on_it_in_which_line() -> None:
    with pair() as (conn, peer):
        peer.send(b"1", b"2", b"3")
        conn.send("hello")
        assert conn.receive(WAIT) is not None
        until(lambda: conn.stats().waiting_in == 2)
        said = paragraph(bus.explain(), f"connection {conn.local_address}")
        assert f"to {conn.remote_address} (length), open for" in said
        assert re.search(r"in: 3 messages, 2 of them waiting", said)
        assert re.search(r"out: 1 messages", said)
        assert "waits" not in said
        conn.receive()
        conn.receive()
        receive = lambda: conn.receive(None)  # noqa: E731
        waiting = InThread(receive).until_blocked()
        until(lambda: "waits in receive" in paragraph(bus.explain(), f"connection {conn.local_address}"))
        assert line_of(receive) in paragraph(bus.explain(), f"connection {conn.local_address}")
        peer.send(b"4")
        waiting.result()
        assert "waits" not in paragraph(bus.explain(), f"connection {conn.local_address}")
    until(lambda: conn.local_address not in bus.explain())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the age of the last byte")
def test_ages_of_the_last_byte_each_way() -> None:
    with pair() as (conn, peer):
        assert "ago" not in paragraph(bus.explain(), f"connection {conn.local_address}")
        peer.send(b"1")
        conn.receive()
        conn.send("2")
        said = paragraph(bus.explain(), f"connection {conn.local_address}")
        assert re.search(r"in: 1 messages, 0 of them waiting, the last \d+\.\d s ago", said)
        assert re.search(r"out: 1 messages, the last \d+\.\d s ago", said)


def test_a_sender_that_waits_and_the_age_of_what_is_unsent() -> None:
    with pair(receive_buffer=4096) as (conn, _):
        fill_up(conn)
        sending = InThread(lambda: conn.send(b"x" * 65_536, timeout=None)).until_blocked()
        until(lambda: "waits in send" in bus.explain())
        said = paragraph(bus.explain(), f"connection {conn.local_address}")
        assert re.search(rf"out: \d+ messages, {conn.stats().waiting_out} bytes waiting, the oldest for \d+\.\d s", said)
        conn.close(0)
        with pytest.raises(bus.Closed):
            sending.result()


def test_a_server_its_clients_and_where_a_callback_is() -> None:
    release = threading.Event()

    def on_message(message: bus.Message, client: bus.Client) -> bus.Message:
        if message.text == "block":
            release.wait(WAIT)
        return message

    with bus.serve("tcp://127.0.0.1:0", on_message) as server, Peer.to(server.address) as busy, Peer.to(server.address) as idle:
        try:
            for peer in (busy, idle):
                peer.send(b"hello")
                peer.receive()
            busy.send(b"block")
            waiting = InThread(server.wait).until_blocked()
            where = re.compile(r"a callback runs: actorbus-\d+ is in on_message, .*test_explain\.py:\d+")
            until(lambda: where.search(bus.explain()))
            said = paragraph(bus.explain(), f"server {server.address}")
            assert "serving for" in said
            assert "2 clients, 2 accepted" in said
            assert re.search(r"waits in (wait|_run)", said)
            assert where.search(paragraph(said, f"client {server.address} to {busy.address}"))
            assert "callback" not in paragraph(said, f"client {server.address} to {idle.address}")
        finally:
            release.set()
        server.stop()
        waiting.result()


def test_losses_and_many_sources_at_once() -> None:
    with bus.bind("udp://127.0.0.1:0", mailbox_messages=1) as sock, bus.bind("udp://127.0.0.1:0") as other:
        for _ in range(3):
            other.send_to(sock.address, "x")
        until(lambda: sock.stats().lost == 2)
        said = paragraph(bus.explain(), f"UDP socket {sock.address}")
        assert "losses: lost 2" in said
        assert re.search(r"in: 3 datagrams, 1 of them waiting, the last \d+\.\d s ago", said)
        assert re.search(r"out: 3 datagrams, the last", paragraph(bus.explain(), f"UDP socket {other.address}"))
        sock.receive()
        waiting = InThread(lambda: bus.receive_any([sock, other])).until_blocked()
        until(lambda: bus.explain().count("waits in receive_any") == 2)
        other.send_to(sock.address, "y")
        waiting.result()


def test_a_link_in_a_gap_says_why(tmp_path: Any) -> None:
    url = f"unix://{tmp_path}/server"
    with bus.serve(url, lambda message, client: None):
        conn = bus.connect(url, reconnect=True, backoff=(60, 60))
        assert f"connection (reconnect) {conn.local_address} to" in bus.explain()
    until(lambda: "none at present" in bus.explain())
    sending = InThread(lambda: conn.send("x", timeout=None)).until_blocked()
    until(lambda: "waits in send" in bus.explain())
    said = paragraph(bus.explain(), f"connection (reconnect) to {conn.remote_address}")
    assert re.search("closed the connection|reset it", said)  # the server may have gone before it accepted
    conn.close()
    with pytest.raises(bus.Closed):
        sending.result()


def test_a_connect_that_hangs_and_other_objects() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener, socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        connect = lambda: bus.connect(f"ws://{host}:{port}", proxy=False, timeout=600)  # noqa: E731
        waiting = InThread(connect).until_blocked()
        silent, _ = listening.accept()
        until(lambda: "waiting for something else" in bus.explain())
        assert re.search(rf"waits in connect, {re.escape(line_of(connect))}", bus.explain())
        assert paragraph(bus.explain(), f"listener {listener.address}").endswith("0 accepted and not taken")
        silent.close()
        with pytest.raises(bus.ConnectFailed):
            waiting.result()


def test_it_answers_in_a_signal_handler() -> None:
    code = """
import os, signal, bus
signal.signal(signal.SIGUSR1, lambda *_: print(bus.explain()))
sock = bus.bind("udp://127.0.0.1:0")
for _ in range(200):
    os.kill(os.getpid(), signal.SIGUSR1)
    sock.receive(timeout=0)
sock.close()
print(bus.explain())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT, check=True)
    assert done.stdout.count("UDP socket 127.0.0.1:") == 200
    assert done.stdout.endswith("actorbus: open objects: 0, on reader threads: 0\n")

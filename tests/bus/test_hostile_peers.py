"""Peers that are dead, slow, lying or silent: each costs itself, never its neighbours, never the process."""

from __future__ import annotations

import logging
import random
import re
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import bus
from tests.bus.peers import WAIT, InThread, Peer, frame, pair, until
from tests.bus.test_server import MODES, Diary, serve

STALL = 0.4


# How a write learns of the end depends on what had come until then.
GONE = "reset|takes nothing more"

# Each does its worst to the server and returns what has to be in the reason (a pattern) that the server gives, or None if it just stays.
Hostile = Callable[[Peer], str | None]


def never_reads(peer: Peer) -> str:
    """Asks for more than it will ever read."""
    peer.sock.settimeout(0.05)
    try:
        for _ in range(1000):
            peer.send(b"many" * 1000)
    except OSError:
        pass
    peer.sock.settimeout(WAIT)
    return "has not read"


def half_a_frame(peer: Peer) -> None:
    peer.sock.sendall(frame(b"x" * 1000)[:500])


def half_a_length(peer: Peer) -> None:
    peer.sock.sendall(b"\x00\x00")


def half_a_frame_and_goes(peer: Peer) -> str:
    half_a_frame(peer)
    peer.close()  # with broadcasts unread, which makes a reset of it
    return f"inside a message|{GONE}"


def four_gigabytes(peer: Peer) -> str:
    peer.sock.sendall(struct.pack(">I", 2**32 - 1) + b"x" * 1000)
    return "4294967295 bytes is over max_size"


def resets(peer: Peer) -> str:
    peer.send(b"hello")
    peer.receive()
    peer.reset()
    return GONE


def resets_in_the_middle_of_a_frame(peer: Peer) -> str:
    half_a_frame(peer)
    until(lambda: not unread_bytes(peer))
    peer.reset()
    return GONE


def resets_with_replies_under_way(peer: Peer) -> str:
    peer.send(*[b"many" * 100] * 500)
    peer.reset()
    return GONE


def makes_the_callback_raise(peer: Peer) -> str:
    peer.send(b"raise")
    return "ValueError: on purpose"


def trickles(peer: Peer) -> None:
    for byte in frame(b"slow"):
        peer.sock.sendall(bytes([byte]))


def talks_nonsense(peer: Peer) -> str:
    peer.sock.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    return "over max_size"


def says_nothing(peer: Peer) -> None:
    pass


def unread_bytes(peer: Peer) -> int:
    """What this peer has sent and the other side's kernel has not acknowledged."""
    from actors.sockets import unacknowledged

    return max(0, unacknowledged(peer.sock))


ALL: list[Hostile] = [
    never_reads,
    half_a_frame,
    half_a_length,
    half_a_frame_and_goes,
    four_gigabytes,
    resets,
    resets_in_the_middle_of_a_frame,
    resets_with_replies_under_way,
    makes_the_callback_raise,
    trickles,
    talks_nonsense,
    says_nothing,
]


def answer(message: bus.Message, client: bus.Client) -> bytes:
    if message.data == b"raise":
        raise ValueError("on purpose")
    return message.data * 10 if message.data.startswith(b"many") else message.data


@contextmanager
def neighbours(server: bus.Server) -> Iterator[tuple[list[Peer], InThread[int]]]:
    """Three clients that go on with their round trips as long as the block runs; they must not notice a thing."""
    peers = [Peer.to(server.address) for _ in range(3)]
    until(lambda: {peer.address for peer in peers} <= {client.remote_address for client in server.clients})
    over = threading.Event()

    def trips() -> int:
        count = 0
        while not over.is_set() or count < 50:
            for peer in peers:
                peer.send(b"%d" % count)
            for peer in peers:
                reply = peer.receive()
                while reply == b"to all":
                    reply = peer.receive()
                assert reply == b"%d" % count
            count += 1
            if count > 50:
                over.wait(0.002)  # enough to notice, and leaves the processor to others
        return count

    talking = InThread(trips)
    try:
        yield peers, talking
    finally:
        over.set()
        talking.thread.join(WAIT)
        for peer in peers:
            peer.close()
    assert talking.result() >= 50


# The other modes are parts of these, or as the default but for the thread; all of them take half a minute.
each_kind_of_mode = pytest.mark.parametrize(
    "mode",
    [
        pytest.param(mode, id=",".join(f"{key}={value}" for key, value in mode.items()) or "default", marks=marks)
        for mode in MODES
        for marks in ([] if mode in ({}, {"serial": True, "threads": 2}) else [pytest.mark.slow],)
    ],
)


@each_kind_of_mode
@pytest.mark.parametrize("hostile", ALL, ids=lambda hostile: hostile.__name__)
def test_the_others_notice_nothing_and_the_reason_can_be_read(
    mode: dict[str, Any], hostile: Hostile, caplog: pytest.LogCaptureFixture, all_returns: object
) -> None:
    caplog.set_level(logging.INFO, "actorbus")
    diary = Diary()
    server = serve(answer, on_connect=diary.connect, on_disconnect=diary.disconnect, stall_timeout=STALL, outbox_bytes=200_000, **mode)
    with server, Peer.to(server.address, receive_buffer=8192) as peer:
        address = peer.address
        with neighbours(server):
            expected = hostile(peer)
            for _ in range(20):
                report = server.send_to_all("to all")
                assert len(report.taken) + len(report.queued) >= 3
            if expected is not None:
                until(lambda: not any(client.remote_address == address for client in server.clients))
        began = time.monotonic()
        server.stop(linger=0.3)  # while the hostile one is still there, if it is
        assert time.monotonic() - began < 5
        assert server.wait(timeout=WAIT)
    reasons = {}
    while not diary.entries.empty():
        what, client, reason = diary.next()
        if what == "disconnect":
            assert client.remote_address not in reasons, "told twice"
            reasons[client.remote_address] = reason
    assert len(reasons) == 4
    if expected is not None:
        assert isinstance(reasons[address], bus.Broken)
        assert re.search(expected, str(reasons[address]))
        assert any(address in record.getMessage() and re.search(expected, record.getMessage()) for record in caplog.records)
    assert all(record.name.startswith("actorbus.") for record in caplog.records)


@pytest.fixture
def quiet_server() -> Iterator[bus.Server]:
    with serve(answer, outbox_bytes=200_000) as server:
        yield server


def test_a_broadcast_waits_for_nobody(quiet_server: bus.Server) -> None:
    deaf = [Peer.to(quiet_server.address, receive_buffer=8192) for _ in range(10)]
    with Peer.to(quiet_server.address) as good:
        until(lambda: len(quiet_server.clients) == 11)
        reading = InThread(lambda: [good.receive() for _ in range(100)])
        began = time.monotonic()
        skipped = 0
        for _ in range(100):
            report = quiet_server.send_to_all(b"x" * 50_000)
            skipped += len(report.skipped)
            if len(report.skipped) == 11:
                break
        assert time.monotonic() - began < WAIT
        assert skipped > 0
        assert quiet_server.stats().skipped == skipped
        for peer in deaf:
            peer.reset()
        assert reading.thread.is_alive() or len(reading.result()) == 100
        good.reset()
        reading.thread.join(WAIT)


def test_stop_waits_for_the_deaf_no_longer_than_linger(all_returns: object, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(answer)
    deaf = [Peer.to(server.address, receive_buffer=8192) for _ in range(5)]
    until(lambda: len(server.clients) == 5)
    while any(not client.stats().waiting_out for client in server.clients):
        server.send_to_all(b"x" * 500_000)
    began = time.monotonic()
    assert not server.stop(linger=0.3)
    assert time.monotonic() - began < 5, "once for all, not for each in turn"
    assert server.wait(timeout=WAIT)
    assert "are lost" in caplog.text
    for peer in deaf:
        peer.close()


def test_a_peer_that_sends_single_bytes_for_ever_is_bounded_in_memory() -> None:
    with pair(max_size=10_000) as (conn, peer):
        wire = frame(b"y" * 9000)
        for start in range(3000):
            peer.sock.sendall(wire[start : start + 1])
        assert conn.receive(timeout=0) is None
        peer.sock.sendall(wire[3000:])
        message = conn.receive(timeout=WAIT)
        assert message is not None
        assert message.data == b"y" * 9000


def test_a_line_that_never_ends_is_cut_off_at_max_size() -> None:
    with pair(framing="lines", max_size=10_000) as (conn, peer):
        with pytest.raises(OSError):
            for _ in range(10_000):
                peer.sock.sendall(b"z" * 1000)
        with pytest.raises(bus.Broken, match="max_size=10000"):
            conn.receive(timeout=WAIT)


def test_a_promise_of_much_reserves_nothing() -> None:
    # 16 MiB is the default limit: a thousand such promises must not cost 16 GiB.
    with bus.listen("tcp://127.0.0.1:0") as listener:
        conns, peers = [], []
        for _ in range(50):
            peers.append(Peer.to(listener.address))
            peers[-1].sock.sendall(struct.pack(">I", 16 * 2**20) + b"x")
            conns.append(listener.accept())
        for conn, peer in zip(conns, peers, strict=True):
            assert conn.receive(timeout=0) is None
            assert conn.stats().waiting_in == 0
            peer.close()
            with pytest.raises(bus.Broken, match="5 bytes"):
                conn.receive(timeout=WAIT)
            conn.close()


@pytest.mark.parametrize("framing", ["length", "etx", "lines", "raw"])
@pytest.mark.parametrize("seed", range(6))
def test_noise_is_either_messages_or_the_documented_end(framing: Any, seed: int) -> None:
    noise = random.Random(seed)
    with pair(framing=framing, max_size=5000) as (conn, peer):
        sent = bytearray()
        try:
            for _ in range(200):
                chunk = noise.choice([noise.randbytes(noise.randrange(300)), b"\x00\x00\x00\x02ab", b"\n", b"\x03", b"\x00" * 9])
                peer.sock.sendall(chunk)
                sent += chunk
        except OSError:
            pass
        peer.close()
        seen = 0
        try:
            for message in conn:
                assert len(message.data) <= 5000
                seen += len(message.data)
        except bus.Broken:
            pass
        assert seen <= len(sent)


def test_a_storm_of_short_and_broken_visits(all_returns: object) -> None:
    diary = Diary()
    chance = random.Random(7)
    with serve(answer, on_disconnect=diary.disconnect, stall_timeout=STALL) as server, neighbours(server):
        for _ in range(150):
            peer = Peer.to(server.address)
            do = chance.choice(("nothing", "a message", "half a frame"))
            if do == "a message":
                peer.send(b"x")
            elif do == "half a frame":
                half_a_frame(peer)
            chance.choice([peer.close, peer.reset])()
        for _ in range(150):
            assert isinstance(diary.reason(), bus.PeerClosed | bus.Broken)
        until(lambda: len(server.clients) == 3)

"""A consumer that is slower than its sender: the mailbox fills, reading stops, TCP slows the sender; nothing is lost, nothing grows."""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import bus
from tests.bus.peers import ROOT, WAIT, InThread, Peer, frame, pair, until

SECONDS = 100
MEGABYTE = 2**20

# Over what it held before: a mailbox or an outbox, a read under way, what the allocator keeps, and our own sender.
FLAT = 24 * MEGABYTE

STATM = Path("/proc/self/statm")

# In a process of its own, whose memory is nobody else's. The sender is a plain socket in another process (a fork would share pages).
CONSUMER = """
import hashlib, resource, socket, subprocess, sys, time
import bus

TOTAL, SIZE, LIMIT = 200 * 2**20, 40_000, 2**20
SENDER = '''
import hashlib, random, socket, sys
total, size = int(sys.argv[2]), int(sys.argv[3])
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
digest, block = hashlib.blake2b(), random.Random(1).randbytes(size + 1000)
sent = 0
while sent < total:
    data = block[sent % 1000:][:min(size, total - sent)]
    sock.sendall(len(data).to_bytes(4, "big") + data)
    digest.update(data)
    sent += len(data)
sock.close()
print(digest.hexdigest())
'''

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

with bus.listen("tcp://127.0.0.1:0", mailbox_bytes=LIMIT) as listener:
    port = listener.address.rpartition(":")[2]
    sender = subprocess.Popen([sys.executable, "-c", SENDER, port, str(TOTAL), str(SIZE)], stdout=subprocess.PIPE, text=True)
    with listener.accept(timeout=30) as conn:
        until = time.monotonic() + 30
        while conn.stats().waiting_in * SIZE < LIMIT - SIZE and time.monotonic() < until:
            time.sleep(0.001)  # nothing tells that a mailbox is full
        digest, received, most_waiting, memory = hashlib.blake2b(), 0, 0, []
        for number, msg in enumerate(conn):
            digest.update(msg.data)
            hashlib.sha512(msg.data).digest()  # work, so that the sender is ahead
            received += len(msg.data)
            most_waiting = max(most_waiting, conn.stats().waiting_in)
            if number % 100 == 0:
                memory.append(resident())
same = digest.hexdigest() == sender.communicate(timeout=30)[0].strip()
print(received, same, most_waiting * SIZE, max(memory) - memory[len(memory) // 10])
"""


@pytest.mark.slow
def test_two_hundred_megabytes_through_a_mailbox_of_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONSUMER],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    received, same, most_waiting, growth = done.stdout.split()
    assert int(received) == 200 * 2**20
    assert same == "True"
    assert 2**20 - 40_000 <= int(most_waiting) <= 2**20 + 256 * 1024, "to be full, and at most a turn over"
    assert int(growth) < 8 * 2**20


class Memory:
    """The most this process was seen to hold over what it held at the start."""

    def __init__(self) -> None:
        if not STATM.exists():
            pytest.skip("this system does not tell how much memory a process holds")
        self._start = self._now()
        self.grown = 0

    @staticmethod
    def _now() -> int:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def look(self) -> None:
        self.grown = max(self.grown, self._now() - self._start)


def blocks(total: int, size: int) -> Iterator[bytes]:
    """`total` bytes in numbered blocks, so that one missing, doubled or moved changes the digest."""
    filler = bytes(range(256)) * (size // 256)
    for number in range(total // size):
        yield number.to_bytes(8, "big") + filler[8:]


def stand_still(progress: list[int]) -> None:
    """Return once the count has not moved for a while: the sender is stuck, because nobody reads."""
    last = [-1, 0]

    def same() -> bool:
        last[1] = last[1] + 1 if progress[0] == last[0] else 0
        last[0] = progress[0]
        return last[1] > 50

    until(same)


@pytest.mark.parametrize(
    ("total", "size"),
    [
        pytest.param(50 * MEGABYTE, 1024, id="1 KiB each"),
        pytest.param(200 * MEGABYTE, 3 * MEGABYTE, id="3 MiB each, more than the mailbox", marks=pytest.mark.slow),
    ],
)
def test_a_script_that_pauses_finds_everything_and_holds_little(total: int, size: int) -> None:
    sent, received = hashlib.blake2b(), hashlib.blake2b()
    progress = [0]
    with pair(mailbox_bytes=MEGABYTE) as (conn, peer):

        def produce() -> None:
            for block in blocks(total, size):
                sent.update(block)
                peer.sock.sendall(frame(block))
                progress[0] += 1
            peer.finish()

        memory = Memory()
        producing = InThread(produce)
        stand_still(progress)  # the script does something else for a while
        memory.look()
        assert progress[0] * size < total / 2, "the sender is not slowed down"
        count = 0
        for message in conn:
            received.update(message.data)
            count += 1
            if count % 64 == 0 or size > MEGABYTE:
                memory.look()
            if count in (100, 1000, 2000):
                stand_still(progress)
        producing.result()
    assert count == total // size
    assert received.digest() == sent.digest()
    assert memory.grown < FLAT + 8 * size, f"{memory.grown / MEGABYTE:.1f} MiB more"


@pytest.mark.slow
def test_two_hundred_megabytes_to_a_slow_reader_through_an_outbox_of_one() -> None:
    sent, received = hashlib.blake2b(), hashlib.blake2b()
    with pair(outbox_bytes=MEGABYTE, receive_buffer=65_536) as (conn, peer):
        memory = Memory()
        progress = [0]

        def produce() -> None:
            for block in blocks(200 * MEGABYTE, 65_536):
                sent.update(block)
                conn.send(block, timeout=None)
                progress[0] += 1
            assert conn.close(linger=WAIT)

        producing = InThread(produce)
        stand_still(progress)
        memory.look()
        assert conn.stats().waiting_out <= MEGABYTE
        for count in itertools.count():
            block = peer.receive()
            if block is None:
                break
            received.update(block)
            if count % 64 == 0:
                memory.look()
        peer.close()
        producing.result()
    assert received.digest() == sent.digest()
    assert memory.grown < FLAT, f"{memory.grown / MEGABYTE:.1f} MiB more"


def test_a_client_that_only_sends_can_not_fill_a_server_whose_callback_is_busy() -> None:
    total = 100 * MEGABYTE
    release, entered, done = threading.Event(), threading.Event(), threading.Event()
    sent, received = hashlib.blake2b(), hashlib.blake2b()

    def take(message: bus.Message, client: bus.Client) -> None:
        entered.set()
        assert release.wait(WAIT)
        received.update(message.data)
        if message.data[:8] == (total // 65_536 - 1).to_bytes(8, "big"):
            done.set()

    with bus.serve("tcp://127.0.0.1:0", take) as server, Peer.to(server.address) as peer:
        progress = [0]
        memory = Memory()

        def produce() -> None:
            for block in blocks(total, 65_536):
                sent.update(block)
                peer.send(block)
                progress[0] += 1

        producing = InThread(produce)
        assert entered.wait(WAIT)
        stand_still(progress)
        memory.look()
        with Peer.to(server.address) as other:
            until(lambda: len(server.clients) == 2)
            server.send_to_all("meanwhile")
            assert other.receive() == b"meanwhile"
        release.set()
        producing.result()
        assert done.wait(WAIT)
        memory.look()
    assert received.digest() == sent.digest()
    assert memory.grown < FLAT, f"{memory.grown / MEGABYTE:.1f} MiB more"


def test_a_backlog_of_tiny_messages_is_bounded_by_their_number() -> None:
    total = 100_000
    with pair(mailbox_messages=1000) as (conn, peer):
        producing = InThread(lambda: peer.send(*(b"%d" % number for number in range(total))))
        until(lambda: conn.stats().waiting_in >= 1000)
        # One read goes on top: 64 KiB of frames of five bytes and more.
        assert conn.stats().waiting_in < 1000 + 65_536 // 5
        for number in range(total):
            assert conn.receive().data == b"%d" % number
        producing.result()


def test_datagrams_to_a_script_that_does_not_read_cost_no_more_than_the_mailbox() -> None:
    with bus.bind("udp://127.0.0.1:0", mailbox_bytes=MEGABYTE) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        host, _, port = sock.address.rpartition(":")
        memory = Memory()
        total = 2000
        for number in range(total):
            plain.sendto(number.to_bytes(8, "big") + b"x" * 59_992, (host, int(port)))
            if number % 50 == 0:
                memory.look()
        until(lambda: sock.stats().messages_in + sock._actor.kernel_drops() == total)
        memory.look()
        assert sock.stats().waiting_in * 60_000 <= MEGABYTE
        received = [-1]
        while (message := sock.receive(timeout=0)) is not None:
            received.append(int.from_bytes(message.data[:8], "big"))
            if sys.platform == "linux":
                assert message.lost_before == received[-1] - received[-2] - 1
        assert received == sorted(received)
        assert len(received) - 1 + sock.stats().lost == total
    assert memory.grown < FLAT, f"{memory.grown / MEGABYTE:.1f} MiB more"

"""Much at once: messages that wait when everything ends, connections that come and go, and data that nobody takes."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

import bus
from bus.testing import FaultProxy
from tests.bus.peers import WAIT, InThread, pair, until, until_blocked
from tests.faults.ends import child, connect, each_stream, serve, take, until_only, visit

pytestmark = pytest.mark.fault

QUEUED = 20_000
PAYLOAD = b"x" * 95

# -- 20,000 messages wait, and then it ends ---------------------------------------------------------------------------


@each_stream
def test_a_stop_delivers_what_is_queued_for_who_reads(scheme: str, all_returns: object) -> None:
    server = serve(scheme)
    with connect(server, scheme) as conn:
        until_only(server, 1)
        (client,) = server.clients
        for number in range(QUEUED):
            client.send(PAYLOAD + b"%05d" % number)
        stopping = InThread(lambda: server.stop(linger=WAIT))
        got = [take(conn).data[-5:] for _ in range(QUEUED)]
        assert got == [b"%05d" % number for number in range(QUEUED)]
        with pytest.raises(bus.PeerClosed):
            conn.receive(timeout=WAIT)
        assert stopping.result()


@each_stream
def test_a_stop_ends_although_what_is_queued_is_not_taken(scheme: str, all_returns: object) -> None:
    server = serve(scheme, outbox_bytes=16 * 2**20)
    with visit(server, scheme, receive_buffer=8192):
        until_only(server, 1)
        (client,) = server.clients
        for _ in range(QUEUED):
            client.send(PAYLOAD * 6)  # more than the kernel takes
        assert not InThread(lambda: server.stop(linger=0.2)).result()


@each_stream
@pytest.mark.parametrize("serial", [False, True])
def test_a_stop_ends_although_20000_messages_wait_for_a_callback(scheme: str, serial: bool, all_returns: object) -> None:
    gate = threading.Event()
    inside = threading.Event()

    def hold(message: bus.Message, client: bus.Client) -> None:
        inside.set()
        gate.wait(WAIT)

    server = serve(scheme, hold, serial=serial)
    with connect(server, scheme) as conn:
        sending = InThread(lambda: conn.send_many([PAYLOAD] * QUEUED))
        assert inside.wait(WAIT)
        stopping = InThread(lambda: server.stop(linger=0.2))
        stopping.until_blocked()
        gate.set()
        stopping.result()
        assert server.wait(timeout=WAIT)
        try:
            sending.result()
        except (bus.PeerClosed, bus.Broken):
            pass  # the server went first


# -- the interpreter exits ----------------------------------------------------------------------------------------------

LEAVES = """
import sys, bus
conn = bus.connect(sys.argv[1], timeout=30)
for number in range(3000):
    conn.send(f"{number:05}" + "x" * 995)
print("leaves", flush=True)
"""


@each_stream
@pytest.mark.parametrize("end", ["", "conn.close(linger=60)", "raise SystemExit"])
def test_an_exit_with_unsent_data_delivers_it(scheme: str, end: str) -> None:
    """The link trickles until the script has come to its end; then the rest has the time of a shutdown."""
    got: list[bytes] = []
    with serve(scheme, lambda message, client: got.append(message.data[:5])) as server:
        with FaultProxy(f"{scheme}://{server.address}", trickle=10_000) as proxy, child(LEAVES + end, proxy.url) as (process, said):
            assert said == "leaves"
            proxy.set(trickle=None)
            _, err = process.communicate(timeout=2 * WAIT)
            assert process.returncode == 0
            until(lambda: not server.clients)
        # On a machine that takes longer than a shutdown waits, it says that something is lost.
        assert got == [b"%05d" % number for number in range(3000)] or "are lost" in err


# -- connections that come and go ---------------------------------------------------------------------------------------

SECONDS = float(os.environ.get("ACTORBUS_FAULT_SECONDS", "10"))  # 60 for the long run
A_SECOND = 500


def resident() -> int:
    """Bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(60 + 3 * SECONDS)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@each_stream
def test_500_connects_a_second_leave_nothing_behind(scheme: str, all_returns: object) -> None:
    """As many as the machine manages, up to that. Threads, descriptors and actors are counted by the fixture."""
    with serve(scheme) as server:

        def come_and_go(seconds: float) -> int:
            began = time.monotonic()
            count = 0
            while (elapsed := time.monotonic() - began) < seconds:
                if count > elapsed * A_SECOND:
                    time.sleep(count / A_SECOND - elapsed)
                    continue
                with connect(server, scheme) as conn:
                    conn.send("x")
                    take(conn)
                count += 1
            return count

        come_and_go(SECONDS / 4)
        until_only(server, 0)
        before = resident()
        count = come_and_go(SECONDS)
        until_only(server, 0)
        grown = resident() - before
        assert count > 100
        assert grown < 4 * 2**20 + 200 * count, f"{grown} bytes more after {count} connections"
        assert server.stats().accepted >= count


# -- data that nobody takes ---------------------------------------------------------------------------------------------

FLOOD = 30_000  # messages of 1 kB: 10 MB a second for three seconds


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell what it dropped")
def test_of_a_flood_of_datagrams_every_one_is_received_or_counted(all_returns: object) -> None:
    with bus.bind("udp://127.0.0.1:0") as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        host, _, port = sock.address.rpartition(":")
        began = time.monotonic()
        for number in range(FLOOD):
            plain.sendto(b"%06d" % number + b"x" * 994, (host, int(port)))
            ahead = number / 10_000 - (time.monotonic() - began)
            if ahead > 0.01:
                time.sleep(ahead)
        received: list[int] = []

        def all_accounted_for() -> bool:
            while (message := sock.receive(timeout=0)) is not None:
                received.append(int(message.data[:6]))
            return len(received) + sock.stats().lost == FLOOD

        until(all_accounted_for, f"{len(received)} received, {sock.stats()}")
        assert sock.stats().lost > 0, "it received without receiving"
        assert received == sorted(set(received))


@each_stream
def test_of_a_flood_over_a_stream_nothing_is_lost(scheme: str, all_returns: object) -> None:
    with serve(scheme, lambda message, client: None) as server, connect(server, scheme) as conn:
        until_only(server, 1)
        (client,) = server.clients

        def flood() -> None:
            for number in range(FLOOD):
                client.send(b"%06d" % number + b"x" * 994, timeout=2 * WAIT)

        flooding = InThread(flood)
        until_blocked(flooding.thread)
        stats = conn.stats()
        assert stats.waiting_in < FLOOD, "what waits is bounded"
        for number in range(FLOOD):
            assert take(conn).data[:6] == b"%06d" % number
        flooding.result()


def test_a_flood_by_a_plain_peer_is_slowed_and_arrives(all_returns: object) -> None:
    with pair() as (conn, peer):
        flooding = InThread(lambda: peer.send(*(b"%06d" % number + b"x" * 994 for number in range(FLOOD))))
        until_blocked(flooding.thread)
        for number in range(FLOOD):
            assert take(conn).data[:6] == b"%06d" % number
        flooding.result()

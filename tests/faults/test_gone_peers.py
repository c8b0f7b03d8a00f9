"""Peers and links that are gone without a word: noticed within the promised time, at either end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import bus
from bus.testing import FaultProxy
from tests.bus.peers import ROOT, WAIT, InThread, until
from tests.faults.ends import child, each_stream, neighbours, serve, take, trip, until_only

pytestmark = pytest.mark.fault

# -- killed -------------------------------------------------------------------------------------------------------------

IN_THE_MIDDLE = """
import socket, sys, time
sys.path.insert(0, ".")
from tests.bus.peers import Peer, frame
from tests.bus.test_websocket import WebPeer, upgrade
from tests.actors.test_wsframes import BINARY, wire
scheme, address = sys.argv[1:]
if scheme == "tcp":
    peer, whole, half = Peer.to(address), frame(b"whole"), frame(b"x" * 1000)[:500]
else:
    peer, whole, half = WebPeer.to(address), wire(BINARY, b"whole", masked=True), wire(BINARY, b"x" * 1000, masked=True)[:500]
    peer.sock.sendall(upgrade(address))
    assert b" 101 " in peer.head()
peer.sock.sendall(whole + half)
print("in the middle", flush=True)
time.sleep(600)
"""


@each_stream
def test_a_client_killed_in_the_middle_of_a_message(scheme: str, all_returns: object) -> None:
    got: list[bytes] = []
    reasons: list[bus.BusError] = []
    with serve(
        scheme, lambda message, client: got.append(message.data), on_disconnect=lambda client, reason: reasons.append(reason)
    ) as server:
        with child(IN_THE_MIDDLE, scheme, server.address) as (process, _):
            until(lambda: got)
            with serve(scheme) as other, neighbours(other, scheme):
                os.kill(process.pid, signal.SIGKILL)
                until(lambda: reasons)
        assert got == [b"whole"], "half a message is none"
        assert isinstance(reasons[0], bus.Broken)
        until_only(server, 0)


SERVES_HALF = """
import socket, sys, time
sys.path.insert(0, ".")
from tests.bus.peers import Peer, frame
from tests.bus.test_websocket import WebPeer
from tests.actors.test_wsframes import BINARY, wire
with socket.create_server(("127.0.0.1", 0)) as listening:
    print(listening.getsockname()[1], flush=True)
    peer = (Peer if sys.argv[1] == "tcp" else WebPeer)(listening.accept()[0])
    if sys.argv[1] == "ws":
        peer.welcome()
        peer.sock.sendall(wire(BINARY, b"whole") + wire(BINARY, b"x" * 1000)[:500])
    else:
        peer.sock.sendall(frame(b"whole") + frame(b"x" * 1000)[:500])
    time.sleep(600)
"""


@each_stream
def test_a_server_killed_in_the_middle_of_a_message(scheme: str, all_returns: object) -> None:
    with child(SERVES_HALF, scheme) as (process, port):
        with bus.connect(f"{scheme}://127.0.0.1:{port}", timeout=WAIT) as conn:
            assert take(conn).data == b"whole"
            assert conn.receive(timeout=0) is None
            process.kill()
            with pytest.raises(bus.Broken):
                conn.receive(timeout=WAIT)
            assert not conn.connected()


# -- half open ----------------------------------------------------------------------------------------------------------


def test_pings_notice_a_half_open_link_at_both_ends(all_returns: object) -> None:
    with serve("ws", ping_interval=0.1, ping_timeout=0.1) as server, FaultProxy(f"ws://{server.address}") as proxy:
        with serve("ws") as other, neighbours(other, "ws"):
            conn = bus.connect(proxy.url, timeout=WAIT, ping_interval=0.1, ping_timeout=0.1)
            proxy.stall()  # neither hears the other
            with pytest.raises(bus.Broken, match="ping"):
                conn.receive(timeout=WAIT)
            until_only(server, 0)
            conn.close(linger=0)


@each_stream
def test_a_link_that_swallows_costs_a_close_no_more_than_linger(scheme: str, all_returns: object) -> None:
    with serve(scheme) as server, FaultProxy(f"{scheme}://{server.address}") as proxy:
        conn = bus.connect(proxy.url, timeout=WAIT)
        trip(conn)
        proxy.half_open()
        until_only(server, 0)
        conn.send("to nobody")
        InThread(lambda: conn.close(linger=0.2)).result()


# -- a cable that is pulled ---------------------------------------------------------------------------------------------

# In network namespaces of its own, so that no traffic leaves them: the test's process is in one, its child in the other.
PULLED = """
import os, subprocess, sys, threading
sys.path.insert(0, ".")
from actors import sockets
sockets.KEEPALIVE = (1, 1, 2)  # the house's half a minute, sooner
import bus

scheme, pulled = sys.argv[1:]
options = {"ping_interval": 2, "ping_timeout": 2} if scheme == "ws" else {}

def sh(command):
    subprocess.run(command, shell=True, check=True)

sh("ip link set lo up")
there = subprocess.Popen(["unshare", "-n", "sleep", "600"])
while os.readlink(f"/proc/{there.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
    pass
try:
    sh(f"ip link add cable0 type veth peer name cable1 netns {there.pid}")
    sh("ip address add 10.231.0.1/24 dev cable0 && ip link set cable0 up")
    inside = f"nsenter -t {there.pid} -n "
    sh(inside + "ip address add 10.231.0.2/24 dev cable1")
    sh(inside + "ip link set cable1 up")
    ended = threading.Event()
    reasons = []
    def gone(client, reason):
        reasons.append(reason)
        ended.set()
    with bus.serve(f"{scheme}://10.231.0.1:0", lambda msg, client: msg, on_disconnect=gone, **options) as server:
        client = subprocess.Popen(
            ["nsenter", "-t", str(there.pid), "-n", sys.executable, "-c", CLIENT, scheme, server.address], stdout=subprocess.PIPE, text=True
        )
        try:
            assert client.stdout.readline() == "connected\\n"
            assert server.clients
            sh("ip link set cable0 down" if pulled == "here" else inside + "ip link set cable1 down")
            assert ended.wait(40), "the server has not noticed"
            assert isinstance(reasons[0], bus.Broken), reasons
            assert client.stdout.readline() == "Broken\\n", "the client has not noticed"
            assert client.wait(40) == 0
        finally:
            client.kill()
            client.communicate()
    print("both have noticed")
finally:
    there.kill()
    there.wait()
"""

CLIENT = """
import sys
sys.path.insert(0, ".")
from actors import sockets
sockets.KEEPALIVE = (1, 1, 2)
import bus
scheme, address = sys.argv[1:]
options = {"ping_interval": 2, "ping_timeout": 2, "proxy": False} if scheme == "ws" else {}
with bus.connect(f"{scheme}://{address}", timeout=20, **options) as conn:
    conn.send("hello")
    conn.receive(timeout=20)
    print("connected", flush=True)
    try:
        print(conn.receive(timeout=40))
    except bus.BusError as exc:
        print(type(exc).__name__)
    conn.close(linger=0.1)
"""


@each_stream
@pytest.mark.parametrize("pulled", ["here", "there"])
def test_a_pulled_cable_is_noticed_at_both_ends(scheme: str, pulled: str) -> None:
    probe = "ip link add probe0 type veth peer name probe1 && unshare -n true && command -v nsenter"
    tried = subprocess.run(["unshare", "-rn", "sh", "-c", probe], capture_output=True, text=True, timeout=WAIT, check=False)
    if tried.returncode:
        pytest.skip(f"no network namespaces to be had: {tried.stderr.strip()}")
    code = f"CLIENT = {CLIENT!r}\n{PULLED}"
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", code, scheme, pulled], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout == "both have noticed\n", done.stderr

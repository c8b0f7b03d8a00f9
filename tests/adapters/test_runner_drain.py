"""SIGTERM under the runner: the servers finish what they have begun, and then the scripts end as they always do."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from adapters import stopping
from tests.adapters.command import Command, write
from tests.bus.peers import Peer, until
from tests.bus.test_drain import refused
from tests.bus.test_websocket import WebPeer, upgrade

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")

# The runner's own limits are for users; a busy machine may need longer. Callbacks work until they are told to go on, or for good.
SERVING = """
import bus, sys, threading
import adapters.stopping
adapters.stopping.DRAIN, adapters.stopping.GRACE = {drain}, 600
def work(msg, client):
    print("working", flush=True)
    if msg.text == "for good":
        threading.Event().wait()
    sys.stdin.readline()
    print("worked", flush=True)
    return msg.text.upper()
server = bus.serve("tcp://127.0.0.1:0", work)
"""
SAY_WHERE = "print(server.address, flush=True)"

# What the script's own thread does meanwhile.
WAYS_TO_WAIT = {
    "returned": SAY_WHERE,
    "wait": f"""
try:
    {SAY_WHERE}
    server.wait()
finally:
    print("cleaned up", flush=True)
""",
    "a foreign call": f"""
import socket
left, right = socket.socketpair()
try:
    with left, right:
        {SAY_WHERE}
        left.recv(1)
finally:
    print("cleaned up", flush=True)
""",
}


def script(directory: Path, way: str, drain: float = 600) -> str:
    return write(directory, "script.py", SERVING.format(drain=drain) + WAYS_TO_WAIT[way])


def address_of(command: Command, prefix: str = "") -> str:
    """The line that says where it serves, which comes first."""
    assert command.process.stdout is not None
    line = command.process.stdout.readline().rstrip("\n")
    command.said.append(line)
    assert line.startswith(prefix), line
    return line.removeprefix(prefix)


def drain(command: Command, address: str) -> None:
    """Have it begin, with a message in flight, and that message's callback come back in the midst of it."""
    command.signal(signal.SIGTERM)
    until(lambda: refused(address), "new connections are refused")
    command.tell("go on")


@pytest.mark.parametrize("way", WAYS_TO_WAIT)
def test_a_request_in_flight_gets_its_reply(tmp_path: Path, way: str) -> None:
    with Command("run", script(tmp_path, way)) as command:
        address = address_of(command)
        with Peer.to(address) as peer, Peer.to(address) as idle:
            peer.send(b"in flight", b"behind it")
            command.read_until("working")
            drain(command, address)
            assert peer.receive() == b"IN FLIGHT"
            assert "cleaned up" not in command.said
            command.tell("go on")
            assert peer.receive_all() == [b"BEHIND IT"]
            assert idle.receive_all() == []
        ended = command.end()
    assert ended.stdout.count("worked\n") == 2
    assert ended.stdout.count("cleaned up") == (way != "returned")
    assert (ended.status, ended.stderr) == (143, "")


def test_servers_of_several_scripts_drain_and_their_clients_hear_nothing_before(tmp_path: Path) -> None:
    serving = script(tmp_path, "wait")
    with Command("run", serving, write(tmp_path, "idle.py", "import bus\nbus.serve('tcp://127.0.0.1:0', print)")) as command:
        address = address_of(command, "script | ")
        with Peer.to(address) as peer:
            peer.send(b"in flight")
            command.read_until("script | working")
            drain(command, address)
            assert peer.receive_all() == [b"IN FLIGHT"]
        ended = command.end()
    assert "script | cleaned up" in ended.stdout
    assert (ended.status, ended.stderr) == (143, "")


def test_a_script_that_is_another_ones_client_is_stopped_and_not_cut_off(tmp_path: Path) -> None:
    write(tmp_path, "meeting.py", "import concurrent.futures\naddress = concurrent.futures.Future()")
    client = write(
        tmp_path,
        "client.py",
        """
        import bus, meeting
        conn = bus.connect("tcp://" + meeting.address.result())
        print("connected", flush=True)
        try:
            conn.receive()
        except BaseException as exc:
            print("heard", type(exc).__name__, flush=True)
            raise
        """,
    )
    meet = f"import meeting\nmeeting.address.set_result(server.address)\n{SAY_WHERE}"
    serving = write(tmp_path, "script.py", SERVING.format(drain=600) + meet)
    with Command("run", serving, client) as command:
        address = address_of(command, "script | ")
        command.read_until("client | connected")
        with Peer.to(address) as peer:
            peer.send(b"in flight")
            command.read_until("script | working")
            drain(command, address)
            assert peer.receive_all() == [b"IN FLIGHT"]
        ended = command.end()
    assert "client | heard KeyboardInterrupt" in ended.stdout
    assert (ended.status, ended.stderr) == (143, "")


def test_session_handlers_of_routes_end_what_they_do(tmp_path: Path) -> None:
    serving = write(
        tmp_path,
        "script.py",
        """
        import sys
        import adapters.stopping
        import scriptling.runtime as runtime
        adapters.stopping.DRAIN = 600
        @runtime.http.websocket("/")
        def handle(client):
            while client.connected():
                msg = client.receive(timeout=600)
                if msg:
                    print("working", flush=True)
                    sys.stdin.readline()
                    client.send(msg.upper())
            client.send("bye")
        """,
    )
    with Command("run", "--listen", "127.0.0.1:0", serving) as command:
        address = address_of(command, "serving / on ws://")
        with WebPeer.to(address) as peer:
            peer.masked = True
            peer.sock.sendall(upgrade(address))
            assert peer.head().startswith(b"HTTP/1.1 101 ")
            peer.put(1, b"in flight")
            command.read_until("working")
            drain(command, address)
            frames = [peer.get(), peer.get()]
            assert [frame.payload for frame in frames if frame is not None] == [b"IN FLIGHT", b"bye"]
            assert peer.the_close()[0] == 1001
        ended = command.end()
    assert (ended.status, ended.stderr) == (143, "")


@pytest.mark.parametrize("way", WAYS_TO_WAIT)
def test_a_callback_that_takes_longer_holds_it_up_no_longer_than_the_limit(tmp_path: Path, way: str) -> None:
    with Command("run", script(tmp_path, way, drain=0.1)) as command, Peer.to(address_of(command)) as peer:
        peer.send(b"in flight")
        command.read_until("working")
        command.signal(signal.SIGTERM)
        assert peer.receive_all() == []
        command.tell("go on")
        ended = command.end()
    assert ended.stdout.count("cleaned up") == (way != "returned")
    assert ended.status == 143


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_drain_and_the_process_at_once(tmp_path: Path, second: signal.Signals) -> None:
    with Command("run", script(tmp_path, "wait")) as command:
        address = address_of(command)
        with Peer.to(address) as peer:
            peer.send(b"for good")
            command.read_until("working")
            command.signal(signal.SIGTERM)
            until(lambda: refused(address))
            # One that follows within a blink counts as the same, so this is said until it is heard.
            while command.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    command.signal(second)
            ended = command.end()
    assert ended.status == 128 + second
    assert "cleaned up" not in ended.stdout


@pytest.mark.parametrize("company", [False, True])
def test_ctrl_c_drains_nothing(tmp_path: Path, company: bool) -> None:
    prefix = "script | " if company else ""
    others = [write(tmp_path, "other.py", "import time\ntime.sleep(600)")] if company else []
    with Command("run", script(tmp_path, "wait"), *others) as command, Peer.to(address_of(command, prefix)) as peer:
        peer.send(b"in flight", b"behind it")
        command.read_until(f"{prefix}working")
        command.signal(signal.SIGINT)
        assert peer.receive_all() == []
        command.tell("go on")
        ended = command.end()
    assert "cleaned up" in ended.stdout
    assert ended.status == 130


def test_the_limit_is_as_documented() -> None:
    assert stopping.DRAIN == 5.0


def test_a_script_that_ends_by_itself_while_it_drains_keeps_its_status(tmp_path: Path) -> None:
    source = SERVING.format(drain=600) + f"{SAY_WHERE}\nwhile not server._actor.draining:\n    pass\nsys.exit(7)\n"
    with Command("run", write(tmp_path, "script.py", source)) as command, Peer.to(address_of(command)) as peer:
        peer.send(b"in flight")
        command.read_until("working")
        command.signal(signal.SIGTERM)
        assert peer.receive_all() == []
        command.tell("go on")
        ended = command.end()
    assert (ended.status, ended.stderr) == (7, "")

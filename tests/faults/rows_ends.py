"""The rows about ends: of links, of processes, of scripts with unsent data."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

from tests.faults.byhand import wires
from tests.faults.libraries import LIBRARIES, Library
from tests.faults.play import (
    BOUND,
    ROOT,
    Call,
    Hangs,
    Row,
    Verdict,
    child,
    connected,
    fails,
    holds,
    is_client,
    is_server,
    name_of,
    repeat,
    served,
    tells_of_ends,
    until,
    within,
)

CUT_BOUND = 90.0  # the longest default of any of them is 60 s

# -- killed -------------------------------------------------------------------------------------------------------------


def half_server(wire_name: str) -> None:
    """In a process of its own: a whole message, half of another, and nothing more until it is killed."""
    wire = wires[wire_name]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        sock = wire.welcome(listening)
        sock.sendall(wire.message(b"whole", client=False) + wire.message(b"x" * 1000, client=False)[:500])
        time.sleep(600)


def half_client(wire_name: str, port: str) -> None:
    wire = wires[wire_name]
    sock = wire.visit(int(port))
    sock.sendall(wire.message(b"whole", client=True) + wire.message(b"x" * 1000, client=True)[:500])
    wire.next(sock)
    print("in the middle", flush=True)
    time.sleep(600)


def killed_server(library: Library) -> Verdict:
    assert library.connect is not None
    with child("--half-server", library.wire) as (process, port):
        end = library.connect("127.0.0.1", int(port))
        if end.receive(BOUND) != b"whole":
            return fails("loses the whole one")
        process.kill()
        try:
            got = within(BOUND + 5, lambda: end.receive(BOUND))
        except Hangs:
            return fails("hangs")
        except Exception as exc:
            return holds(name_of(exc))
        return fails("is not told" if got is None else f"gives {len(got)} bytes of 1000 as a message")


def killed_client(library: Library) -> Verdict:
    """Seen from the server: what it echoed of the half, and whether the client is gone from it."""
    with served(library) as (serving, wire):
        with child("--half-client", library.wire, str(serving.port)) as (process, _):
            other = wire.visit(serving.port)
            other.sendall(wire.message(b"hello", client=True))
            wire.next(other)
            before = serving.clients()
            process.kill()
            if not until(lambda: serving.clients() == before - 1):
                return fails("is not told")
        return holds()


# -- a cable that is pulled ---------------------------------------------------------------------------------------------


def cut_link(library: Library) -> Verdict:
    """This process is in a network namespace of its own; its clients are in another."""

    def sh(command: str) -> None:
        subprocess.run(command, shell=True, check=True)

    there = subprocess.Popen(["unshare", "-n", "sleep", "600"])
    try:
        if not until(lambda: os.readlink(f"/proc/{there.pid}/ns/net") != os.readlink("/proc/self/ns/net")):
            raise Hangs
        inside = f"nsenter -t {there.pid} -n "
        sh(f"ip link set lo up && ip link add cable0 type veth peer name cable1 netns {there.pid}")
        sh("ip address add 10.231.0.1/24 dev cable0 && ip link set cable0 up")
        sh(inside + "ip address add 10.231.0.2/24 dev cable1")
        sh(inside + "ip link set cable1 up")
        host = "10.231.0.1"
        if library.serve is not None:
            serving = library.serve(host)
            port = serving.port
        else:
            serving = None
            listening = socket.create_server((host, 0))
            port = listening.getsockname()[1]
            welcomed = Call(lambda: wires[library.wire].welcome(listening))  # its socket lives as long as this name
        client = library if library.connect is not None else LIBRARIES["bus-tcp"]
        name = next(name for name, each in LIBRARIES.items() if each is client)
        command = [*inside.split(), sys.executable, "-m", "tests.faults", "--cut-client", name, host, str(port)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if process.stdout.readline() != "connected\n" or (serving is None and not until(welcomed.over)):
            return fails("no connection")
        if serving is not None and not until(serving.clients):
            return fails("no connection")
        time.sleep(1)  # what is under way arrives
        sh("ip link set cable0 down")
        began = time.monotonic()
        told = []
        if library.connect is not None:
            said = Call(process.stdout.readline)
            told.append(until(said.over, CUT_BOUND) and said.result() != "")
        if serving is not None:
            told.append(until(lambda: not serving.clients(), CUT_BOUND))
        process.kill()
        process.communicate()
        return holds(f"after {time.monotonic() - began:.0f} s") if all(told) else fails("is not told")
    finally:
        there.kill()
        there.wait()


def cut_client(name: str, host: str, port: str) -> None:
    connect = LIBRARIES[name].connect
    assert connect is not None
    end = connect(host, int(port))
    print("connected", flush=True)
    try:
        while end.receive(600) is None:
            pass
    except Exception as exc:
        print(name_of(exc), flush=True)
    os._exit(0)


# -- unsent data --------------------------------------------------------------------------------------------------------

QUEUED = 20_000
LEFT = 3000


def queued(library: Library) -> Verdict:
    with connected(library) as (end, sock, wire):

        def send_all() -> None:
            repeat(QUEUED, lambda: end.send(b"x" * 100))
            end.close()

        sending = Call(send_all)
        until(sending.over, 2)  # the reader begins late
        count = 0

        def read_all() -> None:
            nonlocal count
            while count < QUEUED:
                wire.next(sock)
                count += 1

        try:
            within(2 * BOUND, read_all)
        except (Hangs, OSError, EOFError):
            return fails(f"loses {QUEUED - count}")
        sock.close()
        try:
            sending.result()
        except Hangs:
            return fails("close hangs")
        return holds()


def leaving(name: str, port: str) -> None:
    """A script that sends and comes to its end."""
    connect = LIBRARIES[name].connect
    assert connect is not None
    end = connect("127.0.0.1", int(port))
    repeat(LEFT, lambda: end.send(b"x" * 1000))
    print("leaves", flush=True)


def unsent(library: Library) -> Verdict:
    wire = wires[library.wire]
    name = next(name for name, each in LIBRARIES.items() if each is library)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        welcoming = Call(lambda: wire.welcome(listening))
        command = [sys.executable, "-W", "ignore", "-m", "tests.faults", "--leaving", name, str(listening.getsockname()[1])]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        sock = welcoming.result()
        line = Call(process.stdout.readline)
        until(line.over, 2)  # the reader begins late; who blocks in send is read
        count = 0
        try:
            while count < LEFT:
                wire.next(sock)
                count += 1
        except (OSError, EOFError):
            return fails(f"loses {LEFT - count}")
        finally:
            gone = until(lambda: process.poll() is not None)
            process.kill()
            process.communicate()
        return holds() if gone else fails("the process does not end")


ROWS = [
    Row(
        "killed-server",
        "a server killed with -9 in the middle of a message",
        "`receive` gives no half message, and raises within 30 s",
        killed_server,
        lambda library: is_client(library) and tells_of_ends(library),
    ),
    Row(
        "killed-client",
        "a client killed with -9 in the middle of a message",
        "the server has one connection less within 30 s",
        killed_client,
        lambda library: is_server(library) and tells_of_ends(library),
    ),
    Row(
        "cut-link",
        "a link pulled while nothing is sent",
        "each end that is the library's is told within 90 s",
        cut_link,
        tells_of_ends,
        240,
    ),
    Row(
        "queued",
        "20,000 messages for a peer that reads late, then `close`",
        "all of them arrive, and the close returns within 30 s",
        queued,
        is_client,
    ),
    Row(
        "unsent",
        "the interpreter exits with 3 MB unsent, for a peer that reads late",
        "all of it arrives, and the process is gone within 30 s",
        unsent,
        is_client,
    ),
]

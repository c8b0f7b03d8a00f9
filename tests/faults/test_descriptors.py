"""A server whose process is out of descriptors: it accepts nobody for a while, serves who is there, says so once, and goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.bus.peers import ROOT, WAIT, InThread, Peer, python

resource = pytest.importorskip("resource", reason="this system has no limit on descriptors that a process can set for itself")
pytestmark = pytest.mark.fault

LIMIT = 64
CROWD = 3 * LIMIT

SERVER = """
import bus, logging, resource, sys, threading
import actors.listener

class Clock:
    ahead = 0.0
    def __call__(self): return real() + self.ahead
real, actors.listener.monotonic = actors.listener.monotonic, (clock := Clock())

lines = []
class Keep(logging.Handler):
    def emit(self, record): lines.append(record.getMessage())
logging.getLogger("actorbus").addHandler(Keep(logging.WARNING))

later = threading.Event()
def answer(msg, client):
    if msg.text == "slow":
        later.wait()
    elif msg.text == "go on":
        later.set()
    elif msg.text == "lines":
        return "\\n".join(lines)
    elif msg.text == "later":
        clock.ahead += 11
    return msg

with bus.serve("tcp://127.0.0.1:0", answer, **eval(sys.argv[1])) as server:
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[2])))
    print(server.address, flush=True)
    sys.stdin.read()
"""


@contextmanager
def server(options: str = "{}") -> Iterator[str]:
    """The address of a server in a process of its own, whose descriptors are few."""
    with subprocess.Popen(
        python(SERVER, options, str(LIMIT)), cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
            _, errors = process.communicate(timeout=WAIT)
            assert (process.returncode, errors) == (0, "")
        finally:
            process.kill()


def asks(peer: Peer, text: str) -> str:
    peer.send(text.encode())
    reply = peer.receive()
    assert reply is not None, "it was disconnected"
    return reply.decode()


def crowd(address: str, stack: ExitStack) -> list[Peer]:
    """More than can be accepted; all are connected, as the kernel sees it, and each has said something."""
    peers = [stack.enter_context(Peer.to(address)) for _ in range(CROWD)]
    for number, peer in enumerate(peers):
        peer.send(b"%d" % number)
    return peers


def all_are_served(peers: list[Peer]) -> None:
    """Each gets its reply and makes room for another."""
    for number, peer in enumerate(peers):
        assert peer.receive() == b"%d" % number
        peer.close()


def says_that_it_cannot_accept(neighbour: Peer) -> list[str]:
    while not (lines := asks(neighbour, "lines")):
        pass
    return lines.splitlines()


@pytest.mark.parametrize("options", ["{}", "{'threads': 2}", "{'serial': True}"])
def test_accepting_backs_off_and_goes_on_and_says_so_once(options: str) -> None:
    with server(options) as address, Peer.to(address) as neighbour, ExitStack() as stack:
        assert asks(neighbour, "first") == "first"
        peers = crowd(address, stack)
        (line,) = says_that_it_cannot_accept(neighbour)
        assert line.startswith(f"cannot accept on {address}: ")
        assert "trying again every 0.1 s" in line
        all_are_served(peers)
        assert asks(neighbour, "lines") == line
        # And again, soon: that is the same trouble still. Much later it is news.
        all_are_served(crowd(address, stack))
        assert asks(neighbour, "lines") == line
        assert asks(neighbour, "later") == "later"
        peers = crowd(address, stack)
        while len(asks(neighbour, "lines").splitlines()) < 2:
            pass
        all_are_served(peers)
        assert len(asks(neighbour, "lines").splitlines()) == 2


def trips(peer: Peer, over: Callable[[], bool]) -> int:
    count = 0
    while not over() or count < 100:
        assert asks(peer, str(count)) == str(count)
        count += 1
    return count


@pytest.mark.parametrize("options", ["{}", "{'threads': 2}", "{'serial': True}"])
def test_slow_callbacks_without_a_descriptor_left_harm_nobody(options: str) -> None:
    with server(options) as address, ExitStack() as stack:
        neighbour, slow, other = (stack.enter_context(Peer.to(address)) for _ in range(3))
        for peer in (neighbour, slow, other):
            assert asks(peer, "here") == "here"
        peers = crowd(address, stack)
        says_that_it_cannot_accept(neighbour)
        if options == "{'serial': True}":
            slow.send(b"go on")
            assert slow.receive() == b"go on"
        else:
            slow.send(b"slow")  # takes a thread more, which has descriptors of its own
            assert trips(neighbour, lambda: True) >= 100
            assert asks(other, "go on") == "go on"
            assert slow.receive() == b"slow"
        ended = InThread(lambda: all_are_served(peers))
        ended.result()
        for peer in (neighbour, slow, other):
            assert asks(peer, "unharmed") == "unharmed"

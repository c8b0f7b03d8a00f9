"""A cluster of servers in processes of their own, over a real NATS server."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

import bus
from tests.bus.peers import ROOT, WAIT, python, until
from tests.natsserver import NatsServer

NODE = """
import sys, bus
with bus.open(sys.argv[1], timeout=30) as topics:
    with bus.serve("tcp://127.0.0.1:0", lambda msg, client: b"echo " + msg.data, cluster="chat") as server:
        print(server.address, flush=True)
        for line in sys.stdin:
            verb, _, rest = line.strip().partition(" ")
            if verb == "say":
                print(server.send_to_all(rest).elsewhere, flush=True)
            elif verb == "count":
                print(server.count_all(timeout=30, expected=int(rest)), flush=True)
            elif verb == "cut":
                print(server.cut_off, flush=True)
"""


class Node:
    """A process that serves; it does what a line says, and answers with a line."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(python(NODE, url), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = ""

    def read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the node ended with {self.process.wait(WAIT)}"
        return line.strip()

    def do(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT)

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def nodes(url: str, count: int) -> Iterator[list[Node]]:
    with ExitStack() as stack:
        started = []
        for _ in range(count):
            started.append(Node(url))
            stack.callback(started[-1].close)
        for node in started:
            node.address = node.read()
        yield started


@contextmanager
def clients(node: Node, count: int) -> Iterator[list[bus.Connection]]:
    """That node serves them: each was answered."""
    with ExitStack() as stack:
        made = [stack.enter_context(bus.connect(f"tcp://{node.address}", timeout=WAIT)) for _ in range(count)]
        for conn in made:
            conn.send("hello")
        assert heard(made, 1) == [["echo hello"]] * count
        yield made


def heard(conns: list[bus.Connection], count: int) -> list[list[str]]:
    return [[message.text for _ in range(count) if (message := conn.receive(timeout=WAIT))] for conn in conns]


def test_no_script_hears_what_nodes_and_engines_say_to_each_other(nats_server: NatsServer) -> None:
    with bus.open(nats_server.url, timeout=WAIT), bus.subscribe(">") as sub, bus.respond("test.asked", lambda msg: "answer"):
        with bus.serve("tcp://127.0.0.1:0", lambda msg, client: None, cluster="chat") as one:
            one.send_to_all("hello")
            assert one.nodes(timeout=WAIT, expected=1)
            bus.request("test.asked", "", timeout=WAIT)
            bus.publish("test.last", "")
            heard = [message.source for _ in range(2) if (message := sub.receive(timeout=WAIT))]
            assert heard == ["test.asked", "test.last"]


@pytest.mark.slow
def test_three_nodes_300_clients_everybody_hears_everything_once(nats_server: NatsServer) -> None:
    with nodes(nats_server.url, 3) as (one, two, three), clients(one, 100) as a, clients(two, 100) as b, clients(three, 100) as c:
        assert one.do("count 3") == "300"
        for node in (one, two, three):
            assert node.do(f"say from {node.address}") == "taken"
        expected = sorted(f"from {node.address}" for node in (one, two, three))
        assert [sorted(texts) for texts in heard(a + b + c, 3)] == [expected] * 300

        three.kill()
        for conn in c:
            with pytest.raises(bus.BusError):
                conn.receive(timeout=WAIT)
        for node in (one, two):
            assert node.do(f"say still {node.address}") == "taken"
        expected = sorted(f"still {node.address}" for node in (one, two))
        assert [sorted(texts) for texts in heard(a + b, 2)] == [expected] * 200  # and nothing twice before it
        assert two.do("count 2") == "200"


@pytest.mark.slow
@pytest.mark.fault
def test_nodes_that_are_cut_off_serve_their_own(own_nats_server: NatsServer) -> None:
    with nodes(own_nats_server.url, 2) as (one, two), clients(one, 3) as a, clients(two, 3) as b:
        assert one.do("say together") == "taken"
        assert heard(a + b, 1) == [["together"]] * 6
        own_nats_server.kill()
        until(lambda: one.do("cut") == two.do("cut") == "True")
        for node, own in ((one, a), (two, b)):
            assert node.do("say apart") == "queued"
            assert heard(own, 1) == [["apart"]] * 3  # at once
            own[0].send("hi")
            assert heard(own[:1], 1) == [["echo hi"]]
            assert node.do("count 2") == "3"
        own_nats_server.start()
        until(lambda: one.do("cut") == two.do("cut") == "False")
        assert one.do("count 2") == "6"
        # What was said apart may reach the others now, or be lost if they came back later; what is said now reaches everybody, once.
        assert one.do("say again") == "taken"
        for conn in a + b:
            texts = heard([conn], 1)[0]
            if texts == ["apart"]:
                texts = heard([conn], 1)[0]
            assert texts == ["again"]


def test_explain_tells_how_the_engine_stands_and_who_is_in_a_cluster(own_nats_server: NatsServer) -> None:
    url = re.escape(own_nats_server.url)
    with bus.open(own_nats_server.url, timeout=WAIT) as topics:
        with bus.serve("tcp://127.0.0.1:0", lambda msg, client: None, cluster="chat") as server:
            assert re.search(rf"^topics by {url}, connected for \d+\.\d s$", bus.explain(), re.MULTILINE)
            assert f"server {server.address} of cluster chat, serving for " in bus.explain()
            own_nats_server.kill()
            until(lambda: not topics.connected())
            assert re.search(rf"^topics by {url}, not connected for \d+\.\d s: \w+", bus.explain(), re.MULTILINE)
            assert f"server {server.address} of cluster chat (cut off), serving for " in bus.explain()

"""A fork while topics are on a server: the connection is the parent's."""

from __future__ import annotations

import os

import pytest

from tests.bus.peers import run_script
from tests.certificates import Certificate
from tests.natsserver import NatsServer

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="descriptors are seen through /proc")

SCRIPT = """
import gc, os, sys, warnings
import bus
warnings.simplefilter("ignore")
options = {"ca": sys.argv[2]} if len(sys.argv) > 2 else {}

def descriptors():
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[int(number)] = os.readlink("/proc/self/fd/" + number)
        except OSError:
            pass
    return found

def goes_through(text):
    bus.publish("fork.a", text)
    return sub.receive(30).text

before = set(descriptors().values())
topics = bus.open(sys.argv[1], timeout=30, **options)
loop = topics._engine.transport.loop
own = {end.fileno() for end in (loop.connection.get_extra_info("socket"), loop._ssock, loop._csock, loop._selector)}
theirs = {number: target for number, target in descriptors().items() if number in own}
assert len(theirs) == 4, theirs
sub = bus.subscribe("fork.a")
print(goes_through("before"), flush=True)
child = os.fork()
if not child:
    left = [number for number, target in theirs.items() if descriptors().get(number) == target and target.startswith("socket")]
    print("left:", left, [number for number in own if number in descriptors()], flush=True)
    for call in (sub.receive, lambda: bus.publish("fork.a", "x")):
        try:
            call()
        except bus.Broken as exc:
            print("before a fork" in str(exc), flush=True)
    print(topics.connected(), topics.close(), flush=True)
    del topics, sub, loop
    gc.collect()
    with bus.open(sys.argv[1], timeout=30, **options), bus.subscribe("fork.b") as sub:
        bus.publish("fork.b", "in the child")
        print(sub.receive(30).text, flush=True)
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
print(goes_through("after"), topics.connected(), topics._engine.transport.dropped)
topics.close()
"""
SAID = ["before", "left: [] []", "True", "True", "False True", "in the child", "after True 0"]


def test_the_child_closes_its_copies_and_disturbs_nobody(nats_server: NatsServer) -> None:
    assert run_script(SCRIPT, nats_server.url).splitlines() == SAID


def test_under_tls_too(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> None:
    config = f'tls {{ cert_file: "{certificate.certificate}", key_file: "{certificate.key}" }}'
    with NatsServer(tmp_path_factory.mktemp("nats"), config=config) as server:
        assert run_script(SCRIPT, server.url, str(certificate.certificate)).splitlines() == SAID

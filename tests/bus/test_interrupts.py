"""Ctrl-C, at any moment and by the hundred: nothing lost, nothing twice, no frame torn; and every blocking call ends with it.

The storms run in processes of their own, because signals reach the main thread. There the interrupt is raised while `armed`, at any
bytecode of ours, also in what runs because of the interrupt before. A script's own `except` and `finally` are not the matter here.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import socket
import subprocess
import time
from typing import Any

import pytest

from tests.bus.peers import ROOT, WAIT, InThread, Peer, frame, python, run_script

TOTAL = 20_000

# How often an interrupt has to have been caught, to be called a storm.
STORM = 200

# What every storm has around the loop under test. `rest()` is what a round does, to be called over and over until it returns True.
AROUND = """
import bus, gc, json, signal, sys
armed = False

def interrupt(number, frame):
    if armed:
        raise KeyboardInterrupt

def weather(rest):
    global armed
    caught = 0
    over = False
    while not over:
        try:
            armed = True
            over = rest()
            armed = False
        except KeyboardInterrupt:
            armed = False
            caught += 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return caught

signal.signal(signal.SIGINT, interrupt)
TOTAL = int(sys.argv[2])
got = []
"""

# The ways a script reads. `got.append` is one C call after the store, so an interrupt finds a message with us or with the library.
RECEIVING = {
    "receive": """
conn = bus.connect("tcp://" + sys.argv[1])
def rest():
    while len(got) < TOTAL:
        msg = conn.receive()
        got.append(msg.data)
    return True
""",
    "receive with a timeout": """
conn = bus.connect("tcp://" + sys.argv[1])
def rest():
    while len(got) < TOTAL:
        msg = conn.receive(timeout=0.001)
        if msg is not None:
            got.append(msg.data)
    return True
""",
    "iteration": """
conn = bus.connect("tcp://" + sys.argv[1])
def rest():
    for msg in conn:
        got.append(msg.data)
    return True
""",
    "after fileno": """
conn = bus.connect("tcp://" + sys.argv[1])
conn.fileno()
def rest():
    while len(got) < TOTAL:
        msg = conn.receive()
        got.append(msg.data)
    return True
""",
    "a small mailbox": """
conn = bus.connect("tcp://" + sys.argv[1], mailbox_messages=20, mailbox_bytes=2000)
def rest():
    while len(got) < TOTAL:
        msg = conn.receive()
        got.append(msg.data)
    return True
""",
    "a small mailbox after fileno": """
conn = bus.connect("tcp://" + sys.argv[1], mailbox_messages=20, mailbox_bytes=2000)
conn.fileno()
def rest():
    while len(got) < TOTAL:
        msg = conn.receive()
        got.append(msg.data)
    return True
""",
    "receive_any": """
conn = bus.connect("tcp://" + sys.argv[1])
other = bus.bind("udp://127.0.0.1:0")
def rest():
    while len(got) < TOTAL:
        source, msg = bus.receive_any([conn, other])
        got.append(msg.data)
    return True
""",
    "receive_any and receive by turns": """
conn = bus.connect("tcp://" + sys.argv[1])
other = bus.bind("udp://127.0.0.1:0")
def rest():
    while len(got) < TOTAL:
        if len(got) % 7:
            source, msg = bus.receive_any([other, conn], timeout=0.001)
        else:
            msg = conn.receive(timeout=0.001)
        if msg is not None:
            got.append(msg.data)
    return True
""",
}

REPORT = """
print(json.dumps({"caught": weather(rest), "got": [int(data[:8]) for data in got]}))
"""

# Seconds between two signals: hardly any, a turn of the loop or so, and now and then a pause.
SPACINGS = {"dense": (0.0, 0.0001), "loose": (0.0002, 0.001), "mixed": (0.0, 0.002)}


def storm(script: subprocess.Popen[Any], peer: Peer, chance: random.Random, spacing: tuple[float, float]) -> None:
    """Send TOTAL numbered messages in bursts of every size, cut anywhere, with a signal after each."""
    number = 0
    signals = 0
    rest = b""
    while number < TOTAL or signals < 2 * STORM:
        burst = chance.choice((0, 1, 1, 1, 2, 20, 200))
        wire = rest + b"".join(frame(b"%08d" % each + b"." * chance.randrange(60)) for each in range(number, min(TOTAL, number + burst)))
        number = min(TOTAL, number + burst)
        cut = chance.randrange(len(wire) + 1) if number < TOTAL and chance.random() < 0.3 else len(wire)
        peer.sock.sendall(wire[:cut])
        rest = wire[cut:]
        if script.poll() is not None:
            return  # it has all it wanted, or it has failed: its output tells
        if number < TOTAL or chance.random() < 0.5:
            script.send_signal(signal.SIGINT)
            signals += 1
        if number >= TOTAL:
            break
        time.sleep(chance.uniform(*spacing))
    peer.sock.sendall(rest)
    peer.finish()


# All ways at all spacings take a minute; a normal run has the three that most scripts use.
COMMON = {("receive", "mixed"), ("iteration", "mixed"), ("receive_any", "mixed")}


@pytest.mark.parametrize(
    ("how", "spacing"),
    [
        pytest.param(RECEIVING[how], SPACINGS[spacing], id=f"{how}-{spacing}", marks=[] if (how, spacing) in COMMON else [pytest.mark.slow])
        for how in RECEIVING
        for spacing in SPACINGS
    ],
)
def test_a_storm_of_interrupts_loses_nothing_and_doubles_nothing(how: str, spacing: tuple[float, float]) -> None:
    chance = random.Random()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WAIT)
        address = "{}:{}".format(*listening.getsockname())
        code = AROUND + how + REPORT
        with subprocess.Popen(python(code, address, str(TOTAL)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as script:
            try:
                with Peer(listening.accept()[0]) as peer:
                    reading = InThread(lambda: script.communicate(timeout=2 * WAIT))
                    storm(script, peer, chance, spacing)
                    stdout, stderr = reading.result()
            finally:
                script.kill()
    assert script.returncode == 0, stderr.decode()
    told = json.loads(stdout)
    assert told["got"] == list(range(TOTAL)), differences(told["got"])
    assert told["caught"] >= STORM / 10  # while it does not get the processor, many come as one


def differences(got: list[int]) -> str:
    lost = sorted(set(range(TOTAL)) - set(got))
    twice = sorted({number for number in got if got.count(number) > 1}) if len(got) != len(set(got)) else []
    return f"{len(lost)} lost {lost[:5]}, {len(twice)} twice {twice[:5]}, in order: {got == sorted(got)}"


SENDING = {
    "send": """
conn = bus.connect("tcp://" + sys.argv[1], max_size=2**20)
def rest():
    global number
    while number < TOTAL:
        number += 1  # before: an interrupted send is not repeated, because it may have been taken
        conn.send(b"%08d" % number + b"." * (number * 7919 % SIZE))
        done.append(number)
    return True
""",
    "send with a small outbox": """
conn = bus.connect("tcp://" + sys.argv[1], outbox_bytes=20_000)
def rest():
    global number
    while number < TOTAL:
        number += 1
        conn.send(b"%08d" % number + b"." * (number * 7919 % SIZE), timeout=None)
        done.append(number)
    return True
""",
    "send_many": """
conn = bus.connect("tcp://" + sys.argv[1], outbox_bytes=50_000)
def rest():
    global number
    while number < TOTAL:
        first = number + 1
        number = min(TOTAL, number + 20)
        batch = range(first, number + 1)
        conn.send_many([b"%08d" % each + b"." * (each * 7919 % SIZE) for each in batch], timeout=None)
        done.extend(batch)
    return True
""",
}

SENT = """
caught = weather(rest)
print(json.dumps({"caught": caught, "done": done, "closed": conn.close(linger=60)}))
"""


@pytest.mark.parametrize(
    ("size", "total"), [pytest.param(600, 3 * TOTAL, id="small", marks=pytest.mark.slow), pytest.param(4000, TOTAL, id="large")]
)
@pytest.mark.parametrize("how", SENDING.values(), ids=SENDING)
def test_a_storm_of_interrupts_while_sending_tears_no_frame_and_doubles_none(how: str, size: int, total: int) -> None:
    chance = random.Random()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WAIT)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        address = "{}:{}".format(*listening.getsockname())
        code = AROUND + f"SIZE = {size}\nnumber = 0\ndone = []\n" + how + SENT
        with subprocess.Popen(python(code, address, str(total)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as script:
            try:
                with Peer(listening.accept()[0]) as peer:
                    reading = InThread(lambda: script.communicate(timeout=2 * WAIT))
                    received: list[int] = []
                    while (message := peer.receive()) is not None:
                        number = int(message[:8])
                        assert message[8:] == b"." * (number * 7919 % size), "a torn frame"
                        received.append(number)
                        if chance.random() < 10 * STORM / total:
                            script.send_signal(signal.SIGINT)
                    peer.close()
                    stdout, stderr = reading.result()
            finally:
                script.kill()
    assert script.returncode == 0, stderr.decode()
    told = json.loads(stdout)
    assert all(earlier < later for earlier, later in itertools.pairwise(received)), "twice, or out of order"
    lost = set(told["done"]) - set(received)
    assert not lost, f"{len(lost)} messages are lost whose send had returned"
    assert told["closed"] is True
    assert told["caught"] >= STORM / 10  # while it does not get the processor, many come as one


def test_a_storm_over_datagrams_loses_nothing_that_the_kernel_did_not() -> None:
    chance = random.Random()
    code = (
        AROUND
        + """
sock = bus.bind("udp://127.0.0.1:0")
print(sock.address, flush=True)
def rest():
    while True:
        msg = sock.receive()
        got.append(msg.data)
        if msg.data == b"the end":
            return True
caught = weather(rest)
print(json.dumps({"caught": caught, "got": [int(data) for data in got[:-1]], "lost": sock.stats().lost}))
"""
    )
    with subprocess.Popen(python(code, "", str(TOTAL)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as script:
        assert script.stdout is not None
        try:
            host, _, port = script.stdout.readline().decode().strip().rpartition(":")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
                number = 0
                while number < TOTAL // 2:
                    for _ in range(chance.choice((1, 1, 2, 20))):
                        plain.sendto(b"%d" % number, (host, int(port)))
                        number += 1
                    script.send_signal(signal.SIGINT)
                    time.sleep(chance.uniform(0, 0.001))
                reading = InThread(lambda: script.communicate(timeout=2 * WAIT))
                while reading.thread.is_alive():
                    plain.sendto(b"the end", (host, int(port)))  # until one has come: it may be dropped like any other
                    reading.thread.join(0.05)
                stdout, stderr = reading.result()
        finally:
            script.kill()
    assert script.returncode == 0, stderr.decode()
    told = json.loads(stdout)
    assert told["got"] == sorted(set(told["got"]))
    assert len(told["got"]) + told["lost"] == number
    assert told["caught"] >= STORM


# --- one interrupt in each blocking call ---

SETUP = """
import bus, logging, os, signal, socket, sys, threading, warnings
from tests.bus.peers import Peer, fill_up, interrupt_when_blocked, until
logging.disable()
warnings.simplefilter("ignore", ResourceWarning)
BIG = b"x" * 65_536
listener = bus.listen("tcp://127.0.0.1:0")
conn = bus.connect("tcp://" + listener.address)
peer = listener.accept()
sock = bus.bind("udp://127.0.0.1:0")
"""

# Code before, the call that blocks, and what has to work afterwards.
BLOCKING = {
    "receive": ("", "conn.receive()", "peer.send('x'); assert conn.receive().text == 'x'"),
    "receive with a timeout": ("", "conn.receive(timeout=1000)", "peer.send('x'); assert conn.receive(timeout=20).text == 'x'"),
    "receive after fileno": ("conn.fileno()", "conn.receive()", "peer.send('x'); assert conn.receive().text == 'x'"),
    "iteration": ("", "list(conn)", "peer.send('x'); assert next(conn).text == 'x'"),
    "accept": ("", "listener.accept()", "other = bus.connect('tcp://' + listener.address); listener.accept().send('x')"),
    "accept in a loop": ("", "list(listener)", "other = bus.connect('tcp://' + listener.address); listener.accept().send('x')"),
    "receive_any": ("", "bus.receive_any([conn, sock])", "peer.send('x'); assert bus.receive_any([conn, sock])[0] is conn"),
    "a datagram": ("", "sock.receive()", "sock.send_to(sock.address, 'x'); assert sock.receive().text == 'x'"),
    "send": (
        "",
        "while True: conn.send(BIG, timeout=None)",
        "assert [peer.receive().data for _ in range(conn.stats().messages_out)] == [BIG] * conn.stats().messages_out",
    ),
    # The first message goes before: an interrupt while the others are joined has taken nothing of them.
    "send_many": ("conn.send(BIG)", "conn.send_many([BIG] * 1000, timeout=None)", "assert peer.receive().data == BIG"),
    "close": ("fill_up(conn, BIG)", "conn.close(linger=1000)", "assert peer.receive().data == BIG"),
    "wait": (
        "server = bus.serve('tcp://127.0.0.1:0', lambda msg, client: msg)",
        "server.wait()",
        "c = bus.connect('tcp://' + server.address); c.send('x'); assert c.receive().text == 'x'; server.stop()",
    ),
    "stop": (
        "server = bus.serve('tcp://127.0.0.1:0', print); deaf = Peer.to(server.address); until(lambda: server.clients);"
        "fill_up(server.clients[0], BIG)",
        "server.stop(linger=1000)",
        "deaf.reset(); assert server.wait(timeout=20)",
    ),
    "connect": (
        # An accept queue that is full: the kernel leaves further connects without an answer.
        "full = socket.socket(); full.bind(('127.0.0.1', 0)); full.listen(0)\n"
        "crowd = [socket.socket() for _ in range(4)]\n"
        "for each in crowd: each.setblocking(False); each.connect_ex(full.getsockname())\n",
        "bus.connect('tcp://%s:%d' % full.getsockname(), timeout=None)",
        "for each in crowd: each.close()",
    ),
    "looking up a name": (
        "real = socket.getaddrinfo; release = threading.Event()\n"
        "def hangs(host, port, family, kind, proto, flags):\n"
        "    if not flags & socket.AI_NUMERICHOST: release.wait(60)\n"
        "    return real(host, port, family, kind, proto, flags | socket.AI_NUMERICHOST)\n"
        "socket.getaddrinfo = hangs\n",
        "bus.connect('tcp://somewhere.example:1', timeout=None)",
        "release.set()",
    ),
    "shutdown": (
        "deaf = socket.create_server(('127.0.0.1', 0)); other = bus.connect('tcp://%s:%d' % deaf.getsockname()); fill_up(other, BIG)",
        "bus.shutdown(timeout=1000)",
        "deaf.close()",
    ),
}


@pytest.mark.parametrize("blocking", BLOCKING.values(), ids=list(BLOCKING))
def test_ctrl_c_ends_a_blocking_call_and_breaks_nothing(blocking: tuple[str, str, str]) -> None:
    before, call, after = blocking
    code = f"""{SETUP}
{before}
interrupt_when_blocked()
try:
    {call}
except KeyboardInterrupt:
    print("interrupted")
{after}
print("goes on")
for each in (conn, peer): each.close(0)
"""
    assert run_script(code) == "interrupted\ngoes on\n"


def test_ctrl_c_without_an_except_ends_the_script() -> None:
    code = f"""{SETUP}
interrupt_when_blocked()
with conn:
    conn.receive()
"""
    run_script(code, status=-signal.SIGINT)


def test_a_flood_of_interrupts_while_opening_and_closing_leaves_a_library_that_works() -> None:
    code = (
        AROUND
        + """
import os, threading, time, warnings, logging
warnings.simplefilter("ignore")
logging.disable()
server = bus.serve("tcp://127.0.0.1:0", lambda msg, client: msg)
rounds = 0
over = threading.Event()
def pester():
    while not over.is_set():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.0007)
def rest():
    global rounds
    while rounds < 300:
        rounds += 1
        with bus.connect("tcp://" + server.address) as conn:
            conn.send("x")
            conn.receive()
    return True
threading.Thread(target=pester, daemon=True).start()
caught = weather(rest)
over.set()
gc.collect()
with bus.connect("tcp://" + server.address) as conn:
    conn.send("alive")
    reply = conn.receive(timeout=20)  # now all that came before it have been accepted, too
    deadline = time.monotonic() + 20
    while len(server.clients) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    print(reply.text, caught > 20, len(server.clients))
"""
    )
    assert run_script(code, "", "0") == "alive True 1\n"


def test_a_signal_that_is_handled_and_does_not_raise_disturbs_nobody() -> None:
    printed = run_script(
        f"""{SETUP}
signal.signal(signal.SIGUSR1, lambda *_: None)
over = threading.Event()
def pester():
    while not over.wait(0.0005):
        os.kill(os.getpid(), signal.SIGUSR1)
threading.Thread(target=pester, daemon=True).start()
def send():
    for number in range(5000):
        peer.send(str(number))
threading.Thread(target=send, daemon=True).start()
assert [conn.receive().text for _ in range(5000)] == [str(number) for number in range(5000)]
assert conn.receive(timeout=0.1) is None
over.set()
print("in order")
conn.close(0)
"""
    )
    assert printed == "in order\n"

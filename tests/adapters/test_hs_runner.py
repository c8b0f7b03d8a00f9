"""Where and when the callbacks of hs run: under the runner, in a program that calls `hs.run()`, and in one that does not."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from actors import crew
from actors.sockets import has_ipv6
from adapters import hs
from tests.adapters.command import Command, environment, run, write
from tests.adapters.hsscript import free_port, plain_socket
from tests.bus.peers import WAIT, run_script

PING_PONG = """
import hs

def ping(data, addr):
    print(data)
    addr = hs.socket.parseAddress(addr)
    def later():
        client.send("ping", addr.host, addr.port)
    hs.timer.doAfter(1, later)

def pong(data, addr):
    print(data)
    addr = hs.socket.parseAddress(addr)
    def later():
        server.send("pong", addr.host, addr.port)
    hs.timer.doAfter(1, later)

server = hs.socket.udp.server(9001, pong).receive()
client = hs.socket.udp.new(ping).send("ping", "localhost", 9001).receive()
"""

LISTENERS = """
import hs

def callbackMaker(name):
    def fun(data, addr):
        addr = hs.socket.parseAddress(addr)
        print(name + " received data:\\n" + data + "\\nfrom host: " + addr.host + " port: " + str(addr.port))
    return fun

listeners = []
port = 9001

for i in range(1, 4):
    listeners.append(hs.socket.udp.new(callbackMaker("listener " + str(i))).reusePort().listen(port).receive())

broadcaster = hs.socket.udp.new().broadcast()
broadcaster.send("hello!", "255.255.255.255", port)
"""

LOGGING = "import logging; logging.basicConfig(format='%(message)s', stream=__import__('sys').stdout); "
LOGGING += "logging.getLogger('actorbus.hs').setLevel(logging.DEBUG)\n"


def on_port(program: str, port: int) -> str:
    """The document's program at another port, faster, and to this machine only."""
    return program.replace("9001", str(port)).replace("doAfter(1,", "doAfter(0.01,").replace("255.255.255.255", "127.255.255.255")


# --- the document's programs ---


def test_the_endless_ping_pong_of_the_document(tmp_path: Path) -> None:
    script = write(tmp_path, "pingpong.py", on_port(PING_PONG, free_port()))
    with Command("run", script, env={"PYTHONUNBUFFERED": "1"}) as command:
        while len(command.said) < 6:
            command.said.append(command.process.stdout.readline().rstrip("\n"))  # type: ignore[union-attr]
        command.signal(signal.SIGINT)
        ended = command.end()
    assert ended.lines[:6] == ["ping", "pong"] * 3
    assert (ended.status, ended.stderr) == (130, "")


def test_with_logging_it_prints_what_the_document_shows(tmp_path: Path) -> None:
    script = write(tmp_path, "pingpong.py", LOGGING + on_port(PING_PONG, free_port()))
    with Command("run", script, env={"PYTHONUNBUFFERED": "1"}) as command:
        while len(command.said) < 12:
            command.said.append(command.process.stdout.readline().rstrip("\n"))  # type: ignore[union-attr]
        command.signal(signal.SIGINT)
        command.end()
    assert command.said[:12] == [
        line for data in ("ping", "pong", "ping", "pong") for line in ("Data written to UDP socket", "Data read from UDP socket", data)
    ]


@pytest.mark.skipif(sys.platform != "linux" or not has_ipv6(), reason="broadcasts on dual-stack sockets are tried on Linux, with IPv6")
def test_three_listeners_hear_a_broadcast_twice_as_in_the_document(tmp_path: Path) -> None:
    script = write(tmp_path, "listeners.py", on_port(LISTENERS, free_port()))
    with Command("run", script, env={"PYTHONUNBUFFERED": "1"}) as command:
        while len(command.said) < 18:
            command.said.append(command.process.stdout.readline().rstrip("\n"))  # type: ignore[union-attr]
        command.signal(signal.SIGINT)
        ended = command.end()
    found = re.findall(r"(listener \d) received data:\nhello!\nfrom host: (\S+) port: (\d+)", "\n".join(ended.lines))
    assert len(found) == 6
    names, hosts, ports = ({each[part] for each in found} for part in range(3))
    assert names == {"listener 1", "listener 2", "listener 3"}
    assert len(hosts) == 2
    assert {host for host in hosts if host.startswith("::ffff:")} == {f"::ffff:{host}" for host in hosts if ":" not in host}
    assert len(ports) == 1
    assert len({(name, host) for name, host, _ in found}) == 6


# --- under the runner ---

RUNS_ITS_COURSE = """
import threading, time
import hs

mine = threading.get_ident()

def heard(data, sockaddr):
    print("heard", data, threading.get_ident() == mine)
    address = hs.socket.parseAddress(sockaddr)
    server.send("pong", address.host, address.port, 3, written)

def written(tag):
    print("written", tag, threading.get_ident() == mine)

def answered(data, sockaddr):
    print("answered", data)
    server.close()

server = hs.socket.udp.server(0, heard).receive()
client = hs.socket.udp.new(answered)
client.connect("localhost", server.info()["localPort"], lambda: print("connected"))
client.send("ping", lambda tag: print("sent", tag)).receiveOne()
time.sleep(0.1)
print("top level")
"""


def test_callbacks_come_on_the_scripts_thread_after_its_top_level_and_it_ends_with_the_last(tmp_path: Path) -> None:
    ended = run(write(tmp_path, "script.py", RUNS_ITS_COURSE))
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.lines == ["top level", "connected", "sent -1", "heard ping True", "written 3 True", "answered pong"]


def test_scripts_that_run_together_have_a_dispatcher_each(tmp_path: Path) -> None:
    ended = run(write(tmp_path, "one.py", RUNS_ITS_COURSE), write(tmp_path, "two.py", RUNS_ITS_COURSE))
    assert (ended.status, ended.stderr) == (0, "")
    for name in ("one", "two"):
        assert ended.lines_of(name) == ["top level", "connected", "sent -1", "heard ping True", "written 3 True", "answered pong"]


@pytest.mark.parametrize(
    "source",
    [
        "import hs; s = hs.socket.udp.server(0, print)",
        "import hs; s = hs.socket.udp.server(0, print).receive().pause()",
        "import hs; s = hs.socket.udp.server(0, print).receive().setCallback()",
        "import hs; s = hs.socket.udp.server(0, print).receive().close()",
        "import hs; s = hs.socket.udp.new(print).broadcast().receive()",
        "import hs; t = hs.timer.doAfter(3600, print).stop()",
        "import hs; s = hs.socket.udp.new().send('x', 'localhost', 9)",
    ],
)
def test_a_script_is_over_when_no_callback_can_come(tmp_path: Path, source: str) -> None:
    ended = run(write(tmp_path, "script.py", source))
    assert (ended.status, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import hs; hs.timer.doAfter(0.05, lambda: print('rung'))", ["rung"]),
        ("import hs; hs.socket.udp.new().send('x', 'localhost', 9, print)", ["-1"]),
        ("import hs; hs.socket.udp.new().connect('localhost', 9, lambda: print('connected'))", ["connected"]),
    ],
)
def test_a_script_lives_as_long_as_one_can(tmp_path: Path, source: str, said: list[str]) -> None:
    ended = run(write(tmp_path, "script.py", source))
    assert (ended.status, ended.stderr, ended.lines) == (0, "", said)


def test_a_callback_may_end_its_script(tmp_path: Path) -> None:
    source = """
        import hs, sys
        server = hs.socket.udp.server(0, print).receive()
        hs.timer.doAfter(0, lambda: sys.exit(3))
    """
    ended = run(write(tmp_path, "script.py", source))
    assert (ended.status, ended.stderr) == (3, "")


def test_an_exception_in_a_callback_is_reported_and_the_script_goes_on(tmp_path: Path) -> None:
    source = """
        import hs
        hs.timer.doAfter(0, lambda: 1 / 0)
        hs.timer.doAfter(0.01, lambda: print("on it goes"))
    """
    ended = run(write(tmp_path, "script.py", source))
    assert (ended.status, ended.lines) == (0, ["on it goes"])
    assert "hs.timer callback" in ended.stderr
    assert "ZeroDivisionError" in ended.stderr


def test_hs_run_in_a_script_runs_there(tmp_path: Path) -> None:
    source = """
        import hs
        hs.timer.doAfter(0.01, lambda: print("rung"))
        hs.run()
        print("after")
    """
    assert run(write(tmp_path, "script.py", source)).lines == ["rung", "after"]


def test_the_original_names_lead_to_our_modules(tmp_path: Path) -> None:
    source = """
        import hs
        import hs.socket.udp
        import hs.timer
        from hs.socket import udp
        from hs.socket.udp import new, server, parseAddress
        from hs.timer import doAfter
        import adapters.hs.socket.udp as ours
        assert udp is ours is hs.socket.udp
        hs.socket.udp.timeout = 4
        print(new().info()["timeout"])
    """
    ended = run(write(tmp_path, "script.py", source))
    assert (ended.status, ended.stderr, ended.lines) == (0, "", ["4.0"])


# --- in a program ---


def test_a_program_gives_its_thread_to_the_callbacks() -> None:
    out = run_script("""
import threading
import adapters
from tests.bus.peers import until_blocked
adapters.install()
import hs

mine = threading.get_ident()

def heard(data, sockaddr):
    print(data, threading.get_ident() == mine)
    try:
        hs.run()
    except RuntimeError as exc:
        print(exc)
    server.close()

server = hs.socket.udp.server(0, heard).receive()

def send():
    until_blocked(threading.main_thread())
    hs.socket.udp.new().send("hello", "localhost", server.info()["localPort"])

threading.Thread(target=send).start()
hs.run()
print("over")
hs.run()
""")
    assert out.splitlines() == ["hello True", "hs.run() was called in a callback, which runs inside it already", "over"]


# A timer that rings before `run` would be the background thread's.
ONCE_IT_RUNS = """
import sys, threading
import bus
from adapters import hs
from tests.bus.peers import until_blocked

def once_it_runs(call):
    late = hs.timer.doAfter(3600, print)  # until then there is something to wait for
    def watch():
        until_blocked(threading.main_thread())
        call()
    threading.Thread(target=watch).start()
    hs.run()

"""


def test_ctrl_c_ends_run() -> None:
    out = run_script("""
from adapters import hs
from tests.bus.peers import interrupt_when_blocked

server = hs.socket.udp.server(0, print).receive()
interrupt_when_blocked()
try:
    hs.run()
except KeyboardInterrupt:
    print("interrupted")
server.close()
hs.run()
""")
    assert out.splitlines() == ["interrupted"]


def test_sys_exit_in_a_callback_leaves_run() -> None:
    run_script(ONCE_IT_RUNS + "once_it_runs(lambda: hs.timer.doAfter(0, lambda: sys.exit(3)))", status=3)


def test_run_ends_when_the_library_is_shut_down() -> None:
    out = run_script(ONCE_IT_RUNS + """
server = hs.socket.udp.server(0, print).receive()
once_it_runs(lambda: hs.timer.doAfter(0, bus.shutdown))
print(server.closed())
""")
    assert out.splitlines() == ["True"]


def test_without_run_one_of_the_engines_threads_works_while_there_are_callbacks() -> None:
    heard: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    server = hs.socket.udp.server(0, lambda data, sockaddr: heard.put((data, threading.get_ident())))
    assert server.receive() is server
    try:
        with plain_socket() as peer:
            for number in range(50):
                peer.sendto(b"%d" % number, ("127.0.0.1", server.info()["localPort"]))
            got = [heard.get(timeout=WAIT) for _ in range(50)]
        assert [data for data, _ in got] == [str(number) for number in range(50)]
        assert threading.get_ident() not in {ident for _, ident in got}
    finally:
        server.close()


def test_callbacks_of_a_program_never_overlap() -> None:
    inside = threading.Semaphore(1)
    done: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def call() -> None:
        alone = inside.acquire(blocking=False)
        threading.Event().wait(0.001)
        if alone:
            inside.release()
        done.put(alone)

    for _ in range(30):
        hs.timer.doAfter(0, call)
    assert [done.get(timeout=WAIT) for _ in range(30)] == [True] * 30


def test_leaving_a_callback_by_sys_exit_costs_the_background_thread_nothing(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    hs.timer.doAfter(0, sys.exit)
    hs.timer.doAfter(0.01, done.set)
    assert done.wait(WAIT)
    assert "background" in caplog.text


def test_it_all_goes_away(no_leaks: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "IDLE_SECONDS", 0.01)
    done = threading.Event()
    server = hs.socket.udp.server(0, lambda data, sockaddr: done.set())
    assert server.receive() is server
    client = hs.socket.udp.new().send("x", "localhost", server.info()["localPort"])
    assert done.wait(WAIT)
    late = hs.timer.doAfter(3600, print)
    server.close()
    client.close()
    late.stop()


def test_a_forked_child_starts_afresh() -> None:
    out = run_script("""
import os
from adapters import hs

def heard(data, sockaddr):
    print(data, flush=True)
    server.close()

server = hs.socket.udp.server(0, print).receive()
hs.timer.doAfter(3600, print)
child = os.fork()
if not child:
    server = hs.socket.udp.server(0, heard).receive()
    hs.socket.udp.new().send("in the child", "localhost", server.info()["localPort"])
    hs.run()
    os._exit(0)
print(os.waitpid(child, 0)[1])
""")
    assert out.splitlines() == ["in the child", "0"]


# --- machines that have less ---


@pytest.mark.fault
def test_where_ipv6_is_switched_off_and_only_loopback_exists(tmp_path: Path) -> None:
    """In a network namespace of its own, which the test makes if it may."""
    off = "ip link set lo up && echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6"
    probe = subprocess.run(["unshare", "-rn", "sh", "-c", off], capture_output=True, text=True, timeout=30, check=False)
    if probe.returncode:
        pytest.skip(f"no network namespace to be had: {probe.stderr.strip()}")
    script = write(tmp_path, "script.py", NO_IPV6)
    command = f"{off} && exec {sys.executable} -m adapters.cli run {script}"
    done = subprocess.run(
        ["unshare", "-rn", "sh", "-c", command], capture_output=True, text=True, timeout=60, env=environment(), check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "hello 127.0.0.1 2"
    assert "broadcast" in done.stdout


NO_IPV6 = """
import hs

def heard(data, sockaddr):
    address = hs.socket.parseAddress(sockaddr)
    print(data, address.host, address.addressFamily)
    if data == "hello":
        client.broadcast()
        client.send("broadcast", "127.255.255.255", server.info()["localPort"])
    else:
        server.close()

server = hs.socket.udp.server(0, heard).receive()
client = hs.socket.udp.new().preferIPv(6).send("hello", "localhost", server.info()["localPort"])
"""


def test_where_the_system_has_no_ipv6(tmp_path: Path) -> None:
    without = """
import errno, socket
real = socket.socket
class Socket(real):
    def __init__(self, family=-1, *rest, **named):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *rest, **named)
socket.socket = Socket
"""
    ended = run(write(tmp_path, "script.py", without + NO_IPV6 + "print(server.info()['isIPv6'], server.info()['localPort_IPv6'])\n"))
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.lines == ["False 0", "hello 127.0.0.1 2", "broadcast 127.0.0.1 2"]


def test_the_other_socket_hears_no_unicast_over_ipv4(tmp_path: Path) -> None:
    source = """
        import hs
        server = hs.socket.udp.server(0, lambda data, sockaddr: (print(data, len(sockaddr)), server.close())).receive()
        hs.socket.udp.new().send("once", "127.0.0.1", server.info()["localPort"])
    """
    assert run(write(tmp_path, "script.py", source)).lines == ["once 16"]

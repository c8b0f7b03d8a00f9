"""Every program in examples/ runs and says what it should. A new example without a test here fails `test_every_example_is_run_here`."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bus

EXAMPLES = Path(__file__).parent.parent / "examples"
SECONDS = 40
RUN_HERE = {
    "broadcast",
    "chat_client",
    "chat_page",
    "chat_server",
    "discovery",
    "echo_client",
    "echo_server",
    "robot_arm",
    "robot_cart",
    "robot_cell",
    "scriptling_chat",
    "topic_listener",
    "topic_sensor",
    "udp_reply",
}


def free_address(kind: int = socket.SOCK_STREAM) -> str:
    """A loopback address that is free now, below the range from which the system picks port 0."""
    for _ in range(100):
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return f"127.0.0.1:{port}"
    raise AssertionError("no free port")


def environment() -> dict[str, str]:
    root = str(EXAMPLES.parent)
    return {**os.environ, "PYTHONPATH": root, "PYTHONUNBUFFERED": "1", "ACTORBUS_MULTICAST_INTERFACE": "lo"}


def run(*names: str, args: tuple[str, ...] = ()) -> str:
    scripts = [str(EXAMPLES / f"{name}.py") for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "adapters.cli", "run", *scripts, "--", *args],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@contextlib.contextmanager
def started(name: str, *args: str, runner: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *runner, str(EXAMPLES / f"{name}.py"), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=SECONDS)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")  # the test's own timeout bounds it


def type_into(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def said_to(client: bus.Connection) -> str:
    message = client.receive(SECONDS)
    assert message is not None
    return message.text


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == RUN_HERE


@pytest.mark.parametrize("name", sorted(RUN_HERE))
def test_an_example_is_under_fifty_lines(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 50


@pytest.mark.parametrize("order", [("echo_server", "echo_client"), ("echo_client", "echo_server")])
def test_echo_in_either_order(order: tuple[str, str]) -> None:
    out = run(*order, args=(free_address(),))
    assert [line for line in out.splitlines() if line.startswith("echo_client | ")] == [
        "echo_client | echoed: hello",
        "echo_client | echoed: how are you",
        "echo_client | echoed: goodbye",
    ]
    assert "echo_server | listening on 127.0.0.1:" in out
    assert "says 'goodbye'" in out


def test_udp_reply() -> None:
    out = run("udp_reply")
    assert "asked by 127.0.0.1:" in out
    assert "what time is it?" in out
    assert "answer: time to go home" in out


def test_broadcast() -> None:
    assert run("broadcast").splitlines()[0] == "heard: anybody there?"


def test_two_hosts_discover_each_other() -> None:
    port = random.SystemRandom().randrange(20_000, 32_000)
    out = run("discovery", "discovery", args=(f"239.77.{port % 250}.1:{port}",))
    assert out.count("found service-") == 2
    assert out.count("found 1 other services") == 2


def test_robot_cell() -> None:
    out = run("robot_cell", "robot_arm", "robot_cart", args=(free_address(), free_address(socket.SOCK_DGRAM)))
    for part in range(1, 6):
        assert f"robot_arm | picked part {part}\n" in out
        assert f"robot_cart | carried part {part}\n" in out
        assert f"robot_cell | delivered: part {part}\n" in out
    assert "robot_arm | no more work" in out
    assert "robot_cart | parked" in out


@pytest.mark.parametrize("order", [("topic_sensor", "topic_listener"), ("topic_listener", "topic_sensor")])
def test_a_sensor_and_its_listener_in_either_order(order: tuple[str, str]) -> None:
    assert [line for line in run(*order).splitlines() if line.startswith("topic_listener | ")] == [
        'topic_listener | status: {"sensor":"hall","readings":5}',
        "topic_listener | readings.hall.temperature 20.5 fine",
        "topic_listener | readings.hall.temperature 20.7 fine",
        "topic_listener | readings.hall.temperature 21.0 fine",
        "topic_listener | readings.hall.temperature 35.2 alarm",
        "topic_listener | readings.hall.temperature 21.1 fine",
    ]


def test_chat_with_three_clients_and_ctrl_c() -> None:
    with started("chat_server", "127.0.0.1:0") as server:
        address = line_of(server).split()[2].rstrip(";")
        with started("chat_client", "ann", address) as ann:
            assert line_of(ann) == "Your first line is your name."
            assert line_of(server) == "* ann is here"
            with started("chat_client", "bob", address) as bob:
                assert line_of(bob) == "Your first line is your name."
                assert line_of(ann) == "* bob is here"
                with started("chat_client", "eve", address) as eve:
                    assert line_of(eve) == "Your first line is your name."
                    assert line_of(ann) == line_of(bob) == "* eve is here"
                    type_into(eve, "hello")
                    assert line_of(ann) == line_of(bob) == "eve: hello"
                    type_into(ann, "hello eve")
                    assert line_of(bob) == line_of(eve) == "ann: hello eve"
                assert line_of(ann) == line_of(bob) == "* eve has left"
                server.send_signal(signal.SIGINT)
                assert line_of(ann) == line_of(bob) == "* the server has gone"


def test_scriptling_chat() -> None:
    with started("scriptling_chat", runner=("-m", "adapters.cli", "run", "--listen", "127.0.0.1:0")) as server:
        said = line_of(server)
        assert said.startswith("serving /chat on ws://127.0.0.1:")
        with contextlib.ExitStack() as stack:
            url = f"{said.split()[-1]}/chat"
            clients = [stack.enter_context(bus.connect(url, timeout=SECONDS)) for _ in range(3)]
            assert [said_to(client) for client in clients] == ["Welcome to the chat!"] * 3
            clients[0].send("hello")
            assert [said_to(client) for client in clients] == ["hello"] * 3

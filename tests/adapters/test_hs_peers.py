"""hs.socket.udp talks with everybody: socat, plain sockets, and the other dialects' objects."""

from __future__ import annotations

import shutil
import socket
import subprocess

import pytest

from actors.sockets import has_ipv6
from adapters import hs
from adapters.daystar_api import create_udp_socket
from adapters.scriptling.net import unicast as uc
from tests.adapters.daystar import os_port, somewhere
from tests.adapters.hsscript import Heard, Script, plain_socket
from tests.bus.peers import WAIT

needs_socat = pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed")


def answering(script: Script) -> tuple[hs.socket.udp.UDPSocket, Heard]:
    """A server that answers in capitals, and what it heard."""
    heard = Heard()

    def answer(data: str, sockaddr: bytes) -> None:
        heard(data, sockaddr)
        address = hs.socket.parseAddress(sockaddr)
        assert address
        server.send(data.upper(), address.host, address.port)

    server = hs.socket.udp.server(0, answer)
    assert server.receive() is server
    return server, heard


def port_of(sock: hs.socket.udp.UDPSocket) -> int:
    port = sock.info()["localPort"]
    assert isinstance(port, int)
    return port


@needs_socat
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("[::1]", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6"))])
def test_socat_asks_and_is_answered(script: Script, host: str) -> None:
    server, heard = answering(script)
    version = "UDP6" if host.startswith("[") else "UDP4"
    asking = subprocess.Popen(
        ["socat", "-t", "30", "-", f"{version}:{host}:{port_of(server)}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert asking.stdin is not None
    assert asking.stdout is not None
    try:
        asking.stdin.write(b"hello from socat\n")
        asking.stdin.flush()
        script.until(lambda: heard)
        assert asking.stdout.readline() == b"HELLO FROM SOCAT\n"
    finally:
        asking.kill()
        asking.communicate(timeout=WAIT)
    address = hs.socket.parseAddress(heard[0][1])
    assert address
    assert address.host == host.strip("[]")


@needs_socat
def test_socat_is_asked_and_answers(script: Script) -> None:
    heard = Heard()
    with plain_socket() as probe:
        port = probe.getsockname()[1]
    echo = subprocess.Popen(["socat", "-T", "30", f"UDP4-LISTEN:{port},bind=127.0.0.1", "PIPE"])
    try:
        client = hs.socket.udp.new(heard)
        assert client.connect("127.0.0.1", port) is client
        assert client.receive() is client

        def answered() -> bool:
            if not heard:
                client.send("anybody there?")  # until socat listens, that is refused
            return bool(heard)

        script.until(answered)
    finally:
        echo.kill()
        echo.communicate(timeout=WAIT)
    assert heard.data[0].startswith("anybody there?")  # its pipe has no boundaries between messages


def test_plain_sockets_of_both_families(script: Script) -> None:
    server, heard = answering(script)
    families = [(socket.AF_INET, "127.0.0.1"), *([(socket.AF_INET6, "::1")] if has_ipv6() else [])]
    for count, (family, host) in enumerate(families, 1):
        with plain_socket(family) as peer:
            peer.sendto(b"plain \xff", (host, port_of(server)))
            script.until(lambda count=count: len(heard) == count)  # type: ignore[misc]
            assert peer.recv(100) == b"PLAIN \xff"


def test_scriptlings_udp_connection_and_listener(script: Script) -> None:
    server, heard = answering(script)
    conn = uc.connect("127.0.0.1", port_of(server))
    conn.send({"action": "ping"})
    script.until(lambda: heard)
    received = conn.receive(timeout=WAIT)
    assert received is not None
    assert received["data"] == '{"ACTION":"PING"}'
    conn.close()
    listener = uc.listen("127.0.0.1", 0, protocol="udp")
    port = int(listener.addr.rpartition(":")[2])
    answered = Heard()
    client = hs.socket.udp.new(answered).send("hello", "localhost", port)
    assert client.receive() is client
    request = listener.receive(timeout=WAIT)
    assert request is not None
    assert request["data"] == "hello"
    listener.send_to(request["source"], "back")
    script.until(lambda: answered)
    assert answered.data == ["back"]
    listener.close()


def test_daystars_udp_socket(script: Script) -> None:
    port, robot = somewhere(create_udp_socket)
    answered = Heard()
    client = hs.socket.udp.new(answered).send("to the robot", "127.0.0.1", os_port(port))
    assert client.receive() is client
    received = robot.receive(timeout=WAIT)
    assert received is not None
    message, sender = received
    assert message == "to the robot"
    robot.send("from the robot", sender)
    script.until(lambda: answered)
    assert answered.data == ["from the robot"]
    robot.close()

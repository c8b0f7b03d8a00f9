"""Hammerspoon's own tests of hs.socket.udp, by their names and with what they expect. Their port 9001 is one that is free here."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from actors.sockets import has_ipv6
from adapters import hs
from adapters.hs.addresses import INET, INET6
from tests.adapters.hsscript import EVERYBODY, Heard, Script, free_port

UDPSocket = hs.socket.udp.UDPSocket
new, server = hs.socket.udp.new, hs.socket.udp.server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="broadcasts and dual-stack sockets are tried on Linux")
needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 on loopback")


@pytest.fixture
def port() -> int:
    return free_port()


class Flags(dict[str, bool]):
    """Callbacks that raise a flag each."""

    def raiser(self, name: str) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            self[name] = True

        return call


def test_testUdpSocketInstanceCreation(script: Script) -> None:
    assert isinstance(new(), UDPSocket)
    assert str(new()).startswith("hs.socket.udp: ")


def test_testUdpSocketInstanceCreationWithCallback(script: Script) -> None:
    assert isinstance(new(print), UDPSocket)


def test_testUdpListenerSocketCreation(script: Script, port: int) -> None:
    assert isinstance(server(port), UDPSocket)


def test_testUdpListenerSocketCreationWithCallback(script: Script, port: int) -> None:
    assert isinstance(server(port, print), UDPSocket)


def test_testUdpListenerSocketAttributes(script: Script, port: int) -> None:
    listener = server(port, print)
    info = listener.info()
    assert info["localPort"] == port
    assert info["localHost"] == "0.0.0.0"
    assert info["connectedPort"] == 0
    assert info["connectedHost"] == ""
    assert info["userData"] == "SERVER"
    assert info["isConnected"] is False


def test_testUdpConnect(script: Script, port: int) -> None:
    listener = server(port)
    client1 = new().connect("localhost", port)
    client2 = new().connect("localhost", 0)
    assert listener
    assert client1
    assert client2
    assert client1.info()["isConnected"] is True
    assert client2.info()["isConnected"] is False


def test_testUdpNoCallbacks(script: Script) -> None:
    assert new().receive() is None
    assert new().receiveOne() is None


def test_testUdpDisconnectAndReuse(script: Script, port: int) -> None:
    listener = server(port)
    client = new().connect("localhost", port)
    assert client
    assert listener.info()["localPort"] == port
    assert client.info()["connectedPort"] == port
    listener.close()
    client.close()
    assert listener.info()["localPort"] == 0
    assert client.info()["connectedPort"] == 0
    # the roles are swapped
    assert client.listen(port) is client
    assert listener.connect("localhost", port) is listener
    assert client.info()["localPort"] == port
    assert listener.info()["connectedPort"] == port
    listener.close()
    client.close()
    assert client.info()["localPort"] == 0
    assert listener.info()["connectedPort"] == 0


def test_testUdpAlreadyConnected(script: Script, port: int) -> None:
    server1, server2 = server(port), server(port)
    seen: list[object] = []

    def connected() -> None:
        seen.extend([server1.closed(), server1.info()["userData"], server2.closed(), server2.info()["userData"]])

    client = new()
    assert client.connect("localhost", port, connected) is client
    script.until(lambda: seen)
    assert seen == [False, "SERVER", True, ""]
    assert client.connect("localhost", port + 1) is None
    assert client.info()["connectedPort"] == port


def test_testUdpUserdataStrings(script: Script, port: int) -> None:
    listener, unconnected, client = server(port), new(), new()
    seen: list[bool] = []

    def connected() -> None:
        info = listener.info()
        seen.append("(null):0" in str(unconnected))
        seen.append(f"{info['localHost']}:{info['localPort']}" in str(listener))
        seen.append(f"{client.info()['connectedHost']}:{client.info()['connectedPort']}" in str(client))

    client.connect("localhost", port, connected)
    script.until(lambda: seen)
    assert seen == [True, True, True]


def test_testUdpClientServerReceiveOnce(script: Script, port: int) -> None:
    at_server, at_client, tags = Heard(), Heard(), list[int]()
    listener, client = server(port, print), new(print)
    listener.setCallback(None).setCallback(at_server)
    client.setCallback(None).setCallback(at_client)
    assert client.connect("localhost", port) is client
    assert listener.receiveOne() is listener
    assert client.receiveOne() is client
    own = client.info()["localPort"]
    client.write("Hi from client\n", 10, tags.append)
    script.until(lambda: at_server and tags)
    listener.write("Hello from server\n", "localhost", own, tags.append)
    script.until(lambda: at_client and len(tags) == 2)
    client.write("Hi again from client\n", 10, tags.append)
    listener.write("Hello again from server\n", "localhost", own, tags.append)
    script.until(lambda: len(tags) == 4)
    assert tags == [10, -1, 10, -1]
    assert at_server.data == ["Hi from client\n"]
    assert at_client.data == ["Hello from server\n"]


def test_testUdpClientServerReceiveMany(script: Script, port: int) -> None:
    at_server, at_client, tags = Heard(), Heard(), list[int]()
    listener, client = server(port), new()
    assert client.connect("localhost", port) is client
    assert listener.receive(at_server) is listener
    assert client.receive(at_client) is client
    assert client.connected() is True
    own = client.info()["localPort"]

    def written(tag: int) -> None:
        tags.append(tag)
        client.pause()
        listener.write("Hello from server\n", "localhost", own, 20, tags.append)
        client.write("Hi again from client\n")

    client.write("Hi from client\n", 10, written)
    script.until(lambda: len(at_server) == 2 and len(tags) == 2)
    assert tags == [10, 20]
    assert at_client == []
    client.receive()
    listener.write("Hello again from server\n", "localhost", own)
    script.until(lambda: len(at_client) == 2)
    assert "".join(at_server.data) == "Hi from client\nHi again from client\n"
    assert "".join(at_client.data) == "Hello from server\nHello again from server\n"


def test_testUdpBroadcast(script: Script, port: int) -> None:
    at_server, at_client = Heard(), Heard()
    listener, client = server(port, at_server), new(at_client)
    listener.receive()

    def written(tag: int) -> None:
        client.receive()
        listener.write("Hello from server", "localhost", client.info()["localPort"])

    client.broadcast()
    client.send("Hi from client", EVERYBODY, port, written)
    script.until(lambda: at_server and at_client)
    assert at_server[0][0] == "Hi from client"
    assert at_client.data == ["Hello from server"]


def test_testUdpReusePort(script: Script, port: int) -> None:
    heard = [Heard(), Heard()]
    for each in heard:
        listener = new()
        assert listener.reusePort() is listener
        assert listener.listen(port) is listener
        assert listener.receiveOne(each) is listener
    broadcaster = new()
    assert broadcaster.broadcast() is broadcaster
    off: list[object] = []
    broadcaster.send("Hello\n", EVERYBODY, port, lambda tag: off.append(broadcaster.broadcast(False)))
    script.until(lambda: all(heard) and off)
    assert [each.data for each in heard] == [["Hello\n"], ["Hello\n"]]
    assert off == [broadcaster]


@needs_ipv6
def test_testUdpEnabledIpVersion(script: Script, port: int) -> None:
    heard = [Heard(), Heard()]
    for each, disabled in zip(heard, (4, 6), strict=True):
        listener = new(each)
        assert listener.enableIPv(disabled, False) is listener
        assert listener.reusePort()
        assert listener.listen(port)
        assert listener.receiveOne()
    client = new().setTimeout(1).preferIPv(4)
    assert client.broadcast() is client
    client.send("Hello\n", EVERYBODY, port)
    script.until(lambda: all(heard))
    parsed = [hs.socket.udp.parseAddress(each[0][1]) for each in heard]
    assert [address and address.addressFamily for address in parsed] == [INET6, INET]
    assert client.enableIPv(0) is None


@needs_ipv6
def test_testUdpPreferredIpVersion(script: Script, port: int) -> None:
    heard = Heard()
    listener = server(port, heard)
    assert listener.preferIPv(4).preferIPv(6).preferIPv().receive() is listener
    client1 = new().preferIPv(4).send("one", "localhost", port)
    script.until(lambda: len(heard) == 1)
    client2 = new().preferIPv(6).send("two", "localhost", port)
    script.until(lambda: len(heard) == 2)
    families = [hs.socket.parseAddress(sockaddr) for _, sockaddr in heard]
    assert [address and address.addressFamily for address in families] == [INET, INET6]
    assert client1 is not client2


def test_testUdpBufferSize(script: Script, port: int) -> None:
    heard = [Heard() for _ in range(4)]
    listeners = []
    for each, size in zip(heard, (0, 4, 8, None), strict=True):
        listener = new(each)
        if size is not None:
            listener.setBufferSize(size)
        assert listener.reusePort()
        assert listener.listen(port)
        assert listener.receiveOne()
        listeners.append(listener)
    client = new()
    assert client.broadcast() is client
    client.send("0123456789abcdef", EVERYBODY, port)
    script.until(lambda: all(heard[1:]))
    assert [each.data for each in heard[1:]] == [["0123"], ["01234567"], ["0123456789abcdef"]]
    assert heard[0] == []

    def sizes() -> tuple[int, int]:
        info = client.info()
        return info["maxReceiveIPv4BufferSize"], info["maxReceiveIPv6BufferSize"]

    assert sizes() == (65_535, 65_535)
    client.setBufferSize(4_294_967_296)
    assert sizes() == (65_535, 4_294_967_295)
    client.setBufferSize(1000, 4).setBufferSize(2000, 6)
    assert sizes() == (1000, 2000)
    client.setBufferSize(-1)
    assert sizes() == (65_535, 4_294_967_295)


def test_testTcpParseAddress() -> None:
    four = bytes([16, 2, 0, 80, 216, 58, 218, 110, *[0] * 8])
    address = hs.socket.parseAddress(four)
    assert address
    assert (address.host, address.port, address.addressFamily) == ("216.58.218.110", 80, 2)
    six = bytes([28, 30, 0, 80, 0, 0, 0, 0]) + bytes.fromhex("2607f8b040000800000000000000200e") + bytes(4)
    address = hs.socket.parseAddress(six)
    assert address
    assert (address.host, address.port, address.addressFamily) == ("2607:f8b0:4000:800::200e", 80, 30)


def test_testTcpParseBadAddress() -> None:
    assert hs.socket.parseAddress("nonsense") is None

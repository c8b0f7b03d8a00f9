"""The rules of hs.socket.udp, method by method: what each gives, what it logs, what it raises, and what survives `close`."""

from __future__ import annotations

import errno
import gc
import math
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

import bus
from actors import binding
from actors.sockets import has_ipv6
from adapters import hs
from tests.adapters.hsscript import EVERYBODY, Heard, Log, Script, SlowName, free_port, plain_socket
from tests.bus.peers import until

new, server = hs.socket.udp.new, hs.socket.udp.server
needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 on loopback")

KEYS = {
    "connectedAddress", "connectedHost", "connectedPort", "isClosed", "isConnected", "isIPv4", "isIPv4Enabled", "isIPv4Preferred",
    "isIPv6", "isIPv6Enabled", "isIPv6Preferred", "isIPVersionNeutral", "localAddress", "localAddress_IPv4", "localAddress_IPv6",
    "localHost", "localHost_IPv4", "localHost_IPv6", "localPort", "localPort_IPv4", "localPort_IPv6", "maxReceiveIPv4BufferSize",
    "maxReceiveIPv6BufferSize", "timeout", "userData",
}  # fmt: skip


def own_port(sock: hs.socket.udp.UDPSocket) -> int:
    port = sock.info()["localPort"]
    assert isinstance(port, int)
    assert port
    return port


# --- new, server, timeout ---


def test_a_new_object_is_closed_and_knows_nothing(script: Script) -> None:
    info = new().info()
    assert set(info) == KEYS
    assert len(info) == 25
    assert {key: info[key] for key in info if "Address" in key or "Host" in key or "Port" in key} == {
        **dict.fromkeys((key for key in KEYS if "Address" in key), b""),
        **dict.fromkeys((key for key in KEYS if "Host" in key), ""),
        **dict.fromkeys((key for key in KEYS if "Port" in key), 0),
    }
    assert info["isClosed"] is True
    assert info["isConnected"] is False
    assert info["isIPv4"] is info["isIPv6"] is info["isIPv4Enabled"] is info["isIPv6Enabled"] is True
    assert info["isIPv4Preferred"] is info["isIPv6Preferred"] is False
    assert info["isIPVersionNeutral"] is True
    assert (info["timeout"], info["userData"]) == (-1.0, "")
    assert new(None).closed() is True


def test_the_timeout_of_new_objects_is_the_modules(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    before = new()
    monkeypatch.setattr(hs.socket.udp, "timeout", 2)
    assert new().info()["timeout"] == 2.0
    assert before.info()["timeout"] == -1.0
    monkeypatch.setattr(hs.socket.udp, "timeout", "soon")
    assert new().info()["timeout"] == 0.0


def test_server_gives_the_object_also_when_the_port_is_taken(script: Script, logged: Log) -> None:
    first = server(0)
    second = server(own_port(first))
    assert second.closed()
    assert second.info()["userData"] == ""
    assert logged.errors() == ["Unable to bind port: Address already in use"]
    assert not first.closed()


@pytest.mark.parametrize(
    ("make", "arguments"), [(new, (5,)), (new, ("fn",)), (server, ("9001",)), (server, (0, 5)), (server, ()), (new, (print, 1))]
)
def test_wrong_arguments_of_the_constructors_raise(script: Script, make: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        make(*arguments)


def test_tcp_is_elsewhere() -> None:
    with pytest.raises(NotImplementedError, match="bus.connect"):
        hs.socket.new()
    with pytest.raises(NotImplementedError, match="bus.serve"):
        hs.socket.server(9001)
    assert hs.socket.parseAddress is hs.socket.udp.parseAddress


# --- listen ---


def test_listen_binds_both_families_or_none(script: Script, logged: Log) -> None:
    port = free_port()
    listener = new()
    assert listener.listen(float(port)) is listener  # type: ignore[arg-type]
    info = listener.info()
    assert (info["localHost"], info["localPort"]) == (info["localHost_IPv4"], info["localPort_IPv4"]) == ("0.0.0.0", port)
    address = hs.socket.parseAddress(info["localAddress"])
    assert address
    assert (address.host, address.port, address.addressFamily) == ("0.0.0.0", port, 2)
    if has_ipv6():
        assert (info["localHost_IPv6"], info["localPort_IPv6"]) == ("::", port)
        assert len(info["localAddress_IPv6"]) == 28
        listener.close()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            other.bind(("::", port))
            assert listener.listen(port) is None
        assert listener.closed()
        assert logged.errors() == ["Unable to bind port: Address already in use"]


def test_port_0_is_one_number_for_both_families(script: Script) -> None:
    info = server(0).info()
    assert info["localPort"] == info["localPort_IPv4"] > 0
    if has_ipv6():
        assert info["localPort_IPv6"] == info["localPort"]


def test_nothing_can_be_bound_twice_and_the_binding_stays(script: Script, logged: Log) -> None:
    listener = server(0)
    port = own_port(listener)
    assert listener.listen(free_port()) is None
    assert own_port(listener) == port
    sender = new().send("x", "127.0.0.1", port)
    assert sender.listen(free_port()) is None
    connected = new()
    assert connected.connect("127.0.0.1", port) is connected
    assert connected.listen(free_port()) is None
    assert logged.errors() == ["Unable to bind port: Cannot bind a socket more than once."] * 3


def test_listening_fails_without_either_family(script: Script, logged: Log) -> None:
    none = new()
    assert none.enableIPv(4, False) is none.enableIPv(6, False) is none
    assert none.listen(0) is None
    assert none.connect("localhost", 9) is None
    assert none.broadcast() is None
    assert none.reusePort() is None
    assert none.send("x", "localhost", 9) is none
    assert none.closed()
    reason = "Both IPv4 and IPv6 have been disabled. Must enable at least one protocol first."
    assert logged.errors() == [
        f"Unable to bind port: {reason}",
        f"Unable to connect: {reason}",
        "Unable to enable broadcasting: (null)",
        f"Unable to enable port reuse: {reason}",
        f"Data not sent on UDP socket: {reason}",
    ]


@pytest.mark.parametrize("port", [-1, 65_536, 70_000])
def test_a_port_out_of_range_raises(script: Script, port: int) -> None:
    for call in (new().listen, server, lambda port: new().connect("localhost", port), lambda port: new().send("x", "localhost", port)):
        with pytest.raises(ValueError, match=str(port)):
            call(port)


@pytest.mark.parametrize("port", ["9001", None, 9001.5, True, math.inf, math.nan, [9001]])
def test_what_is_no_port_raises(script: Script, port: Any) -> None:
    for call in (new().listen, server, lambda port: new().connect("localhost", port), lambda port: new().send("x", "localhost", port)):
        with pytest.raises(TypeError):
            call(port)


def test_a_privileged_port_is_an_operation_that_fails(script: Script, logged: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(binding, "bind_to", bind)
    assert new().listen(80) is None
    assert logged.errors() == ["Unable to bind port: Permission denied"]


# --- connect ---


def test_a_connected_object_tells_its_peer(script: Script, logged: Log) -> None:
    listener, called = server(0), list[bool]()
    client = new()
    assert client.connect("localhost", own_port(listener), lambda: called.append(client.connected())) is client
    assert called == []
    script.until(lambda: called)
    assert called == [True]
    info = client.info()
    assert (info["connectedHost"], info["connectedPort"]) == ("127.0.0.1", own_port(listener))
    peer = hs.socket.parseAddress(info["connectedAddress"])
    assert peer == hs.socket.udp.parseAddress(info["connectedAddress"])
    assert peer
    assert (peer["host"], peer["port"], peer["addressFamily"]) == ("127.0.0.1", own_port(listener), 2)
    assert info["userData"] == "DEFAULT"
    assert info["isConnected"] is True
    assert (info["isIPv4"], info["isIPv6"]) == (True, False)
    assert info["localHost"] == "127.0.0.1"
    assert info["localPort_IPv6"] == 0
    assert logged.debug() == ["UDP socket connected"]


def test_what_listens_can_connect_and_keeps_its_port(script: Script) -> None:
    peer, listener = server(0), server(0)
    port = own_port(listener)
    assert listener.connect("127.0.0.1", own_port(peer)) is listener
    assert listener.info()["userData"] == "DEFAULT"
    assert own_port(listener) == port


@needs_ipv6
def test_connecting_over_ipv6_closes_the_other(script: Script) -> None:
    listener = server(0)
    client = new().preferIPv(6)
    assert client.connect("localhost", own_port(listener)) is client
    info = client.info()
    assert info["connectedHost"] == info["localHost"] == "::1"
    assert (info["isIPv4"], info["isIPv6"]) == (False, True)
    assert info["localPort"] == info["localPort_IPv6"]
    assert info["localPort_IPv4"] == 0


def test_a_second_connect_fails_and_takes_the_pending_function_of_the_first(script: Script, logged: Log, slow_name: SlowName) -> None:
    called: list[str] = []
    client = new()
    assert client.connect("slow.example", 9, lambda: called.append("first")) is client
    assert client.connected() is False
    assert client.connect("127.0.0.1", 9, lambda: called.append("second")) is None
    assert client.listen(0) is None
    assert logged.errors() == [
        "Unable to connect: Cannot connect a socket more than once.",
        "Unable to bind port: Cannot bind after connecting. If needed, bind first, then connect.",
    ]
    slow_name.answers("127.0.0.1")
    script.until(client.connected)
    script.run()
    assert called == []


def test_what_fails_later_is_logged_and_may_be_tried_again(script: Script, logged: Log) -> None:
    client, called = new(), list[str]()
    assert client.connect("localhost", 0, lambda: called.append("never")) is client
    assert client.connected() is False
    assert client.closed() is False
    assert logged.errors() == [f"UDP socket did not connect: {os.strerror(errno.EADDRNOTAVAIL)}"]
    port = free_port()
    assert client.listen(port) is client
    assert own_port(client) == port
    assert client.connect("localhost", port) is client
    assert client.connected() is True
    script.run()
    assert called == []


def test_an_unknown_name_is_logged(script: Script, logged: Log, slow_name: SlowName) -> None:
    client = new()
    assert client.connect("slow.example", 9) is client
    slow_name.answers("")
    assert logged.next_error(script) == "UDP socket did not connect: Name or service not known"
    assert not client.closed()


@pytest.mark.parametrize("arguments", [(5, 9), ("localhost", "9"), ("localhost", 9, None), ("localhost", 9, 5), ("localhost",)])
def test_wrong_arguments_of_connect_raise_before_anything_happens(script: Script, arguments: Any) -> None:
    client = new()
    with pytest.raises(TypeError):
        client.connect(*arguments)
    assert client.closed()


def test_connected_it_hears_its_peer_only_and_strangers_do_not_count_as_the_one(script: Script) -> None:
    heard = Heard()
    with plain_socket() as peer, plain_socket() as stranger:
        client = new(heard)
        assert client.connect("127.0.0.1", peer.getsockname()[1]) is client
        assert client.receiveOne() is client
        stranger.sendto(b"psst", ("127.0.0.1", own_port(client)))
        peer.sendto(b"hello", ("127.0.0.1", own_port(client)))
        script.until(lambda: heard)
    assert heard.data == ["hello"]


# --- close ---


def test_close_says_so_once_and_is_nothing_on_what_is_closed(script: Script, logged: Log) -> None:
    sock = new()
    assert sock.close() is sock
    assert logged.debug() == []
    sock.listen(0)
    assert sock.close() is sock
    assert logged.debug() == ["UDP socket closed: (null)"]
    assert sock.closed()
    assert sock.info()["userData"] == ""


def test_close_frees_the_port_at_once(script: Script) -> None:
    sock = server(0)
    for _ in range(20):
        port = own_port(sock)
        assert sock.close().listen(port) is sock
        assert sock.info()["userData"] == "SERVER"


def test_what_survives_close_and_what_does_not(script: Script, logged: Log) -> None:
    heard = Heard()
    sock = new(heard).setBufferSize(4).setTimeout(3).preferIPv(4)
    assert sock.enableIPv(6, False) is sock
    assert sock.broadcast() and sock.reusePort() and sock.listen(0) and sock.receive()  # noqa: PT018
    port = own_port(sock)
    before = sock.info()
    sock.close()
    after = sock.info()
    for key in ("isIPv6Enabled", "isIPv4Preferred", "maxReceiveIPv4BufferSize", "maxReceiveIPv6BufferSize", "timeout"):
        assert after[key] == before[key]
    assert after["isIPv6"] is False
    assert sock.listen(port) is sock
    assert new().reusePort() is not None
    other = new()
    assert other.reusePort() is other
    assert other.listen(port) is None  # the first does not share any more
    logged.errors()
    with plain_socket() as peer:
        peer.sendto(b"not received", ("127.0.0.1", port))
        script.run()
        assert heard == []  # receiving ended with the close
        sock.send("x", EVERYBODY, 9)
        assert logged.errors() == ["Data not sent on UDP socket: Permission denied"]
        assert sock.receive() is sock  # the callback is still there
        script.until(lambda: heard)
    assert heard.data == ["not "]


def test_no_callback_of_before_comes_after_close(script: Script) -> None:
    called: list[str] = []
    listener = server(0)
    sock = new(lambda data, sockaddr: called.append("read"))
    assert sock.listen(0) and sock.receive()  # noqa: PT018
    with plain_socket() as peer:
        peer.sendto(b"x", ("127.0.0.1", own_port(sock)))
        until(lambda: sock.stats().messages_in)
    sock.send("x", "127.0.0.1", own_port(listener), lambda tag: called.append("written"))
    sock.connect("127.0.0.1", own_port(listener), lambda: called.append("connected"))
    sock.close()
    assert script.run() > 0
    assert called == []
    assert sock.info()["connectedPort"] == 0
    # nor does it fire on the next occasion
    sock.send("x", "127.0.0.1", own_port(listener))
    sock.connect("127.0.0.1", own_port(listener))
    script.run()
    assert called == []


def test_close_discards_what_waits_to_be_sent(script: Script, logged: Log, slow_name: SlowName) -> None:
    called: list[int] = []
    sock = new().send("x", "slow.example", 9, called.append).send("y", "127.0.0.1", 9, called.append)
    sock.close()
    slow_name.answers("127.0.0.1")
    script.run()
    assert called == []
    assert logged.errors() == []
    assert not script.scope.kept_alive


def test_it_may_be_closed_in_its_own_callback(script: Script) -> None:
    heard: list[str] = []

    def read(data: str, sockaddr: bytes) -> None:
        heard.append(data)
        sock.close()

    sock = server(0, read)
    assert sock.receive() is sock
    with plain_socket() as peer:
        for data in (b"1", b"2"):
            peer.sendto(data, ("127.0.0.1", own_port(sock)))
    script.until(lambda: heard)
    script.run()
    assert heard == ["1"]
    assert sock.closed()


# --- broadcast, reusePort ---


def test_broadcast_true_enables_and_false_disables(script: Script, logged: Log) -> None:
    heard = Heard()
    listener = server(0, heard)
    assert listener.receive() is listener
    port = own_port(listener)
    sock = new()
    assert sock.broadcast(True) is sock
    assert sock.closed() is False
    assert own_info(sock, "localPort") == 0
    sock.send("allowed", EVERYBODY, port)
    script.until(lambda: heard)
    assert sock.broadcast(False) is sock
    sock.send("forbidden", EVERYBODY, port)
    assert logged.errors() == ["Data not sent on UDP socket: Permission denied"]
    assert sock.broadcast() is sock
    sock.send("again", EVERYBODY, port)
    script.until(lambda: "again" in heard.data)
    assert "forbidden" not in heard.data


def own_info(sock: hs.socket.udp.UDPSocket, key: str) -> Any:
    return sock.info()[key]


@needs_ipv6
def test_broadcast_needs_ipv4(script: Script, logged: Log) -> None:
    sock = new()
    assert sock.enableIPv(4, False) is sock
    assert sock.broadcast() is None
    assert logged.errors() == ["Unable to enable broadcasting: (null)"]


def test_reuse_port_true_enables_and_false_disables(script: Script) -> None:
    port = free_port()
    first, second, third = new(), new(), new()
    assert first.reusePort(True) is first
    assert first.listen(port) is first
    assert second.reusePort(True) is second
    assert second.listen(port) is second
    assert third.reusePort(True) is third.reusePort(False) is third
    assert third.listen(port) is None
    assert first.reusePort() is first  # after binding it is not refused


@pytest.mark.parametrize("flag", [None, 1, "true"])
def test_a_flag_is_a_boolean(script: Script, flag: Any) -> None:
    sock = new()
    for call in (sock.broadcast, sock.reusePort, lambda flag: sock.enableIPv(4, flag)):
        with pytest.raises(TypeError):
            call(flag)


# --- enableIPv, preferIPv ---


@pytest.mark.parametrize("version", [0, 5, 260, -4])
def test_other_versions_are_none(script: Script, logged: Log, version: int) -> None:
    assert new().enableIPv(version) is None
    assert logged.errors() == [f"Invalid IP version: {version}"]


@pytest.mark.parametrize("version", ["4", None, 4.5, True])
def test_a_version_is_an_integer(script: Script, version: Any) -> None:
    for call in (new().enableIPv, new().preferIPv, lambda version: new().setBufferSize(5, version)):
        with pytest.raises(TypeError):
            call(version)


def test_enabling_shows_in_info_and_leaves_open_sockets_alone(script: Script) -> None:
    sock = new()
    assert sock.enableIPv(6.0, False) is sock  # type: ignore[arg-type]
    assert (own_info(sock, "isIPv4"), own_info(sock, "isIPv6")) == (True, False)
    assert sock.listen(0) is sock
    assert sock.enableIPv(6) is sock
    assert own_info(sock, "isIPv6Enabled") is True
    assert own_info(sock, "isIPv6") is False
    assert own_info(sock, "localPort_IPv6") == 0


def test_a_family_may_be_enabled_after_the_options(script: Script) -> None:
    sock = new()
    assert sock.enableIPv(6, False) is sock
    assert sock.reusePort() is sock
    assert sock.enableIPv(6) is sock
    assert sock.listen(0) is sock
    assert own_info(sock, "isIPv6") is has_ipv6()


def test_preferences_show_in_info(script: Script) -> None:
    sock = new()

    def shown() -> tuple[bool, bool, bool]:
        info = sock.info()
        return info["isIPv4Preferred"], info["isIPv6Preferred"], info["isIPVersionNeutral"]

    assert shown() == (False, False, True)
    assert sock.preferIPv(4) is sock
    assert shown() == (True, False, False)
    assert sock.preferIPv(6.0) is sock  # type: ignore[arg-type]
    assert shown() == (False, True, False)
    assert sock.preferIPv(7) is sock
    assert shown() == (False, False, True)
    assert sock.preferIPv(4).preferIPv() is sock
    assert shown() == (False, False, True)


@needs_ipv6
def test_a_disabled_family_is_never_chosen(script: Script, logged: Log) -> None:
    heard = Heard()
    listener = server(0, heard)
    assert listener.receive() is listener
    six = new()
    assert six.enableIPv(4, False) is six
    six.preferIPv(4).send("six", "localhost", own_port(listener))
    script.until(lambda: heard)
    sender = hs.socket.parseAddress(heard[0][1])
    assert sender
    assert sender.addressFamily == 30
    six.send("four", "127.0.0.1", own_port(listener))
    four = new()
    assert four.enableIPv(6, False) is four
    four.send("six", "::1", own_port(listener))
    connected = new()
    connected.connect("127.0.0.1", own_port(listener))
    assert logged.errors() == [
        "Data not sent on UDP socket: IPv4 has been disabled and DNS lookup found no IPv6 address(es).",
        "Data not sent on UDP socket: IPv6 has been disabled and DNS lookup found no IPv4 address(es).",
    ]
    assert not six.closed()


@needs_ipv6
def test_a_listener_without_ipv4_hears_it_all_the_same_as_mapped_addresses(script: Script) -> None:
    heard = Heard()
    listener = new(heard)
    assert listener.enableIPv(4, False) and listener.listen(0) and listener.receive()  # noqa: PT018
    info = listener.info()
    assert info["localPort"] == info["localPort_IPv6"] > 0
    assert (info["localHost"], info["localHost_IPv4"], info["localPort_IPv4"]) == ("::", "", 0)
    with plain_socket() as peer:
        peer.sendto(b"four", ("127.0.0.1", info["localPort"]))
        script.until(lambda: heard)
        address = hs.socket.parseAddress(heard[0][1])
        assert address
        assert (address.host, address.port, address.addressFamily) == ("::ffff:127.0.0.1", peer.getsockname()[1], 30)
        listener.send("back", address.host, address.port)
        assert peer.recv(10) == b"back"


@needs_ipv6
def test_a_family_that_is_not_open_says_so(script: Script, logged: Log) -> None:
    sock = new()
    assert sock.enableIPv(6, False) and sock.listen(0) and sock.enableIPv(6)  # noqa: PT018
    sock.send("x", "::1", 9)
    assert logged.errors() == [
        "Data not sent on UDP socket: IPv6 has been deactivated due to bind/connect, and DNS lookup found no IPv4 address(es)."
    ]


# --- sizes, timeouts, callbacks ---


def test_buffer_sizes_are_clamped_and_another_version_means_both(script: Script) -> None:
    sock = new()

    def sizes() -> tuple[int, int]:
        info = sock.info()
        return info["maxReceiveIPv4BufferSize"], info["maxReceiveIPv6BufferSize"]

    assert sizes() == (65_535, 65_535)
    assert sock.setBufferSize(100) is sock
    assert sizes() == (100, 100)
    sock.setBufferSize(200, 5)
    assert sizes() == (200, 200)
    sock.setBufferSize(-1, 6)
    assert sizes() == (200, 4_294_967_295)
    sock.setBufferSize(70_000, 4)
    assert sizes() == (65_535, 4_294_967_295)
    assert sock.closed()
    with pytest.raises(TypeError):
        sock.setBufferSize("big")  # type: ignore[arg-type]


def test_a_new_size_is_for_the_next_datagram(script: Script) -> None:
    heard = Heard()
    sock = server(0, heard)
    assert sock.receive() is sock
    with plain_socket() as peer:
        for size, expected in ((None, "0123456789"), (3, "012"), (6, "012345")):
            if size is not None:
                sock.setBufferSize(size)
            heard.clear()
            peer.sendto(b"0123456789", ("127.0.0.1", own_port(sock)))
            script.until(lambda: heard)
            assert heard.data == [expected]


def test_size_0_reads_and_calls_nothing_and_does_not_count_as_the_one(script: Script) -> None:
    heard = Heard()
    sock = server(0, heard).setBufferSize(0)
    assert sock.receiveOne() is sock
    with plain_socket() as peer:
        peer.sendto(b"lost", ("127.0.0.1", own_port(sock)))
        script.until(lambda: sock.stats().messages_in == 1)
        script.run()
        sock.setBufferSize(10)
        peer.sendto(b"heard", ("127.0.0.1", own_port(sock)))
        script.until(lambda: heard)
    assert heard.data == ["heard"]


@pytest.mark.parametrize("seconds", [-1, 0, 2, 0.5])
def test_the_timeout_is_a_number_of_seconds(script: Script, seconds: float) -> None:
    sock = new()
    assert sock.setTimeout(seconds) is sock
    assert sock.info()["timeout"] == float(seconds)
    assert isinstance(sock.info()["timeout"], float)


@pytest.mark.parametrize("seconds", [None, "1", True])
def test_what_is_no_number_of_seconds_raises(script: Script, seconds: Any) -> None:
    with pytest.raises(TypeError):
        new().setTimeout(seconds)


def test_the_text_of_an_object(script: Script) -> None:
    listener = server(0)
    assert str(listener) == repr(listener) == f"hs.socket.udp: 0.0.0.0:{own_port(listener)} (0x{id(listener):x})"
    assert str(new()).startswith("hs.socket.udp: (null):0 (0x")
    client = new()
    client.connect("127.0.0.1", own_port(listener))
    assert str(client).startswith(f"hs.socket.udp: 127.0.0.1:{own_port(listener)} (0x")


# --- the life of an object ---


def test_a_dropped_object_closes_without_a_word(script: Script, recwarn: pytest.WarningsRecorder) -> None:
    sock = server(0, print)
    port = own_port(sock)
    cycle: list[Any] = [sock]
    cycle.append(cycle)
    del sock, cycle
    gc.collect()

    def free() -> bool:
        again = new()
        try:
            return again.listen(port) is not None
        finally:
            again.close()

    until(free)
    assert not recwarn


def test_a_receiving_object_lives_without_a_reference(script: Script) -> None:
    heard = Heard()
    sock = server(0, heard)
    assert sock.receive() is sock
    port = own_port(sock)
    del sock
    gc.collect()
    with plain_socket() as peer:
        peer.sendto(b"still there", ("127.0.0.1", port))
        script.until(lambda: heard)
    assert heard.data == ["still there"]


def test_what_the_program_shut_down_is_closed_and_can_be_used_again(script: Script) -> None:
    heard = Heard()
    sock, idle, bound, joined, sender = server(0, heard), server(0), server(0), new(), server(0)
    assert sock.receive() is sock
    assert joined.connect("127.0.0.1", own_port(sock)) is joined
    bus.shutdown()
    assert bound.listen(0) is bound
    assert joined.connect("127.0.0.1", own_port(bound)) is joined
    assert sender.send("x", "127.0.0.1", own_port(bound)) is sender
    assert sender.closed() is False
    assert idle.closed()
    assert idle.pause() is idle
    script.until(lambda: not script.scope.kept_alive)
    assert sock.closed()
    assert sock.info()["localPort"] == 0
    assert sock.listen(0) is sock
    assert sock.receive() is sock
    with plain_socket() as peer:
        peer.sendto(b"again", ("127.0.0.1", own_port(sock)))
        script.until(lambda: heard)

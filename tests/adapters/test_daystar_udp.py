"""`daystar_api.udp_socket`: datagrams of text, who may be answered, and broadcast."""

from __future__ import annotations

import asyncio
import errno
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bus
from adapters.daystar_api import udp_socket as module
from adapters.daystar_api.udp_socket import UDPSocket, create_udp_socket
from tests.adapters.daystar import occupied, os_port, somewhere
from tests.bus.peers import WAIT, InThread, until

pytestmark = pytest.mark.usefixtures("collected")

LOOPBACK = "127.0.0.1"
LOOPBACK_BROADCAST = "127.255.255.255"


@contextmanager
def bound() -> Iterator[tuple[int, UDPSocket]]:
    port, sock = somewhere(create_udp_socket)
    with sock:
        yield port, sock


@pytest.fixture
def ours() -> Iterator[tuple[int, UDPSocket]]:
    with bound() as (port, sock):
        yield port, sock


@pytest.fixture
def plain() -> Iterator[socket.socket]:
    """A peer on a port that the system chose, as most have."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        sock.settimeout(WAIT)
        yield sock


def received(sock: UDPSocket) -> tuple[str, tuple[str, int]]:
    result = sock.receive(timeout=WAIT)
    assert result is not None
    return result


def met(sock: UDPSocket, port: int, peer: socket.socket) -> tuple[str, int]:
    """Where the peer is, once `sock` has heard of it."""
    peer.sendto(b"here", (LOOPBACK, os_port(port)))
    message, sender = received(sock)
    assert message == "here"
    assert sender == peer.getsockname()
    return sender


def test_the_documents_receiver_answers_the_documents_sender(ours: tuple[int, UDPSocket]) -> None:
    port, receiver = ours
    with bound() as (sender_port, sender):
        sender.send("Hello UDP", (LOOPBACK, port))
        message, sender_addr = received(receiver)
        assert (message, sender_addr) == ("Hello UDP", (LOOPBACK, sender_port))
        receiver.send(f"Reply: {message}", sender_addr)
        assert received(sender) == ("Reply: Hello UDP", (LOOPBACK, port))


def test_a_datagram_is_the_utf8_of_the_message_and_nothing_else(ours: tuple[int, UDPSocket], plain: socket.socket) -> None:
    port, sock = ours
    peer = met(sock, port, plain)
    for message in ("Grüße, 世界 🤖", "", "a\x03b\x03", "\udcff\udc80 bytes", "\0"):
        sock.send(message, peer)
        assert plain.recv(65_536) == message.encode("utf-8", "surrogateescape")


def test_any_bytes_survive_there_and_back(ours: tuple[int, UDPSocket], plain: socket.socket) -> None:
    port, sock = ours

    @given(st.binary(max_size=300))
    @settings(max_examples=60)
    def holds(data: bytes) -> None:
        plain.sendto(data, (LOOPBACK, os_port(port)))
        message, sender = received(sock)
        sock.send(message, sender)
        assert plain.recv(65_536) == data

    holds()


def test_the_datagrams_of_one_sender_come_in_order_and_apart(ours: tuple[int, UDPSocket], plain: socket.socket) -> None:
    port, sock = ours
    for number in range(50):
        plain.sendto(b"%d" % number, (LOOPBACK, os_port(port)))
    assert [received(sock)[0] for _ in range(50)] == [str(number) for number in range(50)]


# --- addresses ---


def test_a_sender_on_a_port_of_the_range_has_that_port(ours: tuple[int, UDPSocket]) -> None:
    port, sock = ours
    peer_port, peer = occupied(socket.SOCK_DGRAM)
    with peer:
        peer.sendto(b"x", (LOOPBACK, os_port(port)))
        assert received(sock) == ("x", (LOOPBACK, peer_port))
        sock.send("y", (LOOPBACK, peer_port))
        assert peer.recvfrom(10) == (b"y", (LOOPBACK, os_port(port)))


def test_who_was_never_heard_of_can_only_have_a_port_of_the_range(ours: tuple[int, UDPSocket], plain: socket.socket) -> None:
    port, sock = ours
    _, number = plain.getsockname()
    with pytest.raises(ValueError, match=f"70000 to 71000, or that of a sender lately received from, not {number}"):
        sock.send("x", (LOOPBACK, number))
    peer = met(sock, port, plain)
    with pytest.raises(ValueError, match="70000 to 71000"):
        sock.send("x", ("127.0.0.2", peer[1]))  # another address, though the same port
    with pytest.raises(ValueError, match="70000 to 71000"):
        sock.send("x", (LOOPBACK, os_port(port)))


def test_the_senders_heard_least_lately_are_forgotten(ours: tuple[int, UDPSocket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN_SENDERS", 2)
    port, sock = ours
    peers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    try:
        for peer in peers:
            peer.bind((LOOPBACK, 0))
            peer.settimeout(WAIT)
        first, second = met(sock, port, peers[0]), met(sock, port, peers[1])
        met(sock, port, peers[0])
        third = met(sock, port, peers[2])
        sock.send("x", first)
        sock.send("x", third)
        assert peers[0].recv(10) == peers[2].recv(10) == b"x"
        with pytest.raises(ValueError, match="lately"):
            sock.send("x", second)
    finally:
        for peer in peers:
            peer.close()


WRONG_ADDRESSES: list[Any] = [
    None,
    70_001,
    "127.0.0.1:70001",
    (),
    ("127.0.0.1",),
    ("127.0.0.1", "70001"),
    ("127.0.0.1", 70_001.0),
    (1, 70_001),
    ("127.0.0.1", 70_001, 0),
]


@pytest.mark.parametrize("addr", WRONG_ADDRESSES, ids=repr)
def test_an_address_is_an_ip_and_a_port(ours: tuple[int, UDPSocket], addr: Any) -> None:
    with pytest.raises(TypeError, match=r"addr must be an \(ip, port\) tuple"):
        ours[1].send("x", addr)


@pytest.mark.parametrize("port", [0, -1, 69_999, 71_001, 65_536])
def test_a_port_outside_the_range_is_a_value_error(ours: tuple[int, UDPSocket], port: int) -> None:
    with pytest.raises(ValueError, match="70000 to 71000"):
        ours[1].send("x", (LOOPBACK, port))


def test_a_bool_is_no_port(ours: tuple[int, UDPSocket]) -> None:
    with pytest.raises(TypeError, match="port must be an int, not bool"):
        ours[1].send("x", (LOOPBACK, True))


def test_a_name_will_do_and_an_unknown_one_is_a_connection_error(ours: tuple[int, UDPSocket]) -> None:
    _, sock = ours
    with bound() as (port, receiver):
        sock.send("x", ("localhost", port))
        assert received(receiver)[0] == "x"
    with pytest.raises(ConnectionError, match=r"70001 \(OS port 4465\)"):
        sock.send("x", ("n" * 64, 70_001))  # a label has 63 characters at most, so nobody needs to be asked


@pytest.mark.parametrize("host", ["::1", "", "no such host", "[::1]"])
def test_what_cannot_be_an_ipv4_address_is_a_value_error(ours: tuple[int, UDPSocket], host: str) -> None:
    with pytest.raises(ValueError, match="bad address"):
        ours[1].send("x", (host, 70_001))


# --- messages ---


@pytest.mark.parametrize("message", [b"x", None, 1, {"a": 1}], ids=repr)
def test_a_message_is_a_str(ours: tuple[int, UDPSocket], message: Any) -> None:
    with pytest.raises(TypeError, match="message must be a str"):
        ours[1].send(message, (LOOPBACK, 70_001))


def test_a_datagram_holds_65507_bytes(ours: tuple[int, UDPSocket]) -> None:
    _, sock = ours
    with bound() as (port, receiver):
        sock.send("x" * 65_507, (LOOPBACK, port))
        assert received(receiver)[0] == "x" * 65_507
        for message in ("x" * 65_508, "ü" * 32_754):
            with pytest.raises(ValueError, match=rf"127.0.0.1:{port} \(OS port {os_port(port)}\).*65508 bytes.*65507"):
                sock.send(message, (LOOPBACK, port))


def test_a_surrogate_that_stands_for_no_byte_is_a_value_error(ours: tuple[int, UDPSocket]) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        ours[1].send("\ud800", (LOOPBACK, 70_001))


# --- waiting ---


def test_receive_gives_none_when_the_time_is_over(ours: tuple[int, UDPSocket]) -> None:
    _, sock = ours
    assert sock.receive(timeout=0) is None
    assert sock.receive(0.01) is None


def test_receive_without_a_timeout_waits(ours: tuple[int, UDPSocket], plain: socket.socket) -> None:
    port, sock = ours
    waiting = InThread(sock.receive).until_blocked()
    plain.sendto(b"at last", (LOOPBACK, os_port(port)))
    assert waiting.result() == ("at last", plain.getsockname())


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)])
def test_a_timeout_is_a_number_of_seconds(ours: tuple[int, UDPSocket], timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="timeout"):
        ours[1].receive(timeout)


@pytest.mark.parametrize("place", ["logical_address", "decode"])
def test_ctrl_c_loses_no_message(ours: tuple[int, UDPSocket], plain: socket.socket, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    port, sock = ours
    plain.sendto(b"first", (LOOPBACK, os_port(port)))
    plain.sendto(b"second", (LOOPBACK, os_port(port)))

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, place, interrupted)
        with pytest.raises(KeyboardInterrupt):
            sock.receive(timeout=WAIT)
    assert [received(sock)[0], received(sock)[0]] == ["first", "second"]


def test_what_nobody_takes_is_counted_when_it_goes(ours: tuple[int, UDPSocket], plain: socket.socket) -> None:
    port, sock = ours
    sent = 400  # more than the mailbox and the largest kernel buffer hold together
    for _ in range(sent):
        plain.sendto(bytes(60_000), (LOOPBACK, os_port(port)))
    taken = 0

    def accounted_for() -> bool:
        nonlocal taken
        while sock.receive(timeout=0) is not None:
            taken += 1
        return taken + sock.lost == sent

    until(accounted_for)
    assert sock.lost > 0


# --- broadcast ---


@pytest.mark.parametrize("host", ["255.255.255.255", LOOPBACK_BROADCAST])
def test_a_broadcast_before_it_is_enabled_says_which_call_is_missing(ours: tuple[int, UDPSocket], host: str) -> None:
    with pytest.raises(PermissionError, match=rf"enable_broadcast\(\) first: '{host}:70002 \(OS port 4466\)'") as caught:
        ours[1].send("x", (host, 70_002))
    assert caught.value.errno == errno.EACCES


def test_a_broadcast_reaches_who_listens(ours: tuple[int, UDPSocket]) -> None:
    _, sock = ours
    with bound() as (port, receiver):
        sock.enable_broadcast()
        sock.enable_broadcast()
        sock.send("Broadcast message", (LOOPBACK_BROADCAST, port))
        assert received(receiver)[0] == "Broadcast message"


def test_a_broadcast_to_everybody_is_left_to_the_system_once_enabled(ours: tuple[int, UDPSocket], monkeypatch: pytest.MonkeyPatch) -> None:
    _, sock = ours
    sent = []
    # Others on this network did not ask for our datagrams.
    monkeypatch.setattr(bus.UdpSocket, "send_to", lambda self, address, message: sent.append((address, message)))
    sock.enable_broadcast()
    sock.send("x", ("255.255.255.255", 70_002))
    assert sent == [("255.255.255.255:4466", b"x")]


# --- the end ---


def test_after_close_every_call_is_a_connection_error_and_the_port_is_free() -> None:
    with bound() as (port, sock):
        sock.close()
        sock.close()
        with pytest.raises(ConnectionError):
            sock.send("x", (LOOPBACK, port))
        with pytest.raises(ConnectionError):
            sock.receive(1)
        with pytest.raises(ConnectionError):
            sock.enable_broadcast()
        create_udp_socket(port).close()


def test_close_ends_a_receive_that_waits(ours: tuple[int, UDPSocket]) -> None:
    _, sock = ours
    waiting = InThread(sock.receive).until_blocked()
    sock.close()
    with pytest.raises(ConnectionError):
        waiting.result()


def test_a_port_in_use_is_named_with_both_numbers(ours: tuple[int, UDPSocket]) -> None:
    port, _ = ours
    with pytest.raises(OSError, match=rf"port {port} \(OS port {port - 65_536}\) is already in use") as caught:
        create_udp_socket(port)
    assert caught.value.errno == errno.EADDRINUSE


def test_the_repr_shows_both_numbers(ours: tuple[int, UDPSocket]) -> None:
    port, sock = ours
    assert repr(sock).startswith(f"<UDPSocket port {port} (OS port {port - 65_536}) over <UdpSocket 0.0.0.0:{port - 65_536} open")


def test_another_offset_leads_to_other_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    offset = 40_000  # 30000 to 31000
    port, sock = somewhere(lambda port: create_udp_socket(port, port_offset=offset))
    with sock:
        monkeypatch.setenv("ACTORBUS_DAYSTAR_PORT_OFFSET", str(offset))
        other_port, other = somewhere(create_udp_socket)
        with other, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            other.send("x", (LOOPBACK, port))
            assert received(sock) == ("x", (LOOPBACK, other_port))
            peer.sendto(b"y", (LOOPBACK, port - offset))
            assert received(sock)[0] == "y"


def test_sending_and_receiving_from_several_threads_at_once(ours: tuple[int, UDPSocket]) -> None:
    port, sock = ours
    count, threads = 100, 4
    start = threading.Barrier(threads)

    def work() -> list[str]:
        start.wait(WAIT)
        texts = []
        for number in range(count):
            sock.send(str(number), (LOOPBACK, port))
            texts.append(received(sock)[0])
        return texts

    texts = [text for done in [InThread(work) for _ in range(threads)] for text in done.result()]
    assert sorted(texts) == sorted([str(number) for number in range(count)] * threads)


# --- other people's programs ---


def reply_once(sock: UDPSocket) -> None:
    message, sender = received(sock)
    sock.send(f"Reply: {message}", sender)


@pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed")
def test_socat_talks_with_it(ours: tuple[int, UDPSocket]) -> None:
    port, sock = ours
    replying = InThread(lambda: reply_once(sock))
    done = subprocess.run(
        ["socat", "-T5", "-", f"UDP4:{LOOPBACK}:{os_port(port)},shut-none"],
        input="Grüße".encode(),
        stdout=subprocess.PIPE,
        timeout=WAIT,
        check=True,
    )
    replying.result()
    assert done.stdout.decode() == "Reply: Grüße"


def test_asyncio_talks_with_it(ours: tuple[int, UDPSocket]) -> None:
    port, sock = ours

    async def ask() -> bytes:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()

        class Asker(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: object) -> None:
                answer.set_result(data)

        transport, _ = await loop.create_datagram_endpoint(Asker, remote_addr=(LOOPBACK, os_port(port)))
        try:
            transport.sendto(b"hi")
            return await asyncio.wait_for(answer, WAIT)
        finally:
            transport.close()

    replying = InThread(lambda: reply_once(sock))
    assert asyncio.run(ask()) == b"Reply: hi"
    replying.result()

"""UdpSocket, and connections over UDP: a datagram is a message, and nobody can slow its sender down."""

from __future__ import annotations

import gc
import select
import socket
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

import bus
from actors.datagram import MAX_DATAGRAM
from tests.bus.peers import WAIT, InThread, inet, until


@pytest.fixture
def sock() -> Iterator[bus.UdpSocket]:
    with bus.bind("udp://127.0.0.1:0") as sock:
        yield sock


def name(plain: socket.socket) -> str:
    host, port = plain.getsockname()
    return f"{host}:{port}"


# --- to and from anybody ---


@pytest.mark.parametrize(
    ("message", "wire"), [("für", "für".encode()), ("", b""), (b"\x00", b"\x00"), ({"n": 1}, b'{"n":1}'), (bus.Message(b"m"), b"m")]
)
def test_a_message_is_one_datagram(sock: bus.UdpSocket, plain: socket.socket, message: Any, wire: bytes) -> None:
    sock.send_to(name(plain), message)
    data, sender = plain.recvfrom(100)
    assert data == wire
    assert sender == inet(sock.address)


def test_a_datagram_is_one_message_that_names_its_sender(sock: bus.UdpSocket, plain: socket.socket) -> None:
    for data in (b"one", b"", b"three"):
        plain.sendto(data, inet(sock.address))
    messages = [sock.receive(timeout=WAIT) for _ in range(3)]
    assert messages == [bus.Message(data, name(plain)) for data in (b"one", b"", b"three")]


def test_a_reply_goes_back_to_the_source(sock: bus.UdpSocket) -> None:
    with bus.bind("udp://127.0.0.1:0") as other:
        sock.send_to(other.address, "ping")
        request = other.receive(timeout=WAIT)
        assert request is not None
        other.send_to(request.source, "pong")
        answer = sock.receive(timeout=WAIT)
        assert answer is not None
        assert answer.text == "pong"
        assert answer.source == other.address


def test_datagrams_of_one_sender_come_in_order(sock: bus.UdpSocket, plain: socket.socket) -> None:
    for start in range(0, 1000, 50):
        for number in range(start, start + 50):
            plain.sendto(b"%d" % number, inet(sock.address))
        for number in range(start, start + 50):
            message = sock.receive(timeout=WAIT)
            assert message is not None
            assert message.data == b"%d" % number


def test_the_largest_datagram_passes_and_one_byte_more_does_not(sock: bus.UdpSocket, plain: socket.socket) -> None:
    sock.send_to(name(plain), b"x" * MAX_DATAGRAM)
    assert len(plain.recv(70_000)) == MAX_DATAGRAM
    with pytest.raises(bus.TooLarge, match="65508 bytes"):
        sock.send_to(name(plain), b"x" * (MAX_DATAGRAM + 1))
    plain.sendto(b"y" * MAX_DATAGRAM, inet(sock.address))
    message = sock.receive(timeout=WAIT)
    assert message is not None
    assert message.data == b"y" * MAX_DATAGRAM


def test_no_datagram_within_the_timeout_is_none(sock: bus.UdpSocket) -> None:
    assert sock.receive(timeout=0) is None
    assert sock.receive(timeout=0.01) is None


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), (float("nan"), ValueError), (False, TypeError), ("1", TypeError)])
def test_what_is_no_timeout_is_refused(sock: bus.UdpSocket, timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        sock.receive(timeout)
    with pytest.raises(error):
        sock.send_to(sock.address, "x", timeout)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:", ":9", "127.0.0.1:99999", "::1:9", ""])
def test_an_address_needs_a_host_and_a_port(sock: bus.UdpSocket, address: str) -> None:
    with pytest.raises(bus.BadAddress):
        sock.send_to(address, "x")


@pytest.mark.parametrize("address", [None, 9, ("127.0.0.1", 9)])
def test_an_address_is_a_str(sock: bus.UdpSocket, address: Any) -> None:
    with pytest.raises(TypeError, match=type(address).__name__):
        sock.send_to(address, "x")


@pytest.mark.parametrize("nothing", [None, 1, ["x"]])
def test_what_is_no_message_is_not_sent(sock: bus.UdpSocket, nothing: Any) -> None:
    with pytest.raises(TypeError, match=type(nothing).__name__):
        sock.send_to(sock.address, nothing)


def test_nobody_listening_ends_nothing(sock: bus.UdpSocket, plain: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        nobody = name(gone)
    for _ in range(5):
        sock.send_to(nobody, "anyone?")
    plain.sendto(b"I am", inet(sock.address))
    message = sock.receive(timeout=WAIT)
    assert message is not None
    assert message.data == b"I am"


def test_a_broadcast_needs_permission_which_can_be_given_and_taken(sock: bus.UdpSocket) -> None:
    with pytest.raises(PermissionError):
        sock.send_to("127.255.255.255:9", "all")
    sock.set_broadcast(True)
    sock.send_to("127.255.255.255:9", "all")
    sock.set_broadcast(False)
    with pytest.raises(PermissionError):
        sock.send_to("127.255.255.255:9", "all")
    with bus.bind("udp://127.0.0.1:0", broadcast=True) as allowed:
        allowed.send_to("127.255.255.255:9", "all")


def test_a_broadcast_on_loopback_is_heard() -> None:
    with bus.bind("udp://0.0.0.0:0") as hearer, bus.bind("udp://127.0.0.1:0", broadcast=True) as sender:
        port = inet(hearer.address)[1]
        sender.send_to(f"127.255.255.255:{port}", "to whom it may concern")
        message = hearer.receive(timeout=WAIT)
        assert message is not None
        assert message.text == "to whom it may concern"
        assert message.source == sender.address


def test_when_the_mailbox_is_full_the_oldest_go_and_are_counted(plain: socket.socket) -> None:
    with bus.bind("udp://127.0.0.1:0", mailbox_messages=10) as sock:
        for number in range(100):
            plain.sendto(b"%d" % number, inet(sock.address))
        until(lambda: sock.stats().messages_in == 100)
        assert sock.stats().waiting_in == 10
        assert sock.stats().lost == 90
        received = [sock.receive() for _ in range(10)]
        assert [message.data for message in received] == [b"%d" % number for number in range(90, 100)]
        assert [message.lost_before for message in received] == [90] + [0] * 9
        assert "after 90 lost" in repr(received[0])
        assert sock.receive(timeout=0) is None
        plain.sendto(b"on", inet(sock.address))
        assert sock.receive().lost_before == 0


def test_a_bound_in_bytes_holds_too_and_one_larger_datagram_fits(plain: socket.socket) -> None:
    with bus.bind("udp://127.0.0.1:0", mailbox_bytes=1000) as sock:
        for size in (400, 401, 402, 5000):
            plain.sendto(b"x" * size, inet(sock.address))
        until(lambda: sock.stats().messages_in == 4)
        assert [len(sock.receive().data)] == [5000]
        assert sock.stats().lost == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells where its drops were")
def test_the_datagram_behind_a_gap_of_the_kernels_says_how_many_are_missing(plain: socket.socket) -> None:
    with bus.bind("udp://127.0.0.1:0", paused=True) as sock:
        sent = 0
        while not (lost := sock.stats().lost):
            plain.sendto(b"%d" % sent, inet(sock.address))
            sent += 1
        sock.resume()
        received = [sock.receive() for _ in range(sent - lost)]
        assert [message.data for message in received] == [b"%d" % number for number in range(sent - lost)]
        assert not any(message.lost_before for message in received)
        plain.sendto(b"behind the gap", inet(sock.address))
        plain.sendto(b"and on", inet(sock.address))
        assert [sock.receive().lost_before for _ in range(2)] == [lost, 0]


def test_what_the_kernel_drops_is_counted_to_the_last_datagram(plain: socket.socket) -> None:
    # While a script reads the socket itself nobody else does: then the kernel's buffer overflows.
    with bus.bind("udp://127.0.0.1:0") as sock:
        sent = 0
        payload = b"x" * 60_000
        received = 0

        def exchange() -> bool:
            nonlocal sent, received
            for _ in range(500):
                plain.sendto(payload, inet(sock.address))
                sent += 1
            while sock.receive(timeout=0.05) is not None:
                received += 1
            return sock.stats().lost > 0

        def all_told() -> bool:  # a busy machine reads on while nobody waits
            nonlocal received
            while sock.receive(timeout=0) is not None:
                received += 1
            return received + sock.stats().lost >= sent

        until(exchange)
        until(all_told)
        assert received + sock.stats().lost == sent
        lost = sock.stats().lost
        sock.close()
        assert sock.stats().lost == lost


def test_stats_count(sock: bus.UdpSocket, plain: socket.socket) -> None:
    sock.send_to(name(plain), "12345")
    plain.sendto(b"abc", inet(sock.address))
    message = sock.receive(timeout=WAIT)
    assert message is not None
    assert sock.stats() == bus.Stats(messages_in=1, bytes_in=3, messages_out=1, bytes_out=5)


def test_iteration_gives_datagrams_and_ends_with_closed(plain: socket.socket) -> None:
    sock = bus.bind("udp://127.0.0.1:0")
    for number in range(3):
        plain.sendto(b"%d" % number, inet(sock.address))
    seen = []
    with pytest.raises(bus.Closed):
        for message in sock:
            seen.append(message.data)
            if len(seen) == 3:
                sock.close()
    assert seen == [b"0", b"1", b"2"]


def test_a_closed_socket_says_so_and_frees_its_port() -> None:
    sock = bus.bind("udp://127.0.0.1:0")
    address = sock.address
    assert sock.close()
    assert sock.close(), "closing twice is nothing"
    for call in (
        sock.receive,
        lambda: sock.receive(timeout=0),
        lambda: sock.send_to(address, "x"),
        lambda: sock.set_broadcast(True),
        lambda: bus.receive_any([sock], timeout=0),
    ):
        with pytest.raises(bus.Closed, match="closed by this program"):
            call()
    with bus.bind(f"udp://{address}"):
        pass


def test_a_port_is_never_shared(sock: bus.UdpSocket) -> None:
    with pytest.raises(OSError, match=sock.address):
        bus.bind(f"udp://{sock.address}")


def test_fileno_is_readable_exactly_while_receive_would_not_wait(sock: bus.UdpSocket, plain: socket.socket) -> None:
    assert not select.select([sock], [], [], 0)[0]
    plain.sendto(b"x", inet(sock.address))
    assert select.select([sock], [], [], WAIT)[0] == [sock]
    sock.receive()
    assert not select.select([sock], [], [], 0)[0]


def test_a_dropped_socket_closes_with_a_warning() -> None:
    sock = bus.bind("udp://127.0.0.1:0")
    address = sock.address
    with pytest.warns(ResourceWarning, match="UdpSocket.*was not closed"):
        del sock
        gc.collect()

    def free() -> bool:
        try:
            bus.bind(f"udp://{address}").close()
        except OSError:
            return False
        return True

    until(free)


def test_the_repr_tells_the_state() -> None:
    sock = bus.bind("udp://127.0.0.1:0")
    assert repr(sock) == f"<UdpSocket {sock.address} open, 0 waiting>"
    sock.close()
    assert repr(sock) == f"<UdpSocket {sock.address} closed, 0 waiting>"


def test_many_threads_send_and_receive_on_one_socket(sock: bus.UdpSocket) -> None:
    with bus.bind("udp://127.0.0.1:0") as other:
        def send_hundred(start: int) -> None:
            for n in range(start, start + 100):
                sock.send_to(other.address, str(n))

        sending = [InThread(partial(send_hundred, start)) for start in (0, 100, 200)]
        receiving = [InThread(lambda: [int(other.receive().text) for _ in range(100)]) for _ in range(3)]
        for each in sending:
            each.result()
        assert sorted(number for each in receiving for number in each.result()) == list(range(300))


def test_ipv6_on_loopback() -> None:
    try:
        a = bus.bind("udp://[::1]:0")
    except OSError as exc:
        pytest.skip(f"this machine has no IPv6 on loopback: {exc}")
    with a, bus.bind("udp://[::1]:0") as b:
        a.send_to(b.address, "six")
        message = b.receive(timeout=WAIT)
        assert message is not None
        assert message.source == a.address
        with pytest.raises((OSError, bus.BadAddress)):
            a.send_to("127.0.0.1:9", "four")


# --- one peer ---


def test_a_connected_socket_talks_with_its_peer_only(plain: socket.socket) -> None:
    with bus.connect(f"udp://{name(plain)}") as conn:
        assert isinstance(conn, bus.Connection)
        assert conn.remote_address == name(plain)
        conn.send("hello")
        conn.send_many(["and", "more"])
        assert [plain.recv(100) for _ in range(3)] == [b"hello", b"and", b"more"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"psst", inet(conn.local_address))
        plain.sendto(b"back", inet(conn.local_address))
        assert conn.receive(timeout=WAIT) == bus.Message(b"back", name(plain))
        assert conn.receive(timeout=0) is None
        assert conn.connected()
        assert repr(conn) == f"<Connection {conn.local_address} to {conn.remote_address} connected, 0 waiting>"
    assert not conn.connected()


def test_a_peer_that_is_not_there_yet_is_counted_and_ends_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    with bus.connect(f"udp://127.0.0.1:{address[1]}") as conn:
        for _ in range(5):
            conn.send("anyone?")
            assert conn.receive(timeout=0.01) is None
        assert conn.connected()
        assert conn.stats().refused > 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(address)
            peer.settimeout(WAIT)
            conn.send("now?")
            assert peer.recv(100) == b"now?"


def test_a_datagram_too_large_for_a_connected_peer(plain: socket.socket) -> None:
    with bus.connect(f"udp://{name(plain)}") as conn:
        with pytest.raises(bus.TooLarge):
            conn.send(b"x" * (MAX_DATAGRAM + 1))
        conn.send("fits")
        assert plain.recv(100) == b"fits"


def test_a_reader_thread_of_its_own() -> None:
    with bus.bind("udp://127.0.0.1:0", threads="own") as a, bus.connect(f"udp://{a.address}", threads="own") as b:
        for number in range(50):
            b.send(str(number))
            message = a.receive(timeout=WAIT)
            assert message is not None
            a.send_to(message.source, message)
            answer = b.receive(timeout=WAIT)
            assert answer is not None
            assert answer.text == str(number)

"""UdpSocket beyond send and receive: both families at once, sharing a port, reading on demand, sending without waiting, one peer."""

from __future__ import annotations

import errno
import gc
import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import bus
from actors import binding, datagramoutbox
from actors.mailbox import MAX_MESSAGES
from actors.resolving import Resolved
from actors.sockets import has_ipv6
from tests.bus.peers import WAIT, InThread, inet, until

needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 on loopback")


@pytest.fixture
def pair() -> Iterator[bus.UdpSocket]:
    with bus.bind("udp://*:0") as sock:
        yield sock


def port_of(sock: bus.UdpSocket) -> int:
    return int(sock.address.rpartition(":")[2])


def name(plain: socket.socket) -> str:
    return f"127.0.0.1:{plain.getsockname()[1]}"


def data_of(sock: bus.UdpSocket) -> bytes:
    message = sock.receive(timeout=WAIT)
    assert message is not None
    return message.data


class Outcomes:
    """What `done` was told."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[tuple[int, Exception | None]] = queue.SimpleQueue()

    def __call__(self, tag: int, error: Exception | None) -> None:
        self.queue.put((tag, error))

    def next(self) -> tuple[int, Exception | None]:
        return self.queue.get(timeout=WAIT)


# --- both families ---


@needs_ipv6
def test_one_socket_for_both_families(pair: bus.UdpSocket) -> None:
    port = port_of(pair)
    assert pair.address == f"*:{port}"
    assert pair.local_addresses == (f"0.0.0.0:{port}", f"[::]:{port}")
    with bus.bind("udp://127.0.0.1:0") as four, bus.bind("udp://[::1]:0") as six:
        four.send_to(f"127.0.0.1:{port}", "four")
        assert pair.receive(timeout=WAIT) == bus.Message(b"four", four.address)
        six.send_to(f"[::1]:{port}", "six")
        assert pair.receive(timeout=WAIT) == bus.Message(b"six", six.address)
        for each in (four, six):
            pair.send_to(each.address, "answer")
            message = each.receive(timeout=WAIT)
            assert message is not None
            assert message.source.endswith(f":{port}")
        assert pair.stats().messages_in == pair.stats().messages_out == 2


@needs_ipv6
def test_a_broadcast_is_heard_by_both_and_mapped_tells_which() -> None:
    with bus.bind("udp://*:0", mapped=True) as pair, bus.bind("udp://127.0.0.1:0", broadcast=True) as sender:
        sender.send_to(f"127.255.255.255:{port_of(pair)}", "all")
        sources = [pair.receive().source for _ in range(2)]
        host, port = inet(sender.address)
        assert sorted(sources) == sorted([f"{host}:{port}", f"[::ffff:{host}]:{port}"])
        pair.send_to(f"[::ffff:{host}]:{port}", "back")
        assert data_of(sender) == b"back"


def test_a_pair_shares_its_port_with_nobody(pair: bus.UdpSocket) -> None:
    port = port_of(pair)
    for host in ("*", "0.0.0.0", "127.0.0.1", *(["[::]", "[::1]"] if has_ipv6() else [])):
        for reuse in (False, True):
            with pytest.raises(OSError) as caught:
                bus.bind(f"udp://{host}:{port}", reuse_port=reuse)
            assert caught.value.errno == errno.EADDRINUSE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError):
            plain.bind(("0.0.0.0", port))


def test_a_closed_pair_frees_its_port(pair: bus.UdpSocket, all_returns: Any) -> None:
    address = pair.address
    pair.close()
    with bus.bind(f"udp://{address}") as again:
        assert again.address == address


@needs_ipv6
def test_a_number_that_ipv6_cannot_have_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    real = binding.bind_to

    def bind(sock: socket.socket, address: Resolved, shown: str | None = None) -> None:
        if sock.family == socket.AF_INET6 and not taken:
            taken.append(address.sockaddr[1])
            raise OSError(errno.EADDRINUSE, "taken")
        real(sock, address, shown)

    monkeypatch.setattr(binding, "bind_to", bind)
    with bus.bind("udp://*:0") as pair:
        assert len(pair.local_addresses) == 2
    taken.clear()
    with pytest.raises(OSError, match="taken"):
        bus.bind(f"udp://{pair.address}")


def test_without_ipv6_the_pair_is_one(monkeypatch: pytest.MonkeyPatch, plain: socket.socket) -> None:
    real = socket.socket

    def make(family: int = -1, *rest: Any, **named: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest, **named)

    monkeypatch.setattr(socket, "socket", make)
    with bus.bind("udp://*:0") as sock:
        assert sock.local_addresses == (sock.address,)
        sock.send_to(name(plain), "x")
        plain.sendto(b"y", inet(sock.address))
        assert data_of(sock) == b"y"
        with pytest.raises(OSError):
            bus.bind(f"udp://{sock.address}")  # what the pair was to share is not shared


def test_receive_any_and_fileno_take_a_pair(pair: bus.UdpSocket, plain: socket.socket) -> None:
    plain.sendto(b"x", ("127.0.0.1", port_of(pair)))
    source, message = bus.receive_any([pair], timeout=WAIT)
    assert source is pair
    assert message is not None
    plain.sendto(b"y", ("127.0.0.1", port_of(pair)))
    assert pair.fileno() >= 0
    assert data_of(pair) == b"y"


def test_those_who_ask_for_it_share_a_port() -> None:
    with bus.bind("udp://*:0", reuse_port=True) as first, bus.bind(f"udp://{first.address}", reuse_port=True) as second:
        with bus.bind("udp://127.0.0.1:0", broadcast=True) as sender:
            sender.send_to(f"127.255.255.255:{port_of(first)}", "all")
            assert data_of(first) == data_of(second) == b"all"
        with pytest.raises(OSError):
            bus.bind(f"udp://{first.address}")


def test_a_bound_port_can_be_shared_later(pair: bus.UdpSocket) -> None:
    pair.set_reuse_port(True)
    with bus.bind(f"udp://{pair.address}", reuse_port=True):
        pass
    pair.set_reuse_port(False)
    with pytest.raises(OSError):
        bus.bind(f"udp://{pair.address}", reuse_port=True)


# --- reading on demand ---


@pytest.mark.parametrize("host", ["127.0.0.1", "*"])
def test_what_is_not_read_stays_in_the_system(host: str, plain: socket.socket) -> None:
    with bus.bind(f"udp://{host}:0", paused=True) as sock:
        to = ("127.0.0.1", port_of(sock))
        for number in range(5):
            plain.sendto(b"%d" % number, to)
        assert sock.receive(timeout=0) is None
        assert sock.stats().messages_in == 0
        sock.resume(2)
        assert [data_of(sock), data_of(sock)] == [b"0", b"1"]
        assert sock.receive(timeout=0) is None
        sock.resume()
        assert [data_of(sock) for _ in range(3)] == [b"2", b"3", b"4"]
        sock.pause()
        plain.sendto(b"5", to)
        assert sock.receive(timeout=0.01) is None
        sock.resume(1)
        assert data_of(sock) == b"5"
        assert sock.stats().messages_in == 6


def test_a_pause_ends_a_direct_read_and_a_resume_wakes_the_script(plain: socket.socket) -> None:
    with bus.bind("udp://127.0.0.1:0") as sock:
        plain.sendto(b"first", inet(sock.address))
        assert data_of(sock) == b"first"
        waiting = InThread(sock.receive).until_blocked()
        sock.pause()
        waiting.until_blocked()
        plain.sendto(b"held back", inet(sock.address))
        assert sock.stats().messages_in == 1
        assert waiting.thread.is_alive()
        sock.resume()
        assert waiting.result().data == b"held back"


def test_one_at_a_time_from_many_threads_is_one_each(plain: socket.socket) -> None:
    with bus.bind("udp://*:0", paused=True) as sock:
        for number in range(50):
            plain.sendto(b"%d" % number, ("127.0.0.1", port_of(sock)))
        got = []
        for _ in range(50):
            sock.resume(1)
            got.append(data_of(sock))
            assert sock.stats().waiting_in == 0
        assert got == [b"%d" % number for number in range(50)]


@needs_ipv6
def test_one_at_a_time_neither_family_is_forgotten() -> None:
    with bus.bind("udp://*:0", paused=True) as pair, bus.bind("udp://127.0.0.1:0") as four, bus.bind("udp://[::1]:0") as six:
        for number in range(3):
            four.send_to(f"127.0.0.1:{port_of(pair)}", f"four {number}")
            six.send_to(f"[::1]:{port_of(pair)}", f"six {number}")
        got = []
        for _ in range(6):
            pair.resume(1)
            got.append(data_of(pair).decode())
        for family in ("four", "six"):
            assert [each for each in got if each.startswith(family)] == [f"{family} {number}" for number in range(3)]


@pytest.mark.parametrize(("size", "data"), [(0, b""), (4, b"0123"), (16, b"0123456789abcdef"), (2**32, b"0123456789abcdef")])
def test_a_datagram_is_cut_to_the_buffer(pair: bus.UdpSocket, plain: socket.socket, size: int, data: bytes) -> None:
    pair.set_buffer_size(size)
    plain.sendto(b"0123456789abcdef", ("127.0.0.1", port_of(pair)))
    assert data_of(pair) == data


@needs_ipv6
def test_each_family_has_a_buffer_of_its_own(pair: bus.UdpSocket, plain: socket.socket) -> None:
    pair.set_buffer_size(2, 6)
    plain.sendto(b"four", ("127.0.0.1", port_of(pair)))
    assert data_of(pair) == b"four"
    with bus.bind("udp://[::1]:0") as six:
        six.send_to(f"[::1]:{port_of(pair)}", "six")
        assert data_of(pair) == b"si"


def test_when_ready_calls_once_and_never_when_something_is_there(pair: bus.UdpSocket, plain: socket.socket) -> None:
    rung: queue.SimpleQueue[int] = queue.SimpleQueue()
    assert pair.when_ready(lambda: rung.put(1))
    assert rung.empty()
    plain.sendto(b"x", ("127.0.0.1", port_of(pair)))
    assert rung.get(timeout=WAIT) == 1
    assert not pair.when_ready(lambda: rung.put(2))
    assert data_of(pair) == b"x"
    plain.sendto(b"y", ("127.0.0.1", port_of(pair)))
    assert data_of(pair) == b"y"
    assert pair.when_ready(lambda: rung.put(3))
    pair.close()
    assert rung.get(timeout=WAIT) == 3
    assert not pair.when_ready(lambda: rung.put(4))
    assert rung.empty()


# --- sending without waiting ---


def test_posted_datagrams_leave_in_order_and_each_is_told_of(pair: bus.UdpSocket, plain: socket.socket) -> None:
    outcomes = Outcomes()
    for number in range(100):
        pair.post(name(plain), str(number), tag=number, done=outcomes)
    assert [plain.recv(100) for _ in range(100)] == [b"%d" % number for number in range(100)]
    assert [outcomes.next() for _ in range(100)] == [(number, None) for number in range(100)]
    assert pair.stats().messages_out == 100
    assert pair.stats().waiting_out == 0


class SlowNames:
    """A name server that answers when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
        self.go_on = threading.Event()
        self.asked = threading.Event()
        real = socket.getaddrinfo

        def getaddrinfo(host: str, port: int, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0) -> Any:
            if host != "slow.example" or flags & socket.AI_NUMERICHOST:
                return real(host, port, family, kind, proto, flags)
            self.asked.set()
            assert self.go_on.wait(WAIT)
            if not answer:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return real(answer, port, family, kind, proto, flags)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("answer", ["127.0.0.1", ""])
def test_what_waits_for_a_name_holds_up_what_is_behind_it(
    pair: bus.UdpSocket, plain: socket.socket, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    names = SlowNames(monkeypatch, answer)
    outcomes = Outcomes()
    port = plain.getsockname()[1]
    pair.post(f"slow.example:{port}", "named", tag=1, done=outcomes)
    pair.post(name(plain), "numeric", tag=2, done=outcomes)
    assert names.asked.wait(WAIT)
    assert outcomes.queue.empty()
    assert pair.stats().waiting_out == len(b"named" + b"numeric")
    names.go_on.set()
    tag, error = outcomes.next()
    assert tag == 1
    if answer:
        assert error is None
        assert plain.recv(100) == b"named"
    else:
        assert isinstance(error, bus.ConnectFailed)
        assert pair.stats().unsent == len(b"named")
    assert outcomes.next() == (2, None)
    assert plain.recv(100) == b"numeric"


def test_a_datagram_that_cannot_be_sent_costs_itself_only(pair: bus.UdpSocket, plain: socket.socket) -> None:
    outcomes = Outcomes()
    pair.post("127.255.255.255:9", "broadcast", tag=1, done=outcomes)
    pair.post("127.0.0.1:0", "nowhere", tag=2, done=outcomes)
    pair.post(None, "to no peer", tag=3, done=outcomes)
    pair.post(name(plain), "fine", tag=4, done=outcomes)
    results = [outcomes.next() for _ in range(4)]
    assert [tag for tag, _ in results] == [1, 2, 3, 4]
    assert isinstance(results[0][1], PermissionError)
    assert all(isinstance(error, OSError) for _, error in results[:3])
    assert results[3][1] is None
    assert plain.recv(100) == b"fine"
    assert pair.stats().unsent == len("broadcast" + "nowhere" + "to no peer")


def test_what_waits_is_bounded_and_told_of_the_end(
    pair: bus.UdpSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = SlowNames(monkeypatch, "127.0.0.1")
    monkeypatch.setattr(datagramoutbox, "MAX_POSTED", 3)
    outcomes = Outcomes()
    pair.post("slow.example:9", "x", tag=0, done=outcomes)
    for number in (1, 2):
        pair.post("127.0.0.1:9", "x", tag=number, done=outcomes)
    with pytest.raises(bus.NotSent, match="3 datagrams wait"):
        pair.post("127.0.0.1:9", "x", tag=3, done=outcomes)
    pair.close()
    results = [outcomes.next() for _ in range(3)]
    assert [tag for tag, _ in results] == [0, 1, 2]
    assert all(isinstance(error, bus.Closed) for _, error in results)
    assert outcomes.queue.empty()
    assert pair.stats().unsent == 3
    names.go_on.set()


def test_posted_bytes_are_bounded_and_one_larger_datagram_fits(pair: bus.UdpSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    names = SlowNames(monkeypatch, "127.0.0.1")
    monkeypatch.setattr(datagramoutbox, "MAX_BYTES", 10)
    pair.post("slow.example:9", "x" * 50)
    with pytest.raises(bus.NotSent):
        pair.post("127.0.0.1:9", "x")
    names.go_on.set()
    until(lambda: not pair.stats().waiting_out)
    pair.post("127.0.0.1:9", "x")


def test_who_is_told_may_post_and_may_fail(pair: bus.UdpSocket, plain: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    outcomes = Outcomes()

    def again(tag: int, error: Exception | None) -> None:
        pair.post(name(plain), "second", tag=2, done=outcomes)
        raise LookupError("in done")

    pair.post(name(plain), "first", tag=1, done=again)
    assert outcomes.next() == (2, None)
    assert [plain.recv(100), plain.recv(100)] == [b"first", b"second"]
    assert "in done" in caplog.text


@needs_ipv6
def test_choose_takes_one_of_the_addresses(pair: bus.UdpSocket) -> None:
    outcomes = Outcomes()
    seen = []
    with bus.bind("udp://[::1]:0") as six:

        def choose(addresses: tuple[Resolved, ...]) -> Any:
            seen.append(addresses)
            return (*inet(six.address), 0, 0)

        pair.post("127.0.0.1:9", "x", done=outcomes, choose=choose)
        assert data_of(six) == b"x"
    assert seen == [(Resolved(socket.AF_INET, ("127.0.0.1", 9)),)]


# --- one peer ---


def test_connected_it_hears_its_peer_only(pair: bus.UdpSocket, plain: socket.socket) -> None:
    port = port_of(pair)
    pair.pause()
    outcomes = Outcomes()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"before", ("127.0.0.1", port))
        pair.post_connect(name(plain), tag=5, done=outcomes)
        assert outcomes.next() == (5, None)
        stranger.sendto(b"after", ("127.0.0.1", port))
    assert pair.remote_address == name(plain)
    assert pair.local_addresses == (f"127.0.0.1:{port}",)
    plain.sendto(b"peer", ("127.0.0.1", port))
    pair.resume(1)
    assert data_of(pair) == b"peer"
    assert pair.stats().messages_in == 1
    assert 1 <= pair.stats().lost <= 2  # the second counts if it came before the other family's socket was closed
    pair.post(None, "hello", done=outcomes)
    assert plain.recv(100) == b"hello"
    assert outcomes.next() == (0, None)
    pair.post("127.0.0.1:9", "elsewhere", done=outcomes)
    _, error = outcomes.next()
    assert isinstance(error, OSError)
    assert error.errno == errno.EISCONN


def test_connecting_to_port_0_fails_and_changes_nothing(pair: bus.UdpSocket, plain: socket.socket) -> None:
    outcomes = Outcomes()
    pair.post_connect("127.0.0.1:0", done=outcomes)
    _, error = outcomes.next()
    assert isinstance(error, OSError)
    assert error.errno == errno.EADDRNOTAVAIL
    assert pair.remote_address == ""
    plain.sendto(b"anybody", ("127.0.0.1", port_of(pair)))
    assert data_of(pair) == b"anybody"


def test_a_refusal_is_counted_and_ends_nothing(pair: bus.UdpSocket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        nobody = name(gone)
    outcomes = Outcomes()
    pair.post_connect(nobody)
    for _ in range(3):
        pair.post(None, "anyone?", done=outcomes)
        assert outcomes.next() == (0, None)
    until(lambda: pair.stats().refused)
    assert not pair.closed


# --- the end ---


def test_a_socket_that_cannot_be_read_is_broken(pair: bus.UdpSocket, plain: socket.socket) -> None:
    def receive(size: int, space: int) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    for reader in pair._actor.readers:
        reader._receive = receive
    plain.sendto(b"x", ("127.0.0.1", port_of(pair)))
    with pytest.raises(bus.Broken, match="Input/output error"):
        pair.receive(timeout=WAIT)
    until(pair._actor.actor_stopped.is_set)
    with pytest.raises(bus.Broken):
        pair.send_to(name(plain), "x")


def test_close_soon_closes_without_a_warning() -> None:
    sock = bus.bind("udp://*:0")
    address = sock.address
    sock.close_soon()
    del sock
    gc.collect()

    def free() -> bool:
        try:
            bus.bind(f"udp://{address}").close()
        except OSError:
            return False
        return True

    until(free)


def test_closed_tells() -> None:
    sock = bus.bind("udp://*:0")
    assert not sock.closed
    sock.close()
    assert sock.closed
    for call in (sock.pause, sock.resume, lambda: sock.set_buffer_size(1), lambda: sock.local_addresses, lambda: sock.post(None, "x")):
        with pytest.raises(bus.Closed):
            call()


def test_the_pair_loses_nothing_uncounted(pair: bus.UdpSocket, plain: socket.socket) -> None:
    to = ("127.0.0.1", port_of(pair))
    pair.pause()
    total = 3 * MAX_MESSAGES
    for _ in range(total):
        plain.sendto(b"x" * 64, to)
    pair.resume()
    until(lambda: pair.stats().messages_in + pair.stats().lost - pair._mailbox.lost == total)
    received = 0
    while pair.receive(timeout=0) is not None:
        received += 1
    assert received + pair.stats().lost == total

"""`daystar_api.tcp_client` and `tcp_server`: text that 0x03 ends, a callback that may be slow or wrong, clients that come and go."""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bus
from actors import waiting
from adapters.daystar_api.tcp_client import TCPClient, create_tcp_client
from adapters.daystar_api.tcp_server import TCPServer, create_tcp_server
from tests.adapters.daystar import ETX, EtxPeer, dice, listening, occupied, os_port, somewhere
from tests.bus.peers import WAIT, InThread, until

pytestmark = pytest.mark.usefixtures("collected")

LOOPBACK = "127.0.0.1"
LOG = "actorbus.daystar"
MIB = 1024 * 1024


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 on loopback")

Address = tuple[str, int]
Serve = Callable[..., tuple[int, TCPServer]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`create_tcp_server` without the port: it takes one that is free. Stopped at the end."""
    with ExitStack() as servers:

        def start(*args: Any, **options: Any) -> tuple[int, TCPServer]:
            port, server = somewhere(lambda port: create_tcp_server(port, *args, **options))
            servers.enter_context(server)
            return port, server

        yield start


@contextmanager
def with_plain_server(**options: Any) -> Iterator[tuple[TCPClient, EtxPeer]]:
    """A client of ours, and the socket that accepted it."""
    port, listener = listening()
    with listener, create_tcp_client(LOOPBACK, port, **options) as client, EtxPeer(listener.accept()[0]) as peer:
        yield client, peer


def echo(msg: str, client_addr: Address) -> str:
    return f"Echo: {msg}"


def text(received: str | None) -> str:
    assert received is not None
    return received


# --- the client ---


def test_the_documents_client_gets_an_answer() -> None:
    port, listener = listening()
    with listener:

        def answer() -> None:
            with EtxPeer(listener.accept()[0]) as peer:
                assert peer.receive() == b"Hello Server"
                peer.send("welcome")

        answering = InThread(answer)
        with create_tcp_client(LOOPBACK, port) as client:
            client.send("Hello Server")
            assert client.receive(timeout=WAIT) == "welcome"
        answering.result()


@pytest.mark.parametrize("message", ["hello", "", "Grüße, 世界 🤖", "two\nlines\r\n", "\0", "\udcff\udc80 bytes", "x" * 300_000])
def test_a_message_is_its_utf8_and_a_terminator(message: str) -> None:
    with with_plain_server() as (client, peer):
        sending = InThread(lambda: client.send(message))
        assert peer.receive() == message.encode("utf-8", "surrogateescape")
        sending.result()
        client.disconnect()
        assert peer.receive() is None


@pytest.mark.parametrize("message", ["\x03", "a\x03b", "end\x03"])
def test_a_message_that_contains_the_terminator_is_a_value_error_and_not_sent(message: str) -> None:
    with with_plain_server() as (client, peer):
        with pytest.raises(ValueError, match="two halves"):
            client.send(message)
        client.send("next")
        assert peer.receive() == b"next"


@pytest.mark.parametrize("message", [b"x", None, 1, {"a": 1}, bytearray(b"x")], ids=repr)
def test_a_message_is_a_str(message: Any) -> None:
    with with_plain_server() as (client, _):
        with pytest.raises(TypeError, match="message must be a str"):
            client.send(message)


def test_a_surrogate_that_stands_for_no_byte_is_a_value_error() -> None:
    with with_plain_server() as (client, _):
        with pytest.raises(ValueError, match="surrogates"):
            client.send("\ud800")


def test_a_message_over_the_limit_is_a_value_error_and_the_connection_lives() -> None:
    with with_plain_server(max_size=8) as (client, peer):
        with pytest.raises(ValueError, match=r"70\d\d\d|71000"):
            client.send("123456789")
        client.send("üüüü")
        assert peer.receive() == "üüüü".encode()


def test_several_messages_in_one_piece_come_one_by_one() -> None:
    with with_plain_server() as (client, peer):
        peer.send("one", "", "three")
        assert [client.receive(WAIT) for _ in range(3)] == ["one", "", "three"]
        assert client.receive(0) is None


SAMPLE = "aü世🤖".encode() + ETX + b"\xff\xfe" + ETX + ETX + b"\x02\x04" + ETX
SAMPLE_TEXTS = ["aü世🤖", "\udcff\udcfe", "", "\x02\x04"]


@pytest.mark.parametrize("cut", range(1, len(SAMPLE)))
def test_a_cut_anywhere_changes_nothing(cut: int) -> None:
    with with_plain_server() as (client, peer):
        peer.sock.sendall(SAMPLE[:cut])
        complete = SAMPLE[:cut].count(ETX)
        assert [client.receive(WAIT) for _ in range(complete)] == SAMPLE_TEXTS[:complete]
        assert client.receive(timeout=0) is None  # a timeout inside a message loses nothing of it
        peer.sock.sendall(SAMPLE[cut:])
        assert [client.receive(WAIT) for _ in SAMPLE_TEXTS[complete:]] == SAMPLE_TEXTS[complete:]


def test_single_bytes_make_messages() -> None:
    with with_plain_server() as (client, peer):
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waiting_for_all = InThread(lambda: [client.receive(WAIT) for _ in SAMPLE_TEXTS])
        for index in range(len(SAMPLE)):
            peer.sock.sendall(SAMPLE[index : index + 1])
        assert waiting_for_all.result() == SAMPLE_TEXTS


def test_any_bytes_but_the_terminator_survive_there_and_back() -> None:
    with with_plain_server() as (client, peer):

        @given(st.lists(st.binary(max_size=200).map(lambda data: data.replace(ETX, b"")), max_size=5))
        @settings(max_examples=60)
        def holds(messages: list[bytes]) -> None:
            for message in messages:
                peer.sock.sendall(message + ETX)
            for message in messages:
                client.send(text(client.receive(WAIT)))
                assert peer.receive() == message

        holds()


def test_receive_without_a_timeout_waits() -> None:
    with with_plain_server() as (client, peer):
        receiving = InThread(client.receive).until_blocked()
        peer.send("at last")
        assert receiving.result() == "at last"


def test_what_came_before_the_server_left_is_received_and_then_none() -> None:
    with with_plain_server() as (client, peer):
        peer.send("one", "two")
        peer.sock.close()
        assert client.receive() == "one"
        assert client.is_connected()
        assert client.receive() == "two"
        assert client.receive() is None
        assert not client.is_connected()
        assert client.receive() is None


def test_a_reset_is_an_end_like_another() -> None:
    with with_plain_server() as (client, peer):
        peer.reset()
        assert client.receive() is None
        assert not client.is_connected()
        with pytest.raises(ConnectionError):
            client.send("x")


def test_unterminated_bytes_at_the_end_are_dropped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with with_plain_server() as (client, peer):
        peer.sock.sendall(b"whole" + ETX + b"half")
        peer.sock.close()
        assert client.receive() == "whole"
        assert client.receive() is None
    assert any(record.levelno == logging.WARNING and "4 bytes" in record.getMessage() for record in caplog.records)


def test_a_frame_over_the_limit_ends_the_connection_after_what_came_before() -> None:
    with with_plain_server(max_size=8) as (client, peer):
        peer.sock.sendall(b"12345678" + ETX + b"123456789")
        assert client.receive() == "12345678"
        assert client.receive() is None
        assert not client.is_connected()


def test_a_server_that_leaves_between_a_look_and_a_send_costs_a_script_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with with_plain_server() as (client, peer):
        assert client.is_connected()
        peer.reset()

        def noticed() -> bool:
            client.send("x")
            return client.dropped > 0

        until(noticed)
        assert not client.is_connected()
        with pytest.raises(ConnectionError):
            client.send("x")
    assert [record for record in caplog.records if "dropped" in record.getMessage()]


def test_a_send_that_was_not_vouched_for_is_not_lost_without_a_word() -> None:
    with with_plain_server() as (client, peer):
        peer.reset()

        def send_until_told() -> None:
            for _ in range(100_000):
                client.send("x")

        with pytest.raises(ConnectionError):
            send_until_told()


def test_after_disconnect_every_call_is_a_connection_error() -> None:
    with with_plain_server() as (client, peer):
        client.send("last")
        client.disconnect()
        client.disconnect()
        client.close()
        assert peer.receive() == b"last"
        assert peer.receive() is None
        assert not client.is_connected()
        with pytest.raises(ConnectionError):
            client.send("x")
        with pytest.raises(ConnectionError):
            client.receive(1)


def test_disconnect_ends_a_receive_that_waits() -> None:
    with with_plain_server() as (client, _):
        receiving = InThread(client.receive).until_blocked()
        client.disconnect()
        with pytest.raises(ConnectionError):
            receiving.result()


def test_refused_is_a_connection_error_with_both_numbers() -> None:
    port, bound = occupied()
    with bound, pytest.raises(ConnectionError) as caught:
        create_tcp_client(LOOPBACK, port)
    assert f"{LOOPBACK}:{port} (OS port {os_port(port)})" in str(caught.value)
    assert "refused" in str(caught.value)
    assert not isinstance(caught.value, TimeoutError)


def test_no_answer_in_time_is_a_timeout_error_with_both_numbers() -> None:
    port, listener = listening(backlog=0)
    with listener, ExitStack() as others:
        for _ in range(8):  # the queue is full after the first; further calls go unanswered
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex((LOOPBACK, os_port(port)))
        with pytest.raises(TimeoutError) as caught:
            create_tcp_client(LOOPBACK, port, timeout=0.05)
    assert f"{LOOPBACK}:{port} (OS port {os_port(port)})" in str(caught.value)
    assert isinstance(caught.value, ConnectionError)


def test_an_unknown_name_is_a_connection_error() -> None:
    with pytest.raises(ConnectionError, match=r":70001 \(OS port 4465\)"):
        create_tcp_client("n" * 64, 70_001)  # a label has 63 characters at most, so nobody needs to be asked


@pytest.mark.parametrize(
    ("ip", "error"), [(None, TypeError), (1, TypeError), ("", ValueError), ("1.2.3.4:5", ValueError), ("a b", ValueError)]
)
def test_what_is_no_host_is_refused(ip: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        create_tcp_client(ip, 70_001)


@pytest.mark.parametrize("host", ["localhost", pytest.param("::1", marks=needs_ipv6), pytest.param("[::1]", marks=needs_ipv6)])
def test_names_and_ipv6_lead_to_our_server(serve: Serve, host: str) -> None:
    port, server = serve(echo)
    with create_tcp_client(host, port) as client:
        client.send("hi")
        assert client.receive(WAIT) == "Echo: hi"
        ((ip, _),) = server.get_connected_clients()
        assert ip in ("::1", LOOPBACK)


def test_the_reprs_show_both_numbers(serve: Serve) -> None:
    port, server = serve(echo)
    numbers = f"{port} (OS port {os_port(port)})"
    with create_tcp_client(LOOPBACK, port) as client:
        assert repr(client).startswith(f"<TCPClient of {LOOPBACK}:{numbers} over <Connection ")
        assert "connected" in repr(client)
    assert repr(server).startswith(f"<TCPServer port {numbers} over <Server ")


# --- the callback ---


def test_the_documents_server_answers_with_what_the_callback_returns(serve: Serve) -> None:
    seen = []

    def handle_message(msg: str, client_addr: Address) -> str:
        seen.append((msg, client_addr))
        return f"Echo: {msg}"

    port, _ = serve(message_callback=handle_message)
    with EtxPeer.to(port) as peer:
        peer.send("Grüße", "")
        assert peer.receive() == "Echo: Grüße".encode()
        assert peer.receive() == b"Echo: "
        assert seen == [("Grüße", peer.address), ("", peer.address)]


@pytest.mark.parametrize("cut", range(1, len(SAMPLE)))
def test_a_cut_anywhere_changes_nothing_for_a_server(serve: Serve, cut: int) -> None:
    port, _ = serve(lambda msg, client_addr: msg)
    with EtxPeer.to(port) as peer:
        for part in (SAMPLE[:cut], SAMPLE[cut:]):
            peer.sock.sendall(part)
            for _ in range(part.count(ETX)):
                assert peer.receive() is not None
        peer.finish()
        assert list(peer) == []


def test_bytes_that_are_no_utf8_come_back_as_they_were(serve: Serve) -> None:
    port, _ = serve(lambda msg, client_addr: msg)
    with EtxPeer.to(port) as peer:
        peer.sock.sendall(SAMPLE)
        peer.finish()
        assert ETX.join([*peer, b""]) == SAMPLE


def test_none_is_no_reply(serve: Serve) -> None:
    port, _ = serve(lambda msg, client_addr: msg if msg == "loud" else None)
    with EtxPeer.to(port) as peer:
        peer.send("quiet", "loud", "quiet")
        assert peer.receive() == b"loud"
        peer.finish()
        assert peer.receive() is None


def fail(msg: str, client_addr: Address) -> str:
    raise RuntimeError("the script's own mistake")


def leave(msg: str, client_addr: Address) -> str:
    sys.exit("bye")


BAD_CALLBACKS: list[Callable[..., Any]] = [
    fail,
    leave,
    lambda msg, client_addr: b"bytes",
    lambda msg, client_addr: 1,
    lambda msg, client_addr: {"a": 1},
    lambda msg, client_addr: "two\x03halves",
    lambda msg, client_addr: "\ud800",
    lambda msg, client_addr: "x" * 101,
    lambda: "wrong signature",
]
BAD_NAMES = ["raises", "exits", "bytes", "int", "dict", "terminator", "surrogate", "too large", "signature"]


@pytest.mark.parametrize("concurrent", [False, True])
@pytest.mark.parametrize("bad", BAD_CALLBACKS, ids=BAD_NAMES)
def test_a_callback_that_fails_is_logged_and_serving_goes_on(
    serve: Serve, caplog: pytest.LogCaptureFixture, bad: Callable[[str, Address], Any], concurrent: bool
) -> None:
    def callback(msg: str, client_addr: Address) -> Any:
        return bad(msg, client_addr) if msg == "bad" else msg

    port, _ = serve(callback, concurrent=concurrent, max_size=100)
    with EtxPeer.to(port) as peer, EtxPeer.to(port) as neighbour:
        peer.send("bad", "good")
        assert peer.receive() == b"good"  # on the same connection
        neighbour.send("fine")
        assert neighbour.receive() == b"fine"
        (record,) = [record for record in caplog.records if record.name == LOG]
        assert record.levelno == logging.ERROR
        assert f"{LOOPBACK}:{peer.address[1]}" in record.getMessage()
        assert record.exc_info


def test_callbacks_run_one_at_a_time(serve: Serve) -> None:
    inside = threading.Lock()
    overlaps = []

    def callback(msg: str, client_addr: Address) -> str:
        if not inside.acquire(blocking=False):
            overlaps.append(msg)
            return "overlap"
        try:
            threading.Event().wait(0.001)
            return msg
        finally:
            inside.release()

    port, _ = serve(callback)
    with ExitStack() as stack:
        peers = [stack.enter_context(EtxPeer.to(port)) for _ in range(8)]
        for peer in peers:
            peer.send(*map(str, range(5)))
        for peer in peers:
            assert [peer.receive() for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    assert not overlaps


def test_concurrent_callbacks_of_different_clients_run_at_once(serve: Serve) -> None:
    meeting = threading.Barrier(3)

    def callback(msg: str, client_addr: Address) -> str:
        meeting.wait(WAIT)
        return "met"

    port, _ = serve(callback, concurrent=True)
    with EtxPeer.to(port) as first, EtxPeer.to(port) as second, EtxPeer.to(port) as third:
        for peer in (first, second, third):
            peer.send("come")
        assert [peer.receive() for peer in (first, second, third)] == [b"met"] * 3


def test_concurrent_callbacks_of_one_client_never_overlap(serve: Serve) -> None:
    inside = threading.Lock()

    def callback(msg: str, client_addr: Address) -> str:
        if not inside.acquire(blocking=False):
            return "overlap"
        try:
            threading.Event().wait(0.03 if msg == "0" else 0)  # long enough to be taken for slow
            return msg
        finally:
            inside.release()

    port, _ = serve(callback, concurrent=True)
    with EtxPeer.to(port) as peer:
        peer.send("0", "1")
        peer.send("2")
        assert [peer.receive() for _ in range(3)] == [b"0", b"1", b"2"]


class Slow:
    """A callback that stays inside for the message "stay", until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, msg: str, client_addr: Address) -> str:
        if msg == "stay":
            self.entered.set()
            assert self.let_go.wait(WAIT)
        return msg


@pytest.fixture
def slow() -> Iterator[Slow]:
    callback = Slow()
    yield callback
    callback.let_go.set()


def test_nothing_but_callbacks_waits_for_a_slow_callback(serve: Serve, slow: Slow) -> None:
    port, server = serve(slow)
    with EtxPeer.to(port) as busy, EtxPeer.to(port) as there:
        until(lambda: len(server.get_connected_clients()) == 2)
        busy.send("stay")
        assert slow.entered.wait(WAIT)
        there.send("later")
        assert server.send_to_all("to all") == 2
        assert (busy.receive(), there.receive()) == (b"to all", b"to all")
        with EtxPeer.to(port) as newcomer:
            until(lambda: server.get_connected_clients() == [busy.address, there.address, newcomer.address])
            server.send("to you", newcomer.address)
            assert newcomer.receive() == b"to you"
            server.send("to you too", busy.address)
            assert busy.receive() == b"to you too"
        slow.let_go.set()
        assert (busy.receive(), there.receive()) == (b"stay", b"later")


@pytest.mark.parametrize("concurrent", [False, True])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_dead_client_vanishes_though_a_callback_is_busy(serve: Serve, slow: Slow, how: str, concurrent: bool) -> None:
    port, server = serve(slow, concurrent=concurrent)
    with EtxPeer.to(port) as busy, EtxPeer.to(port) as mortal, EtxPeer.to(port) as there:
        until(lambda: len(server.get_connected_clients()) == 3)
        busy.send("stay")
        assert slow.entered.wait(WAIT)
        address = mortal.address
        mortal.reset() if how == "reset" else mortal.sock.close()
        until(lambda: server.get_connected_clients() == [busy.address, there.address])
        with pytest.raises(ConnectionError):
            server.send("x", address)
        assert server.send_to_all("x") == 2
        slow.let_go.set()
        assert [busy.receive(), busy.receive()] == [b"x", b"stay"]


# --- clients ---


def test_the_list_is_a_snapshot_of_who_is_there(serve: Serve) -> None:
    port, server = serve(echo)
    assert server.get_connected_clients() == []
    with EtxPeer.to(port) as first:
        until(lambda: server.get_connected_clients() == [first.address])
        snapshot = server.get_connected_clients()
        with EtxPeer.to(port) as second:
            until(lambda: server.get_connected_clients() == [first.address, second.address])
        until(lambda: server.get_connected_clients() == [first.address])
        snapshot.clear()
        assert server.get_connected_clients() == [first.address]
    until(lambda: server.get_connected_clients() == [])


def test_send_reaches_the_one_client(serve: Serve) -> None:
    port, server = serve()
    with EtxPeer.to(port) as first, EtxPeer.to(port) as second:
        until(lambda: len(server.get_connected_clients()) == 2)
        for _ in range(2):
            server.send("for the first", first.address)
            server.send("for the second", second.address)
            assert (first.receive(), second.receive()) == (b"for the first", b"for the second")


def test_send_to_an_unknown_client_is_a_connection_error(serve: Serve) -> None:
    port, server = serve(echo)
    with EtxPeer.to(port) as peer:
        until(server.get_connected_clients)
        for client in [(LOOPBACK, 1), ("10.0.0.1", peer.address[1]), (*peer.address, 0)]:
            with pytest.raises(ConnectionError, match=rf"no client .* port {port} \(OS port {os_port(port)}\)"):
                server.send("x", client)  # type: ignore[arg-type]


@pytest.mark.parametrize("client", [None, "127.0.0.1:5", 1, ["127.0.0.1", 5]], ids=repr)
def test_a_client_is_a_tuple(serve: Serve, client: Any) -> None:
    _, server = serve(echo)
    with pytest.raises(TypeError, match="get_connected_clients"):
        server.send("x", client)


def test_send_to_a_client_that_left_is_a_connection_error(serve: Serve) -> None:
    port, server = serve(echo)
    with EtxPeer.to(port) as peer:
        until(server.get_connected_clients)
        address = peer.address
        server.send("x", address)
    until(lambda: not server.get_connected_clients())
    with pytest.raises(ConnectionError):
        server.send("x", address)


def test_who_comes_again_from_the_same_port_is_the_one_that_gets_the_message(serve: Serve) -> None:
    port, server = serve(echo)
    # Random among the loopback addresses, because others are given a free port at 127.0.0.1 all the time.
    address = ("127." + ".".join(str(dice.randint(1, 254)) for _ in range(3)), 0)
    with EtxPeer.to(port, source=bound_at(address)) as first:
        until(server.get_connected_clients)
        address = first.address
        server.send("one", address)
        assert first.receive() == b"one"
        first.reset()  # leaves its port free at once
    until(lambda: not server.get_connected_clients())
    with EtxPeer.to(port, source=bound_at(address)) as second:
        until(server.get_connected_clients)
        assert second.address == address
        server.send("two", address)
        assert second.receive() == b"two"


def bound_at(address: Address) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    return sock


def test_a_client_on_a_port_of_the_range_has_that_port(serve: Serve) -> None:
    seen = []
    port, server = serve(lambda msg, client_addr: seen.append(client_addr))
    peer_port, source = occupied()
    with EtxPeer.to(port, source=source) as peer:
        peer.send("x")
        until(lambda: seen == [(LOOPBACK, peer_port)])
        server.send("y", (LOOPBACK, peer_port))
        assert peer.receive() == b"y"


@needs_ipv6
def test_an_ipv4_client_has_its_ipv4_address_and_an_ipv6_one_its_own(serve: Serve) -> None:
    port, server = serve(echo)
    with EtxPeer.to(port) as four, EtxPeer.to(port, "::1") as six:
        until(lambda: len(server.get_connected_clients()) == 2)
        assert set(server.get_connected_clients()) == {(LOOPBACK, four.address[1]), ("::1", six.address[1])}


@pytest.mark.parametrize(
    "reason",
    [OSError(errno.EAFNOSUPPORT, "no such family"), OSError(errno.EADDRNOTAVAIL, "no such address"), bus.ConnectFailed("[::]", "?")],
)
def test_without_ipv6_it_serves_ipv4(serve: Serve, monkeypatch: pytest.MonkeyPatch, reason: OSError) -> None:
    really = bus.serve

    def no_ipv6(url: str, *args: Any, **options: Any) -> bus.Server:
        if "[" in url:
            raise reason
        return really(url, *args, **options)

    monkeypatch.setattr(bus, "serve", no_ipv6)
    port, server = serve(echo)
    assert f"0.0.0.0:{os_port(port)}" in repr(server)
    with EtxPeer.to(port) as peer:
        peer.send("hi")
        assert peer.receive() == b"Echo: hi"


@pytest.mark.parametrize("concurrent", [False, True])
def test_who_only_ended_its_sending_gets_all_that_its_callback_sends(serve: Serve, concurrent: bool) -> None:
    servers: list[TCPServer] = []

    def callback(msg: str, client_addr: Address) -> str:
        servers[0].send("part 1", client_addr)
        servers[0].send("part 2", client_addr)
        return "done"

    port, server = serve(callback, concurrent=concurrent)
    servers.append(server)
    with EtxPeer.to(port) as peer:
        peer.send("one", "two")
        peer.finish()
        assert list(peer) == [b"part 1", b"part 2", b"done"] * 2


def test_a_broadcast_skips_who_is_far_behind_and_says_so(serve: Serve) -> None:
    port, server = serve(echo)
    big = "x" * MIB
    with EtxPeer.to(port, receive_buffer=4096) as lazy, EtxPeer.to(port) as eager:
        until(lambda: len(server.get_connected_clients()) == 2)
        taken = []
        for _ in range(64):
            taken.append(server.send_to_all(big))
            assert eager.receive() == big.encode()
            if taken[-1] == 1:
                break
        assert taken == [2] * (len(taken) - 1) + [1]
        assert lazy.address in server.get_connected_clients()  # behind, and still there
        lazy.reset()
        until(lambda: server.get_connected_clients() == [eager.address])
        assert server.send_to_all("x") == 1


def test_a_slow_client_is_dropped_by_what_anothers_callback_sends_it(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    servers: list[TCPServer] = []
    lazy_address: list[Address] = []

    def callback(msg: str, client_addr: Address) -> str:
        for count in range(64):
            try:
                servers[0].send("x" * MIB, lazy_address[0])
            except ConnectionError:
                return f"gone after {count}"
        return "endless"

    port, server = serve(callback)
    servers.append(server)
    with EtxPeer.to(port, receive_buffer=4096) as lazy, EtxPeer.to(port) as innocent:
        until(lambda: len(server.get_connected_clients()) == 2)
        lazy_address.append(lazy.address)
        innocent.send("go")
        answer = innocent.receive()
        assert answer is not None
        assert answer.startswith(b"gone after")
        until(lambda: server.get_connected_clients() == [innocent.address])
    assert [record for record in caplog.records if "reads too slowly" in record.getMessage()]


def test_the_limit_for_the_own_client_is_told_in_its_callback(serve: Serve) -> None:
    servers: list[TCPServer] = []
    told = threading.Event()

    def callback(msg: str, client_addr: Address) -> None:
        try:
            for _ in range(64):
                servers[0].send("x" * MIB, client_addr)
        except TimeoutError:
            told.set()

    port, server = serve(callback)
    servers.append(server)
    with EtxPeer.to(port, receive_buffer=4096) as lazy:
        lazy.send("go")
        assert told.wait(WAIT)
        assert server.get_connected_clients() == [lazy.address]
        lazy.reset()


# --- a server without a callback ---


def test_without_a_callback_receive_gives_message_and_client(serve: Serve) -> None:
    port, server = serve()
    assert server.receive(timeout=0) is None
    with EtxPeer.to(port) as peer:
        peer.send("one", "", "\u00fc")
        for expected in ("one", "", "ü"):
            assert server.receive(timeout=WAIT) == (expected, peer.address)
        server.send("answer", peer.address)
        assert peer.receive() == b"answer"
        receiving = InThread(server.receive).until_blocked()
        peer.sock.sendall(b"\xff" + ETX)
        assert receiving.result() == ("\udcff", peer.address)


def test_with_a_callback_receive_says_where_the_messages_go(serve: Serve) -> None:
    _, server = serve(echo)
    with pytest.raises(RuntimeError, match="message_callback"):
        server.receive(timeout=0)


def test_what_nobody_takes_goes_oldest_first_and_is_counted(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    port, server = serve()
    with EtxPeer.to(port) as peer:
        for number in range(20):
            peer.send(f"{number:02}" + "x" * 400_000)  # more than 4 MiB in all, and the client is never held up
        peer.send("last")
        texts = []

        def all_accounted_for() -> bool:
            while item := server.receive(timeout=0):
                texts.append(item[0][:2])
            return len(texts) + server.lost == 21 and texts[-1] == "la"

        until(lambda: server.lost > 0)
        until(all_accounted_for)
        assert texts == [*sorted(texts[:-1]), "la"]
        assert "00" not in texts
    (record,) = [record for record in caplog.records if record.name == LOG]
    assert "oldest are dropped" in record.getMessage()


def test_messages_of_a_server_that_only_broadcasts_stall_nobody(serve: Serve) -> None:
    port, server = serve()
    with EtxPeer.to(port) as peer:
        for _ in range(3):
            peer.sock.sendall(("x" * 9 + "\x03").encode() * 8000)
        until(lambda: server.lost == 24_000 - 10_000)
        assert server.send_to_all("tick") == 1
        assert peer.receive() == b"tick"


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), ("1", TypeError), (True, TypeError)])
def test_a_timeout_is_a_number_of_seconds(serve: Serve, timeout: Any, error: type[Exception]) -> None:
    _, server = serve()
    with pytest.raises(error, match="timeout"):
        server.receive(timeout)
    with pytest.raises(error, match="timeout"):
        server.wait(timeout)


# --- limits, arguments, the end ---


@pytest.mark.parametrize("message", ["12345678901", "12345678901\x03"], ids=["unfinished", "finished"])
def test_a_frame_over_the_limit_closes_that_client_only(serve: Serve, message: str) -> None:
    port, server = serve(lambda msg, client_addr: msg, max_size=10)
    with EtxPeer.to(port) as greedy, EtxPeer.to(port) as modest:
        greedy.send("1234567890")
        assert greedy.receive() == b"1234567890"
        greedy.sock.sendall(message.encode())
        assert greedy.receive() is None
        modest.send("hi")
        assert modest.receive() == b"hi"
        assert server.get_connected_clients() == [modest.address]


def test_a_port_in_use_is_named_with_both_numbers(serve: Serve) -> None:
    port, _ = serve(echo)
    with pytest.raises(OSError, match=rf"port {port} \(OS port {port - 65_536}\) is already in use") as caught:
        create_tcp_server(port)
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("options", [{"message_callback": "echo"}, {"concurrent": 1}, {"max_size": 1.5}, {"port_offset": "0"}], ids=repr)
def test_what_is_no_argument_is_a_type_error(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        create_tcp_server(70_001, **options)


def test_another_offset_leads_to_other_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTORBUS_DAYSTAR_PORT_OFFSET", "40000")
    port, server = somewhere(lambda port: create_tcp_server(port, echo))
    with server, create_tcp_client(LOOPBACK, port) as client, socket.create_connection((LOOPBACK, port - 40_000)):
        client.send("x")
        assert client.receive(WAIT) == "Echo: x"
        assert f"{port} (OS port {port - 40_000})" in repr(client)


def test_stop_disconnects_everybody_and_frees_the_port(serve: Serve) -> None:
    port, server = serve(echo)
    with create_tcp_client(LOOPBACK, port) as client:
        until(server.get_connected_clients)
        receiving = InThread(client.receive).until_blocked()
        server.stop()
        assert receiving.result() is None
        assert server.get_connected_clients() == []
        for _ in range(3):
            with create_tcp_server(port, echo) as again, create_tcp_client(LOOPBACK, port) as other:
                other.send("x")
                assert other.receive(WAIT) == "Echo: x"
                other.disconnect()
                again.stop()
        server.stop()


def test_what_was_sent_before_the_stop_arrives(serve: Serve) -> None:
    port, server = serve()
    with EtxPeer.to(port) as peer:
        until(server.get_connected_clients)
        reading = InThread(lambda: [len(message) for message in peer])
        for _ in range(3):
            server.send("x" * MIB, peer.address)
        stopping = InThread(server.stop)
        assert reading.result() == [MIB] * 3
        peer.sock.close()
        stopping.result()


def test_after_stop_every_call_is_a_connection_error() -> None:
    _, server = somewhere(create_tcp_server)
    with server:
        receiving = InThread(server.receive).until_blocked()
        server.stop()
        with pytest.raises(ConnectionError):
            receiving.result()
        with pytest.raises(ConnectionError):
            server.receive(1)
        with pytest.raises(ConnectionError):
            server.send_to_all("x")
        with pytest.raises(ConnectionError):
            server.send("x", (LOOPBACK, 5))
        assert server.get_connected_clients() == []
        assert server.wait(timeout=0)


@pytest.mark.parametrize("concurrent", [False, True])
def test_a_callback_may_stop_its_server(serve: Serve, concurrent: bool) -> None:
    servers: list[TCPServer] = []

    def callback(msg: str, client_addr: Address) -> None:
        servers[0].stop()
        servers[0].stop()

    port, server = serve(callback, concurrent=concurrent)
    servers.append(server)
    with create_tcp_client(LOOPBACK, port) as client:
        client.send("stop")
        assert client.receive(WAIT) is None
        assert server.wait(WAIT)
        create_tcp_server(port).stop()


def test_wait_gives_false_when_the_time_is_over_and_true_after_stop(serve: Serve) -> None:
    _, server = serve(echo)
    assert not server.wait(timeout=0)
    waiting_for_it = InThread(server.wait).until_blocked()
    server.stop()
    assert waiting_for_it.result() is True


def test_ctrl_c_ends_wait_and_the_with_statement_stops_the_server() -> None:
    port, server = somewhere(create_tcp_server)
    waiting.interrupt([threading.get_ident()])  # as the runner does it on Ctrl-C
    with pytest.raises(KeyboardInterrupt), server:
        server.wait()
    create_tcp_server(port).stop()


# --- other people's programs ---


@pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed")
def test_socat_talks_with_our_server(serve: Serve) -> None:
    port, _ = serve(echo)
    done = subprocess.run(
        ["socat", "-t10", "-", f"TCP4:{LOOPBACK}:{os_port(port)}"],
        input="Grüße\x03zwei\x03".encode(),
        stdout=subprocess.PIPE,
        timeout=WAIT,
        check=True,
    )
    assert done.stdout == "Echo: Grüße\x03Echo: zwei\x03".encode()


@pytest.mark.skipif(shutil.which("nc") is None, reason="nc is not installed")
def test_nc_talks_with_our_server(serve: Serve) -> None:
    port, _ = serve(echo)
    with subprocess.Popen(["nc", LOOPBACK, str(os_port(port))], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as nc:
        try:
            assert nc.stdin is not None
            assert nc.stdout is not None
            nc.stdin.write(b"hi\x03")
            nc.stdin.flush()
            assert nc.stdout.read(9) == b"Echo: hi\x03"
        finally:
            nc.kill()


@pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed")
def test_our_client_talks_with_socat() -> None:
    port, reserved = occupied()
    # Its own SO_REUSEADDR lets it listen where we are bound and do not.
    reserved.close()
    command = ["socat", "-d", "-d", f"TCP4-LISTEN:{os_port(port)},bind={LOOPBACK},reuseaddr", "EXEC:cat"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as socat:
        try:
            assert socat.stderr is not None
            assert any(b"listening on" in line for line in socat.stderr)
            with create_tcp_client(LOOPBACK, port) as client:
                client.send("Grüße")
                assert client.receive(WAIT) == "Grüße"
        finally:
            socat.kill()


def test_asyncio_streams_talk_with_our_server(serve: Serve) -> None:
    port, _ = serve(echo)

    async def ask() -> list[bytes]:
        reader, writer = await asyncio.open_connection(LOOPBACK, os_port(port))
        try:
            writer.write(b"one\x03two\x03")
            return [await asyncio.wait_for(reader.readuntil(ETX), WAIT) for _ in range(2)]
        finally:
            writer.close()
            await writer.wait_closed()

    assert asyncio.run(ask()) == [b"Echo: one\x03", b"Echo: two\x03"]


def test_our_client_talks_with_an_asyncio_server() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = await asyncio.wait_for(reader.readuntil(ETX), WAIT)
        writer.write(message[:-1].upper() + ETX)
        await reader.read()
        writer.close()
        await writer.wait_closed()

    def ask(port: int) -> str | None:
        with create_tcp_client(LOOPBACK, port) as client:
            client.send("hi")
            return client.receive(WAIT)

    async def both_ends() -> str | None:
        port, listener = listening()
        server = await asyncio.start_server(answer, sock=listener)
        async with server:
            answered = await asyncio.to_thread(ask, port)
        return answered

    assert asyncio.run(both_ends()) == "HI"


def test_many_clients_in_many_threads(serve: Serve) -> None:
    port, server = serve(echo)
    clients, messages = 12, 40

    def talk() -> list[str | None]:
        with create_tcp_client(LOOPBACK, port) as client:
            answers = []
            for number in range(messages):
                client.send(str(number))
                answers.append(client.receive(WAIT))
            return answers

    for talking in [InThread(talk) for _ in range(clients)]:
        assert talking.result() == [f"Echo: {number}" for number in range(messages)]
    until(lambda: not server.get_connected_clients())

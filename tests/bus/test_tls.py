"""TLS under the length framing and under a WebSocket: what is encrypted arrives whole, who is not who it says is not talked to, and a peer
that speaks something else costs itself."""

from __future__ import annotations

import os
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import bus
from tests.bus.peers import WAIT, InThread, Peer, fill_up, frame, inet, until
from tests.bus.test_server import Diary
from tests.certificates import Certificate

pytestmark = pytest.mark.usefixtures("no_proxy_of_this_machine")

each_scheme = pytest.mark.parametrize("scheme", ["tls", "wss"])


def echo(message: bus.Message, client: bus.Client) -> bus.Message:
    return message


def serve(
    scheme: str, certificate: Certificate, on_message: Callable[..., Any] = echo, diary: Diary | None = None, **options: Any
) -> bus.Server:
    if diary is not None:
        options = {"on_connect": diary.connect, "on_disconnect": diary.disconnect, **options}
    return bus.serve(f"{scheme}://127.0.0.1:0", on_message, **{"tls": certificate.server(), "max_size": 16 * 2**20, **options})


def connect(scheme: str, server: bus.Server | bus.Listener, certificate: Certificate, **options: Any) -> bus.Connection:
    return bus.connect(f"{scheme}://{server.address}", **{"tls": certificate.client(), "timeout": WAIT, **options})


def take(conn: bus.Connection | bus.Session) -> bus.Message:
    message = conn.receive(timeout=WAIT)
    assert message is not None, "no message came"
    return message


class TlsPeer(Peer):
    """Python's own `ssl` on a blocking socket, with the length framing."""

    @classmethod
    def visiting(cls, address: str, certificate: Certificate) -> TlsPeer:
        return cls(certificate.client().wrap_socket(socket.create_connection(inet(address), WAIT), server_hostname="127.0.0.1"))


@contextmanager
def tls_pair(certificate: Certificate, **options: Any) -> Iterator[tuple[bus.Connection, TlsPeer]]:
    """A Connection of ours and, at its other end, a server by Python's own `ssl`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        connecting = InThread(lambda: bus.connect(f"tls://{host}:{port}", **{"tls": certificate.client(), "timeout": WAIT, **options}))
        accepted = listening.accept()[0]
        accepted.settimeout(WAIT)
        with TlsPeer(certificate.server().wrap_socket(accepted, server_side=True)) as peer, connecting.result() as conn:
            yield conn, peer


# --- messages ---


@each_scheme
@pytest.mark.parametrize("size", [1, 100, 16_384, 65_535, 65_536, 300_000, 5 * 2**20])
def test_a_message_of_any_size_makes_the_round_trip(scheme: str, size: int, certificate: Certificate) -> None:
    payload = random.Random(size).randbytes(size)
    with serve(scheme, certificate) as server, connect(scheme, server, certificate) as conn:
        sending = InThread(lambda: conn.send(payload))
        assert take(conn).data == payload
        sending.result()
        assert conn.close() is True


@each_scheme
def test_many_messages_both_ways_keep_their_order(scheme: str, certificate: Certificate) -> None:
    total = 1500
    with serve(scheme, certificate) as server, connect(scheme, server, certificate) as conn:
        sending = InThread(lambda: conn.send_many([f"{number} " + "x" * (number * 7 % 900) for number in range(total)]))
        for number in range(total):
            assert take(conn).text.split(" ")[0] == str(number)
        sending.result()


@each_scheme
def test_frames_of_many_threads_never_interleave(scheme: str, certificate: Certificate) -> None:
    threads, each = 4, 100
    with serve(scheme, certificate) as server, connect(scheme, server, certificate) as conn:

        def send(sender: int) -> None:
            for number in range(each):
                conn.send(f"{sender} {number} " + "." * (number * 197 % 20_000))

        sending = [InThread(lambda sender=sender: send(sender)) for sender in range(threads)]  # type: ignore[misc]
        last = dict.fromkeys(range(threads), -1)
        for _ in range(threads * each):
            sender, number, dots = take(conn).text.split(" ")
            assert int(number) == last[int(sender)] + 1
            assert dots == "." * (int(number) * 197 % 20_000)
            last[int(sender)] += 1
        for one in sending:
            one.result()


def test_text_and_binary_are_told_apart_on_wss(certificate: Certificate) -> None:
    with serve("wss", certificate) as server, connect("wss", server, certificate, compression=True, subprotocols=["a"]) as conn:
        for message, is_text in (("text", True), (b"\xff", False), ({"a": 1}, True)):
            conn.send(message)
            assert take(conn).is_text is is_text


def test_a_session_over_wss(certificate: Certificate) -> None:
    def shout(client: bus.Session) -> None:
        for message in client:
            client.send(message.text.upper())

    with serve("wss", certificate, routes={"/": shout}) as server, connect("wss", server, certificate) as conn:
        for number in range(100):
            conn.send(f"message {number}")
            assert take(conn).text == f"MESSAGE {number}"
        assert conn.close(code=4000, reason="done") is True


def test_a_listener_accepts(certificate: Certificate) -> None:
    with bus.listen("tls://127.0.0.1:0", tls=certificate.server()) as listener:
        with connect("tls", listener, certificate) as near, listener.accept(timeout=WAIT) or pytest.fail("nobody came") as far:
            near.send("hello")
            assert take(far).text == "hello"
            far.send(b"x" * 1_000_000)
            assert len(take(near).data) == 1_000_000
            assert far.close() is True
            with pytest.raises(bus.PeerClosed):
                take(near)


@each_scheme
def test_a_broadcast_reaches_all(scheme: str, certificate: Certificate) -> None:
    with serve(scheme, certificate) as server, ExitStack() as stack:
        conns = [stack.enter_context(connect(scheme, server, certificate)) for _ in range(5)]
        until(lambda: len(server.clients) == 5)
        for number in range(50):
            report = server.send_to_all(f"to all {number}")
            assert len(report.taken) + len(report.queued) == 5
        for conn in conns:
            assert [take(conn).text for _ in range(50)] == [f"to all {number}" for number in range(50)]


@each_scheme
def test_many_clients(scheme: str, certificate: Certificate, all_returns: object) -> None:
    with serve(scheme, certificate) as server:

        def visit(number: int) -> None:
            with connect(scheme, server, certificate) as conn:
                for count in range(10):
                    conn.send(f"{number} {count}")
                    assert take(conn).text == f"{number} {count}"
                assert conn.close() is True

        for visiting in [InThread(lambda number=number: visit(number)) for number in range(25)]:  # type: ignore[misc]
            visiting.result()
        until(lambda: not server.clients)
        assert server.stats().accepted == 25


def test_a_client_of_another_make(certificate: Certificate) -> None:
    with serve("tls", certificate) as server, TlsPeer.visiting(server.address, certificate) as peer:
        for payload in (b"", b"hello", os.urandom(16_384), os.urandom(200_000)):
            peer.send(payload)
            assert peer.receive() == payload


def test_a_server_of_another_make(certificate: Certificate) -> None:
    with tls_pair(certificate) as (conn, peer):
        for payload in (b"", b"hello", os.urandom(16_384), os.urandom(200_000)):
            conn.send(payload)
            assert peer.receive() == payload
            peer.send(payload)
            assert take(conn).data == payload


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@each_scheme
def test_both_versions_of_tls(scheme: str, version: ssl.TLSVersion, certificate: Certificate) -> None:
    context = certificate.client()
    context.maximum_version = context.minimum_version = version
    with serve(scheme, certificate) as server, connect(scheme, server, certificate, tls=context) as conn:
        conn.send("hello")
        assert take(conn).text == "hello"


def test_several_records_in_one_read_are_not_forgotten(certificate: Certificate) -> None:
    with tls_pair(certificate) as (conn, peer):
        stream = b"".join(frame(b"%d" % number) for number in range(500))
        for byte in range(0, len(stream), 3):
            peer.sock.sendall(stream[byte : byte + 3])
        assert [take(conn).data for _ in range(500)] == [b"%d" % number for number in range(500)]


def test_what_comes_with_the_handshake_is_not_forgotten(certificate: Certificate) -> None:
    for _ in range(10):
        with tls_pair(certificate) as (conn, peer):
            peer.send(b"first", b"second")
            assert [take(conn).data, take(conn).data] == [b"first", b"second"]


def test_a_receive_that_times_out_harms_nothing(certificate: Certificate) -> None:
    with serve("tls", certificate) as server, connect("tls", server, certificate) as conn:
        for _ in range(100):
            assert conn.receive(timeout=0.0001) is None
        conn.send("hello")
        assert take(conn).text == "hello"


# --- how it ends ---


@each_scheme
def test_a_close_is_true_and_in_order(scheme: str, certificate: Certificate) -> None:
    diary = Diary()
    with serve(scheme, certificate, diary.message, diary) as server:
        with connect(scheme, server, certificate) as conn:
            for number in range(200):
                conn.send(f"{number}")
            assert conn.close() is True
        assert diary.next()[0] == "connect"
        assert [diary.next()[2] for _ in range(200)] == [b"%d" % number for number in range(200)]
        assert isinstance(diary.reason(), bus.PeerClosed)


def test_our_end_says_close_notify(certificate: Certificate) -> None:
    with tls_pair(certificate) as (conn, peer):
        conn.send("last")
        closing = InThread(conn.close)
        assert peer.receive() == b"last"
        assert peer.sock.recv(1) == b""  # Python's ssl raises SSLEOFError for an end without close_notify
        peer.close()
        assert closing.result() is True


def test_the_peers_close_notify_is_an_orderly_end(certificate: Certificate) -> None:
    with tls_pair(certificate) as (conn, peer):
        peer.send(b"last")
        assert isinstance(peer.sock, ssl.SSLSocket)
        unwrapping = InThread(peer.sock.unwrap)
        assert take(conn).data == b"last"
        with pytest.raises(bus.PeerClosed):
            conn.receive(timeout=5)
        conn.close(linger=0.2)
        try:
            unwrapping.result()
        except OSError:
            pass


def test_an_end_without_close_notify_inside_a_message_is_a_break(certificate: Certificate) -> None:
    with tls_pair(certificate) as (conn, peer):
        peer.sock.sendall(frame(b"x" * 100)[:50])
        with socket.socket(fileno=os.dup(peer.sock.fileno())) as raw:
            raw.shutdown(socket.SHUT_WR)
        with pytest.raises(bus.Broken):
            take(conn)


@each_scheme
def test_a_server_that_stops_ends_all_in_order(scheme: str, certificate: Certificate, all_returns: object) -> None:
    with serve(scheme, certificate) as server, ExitStack() as stack:
        conns = [stack.enter_context(connect(scheme, server, certificate)) for _ in range(3)]
        for conn in conns:
            conn.send("up")
            assert take(conn).text == "up"
        assert InThread(server.stop).result()
        for conn in conns:
            with pytest.raises(bus.PeerClosed):
                take(conn)


@each_scheme
def test_closing_from_another_thread_ends_a_receive(scheme: str, certificate: Certificate) -> None:
    with serve(scheme, certificate) as server, connect(scheme, server, certificate) as conn:
        receiving = InThread(conn.receive).until_blocked()
        conn.close()
        with pytest.raises(bus.Closed):
            receiving.result()


def test_a_peer_that_never_reads_is_bounded(certificate: Certificate) -> None:
    with tls_pair(certificate, outbox_bytes=100_000) as (conn, _):
        fill_up(conn)
        with pytest.raises(bus.NotSent):
            conn.send(b"x" * 65_536, timeout=0)
        assert InThread(lambda: conn.close(linger=0.1)).result() is False


def test_a_slow_reader_gets_everything(certificate: Certificate) -> None:
    total, size = 60, 100_000
    with tls_pair(certificate, outbox_bytes=200_000) as (conn, peer):
        sending = InThread(lambda: conn.send_many([number.to_bytes(2, "big") * size for number in range(total)], WAIT)).until_blocked()
        for number in range(total):
            assert peer.receive() == number.to_bytes(2, "big") * size
        sending.result()


def test_a_slow_consumer_loses_nothing(certificate: Certificate) -> None:
    total, size = 60, 100_000
    with serve("tls", certificate) as server, connect("tls", server, certificate, mailbox_messages=3) as conn:
        until(lambda: server.clients)
        (client,) = server.clients

        def send() -> None:
            for number in range(total):
                client.send(number.to_bytes(2, "big") * size, timeout=WAIT)

        sending = InThread(send).until_blocked()
        for number in range(total):
            assert take(conn).data == number.to_bytes(2, "big") * size
        sending.result()


def test_a_handler_that_raises_ends_its_client_only(certificate: Certificate) -> None:
    def fails(message: bus.Message, client: bus.Client) -> bus.Message:
        if message.data == b"fail":
            raise RuntimeError("on purpose")
        return message

    with serve("tls", certificate, fails) as server, connect("tls", server, certificate) as good:
        with connect("tls", server, certificate) as bad:
            bad.send("fail")
            with pytest.raises((bus.Broken, bus.PeerClosed)):
                take(bad)
        good.send("unharmed")
        assert take(good).text == "unharmed"


def test_wss_through_a_proxy_checks_the_servers_name(certificate: Certificate) -> None:
    from tests.bus.test_websocket import ProxyServer

    with serve("wss", certificate) as server, ProxyServer() as proxy:
        with connect("wss", server, certificate, proxy=proxy.url) as conn:
            conn.send("through")
            assert take(conn).text == "through"
            assert conn.close() is True


def test_threads_of_their_own(certificate: Certificate, all_returns: object) -> None:
    for threads in (2, "own"):
        with serve("tls", certificate, threads=threads) as server, connect("tls", server, certificate, threads="own") as conn:
            for number in range(50):
                conn.send(str(number))
                assert take(conn).text == str(number)

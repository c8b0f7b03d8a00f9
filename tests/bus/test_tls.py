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
from actors.tlsstream import TlsStreamActor
from tests.bus.certificates import Certificate
from tests.bus.peers import WAIT, InThread, Peer, fill_up, frame, inet, until
from tests.bus.test_server import Diary

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


# --- who is who ---


@each_scheme
def test_a_certificate_that_nobody_trusts_is_a_readable_error(scheme: str, certificate: Certificate, elsewhere: Certificate) -> None:
    diary = Diary()
    with serve(scheme, certificate, diary=diary) as server:
        for context in (None, elsewhere.client()):
            with pytest.raises(bus.ConnectFailed, match="certificate is not accepted: .*(self.signed|verif|issuer)"):
                connect(scheme, server, certificate, tls=context)
        with connect(scheme, server, certificate) as conn:
            conn.send("still serving")
            assert take(conn).text == "still serving"
        assert diary.next()[0] == "connect"
        diary.reason()
        assert diary.entries.empty()


@each_scheme
def test_a_wrong_name_is_a_readable_error(scheme: str, elsewhere: Certificate) -> None:
    with serve(scheme, elsewhere) as server, pytest.raises(bus.ConnectFailed, match="certificate.*127.0.0.1") as caught:
        connect(scheme, server, elsewhere)
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


@each_scheme
def test_a_name_is_checked_as_a_name(scheme: str, certificate: Certificate) -> None:
    with serve(scheme, certificate) as server:
        port = server.address.rpartition(":")[2]
        with bus.connect(f"{scheme}://localhost:{port}", tls=certificate.client(), timeout=WAIT) as conn:
            conn.send("hello")
            assert take(conn).text == "hello"


@each_scheme
def test_the_environment_may_name_the_roots(scheme: str, certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    with serve(scheme, certificate) as server, bus.connect(f"{scheme}://{server.address}", timeout=WAIT) as conn:
        conn.send("hello")
        assert take(conn).text == "hello"


@each_scheme
def test_a_server_may_ask_for_the_clients_certificate(scheme: str, certificate: Certificate, elsewhere: Certificate) -> None:
    diary = Diary()
    context = certificate.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(elsewhere.certificate)
    known = certificate.client()
    known.load_cert_chain(elsewhere.certificate, elsewhere.key)
    with serve(scheme, certificate, diary=diary, tls=context) as server:
        # In TLS 1.3 the client is done before the server has judged it, so it may hear of it only behind `connect`.
        with pytest.raises((bus.ConnectFailed, bus.Broken, bus.PeerClosed)):
            with connect(scheme, server, certificate) as conn:
                take(conn)
        assert diary.entries.empty()
        with connect(scheme, server, certificate, tls=known) as conn:
            conn.send("known")
            assert take(conn).text == "known"


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
def test_a_context_is_for_tls_alone(scheme: str, certificate: Certificate) -> None:
    with pytest.raises(ValueError, match="tls"):
        bus.serve(f"{scheme}://127.0.0.1:0", echo, tls=certificate.server())
    with pytest.raises(ValueError, match="tls"):
        bus.connect(f"{scheme}://127.0.0.1:9", tls=certificate.client())


@each_scheme
def test_a_server_needs_a_certificate(scheme: str) -> None:
    with pytest.raises(TypeError, match="tls="):
        bus.serve(f"{scheme}://127.0.0.1:0", echo)
    for wrong in ("cert.pem", True, ("cert", "key")):
        with pytest.raises(TypeError, match="SSLContext"):
            bus.serve(f"{scheme}://127.0.0.1:0", echo, tls=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="SSLContext"):
            bus.connect(f"{scheme}://127.0.0.1:9", tls=wrong)  # type: ignore[arg-type]
    if scheme == "tls":
        with pytest.raises(TypeError, match="tls="):
            bus.listen("tls://127.0.0.1:0")


# --- peers that speak something else, or nothing ---


def until_closed(peer: Peer) -> bytes:
    data = b""
    try:
        while more := peer.sock.recv(65_536):
            data += more
    except ConnectionError:
        pass
    return data


@each_scheme
@pytest.mark.parametrize(
    "said",
    [
        frame(b"hello"),
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + b"x" * 1000,
        b"\x15\x03\x01\0\2\2\x28",
        b"\0" * 100,
    ],
)
def test_a_client_that_speaks_no_tls_costs_only_itself(scheme: str, said: bytes, certificate: Certificate) -> None:
    diary = Diary()
    with serve(scheme, certificate, diary=diary, handshake_timeout=1) as server, connect(scheme, server, certificate) as neighbour:
        assert diary.next()[0] == "connect"
        with Peer.to(server.address) as peer:
            peer.sock.sendall(said)
            peer.finish()
            until_closed(peer)
        neighbour.send("unharmed")
        assert take(neighbour).text == "unharmed"
        assert len(server.clients) == 1
        assert diary.entries.empty()


@pytest.mark.parametrize(("client", "server"), [("tcp", "tls"), ("ws", "wss"), ("ws", "tls")])
def test_our_plain_client_at_a_tls_server(client: str, server: str, certificate: Certificate) -> None:
    diary = Diary()
    with serve(server, certificate, diary=diary) as serving:
        if client == "ws":
            with pytest.raises(bus.ConnectFailed):
                bus.connect(f"ws://{serving.address}", timeout=WAIT)
        else:
            with bus.connect(f"tcp://{serving.address}", timeout=WAIT) as conn:
                conn.send("hello, this is no TLS")
                with pytest.raises((bus.Broken, bus.PeerClosed)):
                    take(conn)
        assert serving.clients == []
    assert diary.entries.empty()


@pytest.mark.parametrize(("client", "server"), [("tls", "tcp"), ("wss", "ws"), ("wss", "tcp")])
def test_our_tls_client_at_a_plain_server(client: str, server: str, certificate: Certificate) -> None:
    with bus.serve(f"{server}://127.0.0.1:0", echo, handshake_timeout=0.3) as serving:
        with pytest.raises(bus.ConnectFailed, match="TLS"):
            connect(client, serving, certificate, timeout=WAIT)


@each_scheme
def test_a_text_server_is_a_readable_error(scheme: str, certificate: Certificate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        connecting = InThread(lambda: bus.connect(f"{scheme}://{host}:{port}", tls=certificate.client(), timeout=WAIT))
        with Peer(listening.accept()[0]) as peer:
            peer.sock.sendall(b"220 mail.example ESMTP ready\r\n")
            with pytest.raises(bus.ConnectFailed, match="speaks no TLS.*220 mail.example"):
                connecting.result()


@each_scheme
def test_who_never_answers_costs_the_timeout(scheme: str, certificate: Certificate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        with pytest.raises(bus.ConnectTimeout, match="TLS handshake"):
            bus.connect(f"{scheme}://{host}:{port}", tls=certificate.client(), timeout=0.1)


@each_scheme
def test_who_closes_in_the_handshake_is_a_connect_error(scheme: str, certificate: Certificate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        connecting = InThread(lambda: bus.connect(f"{scheme}://{host}:{port}", tls=certificate.client(), timeout=WAIT))
        with Peer(listening.accept()[0]) as peer:
            assert peer.sock.recv(5)
            peer.reset()
        with pytest.raises(bus.ConnectFailed):
            connecting.result()
        connecting = InThread(lambda: bus.connect(f"{scheme}://{host}:{port}", tls=certificate.client(), timeout=WAIT))
        with Peer(listening.accept()[0]) as peer:
            peer.finish()
            with pytest.raises(bus.ConnectFailed):
                connecting.result()


@each_scheme
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
def test_who_never_shakes_hands_is_sent_away(scheme: str, said: bytes, certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults: Any = TlsStreamActor.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "handshake_timeout", 0.2)  # with tls:// it is no option
    diary = Diary()
    with serve(scheme, certificate, diary=diary, handshake_timeout=0.2) as server, Peer.to(server.address) as peer:
        peer.sock.sendall(said)
        until_closed(peer)
        with connect(scheme, server, certificate) as conn:
            conn.send("goes on")
            assert take(conn).text == "goes on"
            assert diary.next()[0] == "connect"
            assert diary.entries.empty()


def test_one_who_trickles_a_client_hello_gets_in(certificate: Certificate) -> None:
    with serve("tls", certificate) as server, Peer.to(server.address) as peer:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = certificate.client().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    peer.sock.sendall(bytes([byte]))
                incoming.write(peer.sock.recv(65_536))
        tls.write(frame(b"slow"))
        for byte in outgoing.read():
            peer.sock.sendall(bytes([byte]))
        answer = b""
        while len(answer) < 8:
            try:
                answer += tls.read(100)
            except ssl.SSLWantReadError:
                incoming.write(peer.sock.recv(65_536))
        assert answer == frame(b"slow")


def test_visitors_that_never_shake_hands_leave_nothing(certificate: Certificate, all_returns: object) -> None:
    diary = Diary()
    with serve("tls", certificate, diary=diary) as server, connect("tls", server, certificate) as neighbour:
        for number in range(30):
            peer = Peer.to(server.address)
            if number % 3:
                peer.sock.sendall(b"\x16\x03\x01\x02\x00"[: number % 6])
            (peer.reset if number % 2 else peer.close)()
        neighbour.send("unharmed")
        assert take(neighbour).text == "unharmed"
        until(lambda: server.stats().accepted == 31)
        assert len(server.clients) == 1
    assert [diary.next()[0], diary.next()[0]] == ["connect", "disconnect"]
    assert diary.entries.empty()


def test_noise_in_the_middle_ends_its_sender_only(certificate: Certificate) -> None:
    diary = Diary()
    with serve("tls", certificate, diary=diary) as server, connect("tls", server, certificate) as neighbour:
        diary.next()
        with TlsPeer.visiting(server.address, certificate) as peer:
            peer.send(b"good")
            assert peer.receive() == b"good"
            with socket.socket(fileno=os.dup(peer.sock.fileno())) as raw:
                raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            reason = diary.reason()
            assert isinstance(reason, bus.Broken)
        neighbour.send("unharmed")
        assert take(neighbour).text == "unharmed"


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
        assert InThread(server.stop).result() is True
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

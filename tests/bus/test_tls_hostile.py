"""TLS peers that say nothing, or half of it, or damage it: each costs itself, at both ends, and nobody waits for it."""

from __future__ import annotations

import logging
import os
import socket
import ssl
from contextlib import ExitStack
from typing import Any

import pytest

import bus
from actors.tlsstream import TlsStreamActor
from tests.bus.peers import WAIT, InThread, Peer, frame, until
from tests.bus.test_server import Diary
from tests.bus.test_tls import TlsPeer, connect, each_scheme, serve, take, tls_pair
from tests.certificates import Certificate

pytestmark = pytest.mark.usefixtures("no_proxy_of_this_machine")


class Bare:
    """TLS by hand, on a plain blocking socket: what is encrypted can be looked at, and spoilt, before it is sent."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool) -> None:
        self.sock = sock
        sock.settimeout(WAIT)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "127.0.0.1"
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=name)

    def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                self._receive()
            finally:
                self.sock.sendall(self._outgoing.read())

    def _receive(self) -> None:
        data = self.sock.recv(65_536)
        (self._incoming.write if data else lambda _: self._incoming.write_eof())(data)

    def encrypted(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self._outgoing.read()

    def read(self) -> bytes:
        while True:
            try:
                return self.tls.read(65_536)
            except ssl.SSLWantReadError:
                self._receive()


def with_a_flipped_bit(record: bytes) -> bytes:
    return record[:-1] + bytes([record[-1] ^ 1])


def until_closed(peer: Peer) -> bytes:
    data = b""
    try:
        while more := peer.sock.recv(65_536):
            data += more
    except ConnectionError:
        pass
    return data


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
def test_who_never_shakes_hands_is_sent_away(scheme: str, said: bytes, certificate: Certificate) -> None:
    diary = Diary()
    with serve(scheme, certificate, diary=diary, handshake_timeout=0.2) as server, Peer.to(server.address) as peer:
        peer.sock.sendall(said)
        until_closed(peer)
        with connect(scheme, server, certificate) as conn:
            conn.send("goes on")
            assert take(conn).text == "goes on"
            assert diary.next()[0] == "connect"
            assert diary.entries.empty()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
def test_who_never_shakes_hands_with_a_listener_is_sent_away(
    said: bytes, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "actorbus")
    defaults: Any = TlsStreamActor.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "handshake_timeout", 0.2)  # for a listener it is no option
    with bus.listen("tls://127.0.0.1:0", tls=certificate.server()) as listener, Peer.to(listener.address) as peer:
        peer.sock.sendall(said)
        until_closed(peer)
        until(lambda: "no TLS handshake within 0.2 s" in caplog.text)
        with connect("tls", listener, certificate) as near, listener.accept() as far:
            near.send("goes on")
            assert take(far).text == "goes on"


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


def test_a_hundred_silent_ones_hold_nobody_up(certificate: Certificate) -> None:
    with serve("tls", certificate) as server, ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(Peer.to(server.address))
        until(lambda: server.stats().accepted == 100)
        with connect("tls", server, certificate) as conn:
            for number in range(100):
                conn.send(str(number))
                assert take(conn).text == str(number)
        assert server.clients == [] or len(server.clients) == 1


@each_scheme
def test_a_handshake_that_never_gets_anywhere_is_over_at_the_deadline(scheme: str, certificate: Certificate) -> None:
    """Each byte comes in time, and is no reason to wait longer."""
    hello = Bare(socket.socket(), certificate.client(), server_side=False)
    with pytest.raises(ssl.SSLWantReadError):
        hello.tls.do_handshake()
    hello.sock.close()
    start = hello._outgoing.read()[:11] + b"\0" * 500_000
    with serve(scheme, certificate, handshake_timeout=0.2) as server, Peer.to(server.address) as peer:
        peer.sock.settimeout(0.01)
        for byte in start:
            peer.sock.sendall(bytes([byte]))
            try:
                assert not peer.sock.recv(100)
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("it listens for ever")


def test_a_server_that_trickles_its_hello_costs_the_timeout(certificate: Certificate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        connecting = InThread(lambda: bus.connect(f"tls://{host}:{port}", tls=certificate.client(), timeout=0.2))
        with Peer(listening.accept()[0]) as peer:
            for byte in b"\x16\x03\x03\x40\x00\x02" + b"\0" * 16_000:
                try:
                    peer.sock.sendall(bytes([byte]))
                except ConnectionError:
                    break
                connecting.thread.join(0.002)
            with pytest.raises(bus.ConnectTimeout, match="TLS handshake"):
                connecting.result()


# --- damaged, and cut off ---


def test_a_flipped_bit_ends_its_sender_only(certificate: Certificate) -> None:
    diary = Diary()
    with serve("tls", certificate, diary.message, diary) as server, connect("tls", server, certificate) as neighbour:
        assert diary.next()[0] == "connect"
        with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2]))) as sock:
            peer = Bare(sock, certificate.client(), server_side=False)
            peer.shake_hands()
            good, forged, late = (peer.encrypted(frame(payload)) for payload in (b"good", b"forged", b"late"))
            sock.sendall(good + with_a_flipped_bit(forged) + late)
            assert [diary.next()[0], diary.next()[2]] == ["connect", b"good"]
            with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
                while peer.read():
                    pass
        reason = diary.next()[2]
        assert isinstance(reason, bus.Broken)
        assert "a record was damaged on its way, or forged" in reason.reason
        neighbour.send("unharmed")
        assert diary.next()[2] == b"unharmed"


def test_a_flipped_bit_on_its_way_to_us(certificate: Certificate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        connecting = InThread(lambda: bus.connect(f"tls://{host}:{port}", tls=certificate.client(), timeout=WAIT))
        with listening.accept()[0] as sock:
            peer = Bare(sock, certificate.server(), server_side=True)
            peer.shake_hands()
            with connecting.result() as conn:
                sock.sendall(peer.encrypted(frame(b"good")) + with_a_flipped_bit(peer.encrypted(frame(b"forged"))))
                assert take(conn).data == b"good"
                with pytest.raises(bus.Broken, match="a record was damaged on its way, or forged"):
                    take(conn)
                with pytest.raises(bus.Broken, match="a record was damaged on its way, or forged"):
                    conn.send("in vain")


def cut_off(peer: Peer) -> None:
    """The end of TCP without that of TLS: what somebody on the way can forge."""
    with socket.socket(fileno=os.dup(peer.sock.fileno())) as raw:
        raw.shutdown(socket.SHUT_WR)


def test_a_cut_stream_is_a_break_where_messages_do_not_show_their_end(certificate: Certificate) -> None:
    with tls_pair(certificate, framing="raw") as (conn, peer):
        peer.sock.sendall(b"pay 10")
        assert take(conn).data == b"pay 10"
        cut_off(peer)
        with pytest.raises(bus.Broken, match="without TLS's close_notify: its end may be cut off"):
            take(conn)


@pytest.mark.parametrize(("framing", "sent"), [("length", frame(b"whole")), ("lines", b"whole\n"), ("etx", b"whole\x03")])
def test_a_cut_stream_is_an_orderly_end_behind_a_whole_message(framing: Any, sent: bytes, certificate: Certificate) -> None:
    """As with TCP: many peers leave TLS's own end out, and each message shows where it ends."""
    with tls_pair(certificate, framing=framing) as (conn, peer):
        peer.sock.sendall(sent)
        cut_off(peer)
        assert take(conn).data == b"whole"
        with pytest.raises(bus.PeerClosed):
            take(conn)


@pytest.mark.parametrize(("framing", "sent"), [("length", frame(b"half of it")), ("lines", b"half of it\n"), ("etx", b"half of it\x03")])
def test_a_stream_cut_inside_a_message_is_a_break(framing: Any, sent: bytes, certificate: Certificate) -> None:
    with tls_pair(certificate, framing=framing) as (conn, peer):
        peer.sock.sendall(sent[:-4])
        cut_off(peer)
        with pytest.raises(bus.Broken, match="inside a message"):
            take(conn)

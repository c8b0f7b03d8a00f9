"""Plaintext where TLS is expected, the other way round, and versions that do not meet: both ends say so, and nobody hangs."""

from __future__ import annotations

import logging
import socket
import ssl

import pytest

import bus
from tests.bus.peers import WAIT, InThread, Peer, frame, until
from tests.bus.test_server import Diary
from tests.bus.test_tls import connect, each_scheme, echo, serve, take
from tests.bus.test_tls_hostile import until_closed
from tests.certificates import Certificate

pytestmark = pytest.mark.usefixtures("no_proxy_of_this_machine")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "actorbus")
    return caplog


@pytest.mark.parametrize("said", [b"\0", b"\0\0\0\5hello", b"hello\n", b"GET / HTTP/1.1\r\n\r\n"])
@each_scheme
def test_a_plain_client_is_refused_at_its_first_byte(
    scheme: str, said: bytes, certificate: Certificate, log: pytest.LogCaptureFixture
) -> None:
    with serve(scheme, certificate) as server, Peer.to(server.address) as peer:
        peer.sock.sendall(said)
        assert peer.sock.recv(100) == b"\x15\x03\x03\0\2\2\x46"  # the alert protocol_version
        peer.finish()
        until(lambda: f"it speaks no TLS (a client of tcp:// or ws://?); it says {said[:8]!r}" in log.text)


@pytest.mark.parametrize(
    ("client", "server", "error"),
    [
        ("tcp", "tls", "over max_size=16777216; it looks like TLS, which tls:// and wss:// speak"),
        ("ws", "wss", "not a WebSocket server; .* it looks like TLS, which tls:// and wss:// speak"),
        ("ws", "tls", "not a WebSocket server; .* it looks like TLS, which tls:// and wss:// speak"),
    ],
)
def test_our_plain_client_at_a_tls_server(
    client: str, server: str, error: str, certificate: Certificate, log: pytest.LogCaptureFixture
) -> None:
    diary = Diary()
    with serve(server, certificate, diary=diary) as serving:
        with pytest.raises((bus.ConnectFailed, bus.Broken), match=error):
            with bus.connect(f"{client}://{serving.address}", timeout=WAIT) as conn:
                conn.send("hello, this is no TLS")
                take(conn)
        until(lambda: "it speaks no TLS (a client of tcp:// or ws://?)" in log.text)
        assert serving.clients == []
    assert diary.entries.empty()


@pytest.mark.parametrize(
    ("client", "server", "error"),
    [
        ("tls", "tcp", "during the TLS handshake \\(a server of tcp:// or ws://"),
        ("wss", "tcp", "during the TLS handshake \\(a server of tcp:// or ws://"),
        ("wss", "ws", "it speaks no TLS \\(a server of tcp:// or ws://.*it says b'HTTP/1.1 400"),
        ("tls", "ws", "it speaks no TLS \\(a server of tcp:// or ws://.*it says b'HTTP/1.1 400"),
    ],
)
def test_our_tls_client_at_a_plain_server(
    client: str, server: str, error: str, certificate: Certificate, log: pytest.LogCaptureFixture
) -> None:
    with bus.serve(f"{server}://127.0.0.1:0", echo) as serving:
        with pytest.raises(bus.ConnectFailed, match=error):
            connect(client, serving, certificate)
        until(lambda: "it looks like TLS, which tls:// and wss:// speak" in log.text)


def test_our_tls_client_at_a_server_that_waits_for_a_line(certificate: Certificate) -> None:
    with bus.serve("tcp://127.0.0.1:0", echo, framing="lines") as serving:
        with pytest.raises(bus.ConnectTimeout, match="no TLS handshake within the timeout \\(a server of tcp:// or ws://"):
            connect("tls", serving, certificate, timeout=0.1)


def test_our_plain_client_that_waits_for_a_line_at_a_tls_server(certificate: Certificate) -> None:
    with serve("tls", certificate) as serving, bus.connect(f"tcp://{serving.address}", framing="lines") as conn:
        conn.send("hello, this is no TLS")
        with pytest.raises(bus.Broken, match="it looks like TLS, which tls:// and wss:// speak"):
            take(conn)


@each_scheme
def test_no_version_in_common(scheme: str, certificate: Certificate, log: pytest.LogCaptureFixture) -> None:
    newer, older = certificate.server(), certificate.client()
    newer.minimum_version, older.maximum_version = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2
    with serve(scheme, certificate, tls=newer) as server:
        with pytest.raises(bus.ConnectFailed, match="the two have no version of TLS in common"):
            connect(scheme, server, certificate, tls=older)
        until(lambda: "the two have no version of TLS in common" in log.text)


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


@each_scheme
def test_a_text_server_is_a_readable_error(scheme: str, certificate: Certificate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        connecting = InThread(lambda: bus.connect(f"{scheme}://{host}:{port}", tls=certificate.client(), timeout=WAIT))
        with Peer(listening.accept()[0]) as peer:
            peer.sock.sendall(b"220 mail.example ESMTP ready\r\n")
            with pytest.raises(bus.ConnectFailed, match="speaks no TLS.*220 mail.example"):
                connecting.result()

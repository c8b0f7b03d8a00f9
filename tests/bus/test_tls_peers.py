"""What TLS does behind its handshake (KeyUpdate, tickets, ALPN, renegotiation), with the command `openssl` as a peer; and much at once."""

from __future__ import annotations

import os
import random
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import bus
from tests.bus.peers import WAIT, InThread, inet, until
from tests.bus.test_tls import TlsPeer, connect, each_scheme, echo, serve, take
from tests.bus.test_tls_trust import files, serve_with, visit
from tests.certificates import Authority, Certificate

pytestmark = pytest.mark.usefixtures("no_proxy_of_this_machine")

each_version = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


class OpenSsl:
    """`openssl s_client` or `s_server`. A line that is one of its letters (K, R, Q) is a command, any other goes to the peer."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.said = b""
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 65_536):
            self.said += data

    def until_it_says(self, text: bytes) -> None:
        until(lambda: text in self.said, f"{text!r} in {self.said!r}")
        self.said = self.said.partition(text)[2]

    def line(self, text: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text + b"\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.wait(WAIT)
        self._listening.join(WAIT)


@contextmanager
def openssl(command: str, *arguments: str | Path) -> Iterator[OpenSsl]:
    found = shutil.which("openssl")
    if found is None:
        pytest.skip("the command openssl is not there")
    with subprocess.Popen(
        [found, command, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        peer = OpenSsl(process)
        try:
            yield peer
        finally:
            process.kill()
            peer.end()


@contextmanager
def s_client(server: bus.Server, certificate: Certificate, *arguments: str) -> Iterator[OpenSsl]:
    with openssl("s_client", "-connect", server.address, "-CAfile", certificate.certificate, *arguments) as client:
        client.until_it_says(b"Verify return code: 0 (ok)")
        yield client


def test_a_client_that_changes_its_keys(certificate: Certificate) -> None:
    with serve("tls", certificate, lambda message, client: message.text.upper(), framing="lines") as server:
        with s_client(server, certificate, "-tls1_3") as client:
            for number in range(5):
                client.line(b"before %d" % number)
                client.until_it_says(b"BEFORE %d" % number)
                client.line(b"K")  # a KeyUpdate that asks for one in return (RFC 8446, section 4.6.3)
                client.until_it_says(b"KEYUPDATE")
            client.line(b"last")
            client.until_it_says(b"LAST")


def test_a_server_that_changes_its_keys(certificate: Certificate) -> None:
    own = ("-cert", certificate.certificate, "-key", certificate.key)
    with openssl("s_server", "-accept", "127.0.0.1:0", *own, "-tls1_3") as server:
        server.until_it_says(b"ACCEPT 127.0.0.1:")
        until(lambda: b"\n" in server.said)
        port = int(server.said.partition(b"\n")[0])
        with bus.connect(f"tls://127.0.0.1:{port}", ca=certificate.certificate, framing="lines", timeout=WAIT) as conn:
            for number in range(5):
                conn.send(f"to {number}")
                server.until_it_says(b"to %d" % number)
                server.line(b"fro %d" % number)
                assert take(conn).text == f"fro {number}"
                server.line(b"K")  # it reads that before the next message; what is no command would come as a line
            conn.close(linger=0)


def test_a_client_that_wants_to_renegotiate_harms_nobody(certificate: Certificate) -> None:
    """TLS 1.2 has that, and OpenSSL 3 refuses it to clients: an attack in itself (CVE-2011-1473)."""
    with serve("tls", certificate, lambda message, client: message.text.upper(), framing="lines") as server:
        with connect("tls", server, certificate, framing="lines") as neighbour, s_client(server, certificate, "-tls1_2") as client:
            client.line(b"hello")
            client.until_it_says(b"HELLO")
            client.line(b"R")
            client.until_it_says(b"RENEGOTIATING")
            neighbour.send("unharmed")
            assert take(neighbour).text == "UNHARMED"


@each_version
@each_scheme
def test_ten_megabytes_each_way_at_once(scheme: str, version: ssl.TLSVersion, certificate: Certificate) -> None:
    size, count = 2**20, 10
    parts = [random.Random(number).randbytes(size) for number in range(count)]
    context = certificate.client()
    context.minimum_version = context.maximum_version = version
    arrived: list[bytes] = []
    with serve(scheme, certificate, lambda message, client: arrived.append(message.data)) as server:
        with connect(scheme, server, certificate, tls=context) as conn:
            assert conn.tls_version == ("TLSv1.2" if version is ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
            until(lambda: server.clients)
            up = InThread(lambda: conn.send_many(parts, WAIT))

            def send_down() -> None:
                for part in reversed(parts):
                    server.clients[0].send(part, WAIT)

            down = InThread(send_down)
            assert [take(conn).data for _ in parts] == parts[::-1]
            up.result()
            down.result()
            until(lambda: len(arrived) == count)
            assert arrived == parts


@each_version
def test_a_ticket_may_be_used_again(version: ssl.TLSVersion, authority: Authority) -> None:
    """Who comes back with one need not show its certificate a second time; it is known all the same."""
    context = authority.own.client()
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(*authority.sign("comes back"))

    def name(message: bus.Message, client: bus.Client) -> str:
        return repr(client.peer_certificate and client.peer_certificate["subject"])

    with serve_with("tls", authority.sign("has tickets"), on_message=name, ca=authority.own.certificate) as server:

        def come(session: ssl.SSLSession | None) -> tuple[bool | None, ssl.SSLSession | None]:
            sock = socket.create_connection(inet(server.address), WAIT)
            with TlsPeer(context.wrap_socket(sock, server_hostname="127.0.0.1", session=session)) as peer:
                peer.send(b"who am I?")
                assert b"comes back" in (peer.receive() or b"")
                assert isinstance(peer.sock, ssl.SSLSocket)
                return peer.sock.session_reused, peer.sock.session

        reused, session = come(None)
        assert not reused
        assert come(session)[0]
        server.reload_certificates()
        assert not come(session)[0]  # what was trusted before a reload is asked for again


@pytest.mark.parametrize("servers", [None, ["http/1.1", "other"]])
@each_scheme
def test_a_client_that_offers_protocols(scheme: str, servers: list[str] | None, certificate: Certificate) -> None:
    offering, choosing = certificate.client(), certificate.server()
    offering.set_alpn_protocols(["http/1.1"])
    if servers is not None:
        choosing.set_alpn_protocols(servers)
    with serve(scheme, certificate, tls=choosing) as server, connect(scheme, server, certificate, tls=offering) as conn:
        conn.send("hello")
        assert take(conn).text == "hello"


@each_scheme
def test_a_link_is_made_again_and_hears_why_it_is_not(scheme: str, authority: Authority) -> None:
    """A client that is refused in TLS 1.3 is connected and refused, again and again: that is no storm, and the reason is told."""
    told: SimpleQueue[tuple[str, bus.BusError | None]] = SimpleQueue()
    again: dict[str, Any] = {"reconnect": True, "backoff": (0.001, 0.05), "on_state": lambda *state: told.put(state)}
    with socket.socket() as place:  # holds the port while nobody listens there
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", 0))
        url = f"{scheme}://127.0.0.1:{place.getsockname()[1]}"
        with bus.serve(url, echo, **files(authority.sign("comes and goes"))):
            conn = bus.connect(url, ca=authority.own.certificate, timeout=WAIT, **again)
            conn.send("before")
            assert take(conn).text == "before"
        with conn:
            with bus.serve(url, echo, **files(authority.sign("strict again")), ca=authority.own.certificate):
                while "asks for a certificate" not in str(told.get(timeout=WAIT)[1]):
                    pass
            with bus.serve(url, echo, **files(authority.sign("is back"))):
                until(lambda: "is back" in repr(conn.peer_certificate))  # a message for the one before would be unconfirmed
                conn.send("after", timeout=WAIT)
                assert take(conn).text == "after"


def test_a_client_that_leaves_at_once_with_tickets_unread_has_said_all(certificate: Certificate) -> None:
    """A server's tickets come behind its handshake. A plain close with them unread would be a reset, and could destroy what was sent."""
    arrived: list[str] = []
    with serve("tls", certificate, lambda message, client: arrived.append(message.text)) as server:
        for number in range(20):
            conn = visit("tls", server, certificate.certificate)
            conn.send(str(number))
            assert conn.close() is True
        until(lambda: arrived == [str(number) for number in range(20)])


def test_a_close_while_the_other_side_sends_loses_nothing(certificate: Certificate) -> None:
    """What comes behind our end is thrown away undecrypted: it may not end in an error that would cut off what we had sent."""
    arrived: list[bytes] = []
    with serve("tls", certificate, lambda message, client: arrived.append(message.data)) as server:
        conn = connect("tls", server, certificate, mailbox_messages=1)
        until(lambda: server.clients)
        client = server.clients[0]
        for _ in range(100):
            client.send(b"x" * 30_000, timeout=WAIT)
        conn.send(b"y" * 3_000_000)
        conn.send("last")
        assert conn.close(linger=WAIT) is True
        until(lambda: arrived and arrived[-1] == b"last")
        assert len(arrived) == 2

"""Who trusts whom over TLS: the server's name and certificate, the client's own, and that both ends say what was wrong with it."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bus
from tests.bus.peers import WAIT, InThread, until
from tests.bus.test_server import Diary
from tests.bus.test_tls import connect, each_scheme, echo, serve, take
from tests.certificates import Authority, Certificate

pytestmark = pytest.mark.usefixtures("no_proxy_of_this_machine")

Logged = Callable[[str], None]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """Waits until the log has a line with that text."""
    caplog.set_level(logging.INFO, "actorbus")
    return lambda text: until(lambda: text in caplog.text, f"{text!r} in the log:\n{caplog.text}")


def files(certificate: Certificate) -> dict[str, Any]:
    return {"cert": certificate.certificate, "key": certificate.key}


def serve_with(scheme: str, certificate: Certificate, **options: Any) -> bus.Server:
    return bus.serve(f"{scheme}://127.0.0.1:0", **{"on_message": echo, **files(certificate), **options})


def visit(scheme: str, server: bus.Server | bus.Listener, ca: Path, host: str = "127.0.0.1", **options: Any) -> bus.Connection:
    port = server.address.rpartition(":")[2]
    return bus.connect(f"{scheme}://{host}:{port}", **{"ca": ca, "timeout": WAIT, **options})


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
@pytest.mark.parametrize(
    ("signed", "clients_error", "servers_log"),
    [
        ({"until": "20210101000000Z"}, "it has expired, on Jan  1 00:00:00 2021 GMT", "refused our certificate as expired"),
        ({"since": "20390101000000Z"}, "it is not valid before Jan  1 00:00:00 2039 GMT", "refused our certificate"),
        ({"subject": "DNS:a.example,IP:10.0.0.5"}, "it is for a.example, 10.0.0.5, not for 127.0.0.1", "refused our certificate"),
    ],
    ids=["expired", "not-yet", "name"],
)
def test_both_ends_say_what_is_wrong_with_the_servers_certificate(
    scheme: str, signed: dict[str, str], clients_error: str, servers_log: str, authority: Authority, logged: Logged
) -> None:
    name = "server " + " ".join(signed.values()).replace(":", "-")
    with serve_with(scheme, authority.sign(name, **signed)) as server:
        with pytest.raises(bus.ConnectFailed) as caught:
            visit(scheme, server, authority.own.certificate)
        assert f"its certificate is not accepted: {clients_error}" in str(caught.value)
        logged(servers_log)


@each_scheme
def test_an_unknown_issuer_is_named_and_so_is_the_remedy(scheme: str, authority: Authority, elsewhere: Certificate, logged: Logged) -> None:
    with serve_with(scheme, authority.sign("unknown")) as server:
        with pytest.raises(bus.ConnectFailed, match="its issuer, the authority of these tests, is none that we trust; .*as ca="):
            visit(scheme, server, elsewhere.certificate)
        logged("refused our certificate: it does not know who signed it")


@each_scheme
def test_a_self_signed_certificate_is_trusted_by_naming_it(scheme: str, certificate: Certificate, elsewhere: Certificate) -> None:
    with serve_with(scheme, certificate) as server:
        with pytest.raises(bus.ConnectFailed, match="it is self-signed.*to trust it, give it as ca="):
            visit(scheme, server, elsewhere.certificate)
        with visit(scheme, server, certificate.certificate) as conn:
            conn.send("hello")
            assert take(conn).text == "hello"


@each_scheme
def test_another_name_may_be_checked_than_the_urls(scheme: str, elsewhere: Certificate) -> None:
    with serve_with(scheme, elsewhere) as server:
        with visit(scheme, server, elsewhere.certificate, server_hostname="elsewhere.example") as conn:
            conn.send("hello")
            assert take(conn).text == "hello"
        with pytest.raises(bus.ConnectFailed, match="it is for elsewhere.example, not for else.example"):
            visit(scheme, server, elsewhere.certificate, server_hostname="else.example")


@each_scheme
def test_the_name_is_told_to_the_server(scheme: str, elsewhere: Certificate) -> None:
    named: list[str | None] = []
    context = elsewhere.server()
    context.sni_callback = lambda tls, name, _: named.append(name)
    with serve(scheme, elsewhere, tls=context) as server:
        visit(scheme, server, elsewhere.certificate, server_hostname="elsewhere.example").close()
        with pytest.raises(bus.ConnectFailed):
            visit(scheme, server, elsewhere.certificate)
    assert named == ["elsewhere.example", None]  # an IP address is no server name (RFC 6066, section 3)


def test_an_ip_address_is_checked_as_such(authority: Authority) -> None:
    as_a_name = authority.sign("only a name", "DNS:127.0.0.1")
    with serve_with("tls", as_a_name) as server:
        with pytest.raises(bus.ConnectFailed, match="it is for 127.0.0.1, not for 127.0.0.1"):
            visit("tls", server, authority.own.certificate)
    with serve_with("tls", authority.sign("an address", "IP:127.0.0.1")) as server:
        visit("tls", server, authority.own.certificate).close()
        with pytest.raises(bus.ConnectFailed, match="not for localhost"):
            visit("tls", server, authority.own.certificate, host="localhost")


# --- the client's certificate ---


@each_scheme
def test_a_callback_can_tell_who_the_client_is(scheme: str, authority: Authority) -> None:
    met: list[Any] = []

    def name(message: bus.Message, client: bus.Client) -> str:
        assert client.peer_certificate is not None
        return str(dict(part[0] for part in client.peer_certificate["subject"])["commonName"])

    server = serve_with(
        scheme, authority.sign("asks"), ca=authority.own.certificate, on_message=name, on_connect=lambda c: met.append(c.peer_certificate)
    )
    with server:
        for one in ("robot 1", "robot 2"):
            with visit(scheme, server, authority.own.certificate, **files(authority.sign(one))) as conn:
                conn.send("who am I?")
                assert take(conn).text == one
                assert conn.peer_certificate is not None
                assert ("DNS", "localhost") in conn.peer_certificate["subjectAltName"]
                assert conn.tls_version == "TLSv1.3"
        assert [certificate["issuer"] for certificate in met] == [((("commonName", "the authority of these tests"),),)] * 2


def test_who_shows_no_certificate_has_none(certificate: Certificate) -> None:
    with bus.listen("tls://127.0.0.1:0", **files(certificate)) as listener, visit("tls", listener, certificate.certificate) as conn:
        with listener.accept() as far:
            assert far.peer_certificate is None
            assert far.tls_version == conn.tls_version == "TLSv1.3"
    with bus.serve("tcp://127.0.0.1:0", echo) as server, bus.connect(f"tcp://{server.address}") as conn:
        until(lambda: server.clients)
        assert (conn.peer_certificate, conn.tls_version) == (None, None)
        assert (server.clients[0].peer_certificate, server.clients[0].tls_version) == (None, None)
    with bus.bind("udp://127.0.0.1:0") as sock, bus.connect(f"udp://{sock.address}") as conn:
        assert (conn.peer_certificate, conn.tls_version) == (None, None)


@each_scheme
@pytest.mark.parametrize(
    ("own", "clients_error", "servers_log"),
    [
        (None, "it asks for a certificate", "showed no certificate, and here clients need one"),
        ({"until": "20210101000000Z"}, "refused our certificate as expired", "its certificate is not accepted: .* has expired"),
        ("foreign", "refused our certificate: it does not know who signed it", "it is self-signed.*here ca= says whom to trust"),
    ],
    ids=["missing", "expired", "foreign"],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_refused_client_hears_why(
    scheme: str,
    version: ssl.TLSVersion,
    own: dict[str, str] | str | None,
    clients_error: str,
    servers_log: str,
    authority: Authority,
    elsewhere: Certificate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "actorbus")
    context = authority.own.client()
    context.maximum_version = version
    if own is not None:
        context.load_cert_chain(*(elsewhere if own == "foreign" else authority.sign("stale", **own)))  # type: ignore[arg-type]
    diary = Diary()
    asking = {"ca": authority.own.certificate, "on_connect": diary.connect, "on_disconnect": diary.disconnect}
    with serve_with(scheme, authority.sign("asking"), **asking) as server:
        # In TLS 1.3 the client is done before the server has judged it, so it hears of it behind `connect`, with its first answer.
        with pytest.raises((bus.ConnectFailed, bus.Broken), match=clients_error) as caught:
            with connect(scheme, server, authority.own, tls=context) as conn:
                take(conn)
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        if version is ssl.TLSVersion.TLSv1_2 or scheme == "wss":
            assert isinstance(caught.value, bus.ConnectFailed)
        until(lambda: any(re.search(servers_log, line) for line in caplog.messages), "the server's log says why")
        assert diary.entries.empty()
        with visit(scheme, server, authority.own.certificate, **files(authority.sign("welcome"))) as conn:
            conn.send("hello")
            assert take(conn).text == "hello"


def test_a_refused_client_hears_why_even_if_it_is_busy_sending(authority: Authority) -> None:
    """Its writes fail, too, and maybe first; what they fail with is not the reason."""
    with serve_with("tls", authority.sign("strict"), ca=authority.own.certificate) as server:
        for _ in range(5):
            with visit("tls", server, authority.own.certificate) as conn:
                with pytest.raises(bus.Broken, match="asks for a certificate"):
                    for _ in range(1000):
                        conn.send(b"x" * 100_000, timeout=WAIT)


def test_a_refused_visitor_of_a_listener_is_logged(authority: Authority, logged: Logged) -> None:
    with bus.listen("tls://127.0.0.1:0", **files(authority.sign("listens")), ca=authority.own.certificate) as listener:
        with visit("tls", listener, authority.own.certificate) as conn:
            with pytest.raises(bus.Broken, match="asks for a certificate"):
                take(conn)
        logged("showed no certificate")
        accepting = InThread(listener.accept)
        with visit("tls", listener, authority.own.certificate, **files(authority.sign("comes in"))), accepting.result() as far:
            assert far.peer_certificate is not None

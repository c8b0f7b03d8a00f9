"""`cert=`, `key=` and `ca=`: what they do, what is wrong with a file, and reading them again while the server runs."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bus
from actors.certificates import load_context
from tests.bus.test_tls import each_scheme, echo, take
from tests.bus.test_tls_trust import files, serve_with, visit
from tests.certificates import HERE, Authority, Certificate, make_certificate, openssl

pytestmark = pytest.mark.usefixtures("no_proxy_of_this_machine")


def talk(conn: bus.Connection) -> None:
    conn.send("hello")
    assert take(conn).text == "hello"


@each_scheme
@pytest.mark.parametrize("kind", [Path, str])
def test_a_server_and_a_client_from_files(scheme: str, kind: Callable[[Path], Any], certificate: Certificate) -> None:
    with serve_with(scheme, certificate, cert=kind(certificate.certificate), key=kind(certificate.key)) as server:
        with visit(scheme, server, kind(certificate.certificate)) as conn:
            talk(conn)


def test_the_key_may_be_in_the_certificates_file(certificate: Certificate, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.key.read_bytes() + certificate.certificate.read_bytes())
    with bus.serve("tls://127.0.0.1:0", echo, cert=both) as server, visit("tls", server, certificate.certificate) as conn:
        talk(conn)


def test_a_listener_from_files(certificate: Certificate) -> None:
    with bus.listen("tls://127.0.0.1:0", **files(certificate)) as listener:
        with visit("tls", listener, certificate.certificate) as near, listener.accept() as far:
            near.send("hello")
            assert take(far).text == "hello"


@pytest.mark.parametrize("server", [True, False])
def test_the_defaults_are_safe(server: bool, certificate: Certificate) -> None:
    context = load_context(server=server, **files(certificate), ca=certificate.certificate)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname is not server
    assert len(context.get_ca_certs()) == 1  # and none of the system's
    assert load_context(server=True, **files(certificate)).verify_mode is ssl.CERT_NONE


# --- what is wrong with a file ---


def test_each_file_is_named_with_what_is_wrong(
    certificate: Certificate, elsewhere: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))  # the system's roots take their time

    def made(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    cert, key = certificate
    pem = cert.read_bytes()
    damaged = made("damaged.pem", pem[:100] + b"AAAA" + pem[104:])
    text, empty = made("text.pem", b"no certificate at all"), made("empty.pem", b"")
    spoilt = made("spoilt.key", key.read_bytes()[:60] + b"AAAA" + key.read_bytes()[64:])
    secret, other = tmp_path / "secret.key", tmp_path / "other.key"
    openssl("pkcs8", "-topk8", "-in", key, "-out", secret, "-passout", "pass:secret")
    openssl("genpkey", "-algorithm", "ED25519", "-out", other)
    missing = tmp_path / "missing"
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"cert": missing, "key": key}, FileNotFoundError, r"No such file or directory \(cert=\): .*missing"),
        ({"cert": cert, "key": missing}, FileNotFoundError, r"No such file or directory \(key=\): .*missing"),
        ({"cert": cert, "key": key, "ca": missing}, FileNotFoundError, r"No such file or directory \(ca=\): .*missing"),
        ({"cert": tmp_path, "key": key}, IsADirectoryError, r"\(cert=\)"),
        ({"cert": text, "key": key}, ValueError, r"text.pem \(cert=\) has no certificate in it"),
        ({"cert": empty, "key": key}, ValueError, r"empty.pem \(cert=\) has no certificate in it"),
        ({"cert": key, "key": key}, ValueError, r"here.key \(cert=\) has no certificate in it"),
        ({"cert": damaged, "key": key}, ValueError, r"damaged.pem \(cert=\) has a certificate that can't be read"),
        ({"cert": cert}, ValueError, r"here.pem \(cert=\) has no private key in it; key= names the file that has"),
        ({"cert": cert, "key": cert}, ValueError, r"here.pem \(key=\) has no private key in it"),
        ({"cert": cert, "key": spoilt}, ValueError, r"here.pem with the private key in .*spoilt.key can't be used"),
        ({"cert": cert, "key": elsewhere.key}, ValueError, r"elsewhere.key does not belong to the certificate in .*here.pem"),
        ({"cert": cert, "key": other}, ValueError, r"other.key does not belong to the certificate in .*here.pem"),
        ({"cert": cert, "key": secret}, ValueError, r"secret.key wants a password; give tls="),
        ({"cert": cert, "key": key, "ca": text}, ValueError, r"text.pem \(ca=\) has no certificate in it"),
        ({"cert": cert, "key": key, "ca": damaged}, ValueError, r"damaged.pem \(ca=\) has a certificate that can't be read"),
    ]
    with bus.serve("tcp://127.0.0.1:0", echo) as there:
        for given, error, match in wrong:
            # At the call, before any socket is open: there the port is taken, and nobody speaks TLS.
            for call in (bus.serve, bus.listen, bus.connect):
                for scheme in ("tls",) if call is bus.listen else ("tls", "wss"):
                    with pytest.raises(error, match=match):
                        call(f"{scheme}://{there.address}", *((echo,) if call is bus.serve else ()), **given)
        assert there.stats().accepted == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_file_that_may_not_be_read(certificate: Certificate, tmp_path: Path) -> None:
    key = tmp_path / "locked.key"
    shutil.copy(certificate.key, key)
    key.chmod(0)
    with pytest.raises(PermissionError, match="locked.key"):
        bus.serve("tls://127.0.0.1:0", echo, cert=certificate.certificate, key=key)


# --- what does not go together ---


@pytest.mark.parametrize("scheme", ["tcp", "ws", "unix"])
def test_all_this_is_for_tls_alone(scheme: str, certificate: Certificate) -> None:
    url = "unix:///nowhere/at/all" if scheme == "unix" else f"{scheme}://127.0.0.1:0"
    for name, value in {"tls": certificate.server(), "cert": "c", "key": "k", "ca": "a"}.items():
        with pytest.raises(ValueError, match=f"{name} is for tls:// and wss://"):
            bus.serve(url, echo, **{name: value})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"{name} is for tls:// and wss://"):
            bus.connect(url.replace(":0", ":9"), **{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="server_hostname is for tls:// and wss://"):
        bus.connect(url.replace(":0", ":9"), server_hostname="there")


@each_scheme
def test_a_server_needs_a_certificate(scheme: str, certificate: Certificate) -> None:
    with pytest.raises(TypeError, match="needs the server's certificate: cert= and key=.* or tls="):
        bus.serve(f"{scheme}://127.0.0.1:0", echo)
    with pytest.raises(TypeError, match="needs the server's certificate"):
        bus.serve(f"{scheme}://127.0.0.1:0", echo, ca=certificate.certificate)
    if scheme == "tls":
        with pytest.raises(TypeError, match="needs the server's certificate"):
            bus.listen("tls://127.0.0.1:0")


@each_scheme
def test_what_is_no_context_no_path_and_no_name(scheme: str, certificate: Certificate) -> None:
    for wrong in ("cert.pem", True, ("cert", "key")):
        with pytest.raises(TypeError, match="tls must be an ssl.SSLContext.*cert=, key= and ca="):
            bus.serve(f"{scheme}://127.0.0.1:0", echo, tls=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="tls must be an ssl.SSLContext"):
            bus.connect(f"{scheme}://127.0.0.1:9", tls=wrong)  # type: ignore[arg-type]
    for name in ("cert", "key", "ca"):
        with pytest.raises(TypeError, match=f"{name} must be the path of a file"):
            bus.connect(f"{scheme}://127.0.0.1:9", **{name: 7})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="server_hostname must be a str"):
        bus.connect(f"{scheme}://127.0.0.1:9", server_hostname=b"there")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="server_hostname"):
        bus.connect(f"{scheme}://127.0.0.1:9", server_hostname="")


@each_scheme
def test_a_context_has_its_own_certificates(scheme: str, certificate: Certificate) -> None:
    with pytest.raises(ValueError, match="cert and tls can't be given together"):
        bus.serve(f"{scheme}://127.0.0.1:0", echo, tls=certificate.server(), **files(certificate))
    with pytest.raises(ValueError, match="ca and tls can't be given together"):
        bus.connect(f"{scheme}://127.0.0.1:9", tls=certificate.client(), ca=certificate.certificate)
    with pytest.raises(ValueError, match="give cert, too"):
        bus.connect(f"{scheme}://127.0.0.1:9", key=certificate.key)


# --- reading them again ---


def put(made: Certificate, place: Path) -> Certificate:
    """The files under the names that the server was given."""
    there = Certificate(place / "cert.pem", place / "key.pem")
    shutil.copy(made.certificate, there.certificate)
    shutil.copy(made.key, there.key)
    return there


@pytest.fixture(scope="session")
def renewed(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("renewed"), "renewed", HERE)


@each_scheme
def test_new_handshakes_use_the_new_certificate_and_old_connections_go_on(
    scheme: str, certificate: Certificate, renewed: Certificate, tmp_path: Path
) -> None:
    with serve_with(scheme, put(certificate, tmp_path)) as server, visit(scheme, server, certificate.certificate) as before:
        talk(before)
        put(renewed, tmp_path)
        with visit(scheme, server, certificate.certificate) as still:
            talk(still)
        server.reload_certificates()
        with pytest.raises(bus.ConnectFailed, match="self-signed"):
            visit(scheme, server, certificate.certificate)
        with visit(scheme, server, renewed.certificate) as after:
            talk(after)
        talk(before)


@each_scheme
def test_bad_files_change_nothing(scheme: str, certificate: Certificate, renewed: Certificate, tmp_path: Path) -> None:
    there = put(certificate, tmp_path)
    with serve_with(scheme, there) as server:
        shutil.copy(renewed.certificate, there.certificate)  # and the key has not come yet
        with pytest.raises(ValueError, match="key.pem does not belong to the certificate in .*cert.pem"):
            server.reload_certificates()
        with visit(scheme, server, certificate.certificate) as conn:
            talk(conn)
        there.certificate.unlink()
        with pytest.raises(FileNotFoundError, match="cert.pem"):
            server.reload_certificates()
        with visit(scheme, server, certificate.certificate) as conn:
            talk(conn)
        put(renewed, tmp_path)
        server.reload_certificates()
        with visit(scheme, server, renewed.certificate) as conn:
            talk(conn)


def test_whom_a_server_trusts_is_read_again_and_forgotten(authority: Authority, certificate: Certificate, tmp_path: Path) -> None:
    """What a context once trusts it trusts for ever; so there is a new one."""
    trusted = tmp_path / "trusted.pem"
    shutil.copy(authority.own.certificate, trusted)
    server_own, client_own = authority.sign("server"), authority.sign("client")
    with serve_with("tls", server_own, ca=trusted) as server:
        with visit("tls", server, authority.own.certificate, **files(client_own)) as conn:
            talk(conn)
            shutil.copy(certificate.certificate, trusted)
            server.reload_certificates()
            with visit("tls", server, authority.own.certificate, **files(client_own)) as refused:
                with pytest.raises(bus.Broken, match="does not know who signed it"):
                    take(refused)
            talk(conn)
        with visit("tls", server, authority.own.certificate, **files(certificate)) as conn:
            talk(conn)


def test_a_listener_reads_them_again(certificate: Certificate, renewed: Certificate, tmp_path: Path) -> None:
    with bus.listen("tls://127.0.0.1:0", **files(put(certificate, tmp_path))) as listener:
        put(renewed, tmp_path)
        listener.reload_certificates()
        with visit("tls", listener, renewed.certificate) as near, listener.accept() as far:
            near.send("hello")
            assert take(far).text == "hello"


def test_a_callback_may_reload(certificate: Certificate, renewed: Certificate, tmp_path: Path) -> None:
    servers: list[bus.Server] = []

    def reload(message: bus.Message, client: bus.Client) -> str:
        servers[0].reload_certificates()
        return "done"

    with serve_with("tls", put(certificate, tmp_path), on_message=reload) as server:
        servers.append(server)
        with visit("tls", server, certificate.certificate) as conn:
            put(renewed, tmp_path)
            conn.send("reload")
            assert take(conn).text == "done"
        visit("tls", server, renewed.certificate).close()


def test_without_files_there_is_nothing_to_read_again(certificate: Certificate) -> None:
    with bus.serve("tls://127.0.0.1:0", echo, tls=certificate.server()) as server, bus.serve("tcp://127.0.0.1:0", echo) as plain:
        with pytest.raises(TypeError, match="load_cert_chain"):
            server.reload_certificates()
        with pytest.raises(TypeError, match="no TLS"):
            plain.reload_certificates()
    with pytest.raises(bus.Closed):
        server.reload_certificates()

"""The first connection: it is made, or the error names the cause within the timeout."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import nkeys
import pytest

import bus
from tests.bus.peers import WAIT, InThread, run_script, until
from tests.certificates import Authority, Certificate
from tests.natsserver import NatsServer

Serve = Callable[[str], NatsServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a server with a configuration."""
    started: list[NatsServer] = []

    def start(config: str) -> NatsServer:
        started.append(NatsServer(tmp_path / str(len(started)), config=config))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """Somebody who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def goes_through() -> None:
    """A message comes back."""
    with bus.subscribe("test.connecting") as sub:
        bus.publish("test.connecting", "there and back")
        message = sub.receive(timeout=WAIT)
        assert message is not None
        assert message.text == "there and back"


def test_it_is_open_until_it_is_closed(nats_server: NatsServer, no_leaks: object) -> None:
    with bus.open(nats_server.url, timeout=WAIT) as topics:
        assert topics.connected()
        assert topics.url == nats_server.url
        assert topics.max_payload == 1024 * 1024
        assert repr(topics) == f"<Topics {nats_server.url} connected>"
        goes_through()
    assert not topics.connected()
    with pytest.raises(bus.NoResponders):
        bus.request("test.connecting", b"", timeout=WAIT)  # by the embedded engine


def test_nobody_listens(no_leaks: object) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(bus.ConnectFailed, match=f"nats://{address}: refused; nothing listens there"):
            bus.open(f"nats://{address}", timeout=WAIT)
    goes_through()  # the embedded engine is in place as before


def test_nobody_has_that_name(no_leaks: object) -> None:
    with pytest.raises(bus.ConnectFailed, match="no address for the name 'nobody.invalid'"):
        bus.open("nats://nobody.invalid", timeout=WAIT)


def test_a_server_that_says_nothing_costs_the_timeout(silent: str, no_leaks: object) -> None:
    with pytest.raises(bus.ConnectTimeout, match="it took the connection and then said nothing within the timeout: is that a NATS server"):
        bus.open(f"nats://{silent}", timeout=0.2)


def test_who_answers_need_not_be_a_nats_server(no_leaks: object) -> None:
    greet = {"on_connect": lambda client: client.send("hi"), "framing": "lines"}
    with bus.serve("tcp://127.0.0.1:0", lambda msg, client: None, **greet) as other:  # type: ignore[arg-type]
        with pytest.raises(bus.ConnectFailed, match="it answers, and not as a NATS server does"):
            bus.open(f"nats://{other.address}", timeout=WAIT)


def test_a_wait_for_the_first_connection_can_be_ended(silent: str, no_leaks: object) -> None:
    for seconds in (0.2, *[0.01] * 20):  # also at the moment when the connection is made
        with pytest.raises(bus.DeadlinePassed), bus.deadline(seconds):
            bus.open(f"nats://{silent}", timeout=None)


def test_ctrl_c_ends_the_wait_for_the_first_connection(silent: str) -> None:
    code = f"""
import threading, bus
from tests.bus.peers import interrupt_when_blocked, until
interrupt_when_blocked()
try:
    bus.open("nats://{silent}", timeout=None)
except KeyboardInterrupt:
    print("interrupted")
until(lambda: "actorbus-nats" not in [thread.name for thread in threading.enumerate()])
"""
    assert run_script(code) == "interrupted\n"


def test_of_several_servers_one_is_enough(nats_server: NatsServer) -> None:
    with bus.open(f"nats://127.0.0.1:1,{nats_server.address}", timeout=WAIT):
        goes_through()
    with pytest.raises(bus.ConnectFailed, match="127.0.0.1:2: refused"):
        bus.open("nats://127.0.0.1:1,127.0.0.1:2", timeout=WAIT)


# -- who comes ------------------------------------------------------------------------------------------------------------


def test_user_and_password(no_leaks: object, serve: Serve) -> None:
    server = serve("authorization { user: ali, password: sesame }")
    with bus.open(server.url, user="ali", password="sesame", timeout=WAIT):
        goes_through()
    with bus.open(f"nats://ali:sesame@{server.address}", timeout=WAIT) as topics:
        goes_through()
        assert topics.url == server.url
    with pytest.raises(bus.ConnectFailed, match="it refuses us without credentials") as caught:
        bus.open(server.url, timeout=WAIT)
    assert "user=, password=" in str(caught.value)
    with pytest.raises(bus.ConnectFailed, match="it refuses us, with user 'ali' with a password: 'Authorization Violation'") as caught:
        bus.open(server.url, user="ali", password="hunter2", timeout=WAIT)
    assert "hunter2" not in str(caught.value)


def test_a_token(serve: Serve) -> None:
    server = serve("authorization { token: sesame }")
    with bus.open(server.url, token="sesame", timeout=WAIT):
        goes_through()
    with bus.open(f"nats://sesame@{server.address}", timeout=WAIT):
        goes_through()
    with pytest.raises(bus.ConnectFailed, match="it refuses us, with a token"):
        bus.open(server.url, token="hunter2", timeout=WAIT)


def test_an_nkey(serve: Serve, tmp_path: Path) -> None:
    pairs = []
    for name in ("known", "stranger"):
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        (tmp_path / name).write_bytes(seed + b"\n")
        pairs.append(nkeys.from_seed(bytearray(seed)))
    server = serve(f"authorization {{ users = [ {{ nkey: {pairs[0].public_key.decode()} }} ] }}")
    with bus.open(server.url, nkey=tmp_path / "known", timeout=WAIT):
        goes_through()
    with pytest.raises(bus.ConnectFailed, match="it refuses us, with an nkey"):
        bus.open(server.url, nkey=tmp_path / "stranger", timeout=WAIT)


def test_what_the_server_does_not_permit_is_said(no_leaks: object, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    denied = "publish: { deny: secret.out }, subscribe: { deny: secret.in }"
    server = serve(f"authorization {{ users = [ {{ user: ali, password: x, permissions: {{ {denied} }} }} ] }}")
    with bus.open(f"nats://ali:x@{server.address}", timeout=WAIT):
        for asking in [InThread(lambda: bus.subscribe("secret.in")) for _ in range(5)]:
            with pytest.raises(bus.Broken, match="permissions violation for subscription"):
                asking.result()
        with pytest.raises(bus.Broken, match="permissions violation for subscription"):
            bus.respond("secret.in", lambda msg: None)
        bus.publish("secret.out", "x")  # nobody hears that it was refused, but the log
        until(lambda: "permissions violation for publish" in caplog.text)
        goes_through()


# -- TLS ------------------------------------------------------------------------------------------------------------------


def tls_config(pair: Certificate, more: str = "") -> str:
    return f'tls {{ cert_file: "{pair.certificate}", key_file: "{pair.key}", {more} }}'


def test_tls(no_leaks: object, serve: Serve, certificate: Certificate) -> None:
    server = serve(tls_config(certificate))
    for url in (server.url, server.url.replace("nats:", "nats+tls:")):
        with bus.open(url, ca=certificate.certificate, timeout=WAIT):
            goes_through()
    with bus.open(server.url, tls=certificate.client(), timeout=WAIT):
        goes_through()


def test_a_server_that_we_do_not_trust(no_leaks: object, serve: Serve, certificate: Certificate, elsewhere: Certificate) -> None:
    server = serve(tls_config(certificate))
    with pytest.raises(bus.ConnectFailed, match="its certificate is not accepted: it is self-signed"):
        bus.open(server.url, timeout=WAIT)  # whether we asked for TLS or not
    with pytest.raises(bus.ConnectFailed, match="its certificate is not accepted"):
        bus.open(server.url, ca=elsewhere.certificate, timeout=WAIT)


def test_a_certificate_for_somebody_else(serve: Serve, elsewhere: Certificate) -> None:
    server = serve(tls_config(elsewhere))
    with pytest.raises(bus.ConnectFailed, match="its certificate is not accepted: it is for .*, not for 127.0.0.1"):
        bus.open(server.url, ca=elsewhere.certificate, timeout=WAIT)


def test_a_server_that_wants_our_certificate(serve: Serve, certificate: Certificate, authority: Authority) -> None:
    server = serve(tls_config(certificate, f'ca_file: "{authority.own.certificate}", verify: true'))
    mine = authority.sign("me")
    with bus.open(server.url, ca=certificate.certificate, cert=mine.certificate, key=mine.key, timeout=WAIT):
        goes_through()
    with pytest.raises(bus.ConnectFailed, match="TLS failed|it ended the connection after the TLS handshake"):
        bus.open(server.url, ca=certificate.certificate, timeout=WAIT)


@pytest.mark.parametrize("credentials", [{}, {"user": "ali", "password": "sesame"}, {"token": "sesame"}, {"nkey": "seed"}])
def test_a_server_without_tls_gets_nothing_secret(credentials: dict[str, str], tmp_path: Path) -> None:
    if "nkey" in credentials:
        credentials = {"nkey": str(tmp_path / "seed")}
        (tmp_path / "seed").write_bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
    said: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            conn, _ = listening.accept()
            with conn:
                conn.settimeout(WAIT)
                conn.sendall(b'INFO {"server_id":"x","headers":true,"max_payload":1048576,"auth_required":true,"nonce":"x"}\r\n')
                while chunk := conn.recv(65536):
                    said.append(chunk)
                    if b"PING" in chunk:
                        conn.sendall(b"PONG\r\n")

        serving = InThread(serve)
        with pytest.raises(bus.ConnectFailed, match="it offers no TLS"):
            bus.open(f"nats+tls://127.0.0.1:{listening.getsockname()[1]}", timeout=WAIT, **credentials)  # type: ignore[arg-type]
        serving.result()
    assert not said, "a signature is as good as a password, to who passes it on"


def test_a_server_that_stops_in_the_handshake(certificate: Certificate, no_leaks: object) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def serve() -> None:
            conn, _ = listening.accept()
            with conn:
                conn.sendall(b'INFO {"server_id":"x","version":"2.10.0","tls_required":true,"max_payload":1048576}\r\n')
                over.wait(WAIT)

        serving = InThread(serve)
        with pytest.raises(bus.ConnectTimeout, match="it did not finish the TLS handshake"):
            bus.open(f"nats://127.0.0.1:{listening.getsockname()[1]}", timeout=0.3)
        over.set()
        serving.result()


def test_without_the_package_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "__init__.py").write_text("raise ModuleNotFoundError('no', name='nats')")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import bus
try:
    bus.open("nats://127.0.0.1:1")
except ModuleNotFoundError as exc:
    print(exc)
"""
    assert run_script(code) == "topics over NATS need the package nats-py: pip install actorbus[nats]\n"


def test_topics_alone_do_not_load_asyncio() -> None:
    code = "import sys, bus; bus.publish('a', 'b'); print('asyncio' in sys.modules, 'ssl' in sys.modules)"
    assert run_script(code) == "False False\n"



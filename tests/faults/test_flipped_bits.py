"""One bit flipped, or an end, at any place of a recorded session: a documented error or a message comes of it, and nobody else notices."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable, Iterator

import pytest

import bus
from tests.actors.test_wsframes import BINARY, CLOSE, CONTINUED, PING, TEXT, wire
from tests.bus.peers import WAIT, InThread, Peer, frame, inet, until
from tests.bus.test_websocket import HEAD_END, WebPeer, accept_key, upgrade
from tests.faults.ends import neighbours, serve, until_only

pytestmark = pytest.mark.fault

MESSAGES = [b"hello", b"", b"\x00\x03\n", '{"a": "é"}'.encode(), b"x" * 30]
LARGEST = 1000
BITS = range(8)


def tcp_session(masked: bool) -> bytes:
    return b"".join(map(frame, MESSAGES))


def ws_session(masked: bool) -> bytes:
    """Text, binary, a message in pieces with a ping between them, and the close."""
    frames: list[tuple[int, bytes, bool]] = [(TEXT, "hé".encode(), True), (BINARY, b"\x00\x03", True), (TEXT, b"in ", False)]
    frames += [(PING, b"?", True), (CONTINUED, b"pieces", True), (CLOSE, b"\x03\xe8bye", True)]
    return b"".join(wire(opcode, payload, masked=masked, fin=fin) for opcode, payload, fin in frames)


SESSIONS: dict[str, Callable[[bool], bytes]] = {"tcp": tcp_session, "ws": ws_session}


def flipped(session: bytes) -> Iterator[bytes]:
    """The session with each of its bits flipped in turn."""
    for index, byte in enumerate(session):
        for bit in BITS:
            yield session[:index] + bytes([byte ^ 1 << bit]) + session[index + 1 :]


def cut(session: bytes) -> Iterator[bytes]:
    for length in range(len(session)):
        yield session[:length]


CHANGES = pytest.mark.parametrize("change", [flipped, cut])
Change = Callable[[bytes], Iterable[bytes]]


def nothing_failed(caplog: pytest.LogCaptureFixture) -> None:
    """No part of the engine has met an exception that it did not expect."""
    failures = [record.getMessage() for record in caplog.records if record.exc_info or record.name == "actorbus.engine"]
    assert not failures


def until_its_end(peer: Peer) -> None:
    """Read until the server has ended the connection; TimeoutError if it does not."""
    try:
        while peer.sock.recv(65_536):
            pass
    except ConnectionError:
        pass


def visit(address: str, data: bytes, *, reset: bool) -> None:
    with Peer(socket.create_connection(inet(address), WAIT)) as peer:
        try:
            peer.sock.sendall(data)
            if reset:
                peer.reset()
                return
            peer.finish()
        except OSError:
            pass  # it has ended the connection already
        until_its_end(peer)


@CHANGES
@pytest.mark.parametrize("scheme", SESSIONS)
def test_a_server_lives_through_it(scheme: str, change: Change, caplog: pytest.LogCaptureFixture, all_returns: object) -> None:
    caplog.set_level(logging.WARNING, "actorbus")
    got: list[bytes] = []
    reasons: list[bus.BusError] = []

    def on_message(message: bus.Message, client: bus.Client) -> bus.Message:
        if not message.data.startswith(b"trip"):
            got.append(message.data)
        return message

    with serve(scheme, on_message, on_disconnect=lambda client, reason: reasons.append(reason), max_size=LARGEST) as server:
        session = (upgrade(server.address) if scheme == "ws" else b"") + SESSIONS[scheme](True)
        with neighbours(server, scheme):
            for number, data in enumerate(change(session)):
                visit(server.address, data, reset=change is cut and number % 2 == 1)
            until_only(server, 2)
        until_only(server, 0)
    assert all(len(data) <= LARGEST for data in got)
    assert all(isinstance(reason, bus.PeerClosed | bus.Broken | bus.Closed) for reason in reasons)
    nothing_failed(caplog)


def heard(connect: Callable[[], bus.Connection]) -> bus.BusError:
    """Connect and receive until the documented end."""
    try:
        with connect() as conn:
            try:
                while True:
                    message = conn.receive(timeout=WAIT)
                    assert message is not None, "neither a message nor an end"
                    assert len(message.data) <= LARGEST
            finally:
                conn.close(linger=0)
    except bus.BusError as exc:
        return exc


@CHANGES
@pytest.mark.parametrize("scheme", SESSIONS)
def test_a_client_lives_through_it(scheme: str, change: Change, caplog: pytest.LogCaptureFixture, all_returns: object) -> None:
    caplog.set_level(logging.WARNING, "actorbus")
    with socket.create_server(("127.0.0.1", 0), backlog=10) as listening:
        listening.settimeout(WAIT)
        url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
        # The answer to a handshake depends on its key: what is changed in the zeros of a blank is changed in each client's own session.
        blank = bytes(len(answer("x" * 24) + ws_session(False)))
        places = list(change(blank if scheme == "ws" else tcp_session(False)))
        clients = InThread(lambda: [heard(lambda: bus.connect(url, timeout=WAIT, max_size=LARGEST)) for _ in places])
        for data in places:
            with WebPeer(listening.accept()[0]) as peer:
                if scheme == "ws":
                    session = answer(key_of(peer.head())) + ws_session(False)
                    data = bytes(one ^ other for one, other in zip(session, data, strict=False))
                try:
                    peer.sock.sendall(data)
                    peer.finish()
                except OSError:
                    pass
                until_its_end(peer)
        ends = clients.result()
    assert len(ends) == len(places)
    assert all(isinstance(end, bus.PeerClosed | bus.Broken | bus.ConnectFailed) for end in ends), {type(end) for end in ends}
    nothing_failed(caplog)


def key_of(head: bytes) -> str:
    (key,) = (line.partition(b":")[2].strip().decode() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
    return str(key)


def answer(key: str) -> bytes:
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept_key(key)}"]
    return "\r\n".join(lines).encode() + HEAD_END


def test_the_sessions_are_good_ones() -> None:
    """As recorded, without a fault: every message comes."""
    for scheme, count in (("tcp", len(MESSAGES)), ("ws", 3)):
        got: list[bytes] = []
        with serve(scheme, lambda message, client, got=got: got.append(message.data), max_size=LARGEST) as server:  # type: ignore[misc]
            visit(server.address, (upgrade(server.address) if scheme == "ws" else b"") + SESSIONS[scheme](True), reset=False)
            until(lambda got=got, count=count: len(got) == count)  # type: ignore[misc]

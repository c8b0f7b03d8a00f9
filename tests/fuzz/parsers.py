"""One function per parser: it takes any bytes, has them parsed, and raises only if something does not hold that must.

What must hold: there is a result or the documented error, never another exception; and where a stream is parsed, it does not matter in
which pieces it comes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from http.client import HTTPResponse
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import bus
from actors import wsclient
from actors.callbacks import Callbacks
from actors.errors import BadAddress, Broken, BusError, ConnectFailed, PeerClosed
from actors.framing import FRAMINGS, FrameTooLarge, Framing, Unparsed, with_heartbeat
from actors.http import HEAD_END, MAX_HEAD, Request
from actors.resolving import format_address, numeric
from actors.states import State
from actors.wshandshake import Door, Guest, Hello
from adapters.hs import addresses
from bus.arguments import VERBS
from bus.endpoints import Endpoint, parse, split_address
from tests.actors.test_wsframes import End, cut, wire

__all__ = ["PARSERS", "SEEDS"]

MAX_SIZE = 64  # small, so that many streams go over it


class Source:
    """The bytes, and choices made with their first ones."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def choice(self, count: int) -> int:
        first, self._data = self._data[:1] or b"\0", self._data[1:]
        return first[0] % count

    def places(self) -> list[int]:
        """Where to cut what is left."""
        return [self.choice(256) for _ in range(self.choice(8))]

    def rest(self) -> bytes:
        return self._data


# --- streams of messages ---


def feed(framing: Framing, chunks: Sequence[bytes]) -> tuple[list[bytes], str]:
    messages: list[bytes] = []
    unparsed = Unparsed([])
    for chunk in chunks:
        unparsed.chunks.append(chunk)
        try:
            parsed = framing.parse(unparsed, MAX_SIZE)
        except FrameTooLarge as exc:
            return messages + exc.messages, "too large"
        messages += parsed.messages
        unparsed = parsed.unparsed
    return messages, b"".join(unparsed.chunks).hex()


def framing(data: bytes) -> None:
    source = Source(data)
    plain = list(FRAMINGS.values())[source.choice(len(FRAMINGS))]
    beating = plain.name != "raw" and bool(source.choice(2))
    places = source.places()
    stream = source.rest()
    whole, pieces = (feed(with_heartbeat(plain, 1.0 if beating else None), cut(stream, at)) for at in ([], places))
    assert all(len(message) <= MAX_SIZE for message in whole[0])
    if plain.name == "raw":
        assert b"".join(whole[0]) == b"".join(pieces[0]) == stream
    else:
        assert whole == pieces
        assert not beating or b"" not in whole[0]


def frames(data: bytes) -> None:
    source = Source(data)
    server, deflate = bool(source.choice(2)), bool(source.choice(2))
    places = source.places()
    stream = source.rest()
    whole, pieces = (End(server=server, deflate=deflate, max_size=MAX_SIZE).take_all(cut(stream, at)) for at in ([], places))
    assert whole.messages == pieces.messages
    assert str(whole.reason) == str(pieces.reason)
    assert all(len(message) <= MAX_SIZE for message, _ in whole.messages)
    for message, is_text in whole.messages:
        if is_text:
            message.decode()
    if whole.reason is not None:
        assert isinstance(whole.reason, Broken | PeerClosed)
        assert len(whole.ears.farewells) == 1


def message(data: bytes) -> None:
    received = bus.Message(data)
    for read, error in ((lambda: received.text, UnicodeDecodeError), (received.json, ValueError)):
        try:
            read()
        except error:
            pass


# --- HTTP before a WebSocket ---


class Visitor(Guest):
    """A guest without a socket or a thread. `said` is what it was answered; `begun`, that it was admitted."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._timers = []
        self.draining = None
        self.closing = False
        self.said = b""
        self.begun = False
        self.state = State.OPEN
        self.max_size = MAX_SIZE
        self.remote_address = "somewhere"
        self.lane = SimpleNamespace(admit=lambda *admitted: None, settle=lambda: None)  # type: ignore[assignment]
        self.outbox = SimpleNamespace(append=self._hear)  # type: ignore[assignment]

    def _hear(self, data: bytes) -> None:
        self.said += data

    def _close(self, message: object) -> None:
        assert not self.begun

    def begin(self, protocol: Any, rest: bytes) -> None:
        self.begun = True


def admit(actor: Guest, request: Request, protocol: Any) -> tuple[Callbacks, Any]:
    return Callbacks(lambda message, client: None), None


DOORS = [
    Door(admit),
    Door(admit, on_loopback=False, subprotocols=["chat", "v2"], compression=True),
    Door(admit, origins=["https://example.com"]),
]


def hello(chunks: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The request head and what comes behind it, once there is one."""
    asked: list[tuple[bytes, bytes]] = []
    framing = Hello(lambda head, rest: asked.append((head, rest)))
    unparsed = Unparsed([])
    for chunk in chunks:
        unparsed.chunks.append(chunk)
        messages, unparsed, _ = framing.parse(unparsed, MAX_SIZE)
        assert not messages
        if unparsed.special:
            framing.feed(unparsed)
            break
    return asked


def request(data: bytes) -> None:
    source = Source(data)
    door = DOORS[source.choice(len(DOORS))]
    places = source.places()
    stream = source.rest()
    whole, pieces = hello(cut(stream, [])), hello(cut(stream, places))
    assert bool(whole) == bool(pieces)
    if not whole:
        assert HEAD_END not in stream
        assert len(stream) <= MAX_HEAD
        return
    if whole[0][0].endswith(HEAD_END) and pieces[0][0].endswith(HEAD_END):
        assert whole[0][0] == pieces[0][0]
    visitor = Visitor(door)
    visitor._consider(*whole[0])
    refusals = (b"HTTP/1.1 4", b"HTTP/1.1 505 ")
    assert visitor.said.startswith(b"HTTP/1.1 101 " if visitor.begun else refusals), visitor.said
    understood = HTTPResponse(SimpleNamespace(makefile=lambda mode: BytesIO(visitor.said)))  # type: ignore[arg-type]
    understood.begin()
    understood.read()


class Answering:
    """A socket that has given its answer already."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self.chunks = list(chunks)

    def send(self, data: memoryview) -> int:
        return len(data)

    def recv(self, size: int) -> bytes:
        if self.chunks and len(self.chunks[0]) > size:
            data, self.chunks[0] = self.chunks[0][:size], self.chunks[0][size:]
            return data
        return self.chunks.pop(0) if self.chunks else b""

    def close(self) -> None:
        pass


URI = wsclient.parse_url("ws://127.0.0.1:9/")


def answered(chunks: Sequence[bytes], compression: bool) -> tuple[object, ...]:
    protocol = wsclient._protocol(URI, MAX_SIZE, ["chat"], None, compression)
    protocol.key = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455, section 1.3
    protocol.send_request(protocol.connect())
    sock = Answering(chunks)
    dialog = wsclient._Dialog(sock, "somewhere", None)  # type: ignore[arg-type]
    try:
        response, rest = wsclient._response(protocol, dialog, *dialog.head())
    except ConnectFailed as exc:
        return (str(exc),)
    return response.status_code, list(response.headers.raw_items()), rest + b"".join(sock.chunks)


def answer(data: bytes) -> None:
    source = Source(data)
    compression = bool(source.choice(2))
    places = source.places()
    stream = source.rest()
    whole, pieces = answered(cut(stream, []), compression), answered(cut(stream, places), compression)
    if len(whole) == 3 or len(pieces) == 3:
        assert whole == pieces


def proxy(data: bytes) -> None:
    sock = Answering(cut(data, [1, 5, 17]))
    with patch.object(wsclient, "connect_stream", lambda host, port, deadline: sock):
        try:
            assert wsclient._connect(URI, None, "http://proxy:3128") is sock  # type: ignore[comparison-overlap]
            assert data.startswith(b"HTTP/1.")
        except ConnectFailed as exc:
            str(exc)


# --- addresses ---


def url(data: bytes) -> None:
    source = Source(data)
    verb = ("connect", "listen", "bind", "join", "serve")[source.choice(5)]
    text = source.rest().decode("utf-8", "surrogateescape")
    try:
        endpoint = parse(text, verb, VERBS)
    except BadAddress as exc:
        str(exc)
        return
    assert isinstance(endpoint, Endpoint)
    assert verb in VERBS[endpoint.scheme].split(", ")
    assert 0 <= endpoint.port <= 65535
    assert endpoint.path if endpoint.scheme == "unix" else endpoint.host
    if endpoint.scheme not in ("unix", "ws", "wss"):
        assert parse(str(endpoint), verb, VERBS) == endpoint


def address(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        host, port = split_address(text)
    except BadAddress as exc:
        str(exc)
        return
    for family in (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6):
        for resolved in numeric(host, port, socket.SOCK_STREAM, family):
            shown = format_address(resolved.sockaddr)
            assert split_address(shown)[1] == port
            again = numeric(*split_address(shown), socket.SOCK_STREAM, 0)
            assert [format_address(one.sockaddr) for one in again] == [shown]
            assert addresses.parseAddress(addresses.sockaddr_of(shown)) is not None


def sockaddr(data: bytes) -> None:
    found = addresses.parseAddress(data)
    assert addresses.parseAddress(data.decode("utf-8", "surrogateescape")) == found
    if found is not None:
        host = f"[{found.host}]" if ":" in found.host else found.host
        again = addresses.parseAddress(addresses.sockaddr_of(f"{host}:{found.port}"))
        assert again == found


PARSERS: dict[str, Callable[[bytes], None]] = {
    parser.__name__: parser for parser in (framing, frames, message, request, answer, proxy, url, address, sockaddr)
}

UPGRADE = (
    b"GET /chat?a=b HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: http://127.0.0.1:8000\r\n"
    b"Sec-WebSocket-Protocol: chat, v2\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=12\r\n\r\nrest"
)
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\nrest"
)

# What a fuzzer begins with. The leading bytes are the choices that the parser's function takes.
SEEDS: dict[str, list[bytes]] = {
    "framing": [b"\0\1\2\4\7\0\0\0\2hi\0\0\0\0", b"\1\0\1\3a\x03b\x03", b"\2\1\1\2a\r\n\nb\n", b"\3\2\5\5raw", b"\0\0\0\xff\xff\xff\xff"],
    "frames": [
        bytes([server, deflate, 2, 3, 9]) + b"".join(wire(opcode, b"hi", masked=bool(server), fin=fin) for opcode, fin in talk)
        for server in (0, 1)
        for deflate in (0, 1)
        for talk in ([(1, True), (2, True)], [(1, False), (9, True), (0, True)], [(8, True)], [(10, True), (1, True)])
    ]
    + [b"\1\0\1\x46" + wire(1, b"a" * (MAX_SIZE - 1), masked=True, fin=False) + wire(control, b"x" * 9, masked=True) for control in (8, 9)],
    "message": [b'{"a": [1, 2.5e3, null, true, "\\ud83d\\ude00"]}', b"[[[[]]]]", b"text", "ü".encode(), "ü".encode("utf-16")],
    "request": [bytes([door, 2, 5, 40]) + UPGRADE for door in range(len(DOORS))] + [b"\0\0GET / HTTP/1.1\r\n\r\n", b"\0\0\x16\x03\x01"],
    "answer": [
        b"\0\1\x09" + ACCEPTED,
        b"\1\0" + ACCEPTED.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        b"\0\0HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone",
        b"\0\0HTTP/1.1 301 Moved\r\nLocation: /there\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngone\r\n0\r\n\r\n",
    ],
    "proxy": [b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n", b"HTTP/1.0 407 Proxy Authentication Required\r\n\r\n"],
    "url": [
        bytes([verb]) + text
        for verb in (0, 4)
        for text in (b"tcp://127.0.0.1:80", b"udp://[::1%1]:9", b"unix:///run/a%20b", b"ws://user:pw@host:80/a?b=%20", b"wss://[::1]/")
    ],
    "address": [b"127.0.0.1:80", b"[::1]:9", b"[::ffff:10.0.0.5]:9", b"localhost:1", b"1:1", b"0x7f.1:80"],
    "sockaddr": [addresses.sockaddr_of("127.0.0.1:80"), addresses.sockaddr_of("[::1]:80"), addresses.sockaddr_of("[::ffff:1.2.3.4]:80")],
}

assert SEEDS.keys() == PARSERS.keys()
assert issubclass(BadAddress, BusError)

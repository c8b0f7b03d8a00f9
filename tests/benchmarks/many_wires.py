"""What a client by hand says on each wire: the instrument at the other end of servers of every make.

All connections of a run are plain sockets in one process, so that the instrument costs the same whatever it measures, and
as little as it can. A server's frames are not masked and each of these encodings is deterministic: what has to come is known
byte for byte.
"""

import json
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from . import wire
from .end import REPLY_TIMEOUT

AT_ONCE = 50  # handshakes under way
BIND_ADDRESS_NO_PORT = 24  # Linux: the port is chosen when connecting, by the whole connection; `socket` has no name for it
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
EVENT = "tick"


@dataclass(frozen=True)
class Wire:
    """`hello` is what a client says first, `welcome` reads what the server answers; `outgoing` and `incoming` are a payload's bytes."""

    hello: Callable[[str], bytes]
    welcome: Callable[[socket.socket], None]
    outgoing: Callable[[bytes], bytes]
    incoming: Callable[[bytes], bytes]


def read_head(sock: socket.socket) -> bytes:
    """Byte by byte: what comes behind the head is not ours to take."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        head += wire.read_exactly(sock, 1)
    return bytes(head)


# --- length framing: no handshake ---


def silent(address: str) -> bytes:
    return b""


def unasked(sock: socket.socket) -> None:
    return None


# --- WebSocket ---


def upgrade(path: str, address: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {address}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13", "", ""]
    return "\r\n".join(lines).encode()


def upgraded(sock: socket.socket) -> None:
    if b" 101 " not in (head := read_head(sock)):
        raise ConnectionError(f"no upgrade: {head!r}")


def ws_frame(payload: bytes, *, first: int = 0x82, mask: bool = False) -> bytes:
    """The mask of a client's frame is zeros: the bytes that a server has to unmask, whatever they are."""
    bit, size = (0x80 if mask else 0), len(payload)
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    return head + (b"\0\0\0\0" if mask else b"") + payload


# --- Socket.IO (Engine.IO 4) over WebSocket ---


def ws_text(sock: socket.socket) -> bytes:
    _, size = wire.read_exactly(sock, 2)
    if size == 126:
        size = int.from_bytes(wire.read_exactly(sock, 2), "big")
    return wire.read_exactly(sock, size)


def joined(sock: socket.socket) -> None:
    upgraded(sock)
    for expected in (b"0{", b"40{"):
        if not (said := ws_text(sock)).startswith(expected):
            raise ConnectionError(f"Socket.IO said {said!r}")
        if expected == b"0{":
            sock.sendall(ws_frame(b"40", first=0x81, mask=True))


def event(payload: bytes) -> bytes:
    """The payload as text: Socket.IO would send bytes as a second message behind a placeholder."""
    text = "42" + json.dumps([EVENT, payload.decode("ascii")], separators=(",", ":"))
    return ws_frame(text.encode(), first=0x81)


# --- ZMTP 3.0 (rfc.zeromq.org/spec/23), a SUB socket without security ---


GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" * 32
READY = b"\x05READY\x0bSocket-Type\0\0\0\x03SUB"
SUBSCRIBE_TO_ALL = b"\x00\x01\x01"


def zmtp_hello(address: str) -> bytes:
    return GREETING + b"\x04" + bytes([len(READY)]) + READY


def zmtp_welcome(sock: socket.socket) -> None:
    wire.read_exactly(sock, len(GREETING))
    _, size = wire.read_exactly(sock, 2)
    wire.read_exactly(sock, size)
    sock.sendall(SUBSCRIBE_TO_ALL)


def zmtp_frame(payload: bytes) -> bytes:
    size = len(payload)
    return (b"\x00" + bytes([size]) if size < 256 else b"\x02" + struct.pack("!Q", size)) + payload


SOCKETIO_PATH = "/socket.io/?EIO=4&transport=websocket"
WIRES = {
    "tcp": Wire(silent, unasked, wire.frame, wire.frame),
    "ws": Wire(partial(upgrade, "/"), upgraded, partial(ws_frame, mask=True), ws_frame),
    "socketio": Wire(partial(upgrade, SOCKETIO_PATH), joined, event, event),
    "zmtp": Wire(zmtp_hello, zmtp_welcome, zmtp_frame, zmtp_frame),
}


def dial(address: str, source: str = "", receive_buffer: int = 0) -> socket.socket:
    """`source`: the loopback address it comes from, where one has too few ports."""
    host, _, port = address.rpartition(":")
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(REPLY_TIMEOUT)
    wire.no_delay(sock)
    if source:
        sock.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source, 0))
    sock.connect((host, int(port)))
    return sock


def visit(protocol: Wire, address: str, clients: int, *, receive_buffer: int = 0, each: int = 0) -> Iterator[socket.socket]:
    """Connections after their handshakes, `each` of them from one source address."""
    for first in range(0, clients, AT_ONCE):
        socks = []
        for number in range(first, min(first + AT_ONCE, clients)):
            sock = dial(address, f"127.0.0.{2 + number // each}" if each else "", receive_buffer)
            sock.sendall(protocol.hello(address))
            socks.append(sock)
        for sock in socks:
            protocol.welcome(sock)
        yield from socks

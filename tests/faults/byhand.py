"""Peers by hand, one for each wire that a library speaks: plain sockets that shake hands, and then do what a fault wants."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct

from tests.bus.peers import frame

__all__ = ["Wire", "wires"]

WAIT = 30.0


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError(f"the stream ended after {len(data)} of {size} bytes")
        data += more
    return data


def head(sock: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += read(sock, 1)
    return data


class Wire:
    """The length framing, which has no handshake; the others differ from it."""

    def request(self, port: int) -> bytes:
        """What a client says before its first message."""
        return b""

    def reply(self, sock: socket.socket) -> bytes:
        """What a server says before its first message; it has read the client's part."""
        return b""

    def welcomed(self, sock: socket.socket) -> None:
        """Read a server's part of the handshake."""

    def message(self, payload: bytes, *, client: bool) -> bytes:
        return frame(payload)

    def next(self, sock: socket.socket) -> bytes:
        """The next message; EOFError or OSError when there is none any more."""
        (size,) = struct.unpack(">I", read(sock, 4))
        return read(sock, size)

    def visit(self, port: int, receive_buffer: int = 0) -> socket.socket:
        """A client by hand, after the handshake."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(WAIT)
        sock.connect(("127.0.0.1", port))
        sock.sendall(self.request(port))
        self.welcomed(sock)
        return sock

    def welcome(self, listening: socket.socket) -> socket.socket:
        """A server by hand: its next client, after the handshake."""
        sock, _ = listening.accept()
        sock.settimeout(WAIT)
        sock.sendall(self.reply(sock))
        return sock


class Lines(Wire):
    """What `socketserver`'s documentation shows: a message is a line."""

    def message(self, payload: bytes, *, client: bool) -> bytes:
        return payload + b"\n"

    def next(self, sock: socket.socket) -> bytes:
        data = b""
        while not data.endswith(b"\n"):
            data += read(sock, 1)
        return data[:-1]


class WebSocket(Wire):
    def request(self, port: int) -> bytes:
        lines = ["GET / HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "", ""]
        return "\r\n".join(lines).encode()

    def welcomed(self, sock: socket.socket) -> None:
        head(sock)

    def reply(self, sock: socket.socket) -> bytes:
        fields = dict(line.split(b": ", 1) for line in head(sock).split(b"\r\n") if b": " in line)
        key = next(value for name, value in fields.items() if name.lower() == b"sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + accept]
        return b"\r\n".join([*lines, b"", b""])

    def message(self, payload: bytes, *, client: bool) -> bytes:
        mask = 0x80 if client else 0
        size = len(payload)
        if size < 126:
            start = struct.pack(">BB", 0x82, mask | size)
        elif size < 65_536:
            start = struct.pack(">BBH", 0x82, mask | 126, size)
        else:
            start = struct.pack(">BBQ", 0x82, mask | 127, size)
        return start + (b"\0\0\0\0" if client else b"") + payload  # masked with zeros

    def next(self, sock: socket.socket) -> bytes:
        while True:
            first, second = read(sock, 2)
            size = second & 0x7F
            if size > 125:
                size = int.from_bytes(read(sock, 2 if size == 126 else 8), "big")
            mask = read(sock, 4) if second & 0x80 else b"\0\0\0\0"
            payload = read(sock, size)
            if first & 0x0F in (1, 2):
                whole = (mask * (size // 4 + 1))[:size]
                return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")
            if first & 0x0F == 8:
                raise EOFError("a close frame")


class Zmtp(Wire):
    """ZMTP 3.0 with the NULL mechanism, a DEALER at this end (rfc.zeromq.org/spec/23)."""

    GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" * 32
    READY = b"\x05READY" + b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"

    def request(self, port: int) -> bytes:
        return self.GREETING + b"\x04" + bytes([len(self.READY)]) + self.READY

    def welcomed(self, sock: socket.socket) -> None:
        read(sock, 64)
        self._frame(sock)

    def reply(self, sock: socket.socket) -> bytes:
        sock.sendall(self.GREETING)
        read(sock, 64)
        self._frame(sock)
        return self.request(0)[64:]

    def message(self, payload: bytes, *, client: bool) -> bytes:
        if len(payload) < 256:
            return bytes([0, len(payload)]) + payload
        return b"\x02" + struct.pack(">Q", len(payload)) + payload

    def _frame(self, sock: socket.socket) -> tuple[int, bytes]:
        (flags,) = read(sock, 1)
        size = int.from_bytes(read(sock, 8 if flags & 2 else 1), "big")
        return flags, read(sock, size)

    def next(self, sock: socket.socket) -> bytes:
        while True:
            flags, payload = self._frame(sock)
            if not flags & 4:  # no command
                return payload


wires: dict[str, Wire] = {"length": Wire(), "lines": Lines(), "ws": WebSocket(), "zmtp": Zmtp()}

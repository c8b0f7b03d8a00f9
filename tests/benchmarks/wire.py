"""Length framing over plain sockets, as all hand-written peers here use it.

It is what the library is compared with, so it has to be code one would ship: whole frames, a limit on what a peer may
announce, no copy more than needed.
"""

import socket
import struct
from collections import deque

HEADER = struct.Struct("!I")
MAX_SIZE = 16 * 1024 * 1024
CHUNK = 64 * 1024


def frame(payload: bytes) -> bytes:
    return HEADER.pack(len(payload)) + payload


def announced_size(header: bytes | memoryview, start: int = 0) -> int:
    size: int = HEADER.unpack_from(header, start)[0]
    if size > MAX_SIZE:
        raise ValueError(f"a message of {size} bytes was announced, {MAX_SIZE} is the limit")
    return size


def read_exactly(sock: socket.socket, size: int) -> bytes:
    # Asking for all of a large message would allocate it whole for the first segment, and once more below.
    first = sock.recv(min(size, CHUNK))
    if len(first) == size:
        return first
    whole = bytearray(size)
    whole[: len(first)] = first
    done = received = len(first)
    with memoryview(whole) as view:
        while done < size:
            if not received:
                raise EOFError(f"the peer left after {done} of {size} bytes")
            received = sock.recv_into(view[done:])
            done += received
    return bytes(whole)


def send_frame(sock: socket.socket, payload: bytes) -> None:
    sock.sendall(frame(payload))


def send_large(sock: socket.socket, payload: bytes) -> None:
    """Without copying it."""
    sock.sendall(HEADER.pack(len(payload)))
    sock.sendall(payload)


def read_frame(sock: socket.socket) -> bytes:
    return read_exactly(sock, announced_size(read_exactly(sock, HEADER.size)))


def read_large(sock: socket.socket) -> bytearray:
    """Into its place at once."""
    message = bytearray(announced_size(read_exactly(sock, HEADER.size)))
    done = 0
    with memoryview(message) as view:
        while done < len(message):
            if not (received := sock.recv_into(view[done:])):
                raise EOFError(f"the peer left after {done} of {len(message)} bytes")
            done += received
    return message


class Assembler:
    """Bytes as they come in, whole messages out."""

    __slots__ = ("_needed", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = 0

    def feed(self, data: bytes) -> list[bytes]:
        rest = self._rest
        if not rest:
            messages, taken = self._cut(data)
            if taken < len(data):
                rest += data[taken:]
            return messages
        rest += data
        # Looking only once a message can be complete, and copying only the message, keeps a large one linear.
        if len(rest) < self._needed:
            return []
        with memoryview(rest) as view:
            messages, taken = self._cut(view)
        del rest[:taken]
        return messages

    def _cut(self, data: bytes | memoryview) -> tuple[list[bytes], int]:
        messages: list[bytes] = []
        start, available = 0, len(data)
        self._needed = HEADER.size
        while available - start >= HEADER.size:
            end = start + HEADER.size + announced_size(data, start)
            if end > available:
                self._needed = end - start
                break
            messages.append(bytes(data[start + HEADER.size : end]))
            start = end
        return messages, start


class FrameReader:
    """Reads ahead: one `recv` brings header and payload together, where `read_frame` needs two."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._assembler = Assembler()
        self._ready: deque[bytes] = deque()

    def read(self) -> bytes:
        while not self._ready:
            data = self._sock.recv(CHUNK)
            if not data:
                raise EOFError("the peer left")
            self._ready.extend(self._assembler.feed(data))
        return self._ready.popleft()


def listen(backlog: int = 128) -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=backlog)


def address_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"{host}:{port}"


def no_delay(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def connect(address: str, timeout: float | None) -> socket.socket:
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=10)
    sock.settimeout(timeout)
    no_delay(sock)
    return sock

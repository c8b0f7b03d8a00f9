"""Where one message ends and the next begins on a stream of bytes. Pure: bytes in, bytes out, no I/O, no clock.

================  =====================================================================================================
`LENGTH`          a 4-byte big-endian length before each message (the default; also what Scriptling 0.6 and newer speaks)
`ETX`             the byte 0x03 after each message (Daystar)
`LINES`           a line feed after each message; a carriage return before it is dropped
`RAW`             no frames: a message is what one read of the socket gave
================  =====================================================================================================

A framing of these is a value without state: `parse` is given all bytes that are not yet a message and answers with the messages in them and
what is left over. So a reader that is interrupted between reading and parsing has lost nothing; it parses again.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from actors.errors import BusError
    from actors.stream import StreamActor

__all__ = [
    "ETX",
    "FRAMINGS",
    "LENGTH",
    "LINES",
    "RAW",
    "TEXT_MARK",
    "FrameTooLarge",
    "Framing",
    "Parsed",
    "Unparsed",
    "count_chunks",
    "left_over",
    "looks_like_tls",
    "tls_hint",
    "with_heartbeat",
]

HEADER = Struct(">I")
TEXT_MARK = 0x81  # a whole text frame of a WebSocket, the one framing that marks text


class FrameTooLarge(Exception):
    """A frame is over `max_size`. `parsed` holds the messages before it, which are good."""

    def __init__(self, reason: str, messages: list[bytes]) -> None:
        super().__init__(reason)
        self.messages = messages


class Unparsed(NamedTuple):
    """Bytes that are not yet a message: the chunks, the sum of the first `counted` of them, and the size at which to look again.

    `special`: what comes first is not for `parse`, but for `feed` of a framing that has one.
    """

    chunks: list[bytes]
    counted: int = 0
    size: int = 0
    needed: int = 0
    special: bool = False


class Parsed(NamedTuple):
    messages: list[bytes]
    unparsed: Unparsed
    texts: list[bool] | None = None  # which of them are text, if the framing marks that


class Framing(Protocol):
    name: str
    delimited: bool  # whether a message shows where it ends; if not, only an orderly end of the stream tells that all has come
    marks_text: bool  # whether a message says if it is text; if so, one that `sole` knows and that is text begins with TEXT_MARK

    def frame(self, payload: bytes) -> bytes:
        """The bytes on the wire for a payload. Raises ValueError when this framing cannot carry it."""
        ...

    @property
    def judged(self) -> int:
        """Changes with what comes and is no message: a WebSocket's ping, a heartbeat."""
        ...

    def sole(self, data: bytes, max_size: int) -> bytes | None:
        """The message, if these bytes are exactly one: what most reads give. None says nothing; ask `parse`."""
        ...

    def parse(self, unparsed: Unparsed, max_size: int) -> Parsed:
        """Take the whole messages out. Changes nothing. Raises FrameTooLarge."""
        ...

    def feed(self, unparsed: Unparsed) -> tuple[Parsed, BusError | None]:
        """Take in what `parse` has called special; with the reason, if that was the end of the input. May write, and change what comes
        next; on the reader thread.
        """
        ...

    def cut_off(self, left: int) -> BusError | None:
        """What the end of the stream means, with so many bytes left over, where that is not what it means for most."""
        ...

    def begin(self, stream: StreamActor) -> None:
        """The connection begins, for a framing that has something to do of its own accord."""
        ...


MERGE_CHUNKS = 1024  # a peer that trickles single bytes costs 33 bytes of memory for each until they are merged


def count_chunks(unparsed: Unparsed) -> Unparsed:
    """The same with every chunk counted, and merged when there are very many."""
    chunks, counted, size, needed, special = unparsed
    if counted == len(chunks):
        return unparsed
    for chunk in chunks[counted:] if counted else chunks:
        size += len(chunk)
    if len(chunks) > MERGE_CHUNKS:
        chunks = [b"".join(chunks)]
    return Unparsed(chunks, len(chunks), size, needed, special)


def left_over(data: bytes, needed: int = 0, special: bool = False) -> Unparsed:
    return Unparsed([data], 1, len(data), needed, special) if data else Unparsed([])


def looks_like_tls(data: bytes) -> bool:
    """Whether a stream that begins so is TLS: a handshake or an alert (RFC 8446, section 5.1).

    >>> looks_like_tls(b"\x16\x03\x01"), looks_like_tls(b"GET /")
    (True, False)
    """
    return data[:1] in (b"\x15", b"\x16") and data[1:2] in (b"\x03", b"")


def tls_hint(first: bytes) -> str:
    """For the end of a sentence about a stream of ours that begins so."""
    return "; it looks like TLS, which tls:// and wss:// speak" if looks_like_tls(first) else ""


class _Stateless:
    """A framing whose `parse` says all there is to say."""

    delimited = True
    judged = 0
    marks_text = False

    def feed(self, unparsed: Unparsed) -> tuple[Parsed, BusError | None]:
        raise AssertionError(f"{self} calls nothing special")

    def cut_off(self, left: int) -> BusError | None:
        return None

    def begin(self, stream: StreamActor) -> None:
        pass


class _Length(_Stateless):
    name = "length"

    def frame(self, payload: bytes) -> bytes:
        return len(payload).to_bytes(4, "big") + payload

    def sole(self, data: bytes, max_size: int) -> bytes | None:
        if int.from_bytes(data[:4], "big") == len(data) - 4 <= max_size:
            return data[4:]
        return None

    def parse(self, unparsed: Unparsed, max_size: int) -> Parsed:
        unparsed = count_chunks(unparsed)
        if unparsed.size < unparsed.needed:
            return Parsed([], unparsed)
        data = b"".join(unparsed.chunks)
        size = unparsed.size
        messages: list[bytes] = []
        start = 0
        while size - start >= 4:
            end = start + 4 + HEADER.unpack_from(data, start)[0]
            if end - start - 4 > max_size:
                hint = tls_hint(b"" if start else data)
                raise FrameTooLarge(f"a frame of {end - start - 4} bytes is over max_size={max_size}{hint}", messages)
            if end > size:
                return Parsed(messages, left_over(data[start:], end - start))
            messages.append(data[start + 4 : end])
            start = end
        return Parsed(messages, left_over(data[start:], 4))


class _Terminated(_Stateless):
    def __init__(self, name: str, terminator: bytes, shown: str, strip: bytes = b"") -> None:
        self.name = name
        self._terminator = terminator
        self._shown = shown
        self._strip = strip

    def frame(self, payload: bytes) -> bytes:
        if self._terminator in payload:
            raise ValueError(f"message contains {self._shown}, which ends a message in the framing {self.name!r}")
        return payload + self._terminator

    def sole(self, data: bytes, max_size: int) -> bytes | None:
        last = len(data) - 1
        if data.find(self._terminator) != last or last > max_size:
            return None
        return data[:-2] if self._strip and data.endswith(self._strip, 0, last) else data[:-1]

    def parse(self, unparsed: Unparsed, max_size: int) -> Parsed:
        chunks, counted, *_ = unparsed
        terminator = self._terminator
        for chunk in chunks[counted:] if counted else chunks:
            if terminator in chunk:
                break
        else:
            unparsed = count_chunks(unparsed)
            if unparsed.size > max_size + len(self._strip):
                raise FrameTooLarge(f"{unparsed.size} bytes without {self._shown} are over max_size={max_size}", [])
            return Parsed([], unparsed)
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        messages = data.split(terminator)
        rest = messages.pop()
        if self._strip:
            messages = [m[:-1] if m.endswith(self._strip) else m for m in messages]
        for index, message in enumerate(messages):
            if len(message) > max_size:
                raise FrameTooLarge(f"a message of {len(message)} bytes is over max_size={max_size}", messages[:index])
        if len(rest) > max_size + len(self._strip):
            raise FrameTooLarge(f"{len(rest)} bytes without {self._shown} are over max_size={max_size}", messages)
        return Parsed(messages, left_over(rest))


class _Raw(_Stateless):
    name = "raw"
    delimited = False

    def frame(self, payload: bytes) -> bytes:
        return payload

    def sole(self, data: bytes, max_size: int) -> bytes | None:
        return data if 0 < len(data) <= max_size else None

    def parse(self, unparsed: Unparsed, max_size: int) -> Parsed:
        messages = []
        for chunk in unparsed.chunks:
            if len(chunk) <= max_size:
                messages.append(chunk)
            else:
                messages.extend(chunk[i : i + max_size] for i in range(0, len(chunk), max_size))
        return Parsed(messages, Unparsed([]))


LENGTH: Framing = _Length()
ETX: Framing = _Terminated("etx", b"\x03", "0x03 (ETX)")
LINES: Framing = _Terminated("lines", b"\n", "a line feed", strip=b"\r")
RAW: Framing = _Raw()
FRAMINGS: dict[str, Framing] = {framing.name: framing for framing in (LENGTH, ETX, LINES, RAW)}


def with_heartbeat(framing: Framing, interval: float | None) -> Framing:
    """A framing for one connection, with a beat every `interval` seconds; None: the framing itself."""
    if interval is None:
        return framing
    from actors.heartbeat import Heartbeat

    return Heartbeat(framing, interval)

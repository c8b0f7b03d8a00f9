"""WebSocket frames on the wire (RFC 6455, section 5), and how a stream of them becomes messages.

Nearly every frame that arrives is *plain*: a whole text or binary message, not compressed. Those are taken apart here, by functions
that change nothing, on whichever thread reads. All others (control frames, fragments, compressed and faulty ones) go one by one to the
Sans-I/O protocol of the `websockets` package, which judges them; it has a state that Ctrl-C must not tear, so only a reader thread feeds
it (see `WebSocketFraming.feed`).
"""

from __future__ import annotations

import os
import zlib
from struct import Struct
from typing import TYPE_CHECKING, Protocol

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import BINARY, CLOSE, CONT, PING, PONG, TEXT, CloseCode, Frame
from websockets.protocol import Side, State

from actors.errors import Broken, BusError, PeerClosed
from actors.framing import TEXT_MARK, Parsed, Unparsed, count_chunks, left_over

if TYPE_CHECKING:
    from websockets.protocol import Protocol as SansIO

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled wheel for this platform
    from websockets.utils import apply_mask

__all__ = ["BINARY_FRAME", "TEXT_FRAME", "WebSocketFraming", "Wire", "build_frame", "is_utf8"]

TEXT_FRAME = TEXT_MARK  # FIN and opcode 1
BINARY_FRAME = 0x82
COMPRESSED = 0x40  # RSV1, RFC 7692
CONTROL = 0x08  # of an opcode
MASKED = 0x80
MAX_FRAGMENTS = 2**18  # of one message; each costs memory of its own, however small
COMPRESS_FROM = 64  # bytes; below that it makes messages longer
TAIL = b"\x00\x00\xff\xff"  # what a flushed deflate block ends with, and RFC 7692 leaves out


# RFC 6455, section 5.2, by the width of the length.
_head, _head_16, _head_64 = Struct("!BB").pack, Struct("!BBH").pack, Struct("!BBQ").pack

_keys: list[bytes] = []  # for frames to come: fetched one by one, the system's randomness costs more than the masking
KEYS = 256


def _more_keys() -> bytes:
    """Unpredictable, each used once (RFC 6455, section 5.3)."""
    random = os.urandom(4 * KEYS)
    _keys.extend(random[start : start + 4] for start in range(4, len(random), 4))
    return random[:4]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keys.clear)  # the parent has these, too


def build_frame(first: int, payload: bytes, masked: bool) -> bytes:
    """One frame. `first` is its first byte, flags and opcode; `masked` as a client has to.

    >>> build_frame(TEXT_FRAME, b"hi", masked=False)
    b'\\x81\\x02hi'
    """
    size = len(payload)
    bit = MASKED if masked else 0
    if size < 126:
        head = _head(first, bit | size)
    elif size < 65536:
        head = _head_16(first, bit | 126, size)
    else:
        head = _head_64(first, bit | 127, size)
    if not masked:
        return head + payload
    try:
        key = _keys.pop()
    except IndexError:
        key = _more_keys()
    return head + key + apply_mask(payload, key)


def is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


class Wire(Protocol):
    """Where the framing's own frames go."""

    def answer(self, frame: bytes) -> None:
        """A pong: taken if there is room."""
        ...

    def farewell(self, frame: bytes, reason: BusError) -> None:
        """A close frame, the last thing sent."""
        ...

    def ponged(self, payload: bytes) -> None: ...


class WebSocketFraming:
    """The framing of one connection, after its handshake. `frame`, `sole` and `parse` change nothing and run anywhere; the rest belongs
    to the reader thread.

    `protocol` is the Sans-I/O state after the handshake, with nothing fed to it behind that.
    """

    name = "websocket"
    delimited = True
    marks_text = True

    def __init__(self, protocol: SansIO, source: str, wire: Wire, max_size: int, *, max_fragments: int = MAX_FRAGMENTS) -> None:
        self.protocol = protocol
        self.masks = protocol.side is Side.CLIENT
        self._unmasks = not self.masks
        self._bit, self._key_size = (MASKED, 4) if self._unmasks else (0, 0)
        self._source = source
        self._wire = wire
        self._max_size = max_size
        self._max_fragments = max_fragments
        self._fragments: list[bytes] = []
        self.judged = 0  # frames that were not plain
        self._fragments_are_text: bool | None = None  # None: between messages
        self._fault = ""  # of a message that the protocol found in order
        deflate = next((one for one in protocol.extensions if isinstance(one, PerMessageDeflate)), None)
        self._window_bits = 0 if deflate is None else deflate.local_max_window_bits

    # -- out ----------------------------------------------------------------------------------------------------------

    def frame(self, payload: bytes) -> bytes:
        return self.build(BINARY_FRAME, payload)

    def build(self, first: int, payload: bytes) -> bytes:
        """The bytes on the wire for one message; `first` as in `build_frame`."""
        if self._window_bits and len(payload) >= COMPRESS_FROM:
            first, payload = self._smaller(first, payload)
        return build_frame(first, payload, self.masks)

    def _smaller(self, first: int, payload: bytes) -> tuple[int, bytes]:
        """Compressed, if that is smaller. Each by itself (RFC 7692 leaves that to the sender), so that their order may be decided later."""
        deflate = zlib.compressobj(wbits=-self._window_bits)
        block = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
        if len(block) - len(TAIL) < len(payload):
            return first | COMPRESSED, block[: -len(TAIL)]
        return first, payload

    def ping(self, payload: bytes) -> bytes:
        return build_frame(0x80 | PING, payload, self.masks)

    def goodbye(self, code: int, reason: str) -> bytes:
        """A close frame (RFC 6455, section 5.5.1), or nothing if one was sent."""
        if self.protocol.state is not State.OPEN:
            return b""
        self.protocol.send_close(code, reason)
        return b"".join(self.protocol.data_to_send())

    # -- in, without a state ------------------------------------------------------------------------------------------

    def sole(self, data: bytes, max_size: int) -> bytes | None:
        """The message, if these bytes are exactly one plain frame."""
        # From its length the one header follows that a plain frame has, were it only for that (RFC 6455, section 5.2: the minimal form).
        start = 2 + self._key_size
        length = len(data) - start
        if length < 126:
            if length < 0 or data[1] != self._bit | length:
                return None
        elif length < 65538:
            length -= 2
            start += 2
            if data[1] != self._bit | 126 or int.from_bytes(data[2:4], "big") != length:
                return None
        else:
            length -= 8
            start += 8
            if data[1] != self._bit | 127 or int.from_bytes(data[2:10], "big") != length:
                return None
        first = data[0]
        if (first != BINARY_FRAME and first != TEXT_FRAME) or self._fragments_are_text is not None or length > max_size:
            return None
        payload = apply_mask(data[start:], data[start - 4 : start]) if self._unmasks else data[start:]
        if first == TEXT_FRAME and not is_utf8(payload):
            return None
        return payload

    def parse(self, unparsed: Unparsed, max_size: int) -> Parsed:
        """The plain frames up to the first that is not. `unparsed.special` says that the next one is for `feed`."""
        unparsed = count_chunks(unparsed)
        if unparsed.size < unparsed.needed:
            return Parsed([], unparsed, [])
        data = b"".join(unparsed.chunks)
        size = unparsed.size
        messages: list[bytes] = []
        texts: list[bool] = []
        start = 0
        while size - start >= 2:
            first = data[start]
            if (first != TEXT_FRAME and first != BINARY_FRAME) or self._fragments_are_text is not None:
                return Parsed(messages, left_over(data[start:], special=True), texts)
            end, length = self._extent(data, start)
            if end > size and length <= max_size:
                return Parsed(messages, left_over(data[start:], end - start), texts)
            payload = self.sole(data[start:end], max_size)
            if payload is None:
                return Parsed(messages, left_over(data[start:], special=True), texts)
            messages.append(payload)
            texts.append(first == TEXT_FRAME)
            start = end
        return Parsed(messages, left_over(data[start:], 2), texts)

    def _extent(self, data: bytes, start: int) -> tuple[int, int]:
        """Where the frame at `start` ends, or its header if that is not whole yet; and the length of its payload, 0 if not known yet."""
        length = data[start + 1] ^ self._bit
        if length > 127:
            return start + 2, 0  # wrongly masked, which is all there is to know
        head = start + (2 if length < 126 else 4 if length == 126 else 10)
        if len(data) < head:
            return head, 0
        if length > 125:
            length = int.from_bytes(data[start + 2 : head], "big")
        return head + self._key_size + length, length

    # -- in, on the reader thread -------------------------------------------------------------------------------------

    def feed(self, unparsed: Unparsed) -> tuple[Parsed, BusError | None]:
        """Take all whole frames, of whatever kind. One that is too large is judged by its header."""
        data = b"".join(unparsed.chunks)
        messages: list[bytes] = []
        texts: list[bool] = []
        start = 0
        while len(data) - start >= 2:
            end, length = self._extent(data, start)
            room = self._max_size - (0 if data[start] & CONTROL else self.protocol.current_size or 0)
            if end > len(data) and length <= room:
                return Parsed(messages, left_over(data[start:], end - start), texts), None
            payload = self.sole(data[start:end], self._max_size)
            if payload is not None:
                messages.append(payload)
                texts.append(data[start] == TEXT_FRAME)
            else:
                reason = self._judge(data[start:end], messages, texts)
                if reason is not None:
                    return Parsed(messages, Unparsed([]), texts), reason
            start = end
        return Parsed(messages, left_over(data[start:], 2), texts), None

    def _judge(self, frame: bytes, messages: list[bytes], texts: list[bool]) -> BusError | None:
        """Have the protocol judge one frame. Returns the reason if that is the end."""
        protocol = self.protocol
        self.judged += 1
        size = protocol.current_size
        if frame[0] & CONTROL:
            # It may come inside a fragmented message (RFC 6455, section 5.4) and is no part of it, whose size the protocol would count.
            protocol.current_size = None
        protocol.receive_data(frame)
        if frame[0] & CONTROL and frame[0] & 0x0F != CLOSE:  # a close there the protocol would deny, before and after
            protocol.current_size = size
        for event in protocol.events_received():
            if isinstance(event, Frame):
                self._take(event, messages, texts)
        over = self.parted
        for reply in protocol.data_to_send():
            if not reply:
                continue  # the protocol would half-close now: the actor does that, as behind every close
            if over:
                self._wire.farewell(reply, self._reason())
            else:
                self._wire.answer(reply)
        return self._reason() if over else None

    def _take(self, frame: Frame, messages: list[bytes], texts: list[bool]) -> None:
        if frame.opcode is PONG:
            self._wire.ponged(bytes(frame.data))
        elif frame.opcode is TEXT or frame.opcode is BINARY:
            self._add(bytes(frame.data), frame.opcode is TEXT, frame.fin, messages, texts)
        elif frame.opcode is CONT:
            self._add(bytes(frame.data), bool(self._fragments_are_text), frame.fin, messages, texts)

    def _add(self, data: bytes, text: bool, last: bool, messages: list[bytes], texts: list[bool]) -> None:
        fragments = self._fragments
        fragments.append(data)
        if not last:
            self._fragments_are_text = text
            if len(fragments) > self._max_fragments:
                self._fail(CloseCode.MESSAGE_TOO_BIG, f"over {self._max_fragments} fragments")
            return
        message = data if len(fragments) == 1 else b"".join(fragments)
        self._fragments = []
        self._fragments_are_text = None
        if text and not is_utf8(message):
            self._fail(CloseCode.INVALID_DATA, "a text message that is not UTF-8")
            return
        messages.append(message)
        texts.append(text)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _fail(self, code: CloseCode, fault: str) -> None:
        self._fault = fault
        self.protocol.fail(code, fault)

    @property
    def parted(self) -> bool:
        """Whether nothing more is to be expected from the peer: it has closed, or what it sends is not looked at any more."""
        return self.protocol.close_rcvd is not None or self.protocol.parser_exc is not None or bool(self._fault)

    @property
    def close_code(self) -> int | None:
        """What the peer's close frame said (1005: nothing), or else what ours did."""
        close = self.protocol.close_rcvd or self.protocol.close_sent
        return None if close is None else int(close.code)

    @property
    def close_reason(self) -> str | None:
        close = self.protocol.close_rcvd or self.protocol.close_sent
        return None if close is None else close.reason

    def begin(self, stream: object) -> None:
        """Its actor does, once the handshake is over."""

    def cut_off(self, left: int) -> BusError | None:
        return Broken(self._source, "the stream ended without a close frame" + (f", inside a message ({left} bytes)" if left else ""))

    def _reason(self) -> BusError:
        close, fault = self.protocol.close_rcvd, self.protocol.parser_exc
        if fault is not None or self._fault or close is None:
            return Broken(self._source, f"it violated the WebSocket protocol: {self._fault or fault}").because(fault)
        return PeerClosed(self._source, f" ({close.code}{': ' if close.reason else ''}{close.reason})")

"""WebSocket frames: any sequence, cut anywhere, gives the same messages; what is against the rules ends with the right close code."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from actors.errors import Broken, BusError, PeerClosed
from actors.framing import Unparsed
from actors.wsframes import BINARY_FRAME, TEXT_FRAME, WebSocketFraming, build_frame, is_utf8

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = b"\x37\xfa\x21\x3d"  # of RFC 6455, section 5.7
MAX_SIZE = 1 << 20


def xor(payload: bytes, key: bytes) -> bytes:
    """Masking, in another way than the code under test does it."""
    size = len(payload)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def wire(opcode: int, payload: bytes = b"", *, masked: bool = False, fin: bool = True, reserved: int = 0, key: bytes = KEY) -> bytes:
    """A frame, written down once more and apart from the code under test. `reserved`: RSV1 is 4, RSV2 2, RSV3 1."""
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = struct.pack(">BB", first, bit | len(payload))
    elif len(payload) < 65536:
        head = struct.pack(">BBH", first, bit | 126, len(payload))
    else:
        head = struct.pack(">BBQ", first, bit | 127, len(payload))
    return head + (key + xor(payload, key) if masked else payload)


class Frame(NamedTuple):
    first: int
    payload: bytes


def unwire(data: bytes) -> list[Frame]:
    """Frames taken apart, in another way than the code under test does it."""
    frames = []
    while data:
        first, second = data[:2]
        length, start = second & 0x7F, 2
        if length > 125:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start], "big")
        key = b""
        if second & 0x80:
            key = data[start : start + 4]
            start += 4
        payload = data[start : start + length]
        assert len(payload) == length
        frames.append(Frame(first, xor(payload, key) if key else payload))
        data = data[start + length :]
    return frames


class Ears:
    """What the framing says of its own accord."""

    def __init__(self) -> None:
        self.answers: list[Frame] = []
        self.farewells: list[tuple[list[Frame], BusError]] = []
        self.pongs: list[bytes] = []

    def answer(self, frame: bytes) -> None:
        self.answers += unwire(frame)

    def farewell(self, frame: bytes, reason: BusError) -> None:
        self.farewells.append((unwire(frame), reason))

    def ponged(self, payload: bytes) -> None:
        self.pongs.append(payload)

    @property
    def close(self) -> tuple[int, str]:
        """Code and reason of the one close frame that went out."""
        ((frames, _),) = self.farewells
        ((first, payload),) = frames
        assert first == 0x80 | CLOSE
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()


class End:
    """A framing at one end, fed as a reader does it."""

    def __init__(self, *, server: bool, max_size: int = MAX_SIZE, deflate: bool = False, **options: Any) -> None:
        options_: dict[str, Any] = {"state": State.OPEN, "max_size": max_size}
        protocol = ServerProtocol(**options_) if server else ClientProtocol(parse_uri("ws://127.0.0.1:1/"), **options_)
        if deflate:
            protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
        self.server = server
        self.max_size = max_size
        self.ears = Ears()
        self.framing = WebSocketFraming(protocol, "the peer", self.ears, max_size, **options)
        self.messages: list[tuple[bytes, bool]] = []
        self.reason: BusError | None = None
        self.unparsed = Unparsed([])

    def wire(self, opcode: int, payload: bytes = b"", **options: Any) -> bytes:
        """A frame as the other end sends it."""
        return wire(opcode, payload, **{"masked": self.server, **options})

    def snapshot(self) -> object:
        framing = self.framing
        protocol = framing.protocol
        ears = self.ears
        return (
            {name: repr(value) for name, value in vars(framing).items() if name not in ("protocol", "_wire")},
            (protocol.state, protocol.current_size, protocol.close_rcvd, protocol.close_sent, protocol.parser_exc),
            (len(ears.answers), len(ears.farewells), len(ears.pongs)),
        )

    def take(self, chunk: bytes) -> None:
        assert self.reason is None
        before = self.snapshot()
        self.unparsed.chunks.append(chunk)
        if len(self.unparsed.chunks) == 1:
            payload = self.framing.sole(chunk, self.max_size)
            assert self.framing.sole(chunk, self.max_size) == payload
            assert self.snapshot() == before, "sole has changed something"
            if payload is not None:
                self.messages.append((payload, chunk[0] == TEXT_FRAME))
                self.unparsed = Unparsed([])
                return
        given = (list(self.unparsed.chunks), *self.unparsed[1:])
        messages, unparsed, texts = self.framing.parse(self.unparsed, self.max_size)
        # An interrupted reader parses the same once more.
        assert self.framing.parse(self.unparsed, self.max_size) == (messages, unparsed, texts)
        assert (self.unparsed.chunks, *self.unparsed[1:]) == given, "parse has changed what it was given"
        assert self.snapshot() == before, "parse has changed something"
        assert texts is not None
        self.messages += zip(messages, texts, strict=True)
        if unparsed.special:
            (messages, unparsed, texts), self.reason = self.framing.feed(unparsed)
            assert texts is not None
            self.messages += zip(messages, texts, strict=True)
        self.unparsed = unparsed

    def take_all(self, chunks: Sequence[bytes]) -> End:
        for chunk in chunks:
            if self.reason is not None:
                break
            self.take(chunk)
        return self


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    """The stream in non-empty pieces."""
    borders = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(borders)]


each_end = pytest.mark.parametrize("server", [True, False], ids=["server", "client"])

# --- out ---

SIZES = [0, 1, 2, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537, 200_000]


def test_the_examples_of_the_rfc() -> None:
    # Section 5.7.
    assert build_frame(TEXT_FRAME, b"Hello", masked=False) == bytes.fromhex("810548656c6c6f")
    assert build_frame(BINARY_FRAME, b"x" * 256, masked=False)[:4] == bytes.fromhex("827e0100")
    assert build_frame(BINARY_FRAME, b"x" * 65_536, masked=False)[:10] == bytes.fromhex("827f0000000000010000")
    end = End(server=True).take_all([bytes.fromhex("818537fa213d7f9f4d5158")])
    assert end.messages == [(b"Hello", True)]
    client = End(server=False).take_all([bytes.fromhex("010348656c"), bytes.fromhex("80026c6f")])
    assert client.messages == [(b"Hello", True)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("masked", [True, False])
def test_a_frame_says_its_size_in_the_shortest_way(size: int, masked: bool) -> None:
    payload = (bytes(range(256)) * (size // 256 + 1))[:size]
    frame = build_frame(BINARY_FRAME, payload, masked)
    assert unwire(frame) == [(BINARY_FRAME, payload)]
    assert len(frame) == len(wire(BINARY, payload, masked=masked))
    assert bool(frame[1] & 0x80) is masked


def test_each_mask_is_another() -> None:
    assert len({build_frame(BINARY_FRAME, b"", masked=True) for _ in range(20)}) > 1


@each_end
def test_only_a_client_masks(server: bool) -> None:
    framing = End(server=server).framing
    for frame in (framing.frame(b"x"), framing.build(TEXT_FRAME, b"x"), framing.ping(b"x"), framing.goodbye(1000, "")):
        assert bool(frame[1] & 0x80) is not server


@each_end
def test_one_goodbye_is_enough(server: bool) -> None:
    framing = End(server=server).framing
    assert unwire(framing.goodbye(4000, "ü")) == [(0x80 | CLOSE, b"\x0f\xa0" + "ü".encode())]
    assert framing.goodbye(1000, "") == b""
    assert (framing.close_code, framing.close_reason) == (4000, "ü")


# --- in: sizes ---


@each_end
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_any_size_comes_in_whole_or_in_two_pieces(server: bool, size: int, opcode: int) -> None:
    payload = (b"0123456789" * (size // 10 + 1))[:size]
    end = End(server=server)
    frame = end.wire(opcode, payload)
    expected = [(payload, opcode == TEXT)]
    for border in {1, 2, 3, 5, 9, 13, len(frame) // 2, len(frame) - 1} & set(range(1, len(frame))):
        assert End(server=server).take_all([frame[:border], frame[border:]]).messages == expected
    assert end.take_all([frame]).messages == expected
    assert end.take_all([frame + frame]).messages == expected * 3


@each_end
def test_a_length_that_is_not_the_shortest_is_read_as_it_stands(server: bool) -> None:
    # RFC 6455 has it a MUST for the sender, and says nothing of the receiver: either is good, but not a hang or another message.
    key = KEY if server else b""
    payload = xor(b"hi", KEY) if server else b"hi"
    bit = 0x80 if server else 0
    for head in (bytes((0x82, bit | 126)) + b"\0\2", bytes((0x82, bit | 127)) + b"\0\0\0\0\0\0\0\2"):
        end = End(server=server).take_all([head + key + payload])
        assert end.messages == [(b"hi", False)] or isinstance(end.reason, Broken)


# --- in: any sequence ---


class Said(NamedTuple):
    """What a peer sends, and what is to come of it."""

    frames: list[tuple[int, bytes, bool]]  # opcode, payload, FIN
    messages: list[tuple[bytes, bool]]
    pings: list[bytes]
    pongs: list[bytes]


small = st.binary(max_size=20)
texts = st.text(max_size=10).map(str.encode)
sized = st.sampled_from([125, 126, 127, 300]).map(lambda size: b"s" * size)
controls = st.lists(st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)), max_size=2)


@st.composite
def said(draw: st.DrawFn) -> Said:
    result = Said([], [], [], [])

    def control() -> None:
        for opcode, payload in draw(controls):
            result.frames.append((opcode, payload, True))
            (result.pings if opcode == PING else result.pongs).append(payload)

    for _ in range(draw(st.integers(0, 6))):
        control()
        is_text = draw(st.booleans())
        payload = draw(texts | sized if is_text else small | sized)
        opcode = TEXT if is_text else BINARY
        places = draw(st.lists(st.integers(0, len(payload)), max_size=3))
        borders = [0, *sorted(places), len(payload)]
        for number, (start, stop) in enumerate(pairwise(borders)):
            if number:
                control()
            result.frames.append((CONTINUED if number else opcode, payload[start:stop], stop == borders[-1] and number == len(borders) - 2))
        result.messages.append((payload, is_text))
    control()
    return result


@each_end
@settings(max_examples=50)
@given(talk=said(), places=st.lists(st.integers(0, 1 << 16), max_size=12), key=st.binary(min_size=4, max_size=4))
def test_any_sequence_cut_anywhere_gives_the_same(server: bool, talk: Said, places: list[int], key: bytes) -> None:
    end = End(server=server)
    stream = b"".join(end.wire(opcode, payload, fin=fin, key=key) for opcode, payload, fin in talk.frames)
    end.take_all(cut(stream, places))
    assert end.reason is None
    assert end.messages == talk.messages
    assert end.ears.answers == [(0x80 | PONG, payload) for payload in talk.pings]
    assert end.ears.pongs == talk.pongs
    assert (end.unparsed.size, end.ears.farewells) == (0, [])


@each_end
@settings(max_examples=25)
@given(talk=said())
def test_single_bytes_give_the_same(server: bool, talk: Said) -> None:
    end = End(server=server)
    stream = b"".join(end.wire(opcode, payload, fin=fin) for opcode, payload, fin in talk.frames)
    end.take_all([bytes([byte]) for byte in stream])
    assert (end.reason, end.messages, len(end.ears.answers)) == (None, talk.messages, len(talk.pings))


@each_end
@given(stream=st.binary(max_size=60), places=st.lists(st.integers(0, 1 << 16), max_size=6))
def test_any_bytes_are_messages_or_one_fault(server: bool, stream: bytes, places: list[int]) -> None:
    whole = End(server=server).take_all(cut(stream, []))
    pieces = End(server=server).take_all(cut(stream, places))
    assert whole.messages == pieces.messages
    assert str(whole.reason) == str(pieces.reason)
    assert [frames for frames, _ in whole.ears.farewells] == [frames for frames, _ in pieces.ears.farewells] or not server
    if whole.reason is not None:
        assert isinstance(whole.reason, Broken | PeerClosed)
        assert len(whole.ears.farewells) == 1


@given(talk=said(), places=st.lists(st.integers(0, 1 << 16), max_size=6), spoilt=st.integers(0, 1 << 16), byte=st.integers(0, 255))
def test_a_byte_gone_wrong_never_raises(talk: Said, places: list[int], spoilt: int, byte: int) -> None:
    end = End(server=True)
    stream = bytearray(b"".join(end.wire(opcode, payload, fin=fin) for opcode, payload, fin in talk.frames) or b"\x81")
    stream[spoilt % len(stream)] = byte
    end.take_all(cut(bytes(stream), places))
    assert end.reason is None or isinstance(end.reason, Broken | PeerClosed)


# --- in: what is against the rules ---


def broken(end: End, code: int, *frames: bytes) -> str:
    """It ends with that code on the wire, however it is cut; returns the reason."""
    stream = b"".join(frames)
    pieces = End(server=end.server, max_size=end.max_size).take_all([bytes([byte]) for byte in stream])
    end.take_all([stream])
    for each in (end, pieces):
        assert isinstance(each.reason, Broken)
        assert each.ears.close[0] == code
        assert each.framing.parted
        ((_, told),) = each.ears.farewells
        assert str(told) == str(each.reason)
    return str(end.reason)


@each_end
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING])
def test_a_wrong_mask_bit_is_1002(server: bool, opcode: int) -> None:
    # Shown whole, and long enough that a key would find room.
    assert "mask" in broken(End(server=server), 1002, wire(opcode, b"\x03\xe8 of some length", masked=not server))


@each_end
@pytest.mark.parametrize("reserved", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_reserved_bits_are_1002(server: bool, reserved: int, opcode: int) -> None:
    end = End(server=server)
    assert "reserved" in broken(end, 1002, end.wire(TEXT, b"before"), end.wire(opcode, b"\x03\xe8", reserved=reserved))
    assert end.messages == [(b"before", True)]


@each_end
@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_unknown_opcodes_are_1002(server: bool, opcode: int) -> None:
    end = End(server=server)
    assert "opcode" in broken(end, 1002, end.wire(BINARY, b"before"), end.wire(opcode, b"x"), end.wire(TEXT, b"behind"))
    assert end.messages == [(b"before", False)]


@each_end
def test_fragments_out_of_order_are_1002(server: bool) -> None:
    end = End(server=server)
    broken(end, 1002, end.wire(CONTINUED, b"of nothing"))
    for opcode in (TEXT, BINARY):
        for fin in (True, False):
            end = End(server=server)
            broken(end, 1002, end.wire(TEXT, b"first", fin=False), end.wire(opcode, b"another", fin=fin))
            assert end.messages == []


@each_end
@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_control_frames_are_short_and_whole(server: bool, opcode: int) -> None:
    end = End(server=server)
    broken(end, 1002, end.wire(opcode, b"\x03\xe8" + b"x" * 124))
    end = End(server=server)
    broken(end, 1002, end.wire(opcode, b"\x03\xe8", fin=False))


@each_end
@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x03", 1002),
        (b"\x00\x00", 1002),
        (b"\x03\xe7", 1002),  # 999
        (b"\x03\xec", 1002),  # 1004
        (b"\x03\xed", 1002),  # 1005
        (b"\x03\xee", 1002),  # 1006
        (b"\x03\xf7", 1002),  # 1015
        (b"\xff\xff", 1002),
        (b"\x03\xe8\xff", 1007),
        (b"\x03\xe8\xed\xa0\x80", 1007),
    ],
)
def test_a_close_that_says_what_may_not_be_said(server: bool, payload: bytes, code: int) -> None:
    end = End(server=server)
    broken(end, code, end.wire(CLOSE, payload))


@each_end
@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [(b"", 1005, ""), (b"\x03\xe8", 1000, ""), (b"\x03\xe9bye", 1001, "bye"), (b"\x0f\xa0" + "ü".encode(), 4000, "ü")],
)
def test_a_close_is_answered_and_what_follows_is_not_looked_at(server: bool, payload: bytes, code: int, reason: str) -> None:
    end = End(server=server)
    end.take_all([end.wire(TEXT, b"last") + end.wire(CLOSE, payload) + end.wire(TEXT, b"behind") + b"\xff"])
    assert end.messages == [(b"last", True)]
    assert isinstance(end.reason, PeerClosed)
    assert (end.framing.close_code, end.framing.close_reason) == (code, reason)
    (((first, answered),), _) = end.ears.farewells[0]
    assert (first, answered[:2]) == (0x80 | CLOSE, payload[:2])
    assert str(code) in str(end.reason)
    assert reason in str(end.reason)


@each_end
def test_our_close_is_not_repeated_when_the_peer_answers(server: bool) -> None:
    end = End(server=server)
    end.framing.goodbye(1001, "enough")
    end.take(end.wire(TEXT, b"still under way"))
    end.take(end.wire(CLOSE, b"\x03\xe9enough"))
    assert isinstance(end.reason, PeerClosed)
    assert end.ears.farewells == []


# --- in: text ---

WRONG_TEXTS = [
    b"\xff",
    b"\x80",
    b"\xc3",
    b"\xc0\xaf",
    b"\xed\xa0\x80",  # a surrogate
    b"\xf4\x90\x80\x80",  # over U+10FFFF
    b"good until \xf0\x9f\x98",
    "κόσμε".encode() + b"\xed\xa0\x80edited",
]


@each_end
@pytest.mark.parametrize("text", WRONG_TEXTS)
def test_text_that_is_not_utf8_is_1007(server: bool, text: bytes) -> None:
    end = End(server=server)
    broken(end, 1007, end.wire(TEXT, b"good"), end.wire(TEXT, text), end.wire(TEXT, b"behind"))
    assert end.messages == [(b"good", True)]
    for border in range(len(text) + 1):
        end = End(server=server)
        broken(end, 1007, end.wire(TEXT, text[:border], fin=False), end.wire(CONTINUED, text[border:]))
        assert end.messages == []


@each_end
def test_a_character_may_lie_across_a_border(server: bool) -> None:
    text = "aü€😀".encode()
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            end = End(server=server)
            end.take_all(
                [
                    end.wire(TEXT, text[:first], fin=False),
                    end.wire(PING, b"\xff"),
                    end.wire(CONTINUED, text[first:second], fin=False),
                    end.wire(CONTINUED, text[second:]),
                ]
            )
            assert (end.messages, end.reason) == ([(text, True)], None)


@each_end
@pytest.mark.parametrize("text", WRONG_TEXTS)
def test_binary_may_be_anything(server: bool, text: bytes) -> None:
    end = End(server=server)
    end.take_all([end.wire(BINARY, text), end.wire(BINARY, text[:1], fin=False), end.wire(CONTINUED, text[1:])])
    assert end.messages == [(text, False)] * 2


@given(st.binary(max_size=12) | st.text(max_size=6).map(str.encode))
def test_utf8_is_what_python_takes_for_it(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        assert not is_utf8(data)
    else:
        assert is_utf8(data)


# --- in: limits ---


@each_end
@pytest.mark.parametrize("max_size", [1, 125, 126, 65_535, 65_536])
def test_max_size_is_allowed_and_a_byte_more_is_1009(server: bool, max_size: int) -> None:
    end = End(server=server, max_size=max_size)
    end.take_all([end.wire(BINARY, b"x" * max_size)])
    assert end.messages == [(b"x" * max_size, False)]
    if max_size > 100:
        end.take_all([end.wire(BINARY, b"x" * (max_size - 1), fin=False), end.wire(CONTINUED, b"x")])
        assert len(end.messages) == 2
    too_long = End(server=server, max_size=max_size)
    too_long.take_all([too_long.wire(BINARY, b"x" * (max_size + 1))])
    assert isinstance(too_long.reason, Broken)
    assert too_long.ears.close[0] == 1009
    assert too_long.messages == []


@each_end
@pytest.mark.parametrize("length", [200, 2**31, 2**62])
def test_too_large_a_frame_is_refused_by_its_header(server: bool, length: int) -> None:
    end = End(server=server, max_size=100)
    bit = 0x80 if server else 0
    head = bytes((0x82, bit | 127)) + length.to_bytes(8, "big") if length > 65_535 else bytes((0x82, bit | 126)) + length.to_bytes(2, "big")
    end.take_all([head + (KEY if server else b"")])
    assert isinstance(end.reason, Broken)
    assert end.ears.close[0] == 1009


@each_end
def test_fragments_are_too_large_together(server: bool) -> None:
    end = End(server=server, max_size=100)
    broken(end, 1009, end.wire(TEXT, b"x" * 60, fin=False), end.wire(PING, b""), end.wire(CONTINUED, b"x" * 41))
    assert end.messages == []


@each_end
def test_a_top_bit_in_the_length_is_a_fault(server: bool) -> None:
    end = End(server=server).take_all([bytes((0x82, 0xFF if server else 0x7F)) + b"\xff" * 8 + KEY])
    assert isinstance(end.reason, Broken)
    assert end.ears.close[0] in (1002, 1009)


@each_end
@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_a_control_frame_is_no_part_of_the_message_around_it(server: bool, opcode: int) -> None:
    payload = b"" if opcode == CLOSE else b"x" * 100
    for size in (1, 2, 50, 1000):  # of the pieces
        end = End(server=server, max_size=200)
        stream = end.wire(TEXT, b"a" * 199, fin=False) + end.wire(opcode, payload) + end.wire(CONTINUED, b"b")
        end.take_all([stream[start : start + size] for start in range(0, len(stream), size)])
        if opcode == CLOSE:
            assert isinstance(end.reason, PeerClosed)
        else:
            assert end.reason is None
            assert end.messages == [(b"a" * 199 + b"b", True)]
    long_close = End(server=server, max_size=200)
    stream = long_close.wire(TEXT, b"a" * 199, fin=False) + long_close.wire(CLOSE, (1000).to_bytes(2, "big") + b"bye" * 20)
    assert str(long_close.take_all([stream[:210], stream[210:]]).reason).endswith("(1000: " + "bye" * 20 + ")")


@each_end
def test_too_many_fragments_are_1009(server: bool) -> None:
    good = End(server=server, max_fragments=10)
    good.take_all([good.wire(TEXT, b"x", fin=False)] + [good.wire(CONTINUED, b"x", fin=False)] * 9 + [good.wire(CONTINUED, b"x")])
    assert good.messages == [(b"x" * 11, True)]
    bad = End(server=server, max_fragments=10)
    bad.take_all([bad.wire(TEXT, b"", fin=False) + bad.wire(CONTINUED, b"", fin=False) * 20])
    assert isinstance(bad.reason, Broken)
    assert "fragments" in str(bad.reason)
    assert bad.ears.close[0] == 1009


# --- the end of the stream ---


def test_the_end_without_a_close_frame_is_a_break() -> None:
    end = End(server=True)
    assert isinstance(end.framing.cut_off(0), Broken)
    assert "inside a message (7 bytes)" in str(end.framing.cut_off(7))


# --- compression ---


def deflated(payload: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return (squeeze.compress(payload) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


@each_end
def test_what_one_end_compresses_the_other_reads(server: bool) -> None:
    near, far = End(server=server, deflate=True), End(server=not server, deflate=True)
    texts = [b"", b"again and again " * 500, "für 5 €".encode() * 20]
    sent = [*((text, True) for text in texts), (b"short", False), (bytes(range(256)) * 9, False)]
    stream = b"".join(near.framing.build(TEXT_FRAME if text else BINARY_FRAME, payload) for payload, text in sent)
    assert len(stream) < sum(len(payload) for payload, _ in sent) / 2
    assert far.take_all(cut(stream, [1, 2, 3, 60, 61, 200])).messages == sent


@each_end
def test_what_compression_would_make_longer_goes_out_plain(server: bool) -> None:
    noise = bytes(range(256))
    frame = End(server=server, deflate=True).framing.build(BINARY_FRAME, noise)
    assert unwire(frame) == [(BINARY_FRAME, noise)]


@each_end
def test_a_bomb_is_1009(server: bool) -> None:
    end = End(server=server, deflate=True, max_size=1000)
    end.take_all([end.wire(BINARY, deflated(b"\0" * 10_000_000), reserved=4)])
    assert isinstance(end.reason, Broken)
    assert end.ears.close[0] == 1009
    assert end.messages == []


@each_end
def test_a_bomb_in_fragments_is_1009(server: bool) -> None:
    end = End(server=server, deflate=True, max_size=1000)
    bomb = deflated(b"\0" * 100_000)
    end.take_all([end.wire(BINARY, bomb[:20], reserved=4, fin=False), end.wire(CONTINUED, bomb[20:])])
    assert isinstance(end.reason, Broken)
    assert end.ears.close[0] == 1009


@each_end
def test_what_is_not_deflated_is_a_fault(server: bool) -> None:
    end = End(server=server, deflate=True)
    end.take_all([end.wire(BINARY, b"\xff" * 50, reserved=4)])
    assert isinstance(end.reason, Broken)
    assert end.ears.close[0] in (1002, 1007)


@each_end
def test_compressed_text_is_looked_at_too(server: bool) -> None:
    end = End(server=server, deflate=True)
    end.take_all([end.wire(TEXT, deflated(b"\xff" * 50), reserved=4)])
    assert isinstance(end.reason, Broken)
    assert end.ears.close[0] == 1007

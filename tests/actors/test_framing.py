"""Any stream of bytes, cut anywhere, gives the same messages; what is too large is refused after the good ones; nothing else is raised."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.framing import ETX, FRAMINGS, LENGTH, LINES, MERGE_CHUNKS, RAW, FrameTooLarge, Framing, Unparsed

FRAMED = [LENGTH, ETX, LINES]
TERMINATED = {ETX: b"\x03", LINES: b"\n"}

framed = pytest.mark.parametrize("framing", FRAMED, ids=lambda framing: framing.name)
every = pytest.mark.parametrize("framing", [*FRAMED, RAW], ids=lambda framing: framing.name)


def feed(framing: Framing, chunks: list[bytes], max_size: int = 1 << 20) -> tuple[list[bytes], bytes, bool]:
    """As a reader does it: the messages, what is left over, and whether a frame was too large."""
    messages: list[bytes] = []
    unparsed = Unparsed([])
    for chunk in chunks:
        unparsed.chunks.append(chunk)
        before = (list(unparsed.chunks), *unparsed[1:])
        try:
            parsed = framing.parse(unparsed, max_size)
            # An interrupted reader parses the same once more.
            assert framing.parse(unparsed, max_size) == parsed
        except FrameTooLarge as exc:
            return messages + exc.messages, b"", True
        finally:
            assert (unparsed.chunks, *unparsed[1:]) == before, "parse has changed what it was given"
        messages += parsed.messages
        unparsed = parsed.unparsed
    return messages, b"".join(unparsed.chunks), False


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream in non-empty pieces."""
    borders = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(borders)]


def can_carry(framing: Framing, payload: bytes) -> bool:
    return framing not in TERMINATED or (TERMINATED[framing] not in payload and not payload.endswith(b"\r"))


# Bytes that mean something to a framing come often, and so do small numbers, which are lengths.
meaningful = st.lists(st.sampled_from([0, 1, 2, 3, 10, 13, 65, 255]), max_size=40).map(bytes)
payloads = st.binary(max_size=40) | meaningful
places = st.lists(st.integers(0, 1 << 16), max_size=12)


# --- there and back ---


@framed
@given(messages=st.lists(payloads, max_size=8), places=places)
def test_messages_come_out_as_they_went_in_wherever_the_stream_is_cut(framing: Framing, messages: list[bytes], places: list[int]) -> None:
    messages = [message for message in messages if can_carry(framing, message)]
    stream = b"".join(map(framing.frame, messages))
    assert feed(framing, cut(stream, places)) == (messages, b"", False)


@framed
@given(messages=st.lists(payloads, max_size=4))
def test_single_bytes_give_the_same(framing: Framing, messages: list[bytes]) -> None:
    messages = [message for message in messages if can_carry(framing, message)]
    stream = b"".join(map(framing.frame, messages))
    assert feed(framing, [bytes([byte]) for byte in stream]) == (messages, b"", False)


@given(stream=payloads, places=places)
def test_raw_loses_and_adds_nothing(stream: bytes, places: list[int]) -> None:
    messages, rest, too_large = feed(RAW, cut(stream, places))
    assert messages == cut(stream, places)
    assert (b"".join(messages), rest, too_large) == (stream, b"", False)


@given(stream=payloads, places=places, max_size=st.integers(1, 10))
def test_raw_splits_what_is_too_large(stream: bytes, places: list[int], max_size: int) -> None:
    messages, _, too_large = feed(RAW, cut(stream, places), max_size)
    assert not too_large
    assert b"".join(messages) == stream
    assert all(0 < len(message) <= max_size for message in messages)


@framed
@given(messages=st.lists(payloads, max_size=4), unfinished=payloads, places=places)
def test_an_unfinished_message_is_left_over(framing: Framing, messages: list[bytes], unfinished: bytes, places: list[int]) -> None:
    messages = [message for message in messages if can_carry(framing, message)]
    if not can_carry(framing, unfinished):
        return
    whole = framing.frame(unfinished)
    stream = b"".join(map(framing.frame, messages)) + whole[:-1]
    assert feed(framing, cut(stream, places)) == (messages, whole[:-1], False)


# --- the wire, written down once more ---


def expected(framing: Framing, stream: bytes, max_size: int) -> tuple[list[bytes], bool]:
    """What the bytes mean, by the words of the module alone."""
    messages: list[bytes] = []
    if framing is LENGTH:
        while len(stream) >= 4:
            (size,) = struct.unpack_from(">I", stream)
            if size > max_size:
                return messages, True
            if len(stream) < 4 + size:
                break
            messages.append(stream[4 : 4 + size])
            stream = stream[4 + size :]
        return messages, False
    terminator = TERMINATED[framing]
    *whole, rest = stream.split(terminator)
    for message in whole:
        if framing is LINES and message.endswith(b"\r"):
            message = message[:-1]
        if len(message) > max_size:
            return messages, True
        messages.append(message)
    # A carriage return at the end of what has come so far may be the one that is dropped.
    return messages, len(rest) > max_size + (framing is LINES)


@framed
@given(stream=st.binary(max_size=60) | st.lists(meaningful, max_size=6).map(b"".join), places=places, max_size=st.integers(1, 50))
def test_any_bytes_are_messages_or_a_frame_too_large(framing: Framing, stream: bytes, places: list[int], max_size: int) -> None:
    messages, rest, too_large = feed(framing, cut(stream, places), max_size)
    assert (messages, too_large) == expected(framing, stream, max_size)
    assert all(len(message) <= max_size for message in messages)
    assert stream.endswith(rest)


@framed
@given(good=st.lists(payloads, max_size=4), excess=st.integers(1, 20), places=places)
def test_over_max_size_the_good_messages_before_it_count(framing: Framing, good: list[bytes], excess: int, places: list[int]) -> None:
    good = [message for message in good if can_carry(framing, message)]
    after = framing.frame(b"after it")
    stream = b"".join(map(framing.frame, [*good, b"x" * (40 + excess)])) + after
    assert feed(framing, cut(stream, places), max_size=40) == (good, b"", True)


@framed
def test_max_size_itself_is_not_over_it(framing: Framing) -> None:
    payload = b"x" * 40
    assert feed(framing, [framing.frame(payload)], max_size=40) == ([payload], b"", False)
    assert feed(framing, [bytes([byte]) for byte in framing.frame(payload)], max_size=40) == ([payload], b"", False)
    if framing is LINES:
        assert feed(framing, [payload, b"\r", b"\n"], max_size=40) == ([payload], b"", False)


def test_a_length_over_max_size_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(FrameTooLarge, match="4294967295 bytes is over max_size=100"):
        LENGTH.parse(Unparsed([b"\xff\xff\xff\xff"]), 100)


@pytest.mark.parametrize("framing, shown", [(ETX, "0x03"), (LINES, "a line feed")])
def test_a_message_without_an_end_is_refused_when_it_is_too_large(framing: Framing, shown: str) -> None:
    with pytest.raises(FrameTooLarge, match=f"without {shown}.* over max_size=100"):
        framing.parse(Unparsed([b"x" * 102]), 100)


# --- framing ---


@pytest.mark.parametrize("framing, payload", [(ETX, b"a\x03b"), (ETX, b"\x03"), (LINES, b"a\nb"), (LINES, b"a\r\n")])
def test_what_would_end_a_message_is_refused(framing: Framing, payload: bytes) -> None:
    with pytest.raises(ValueError, match=f"ends a message in the framing '{framing.name}'"):
        framing.frame(payload)


def test_a_line_may_end_as_windows_ends_it() -> None:
    assert feed(LINES, [b"a\r\nb\n\r\n\r\r\n"]) == ([b"a", b"b", b"", b"\r"], b"", False)


def test_the_default_is_what_others_speak() -> None:
    assert LENGTH.frame(b"hello") == b"\x00\x00\x00\x05hello"
    assert ETX.frame(b"hello") == b"hello\x03"
    assert LINES.frame(b"hello") == b"hello\n"
    assert RAW.frame(b"hello") == b"hello"


def test_framings_go_by_their_names() -> None:
    assert FRAMINGS == {"length": LENGTH, "etx": ETX, "lines": LINES, "raw": RAW}
    assert all(framing.name == name for name, framing in FRAMINGS.items())


# --- the short way ---


@every
@given(data=st.binary(min_size=1, max_size=40) | meaningful.filter(bool), max_size=st.integers(1, 40))
def test_a_sole_message_is_what_parse_would_give(framing: Framing, data: bytes, max_size: int) -> None:
    sole = framing.sole(data, max_size)
    if sole is not None:
        assert feed(framing, [data], max_size) == ([sole], b"", False)


@every
@given(payload=payloads.filter(bool))
def test_one_whole_frame_is_a_sole_message(framing: Framing, payload: bytes) -> None:
    if can_carry(framing, payload):
        assert framing.sole(framing.frame(payload), 100) == payload


# --- the cost ---


def trickle(framing: Framing, stream: bytes) -> Iterator[tuple[Unparsed, list[bytes]]]:
    """What is left, and what came out, after every single byte."""
    unparsed = Unparsed([])
    for byte in stream:
        unparsed.chunks.append(bytes([byte]))
        parsed = framing.parse(unparsed, 1 << 20)
        unparsed = parsed.unparsed
        yield unparsed, parsed.messages


@framed
def test_trickled_bytes_cost_no_more_each_the_more_there_are(framing: Framing) -> None:
    payload = b"x" * (MERGE_CHUNKS * 20)
    merged = looked_at_again = 0
    held = 0
    came: list[bytes] = []
    for unparsed, messages in trickle(framing, framing.frame(payload)):
        chunks = len(unparsed.chunks)
        assert chunks <= MERGE_CHUNKS + 1, "memory: a chunk costs more than its byte"
        merged += chunks < held
        looked_at_again += unparsed.counted != chunks
        held = chunks
        came += messages
    assert came == [payload]
    # Bytes are joined when very many chunks have come, and once for the message; in between only the new one is looked at.
    assert merged <= 20 + 2
    assert looked_at_again == 0


def test_many_small_messages_in_one_read_come_out_in_one_go() -> None:
    stream = LENGTH.frame(b"x") * 13_000
    messages, rest, _ = feed(LENGTH, [stream])
    assert messages == [b"x"] * 13_000
    assert rest == b""

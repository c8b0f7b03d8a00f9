"""Bytes of stdin to messages, messages to bytes of stdout."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.message import Message
from actors.topics import topic_message
from adapters.lines import ByLines, Raw, Splitter, as_json, as_line, as_raw, printed


def split(splitter: Splitter, data: bytes, cuts: list[int]) -> list[bytes]:
    """All the messages of `data`, read in pieces."""
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    messages: list[bytes] = []
    start = 0
    for end in ends:
        if start == end:
            continue  # what would be the end
        messages += splitter.feed(data[start:end])
        start = end
    return messages + splitter.end()


lines = st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=20)
cuts = st.lists(st.integers(0, 200), max_size=20)


@given(lines, cuts)
def test_lines_are_the_same_however_they_are_read(wanted: list[bytes], at: list[int]) -> None:
    assert split(ByLines(20), b"".join(line + b"\n" for line in wanted), at) == wanted


@given(lines, st.binary(min_size=1, max_size=20).filter(lambda line: b"\n" not in line), cuts)
def test_the_last_line_may_lack_its_line_feed(wanted: list[bytes], last: bytes, at: list[int]) -> None:
    assert split(ByLines(20), b"".join(line + b"\n" for line in wanted) + last, at) == [*wanted, last]


@given(st.binary(max_size=200), cuts)
def test_raw_changes_nothing(data: bytes, at: list[int]) -> None:
    messages = split(Raw(7), data, at)
    assert b"".join(messages) == data
    assert all(0 < len(message) <= 7 for message in messages if data)


@pytest.mark.parametrize("pieces", [[b"one\n12345"], [b"one\n12", b"345"], [b"one\n12345\n"], [b"one\n", b"12345\nsix"]])
def test_a_line_that_is_too_long_is_told_by_its_number_before_it_is_whole(pieces: list[bytes]) -> None:
    splitter = ByLines(4)
    lines = []
    with pytest.raises(ValueError, match="line 2 of the input is over 4 bytes"):
        for piece in pieces:
            for line in splitter.feed(piece):
                lines.append(line)  # noqa: PERF402  # extend would drop what comes before the error
    assert lines == [b"one"]


def test_a_line_and_raw_leave_the_bytes_as_they_are() -> None:
    message = Message(b"a\xff\0", "127.0.0.1:9")
    assert as_line(message, 0.0) == b"a\xff\0\n"
    assert as_raw(message, 0.0) == b"a\xff\0"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (Message(b"hi", "127.0.0.1:9"), {"source": "127.0.0.1:9", "data": "hi"}),
        (Message("é\n\"".encode(), "/run/s"), {"source": "/run/s", "data": 'é\n"'}),
        (Message(b"\xff\0", "127.0.0.1:9"), {"source": "127.0.0.1:9", "base64": "/wA="}),
        (Message(b"hi", "127.0.0.1:9", False), {"source": "127.0.0.1:9", "base64": "aGk="}),  # the peer marked it as binary
        (Message(b"hi", "127.0.0.1:9", True), {"source": "127.0.0.1:9", "data": "hi"}),
        (Message(b"", "127.0.0.1:9"), {"source": "127.0.0.1:9", "data": ""}),
        (topic_message(b"hi", "a.b"), {"topic": "a.b", "data": "hi"}),
        (
            topic_message(b"hi", "a.b", {"K": "v"}, "_INBOX.1", redelivered=True, lost_before=3),
            {"topic": "a.b", "data": "hi", "headers": {"K": "v"}, "reply_to": "_INBOX.1", "redelivered": True, "lost_before": 3},
        ),
    ],
)
def test_json_is_an_object_on_one_line(message: Message, told: dict[str, object]) -> None:
    line = as_json(message, 1_700_000_000.25)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line) == {"time": "2023-11-14T22:13:20.250000Z", **told}


def test_json_goes_before_raw() -> None:
    assert printed(json=True, raw=True) is as_json
    assert printed(json=False, raw=True) is as_raw
    assert printed(json=False, raw=False) is as_line

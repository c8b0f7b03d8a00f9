"""What `send` takes becomes bytes and nothing else does; what arrives can be read as bytes, text and JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.message import Message, encode

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(), json_values, max_size=4)


# --- encode ---


@given(st.text())
def test_a_str_goes_as_utf_8(text: str) -> None:
    assert Message(encode(text)).text == text


@given(st.binary())
def test_bytes_likes_go_as_they_are(data: bytes) -> None:
    assert encode(data) == encode(bytearray(data)) == encode(memoryview(data)) == data
    assert encode(Message(data)) == data


def test_what_can_change_is_copied() -> None:
    buffer = bytearray(b"before")
    encoded = encode(buffer)
    view = encode(memoryview(buffer))
    buffer[:] = b"after!"
    assert encoded == view == b"before"
    assert type(encoded) is type(view) is bytes


def test_a_strided_view_is_taken_as_what_it_shows() -> None:
    assert encode(memoryview(b"a-b-c-")[::2]) == b"abc"


@given(objects)
def test_a_dict_goes_as_json_and_comes_back_equal(value: dict[str, Any]) -> None:
    assert Message(encode(value)).json() == value


@given(objects)
def test_a_dict_is_json_to_others_too(value: dict[str, Any]) -> None:
    assert json.loads(encode(value).decode("utf-8")) == value


def test_json_is_compact_and_keeps_letters_readable() -> None:
    assert encode({"a": [1, 2], "ü": None}) == '{"a":[1,2],"ü":null}'.encode()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_refused(number: float) -> None:
    with pytest.raises(ValueError):
        encode({"a": [number]})


@pytest.mark.parametrize("value", [None, 5, 1.5, True, [b"a"], ("a",), {"a"}, object(), int])
def test_anything_else_is_refused_by_the_name_of_its_type(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"not {type(value).__name__}$"):
        encode(value)


@pytest.mark.parametrize("value", [{1: "a"}, {"a": {None: 1}}, {"a": [{True: 1}]}, {"a": ({b"k": 1},)}])
def test_keys_that_would_arrive_as_something_else_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="keys of a dict message must be str"):
        encode(value)


@pytest.mark.parametrize("inner", [{1}, b"bytes", object()])
def test_a_dict_with_something_that_json_does_not_have_is_refused(inner: Any) -> None:
    with pytest.raises(TypeError, match=type(inner).__name__):
        encode({"a": [inner]})


@pytest.mark.parametrize("text", ["\ud800", "a\udcff"])
def test_a_lone_surrogate_is_refused_where_the_wire_is_text(text: str) -> None:
    with pytest.raises(ValueError):
        encode(text)
    with pytest.raises(ValueError):
        encode({"a": text})


@given(st.binary())
def test_a_dialect_gets_every_byte_back_through_a_str(data: bytes) -> None:
    assert encode(data.decode("utf-8", "surrogateescape"), "surrogateescape") == data


@given(
    st.one_of(
        st.text(st.characters()),
        st.recursive(
            st.none() | st.text(st.characters()) | st.floats() | st.binary(),
            lambda inner: st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=3) | st.lists(inner, max_size=3),
            max_leaves=8,
        ),
    )
)
def test_whatever_it_is_given_it_encodes_or_names_the_fault(value: Any) -> None:
    try:
        encoded = encode(value)
    except (TypeError, ValueError):
        return
    assert type(encoded) is bytes


# --- Message ---


def test_it_is_truthy_also_when_empty() -> None:
    assert Message(b"")


@given(st.binary())
def test_text_is_strict(data: bytes) -> None:
    try:
        expected = data.decode("utf-8")
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            _ = Message(data).text
    else:
        assert Message(data).text == expected


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"nope", b"[" * 1_000_000, b'{"a":' * 200_000])
def test_what_is_not_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        Message(data).json()


def test_equal_means_the_same_data_from_the_same_source() -> None:
    message = Message(b"a", "10.0.0.1:9", True)
    assert message == Message(b"a", "10.0.0.1:9", True)
    assert hash(message) == hash(Message(b"a", "10.0.0.1:9", True))
    for other in (Message(b"b", "10.0.0.1:9", True), Message(b"a", "10.0.0.2:9", True), Message(b"a", "10.0.0.1:9")):
        assert message != other
    assert message != b"a"


def test_its_repr_is_short_and_tells_who_sent_it() -> None:
    assert repr(Message(b"hi", "10.0.0.1:9")) == "<Message b'hi' (2 bytes) from 10.0.0.1:9>"
    large = repr(Message(b"x" * 1_000_000))
    assert len(large) < 150
    assert "1000000 bytes" in large

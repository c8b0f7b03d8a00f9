"""The client's side of the handshake: whatever a server or a proxy answers, there is a connection or ConnectFailed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.fuzz.parsers import ACCEPTED, PARSERS, SEEDS, answered
from tests.fuzz.strategies import spoilt

HEADERS = [line + b"\r\n" for line in ACCEPTED.split(b"\r\n")[1:-2]]
ODD = [b"Location: /a\r\n", b"Content-Length: x\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n\r\n", b"HTTP/1.1 302 \r\n", b"fffffff\r\n"]


@settings(max_examples=50)
@given(spoilt(SEEDS["answer"], [*HEADERS, *ODD]))
def test_any_answer_is_a_connection_or_the_documented_error(data: bytes) -> None:
    PARSERS["answer"](data)


@settings(max_examples=50)
@given(spoilt(SEEDS["proxy"], [b"HTTP/1.1 ", b"\r\n\r\n", b"2"]))
def test_any_answer_of_a_proxy_is_a_way_or_the_documented_error(data: bytes) -> None:
    PARSERS["proxy"](data)


@pytest.mark.parametrize("compression", [False, True])
def test_an_answer_in_pieces_is_the_same_answer(compression: bool) -> None:
    whole = answered([ACCEPTED], compression)
    assert whole[0] == 101
    assert whole[2] == b"rest"
    assert answered([bytes([byte]) for byte in ACCEPTED], compression) == whole


def test_a_place_that_is_named_twice_is_named_once() -> None:
    (said,) = answered([b"HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"], False)
    assert "points to /a" in str(said)

"""The server's side of the handshake: any bytes are admitted or refused in HTTP, in whatever pieces they come, and nothing is raised."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from actors.http import Request
from tests.fuzz.parsers import DOORS, PARSERS, SEEDS, UPGRADE, Visitor, request
from tests.fuzz.strategies import spoilt

HEADERS = [line + b"\r\n" for line in UPGRADE.split(b"\r\n")[1:-2]]
ODD = [b"Origin: null\r\n", b"Origin: http://[\r\n", b"Host: [::1\r\n", b"Host: a:b\r\n", b"Origin: //x:99999\r\n"]


@settings(max_examples=50)
@given(spoilt(SEEDS["request"], [*HEADERS, *ODD, b"\r\n\r\n", b": ", b"HTTP/1.0"]))
def test_any_bytes_are_admitted_or_refused(data: bytes) -> None:
    PARSERS["request"](data)


def test_a_good_request_is_admitted() -> None:
    for door in DOORS[:2]:
        visitor = Visitor(door)
        visitor._consider(UPGRADE[: -len(b"rest")], b"rest")
        assert visitor.begun, visitor.said


@pytest.mark.parametrize("name", [b"Origin", b"Host"])
@pytest.mark.parametrize("value", [b"http://[", b"[", b"http://a:b", b"x:y", b"http://[::1"])
def test_an_origin_or_host_that_is_no_url_is_refused(name: bytes, value: bytes) -> None:
    lines = [b"%s: %s" % (name, value) if line.startswith(name) else line for line in UPGRADE.split(b"\r\n")]
    visitor = Visitor(DOORS[0])
    visitor._consider(b"\r\n".join(lines).removesuffix(b"rest"), b"")
    assert visitor.said.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("twice", [b"Origin: http://127.0.0.1:8000", b"Host: 127.0.0.1:8000"])
def test_a_header_that_comes_twice_is_refused(twice: bytes) -> None:
    assert twice in UPGRADE
    visitor = Visitor(DOORS[0])
    visitor._consider(UPGRADE.removesuffix(b"rest").replace(twice, twice + b"\r\n" + twice), b"")
    assert visitor.said.startswith(b"HTTP/1.1 403 ")


def test_who_is_no_page_is_not_asked_for_its_host() -> None:
    assert DOORS[0].objection(Request("/", {"Host": "["})) is None


def test_the_request_may_come_in_any_pieces() -> None:
    for size in (1, 2, 7, 40):
        places = bytes(range(0, 7 * size, size))
        request(bytes([0, 7]) + places + UPGRADE)

"""Socket addresses in macOS's layout, and which address of a host is chosen. Pure."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.resolving import Resolved
from adapters.hs.addresses import INET, INET6, Address, Reach, Unreachable, described, loopback, parseAddress, sockaddr_of, split
from adapters.hs.arguments import integer, is_number, number
from tests.fuzz.parsers import PARSERS, SEEDS
from tests.fuzz.strategies import spoilt

FOUR = Resolved(socket.AF_INET, ("10.0.0.5", 9))
SIX = Resolved(socket.AF_INET6, ("fd00::5", 9, 0, 0))


@pytest.mark.parametrize(
    ("text", "size", "address"),
    [
        ("127.0.0.1:9001", 16, Address("127.0.0.1", 9001, INET)),
        ("255.255.255.255:65535", 16, Address("255.255.255.255", 65535, INET)),
        ("[::1]:1", 28, Address("::1", 1, INET6)),
        ("[::]:0", 28, Address("::", 0, INET6)),
        ("[::ffff:192.168.0.3]:53057", 28, Address("::ffff:192.168.0.3", 53057, INET6)),
        ("[fe80::1%7]:9", 28, Address("fe80::1", 9, INET6)),  # the scope is in the bytes, and not in the host
    ],
)
def test_an_address_there_and_back(text: str, size: int, address: Address) -> None:
    raw = sockaddr_of(text)
    assert len(raw) == raw[0] == size
    assert raw[1] == address.addressFamily
    assert parseAddress(raw) == address
    assert parseAddress(raw + b"more") == address
    assert parseAddress(raw.decode("utf-8", "surrogateescape")) == address


def test_the_scope_is_in_the_last_four_bytes() -> None:
    assert sockaddr_of("[fe80::1%7]:9")[24:] == b"\x07\0\0\0"
    assert split("[fe80::1%no-such-interface]:9") == ("fe80::1", 0, 9)


def test_the_layout_is_that_of_macos() -> None:
    assert sockaddr_of("216.58.218.110:80") == bytes([16, 2, 0, 80, 216, 58, 218, 110, *[0] * 8])
    six = bytes([28, 30, 0, 80, 0, 0, 0, 0]) + bytes.fromhex("2607f8b040000800000000000000200e") + bytes(4)
    assert sockaddr_of("[2607:f8b0:4000:800::200e]:80") == six
    assert sockaddr_of("") == b""


@pytest.mark.parametrize(
    "raw", [b"", b"nonsense", bytes(16), bytes([16, 2]) + bytes(13), bytes([28, 30]) + bytes(25), bytes([16, 10]) + bytes(26)]
)
def test_anything_else_is_none(raw: bytes) -> None:
    assert parseAddress(raw) is None


@given(st.binary(max_size=40))
def test_any_bytes_give_an_address_or_none(raw: bytes) -> None:
    address = parseAddress(raw)
    assert address is None or (0 <= address.port <= 65535 and address.addressFamily in (INET, INET6))


@given(spoilt(SEEDS["sockaddr"]))
def test_an_address_out_of_any_bytes_goes_there_and_back(raw: bytes) -> None:
    PARSERS["sockaddr"](raw)


@pytest.mark.parametrize("wrong", [None, 5, ["x"]])
def test_what_is_no_string_raises(wrong: Any) -> None:
    with pytest.raises(TypeError):
        parseAddress(wrong)


def test_an_address_can_be_indexed_as_in_lua() -> None:
    address = parseAddress(sockaddr_of("127.0.0.1:9"))
    assert address is not None
    assert (address["host"], address["port"], address["addressFamily"]) == ("127.0.0.1", 9, 2)
    with pytest.raises(KeyError):
        address["hots"]


def test_info_describes_what_there_is_not_as_empty() -> None:
    assert described("local", "", "_IPv6") == {"localAddress_IPv6": b"", "localHost_IPv6": "", "localPort_IPv6": 0}


# --- the choice ---


def reach(enabled: set[int], opened: set[int] | None = None, prefers: int = 0) -> Reach:
    return Reach(frozenset(enabled), frozenset(enabled if opened is None else opened), prefers)


@pytest.mark.parametrize(
    ("enabled", "opened", "prefers", "addresses", "chosen"),
    [
        ({4, 6}, {4, 6}, 0, (FOUR, SIX), FOUR),
        ({4, 6}, {4, 6}, 0, (SIX, FOUR), SIX),
        ({4, 6}, {4, 6}, 6, (FOUR, SIX), SIX),
        ({4, 6}, {4, 6}, 4, (SIX, FOUR), FOUR),
        ({4, 6}, {4, 6}, 6, (FOUR,), FOUR),
        ({6}, {6}, 4, (FOUR, SIX), SIX),
        ({6}, {4, 6}, 0, (FOUR, SIX), SIX),
        ({4, 6}, {4}, 6, (FOUR, SIX), FOUR),
    ],
)
def test_a_family_that_may_be_used(
    enabled: set[int], opened: set[int], prefers: int, addresses: tuple[Resolved, ...], chosen: Resolved
) -> None:
    assert reach(enabled, opened, prefers).choose(addresses) == chosen.sockaddr


@pytest.mark.parametrize(
    ("enabled", "opened", "addresses", "says"),
    [
        ({6}, {6}, (FOUR,), "IPv4 has been disabled and DNS lookup found no IPv6 address(es)."),
        ({4}, {4}, (SIX,), "IPv6 has been disabled and DNS lookup found no IPv4 address(es)."),
        ({4, 6}, {6}, (FOUR,), "IPv4 has been deactivated due to bind/connect, and DNS lookup found no IPv6 address(es)."),
        ({4, 6}, {4}, (SIX,), "IPv6 has been deactivated due to bind/connect, and DNS lookup found no IPv4 address(es)."),
    ],
)
def test_none_that_may_be_used(enabled: set[int], opened: set[int], addresses: tuple[Resolved, ...], says: str) -> None:
    with pytest.raises(Unreachable) as caught:
        reach(enabled, opened).choose(addresses)
    assert str(caught.value) == says


def test_localhost_is_ipv4_first() -> None:
    assert [each.sockaddr[0] for each in loopback(9, True)] == ["127.0.0.1", "::1"]
    assert [each.sockaddr[0] for each in loopback(9, False)] == ["127.0.0.1"]


# --- numbers ---


@pytest.mark.parametrize(("value", "result"), [(5, 5), (5.0, 5), (-1, -1), (2**40, 2**40)])
def test_an_integral_float_is_an_integer(value: float, result: int) -> None:
    assert integer(value, "n") == result
    assert type(integer(value, "n")) is int


@pytest.mark.parametrize("value", [5.5, "5", None, True, float("nan"), float("inf"), [5]])
def test_nothing_else_is(value: Any) -> None:
    with pytest.raises(TypeError, match="n must be an integer"):
        integer(value, "n")


def test_a_bool_is_no_number() -> None:
    assert not is_number(True)
    with pytest.raises(ValueError, match="nan"):
        number(float("nan"), "n")

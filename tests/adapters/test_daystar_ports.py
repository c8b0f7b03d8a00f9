"""`daystar_api.ports`: numbers that no socket has, and those that stand for them."""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bus
from adapters.daystar_api import create_tcp_client, create_tcp_server, create_udp_socket
from adapters.daystar_api.ports import (
    FIRST_PORT,
    LAST_PORT,
    OFFSET,
    VARIABLE,
    bind_error,
    both,
    chosen_offset,
    from_os_port,
    logical_address,
    to_os_port,
)

ports = st.integers(FIRST_PORT, LAST_PORT)
offsets = st.integers(LAST_PORT - 65_535, FIRST_PORT - 1)


def test_the_range_is_the_documents() -> None:
    assert (FIRST_PORT, LAST_PORT) == (70_000, 71_000)
    assert (to_os_port(70_000), to_os_port(71_000)) == (4464, 5464)


@given(ports, offsets)
def test_there_and_back_is_the_same_port(port: int, offset: int) -> None:
    number = to_os_port(port, offset)
    assert 1 <= number <= 65_535
    assert from_os_port(number, offset) == port


@given(st.integers(1, 65_535))
def test_a_number_that_stands_for_no_port_stays(number: int) -> None:
    port = from_os_port(number)
    assert port == number or to_os_port(port) == number
    assert (port != number) == (4464 <= number <= 5464)


@given(ports)
def test_a_peer_that_cuts_the_number_to_16_bits_arrives(port: int) -> None:
    assert to_os_port(port) == ctypes.c_uint16(port).value == port & 0xFFFF


class Fancy(enum.IntEnum):
    PORT = 70_001


def test_any_int_in_the_range_will_do() -> None:
    assert to_os_port(Fancy.PORT) == 4465


WRONG_TYPES = [True, False, 70_001.0, "70001", None, b"70001", (70_001,)]
WRONG_NUMBERS = [69_999, 71_001, 0, -1, 4465, 65_535, 65_536, 70_001 + 65_536, 10**30]

CREATORS: list[Callable[[Any], Any]] = [
    lambda port: create_tcp_client("127.0.0.1", port),
    create_tcp_server,
    create_udp_socket,
]


@pytest.fixture
def no_system_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("it went on with a bad port")

    for verb in ("connect", "serve", "bind"):
        monkeypatch.setattr(bus, verb, refuse)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_system_calls")
@pytest.mark.parametrize("create", CREATORS, ids=["tcp_client", "tcp_server", "udp_socket"])
class TestBadPorts:
    @pytest.mark.parametrize("port", WRONG_TYPES, ids=repr)
    def test_what_is_no_int_is_a_type_error(self, create: Callable[[Any], Any], port: object) -> None:
        with pytest.raises(TypeError, match="port must be an int"):
            create(port)

    @pytest.mark.parametrize("port", WRONG_NUMBERS)
    def test_a_number_outside_names_the_range(self, create: Callable[[Any], Any], port: int) -> None:
        with pytest.raises(ValueError, match=f"70000 to 71000, not {port}"):
            create(port)


# --- the offset ---


def test_the_offset_is_65536_unless_somebody_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert chosen_offset() == OFFSET == 65_536
    monkeypatch.setenv(VARIABLE, "")
    assert chosen_offset() == 65_536


def test_the_environment_sets_the_offset_and_an_argument_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "60000")
    assert chosen_offset() == 60_000
    assert chosen_offset(50_000) == 50_000


@pytest.mark.parametrize("text", ["x", "6e4", "-1", "0", "5464", "70000", "60000.0", " ", "٦٠٠٠٠", "9" * 30])
def test_a_bad_offset_in_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ValueError, match=f"{VARIABLE} must be a number from 5465 to 69999"):
        chosen_offset()


@pytest.mark.parametrize("offset", [0, -65_536, 5464, 70_000])
def test_an_offset_that_leads_out_of_16_bits_is_refused(offset: int) -> None:
    with pytest.raises(ValueError, match="port_offset must be a number from 5465 to 69999"):
        chosen_offset(offset)


@pytest.mark.parametrize("offset", [True, 65_536.0, "65536"])
def test_an_offset_is_an_int(offset: Any) -> None:
    with pytest.raises(TypeError, match="port_offset must be an int"):
        chosen_offset(offset)


# --- what people read ---


def test_an_error_names_both_numbers() -> None:
    in_use = bind_error(OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)), 70_536, OFFSET)
    assert in_use.errno == errno.EADDRINUSE
    assert in_use.strerror == "port 70536 (OS port 5000) is already in use"
    forbidden = bind_error(OSError(errno.EACCES, os.strerror(errno.EACCES)), 70_000, 69_999)
    assert isinstance(forbidden, PermissionError)
    assert "70000 (OS port 1)" in str(forbidden)
    assert both(70_001, OFFSET) == "70001 (OS port 4465)"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.5:41234", ("10.0.0.5", 41_234)),
        ("10.0.0.5:4464", ("10.0.0.5", 70_000)),
        ("[::1]:5464", ("::1", 71_000)),
        ("[::1]:5465", ("::1", 5465)),
        ("[::ffff:10.0.0.5]:4463", ("10.0.0.5", 4463)),
        ("[fe80::1%eth0]:9", ("fe80::1%eth0", 9)),
    ],
)
def test_an_address_becomes_the_documents_tuple(address: str, expected: tuple[str, int]) -> None:
    assert logical_address(address) == expected


def test_an_address_follows_the_offset() -> None:
    assert logical_address("10.0.0.5:10001", 60_000) == ("10.0.0.5", 70_001)

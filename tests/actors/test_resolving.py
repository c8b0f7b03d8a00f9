"""Names become addresses within a deadline, whatever the name servers do; addresses become text."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from actors import crew, resolving, waiting
from actors.errors import ConnectFailed, ConnectTimeout
from actors.resolving import MAX_LOOKUPS, Resolved, format_address, resolve
from tests.fuzz.parsers import PARSERS, SEEDS
from tests.fuzz.strategies import spoilt

BOUND = 30.0
STREAM = socket.SOCK_STREAM

FOUND = [
    (socket.AF_INET6, STREAM, 6, "", ("2001:db8::1", 80, 0, 0)),
    (socket.AF_INET, STREAM, 6, "", ("192.0.2.1", 80)),
    (socket.AF_INET, STREAM, 6, "", ("192.0.2.1", 80)),
]


class NameServers:
    """What `getaddrinfo` asks. Numeric addresses are nothing to them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.answer: Any = FOUND
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.reached = threading.Semaphore(0)
        real = socket.getaddrinfo

        def getaddrinfo(host: str, port: int, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0) -> Any:
            if flags & socket.AI_NUMERICHOST:
                return real(host, port, family, kind, proto, flags)
            self.asked.append(host)
            self.reached.release()
            assert self.may_answer.wait(BOUND)
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    monkeypatch.setattr(resolving, "_lookups", threading.BoundedSemaphore(MAX_LOOKUPS))
    servers = NameServers(monkeypatch)
    yield servers
    servers.may_answer.set()
    for _ in range(MAX_LOOKUPS):  # the helper threads have let go
        assert resolving._lookups.acquire(timeout=BOUND)


# --- lookups ---


def test_a_numeric_address_asks_nobody(servers: NameServers) -> None:
    assert resolve("127.0.0.1", 80, STREAM, None) == (Resolved(socket.AF_INET, ("127.0.0.1", 80)),)
    assert resolve("::1", 80, STREAM, None) == (Resolved(socket.AF_INET6, ("::1", 80, 0, 0)),)
    assert servers.asked == []


def test_a_numeric_address_needs_no_time() -> None:
    assert resolve("127.0.0.1", 80, STREAM, monotonic() - 1)


def test_a_name_gives_every_address_once_in_order(servers: NameServers) -> None:
    assert resolve("two.example", 80, STREAM, monotonic() + BOUND) == (
        Resolved(socket.AF_INET6, ("2001:db8::1", 80, 0, 0)),
        Resolved(socket.AF_INET, ("192.0.2.1", 80)),
    )


def test_an_answer_is_not_kept(servers: NameServers) -> None:
    # Caching names is the resolver's business; a script may run for months.
    resolve("two.example", 80, STREAM, None)
    resolve("two.example", 80, STREAM, None)
    assert servers.asked == ["two.example"] * 2


def test_no_such_name_is_a_failure_with_the_resolvers_reason(servers: NameServers) -> None:
    servers.answer = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with pytest.raises(ConnectFailed, match=r"nowhere\.example:80: no address .* \(Name or service not known\)") as caught:
        resolve("nowhere.example", 80, STREAM, None)
    assert not isinstance(caught.value, ConnectTimeout)
    assert caught.value.__cause__ is servers.answer
    assert caught.value.address == "nowhere.example:80"


@pytest.mark.parametrize("host", ["a..b", "ü" * 80, "\udc80", "\ud800.example", "." * 5])
def test_what_can_be_no_name_is_a_failure_too(host: str) -> None:
    with pytest.raises(ConnectFailed):
        resolve(host, 80, STREAM, monotonic() + BOUND)


def test_an_address_of_the_wrong_family_is_a_failure() -> None:
    with pytest.raises(ConnectFailed, match=r"\[::1\]:80"):
        resolve("::1", 80, STREAM, monotonic() + BOUND, socket.AF_INET)


def test_a_hanging_lookup_ends_with_the_deadline(servers: NameServers) -> None:
    servers.may_answer.clear()
    with pytest.raises(ConnectTimeout, match=r"hangs\.example") as caught:
        resolve("hangs.example", 80, STREAM, monotonic() + 0.01)
    assert isinstance(caught.value, TimeoutError)


def test_a_hanging_lookup_ends_with_an_interrupt(servers: NameServers) -> None:
    servers.may_answer.clear()
    outcome: list[str] = []

    def work() -> None:
        try:
            resolve("hangs.example", 80, STREAM, None)
        except KeyboardInterrupt:
            outcome.append("interrupted")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert servers.reached.acquire(timeout=BOUND)
    assert thread.ident is not None
    waiting.interrupt([thread.ident])
    thread.join(BOUND)
    assert outcome == ["interrupted"]


def test_hanging_lookups_are_bounded_and_free_again_once_they_end(servers: NameServers) -> None:
    servers.may_answer.clear()
    for number in range(MAX_LOOKUPS):
        with pytest.raises(ConnectTimeout):
            resolve(f"hangs{number}.example", 80, STREAM, monotonic() + 0.005)
    with pytest.raises(ConnectFailed, match="hanging already"):
        resolve("one.too.many.example", 80, STREAM, None)
    assert resolve("127.0.0.1", 80, STREAM, None), "numeric ones go on"
    servers.may_answer.set()
    for _ in range(MAX_LOOKUPS):
        assert resolving._lookups.acquire(timeout=BOUND)
    for _ in range(MAX_LOOKUPS):
        resolving._lookups.release()
    assert resolve("two.example", 80, STREAM, None)


def test_a_failed_lookup_does_not_stay_counted(servers: NameServers) -> None:
    servers.answer = socket.gaierror(socket.EAI_NONAME, "unknown")
    for _ in range(MAX_LOOKUPS * 2):
        with pytest.raises(ConnectFailed, match="no address"):
            resolve("nowhere.example", 80, STREAM, None)


def test_without_a_thread_it_is_a_failure(servers: NameServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "run", lambda work: False)
    for _ in range(MAX_LOOKUPS + 1):
        with pytest.raises(ConnectFailed, match="no thread"):
            resolve("two.example", 80, STREAM, None)


# --- texts ---


@pytest.mark.parametrize(
    "sockaddr, text",
    [
        (("10.0.0.1", 9), "10.0.0.1:9"),
        (("example", 9), "example:9"),
        (("::1", 9, 0, 0), "[::1]:9"),
        (("::1", 9), "[::1]:9"),
        (("fe80::1", 9, 0, 3), "[fe80::1%3]:9"),
        (("fe80::1%eth0", 9, 0, 3), "[fe80::1%eth0]:9"),
        ("/run/app.sock", "/run/app.sock"),
        ("", "unix peer"),
        (b"", "unix peer"),
        (b"\0abstract", "@abstract"),
        (b"/run/\xff", "/run/�"),
    ],
)
def test_an_address_as_text(sockaddr: Any, text: str) -> None:
    assert format_address(sockaddr) == text


@given(st.ip_addresses(), st.integers(0, 65535))
def test_the_text_of_an_address_leads_back_to_it(address: Any, port: int) -> None:
    (resolved, *others) = resolve(str(address), port, STREAM, None)
    assert not others
    assume(getattr(address, "ipv4_mapped", None) is None)  # shown as the IPv4 address that it stands for
    host, _, shown_port = format_address(resolved.sockaddr).rpartition(":")
    assert int(shown_port) == port
    assert resolve(host.strip("[]"), port, STREAM, None) == (resolved,)


@given(spoilt(SEEDS["address"], [b"%1", b"::", b"0x", b".", b"[", b"]"]))
def test_a_numeric_address_as_text_means_itself(data: bytes) -> None:
    PARSERS["address"](data)

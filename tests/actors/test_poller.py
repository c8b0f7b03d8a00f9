"""Interest in a socket as a table, and the two pollers: both report what is asked for, and neither spins on a dead peer."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from itertools import product

import pytest

from actors import poller as poller_module
from actors.poller import ERR, ET, HUP, IN, OUT, RDHUP, EpollPoller, Poller, SelectorPoller, interest, make_poller

# Every cell: (reading, paused, writing) -> mask.
TABLE = {
    (True, False, False): IN,
    (True, False, True): IN | OUT,
    (True, True, False): ET | RDHUP,
    (True, True, True): OUT,
    (False, False, False): ET,
    (False, False, True): OUT,
    (False, True, False): ET,
    (False, True, True): OUT,
}

has_epoll = hasattr(select, "epoll")


@pytest.mark.parametrize("reading, paused, writing", list(product([True, False], repeat=3)))
def test_interest_is_this_table(reading: bool, paused: bool, writing: bool) -> None:
    assert interest(reading=reading, paused=paused, writing=writing) == TABLE[reading, paused, writing]


def test_a_bare_zero_is_never_written() -> None:
    # epoll reports HUP and ERR of a mask of 0, too, each time it is asked.
    assert all(TABLE.values())
    assert all(mask & ET for mask in TABLE.values() if not mask & (IN | OUT))


@pytest.mark.skipif(not has_epoll, reason="the numbers are those of epoll")
def test_the_bits_are_the_systems_own() -> None:
    # ET as the unsigned number that `register` takes; the module of Python gives it as it is in C.
    assert (IN, OUT, ERR, HUP, RDHUP) == (select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP, select.EPOLLRDHUP)
    assert ET == select.EPOLLET & 0xFFFF_FFFF


KINDS = [
    pytest.param(EpollPoller, id="epoll", marks=pytest.mark.skipif(not has_epoll, reason="the system has no epoll")),
    pytest.param(SelectorPoller, id="selector"),
]


@pytest.fixture(params=KINDS)
def poller(request: pytest.FixtureRequest) -> Iterator[Poller]:
    made: Poller = request.param()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected pair of TCP sockets: they can be reset, as others can't."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as left:
        right, _ = listener.accept()
        with right:
            left.setblocking(False)
            yield left, right


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def test_input_is_reported_until_it_is_read(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    poller.register(left.fileno(), IN)
    assert poller.poll(0) == []
    right.send(b"a")
    for _ in range(3):
        assert poller.poll(30) == [(left.fileno(), IN)]
    left.recv(10)
    assert poller.poll(0) == []


def test_room_for_output_is_reported_when_asked_for(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    poller.register(left.fileno(), IN)
    poller.modify(left.fileno(), IN | OUT)
    assert poller.poll(30) == [(left.fileno(), OUT)]
    right.send(b"a")
    assert poller_until(poller, left, IN) == IN | OUT
    poller.modify(left.fileno(), IN)
    assert poller.poll(30) == [(left.fileno(), IN)]


def poller_until(poller: Poller, sock: socket.socket, bit: int) -> int:
    for _ in range(1000):
        for fd, mask in poller.poll(30):
            if fd == sock.fileno() and mask & bit:
                return mask
    raise AssertionError("never reported")


def test_a_paused_socket_is_silent_and_loses_nothing(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    poller.register(left.fileno(), IN)
    poller.modify(left.fileno(), interest(reading=True, paused=True, writing=False))
    right.send(b"a")
    assert drained(poller) <= 1
    poller.modify(left.fileno(), IN)
    assert poller.poll(30) == [(left.fileno(), IN)]


def drained(poller: Poller) -> int:
    """How often it reports something before it is silent."""
    for count in range(100):
        if not poller.poll(0.01):
            return count
    raise AssertionError("it spins")


NO_INPUT = [cell for cell, mask in TABLE.items() if not mask & IN]


@pytest.mark.parametrize("reading, paused, writing", [cell for cell in NO_INPUT if not cell[2]])
@pytest.mark.parametrize("end", ["fin", "reset"])
def test_a_dead_peer_of_a_socket_that_is_not_read_does_not_spin(
    poller: Poller, pair: tuple[socket.socket, socket.socket], end: str, reading: bool, paused: bool, writing: bool
) -> None:
    left, right = pair
    poller.register(left.fileno(), IN)
    poller.modify(left.fileno(), interest(reading=reading, paused=paused, writing=writing))
    right.send(b"unread")
    if end == "reset":
        reset(right)
    else:
        right.close()
        left.shutdown(socket.SHUT_WR)  # both ways: now epoll reports HUP
    # One report for each thing that happens to it, and then silence.
    assert drained(poller) <= 3
    assert drained(poller) == 0


@pytest.mark.skipif(not has_epoll, reason="it is epoll that spins")
def test_with_a_mask_of_zero_it_would_spin(pair: tuple[socket.socket, socket.socket]) -> None:
    """Why `interest` is as it is."""
    left, right = pair
    poller = EpollPoller()
    try:
        poller.register(left.fileno(), 0)
        reset(right)
        with pytest.raises(AssertionError, match="it spins"):
            drained(poller)
    finally:
        poller.close()


def test_what_is_unregistered_is_not_reported(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    poller.register(left.fileno(), IN)
    right.send(b"a")
    poller.unregister(left.fileno())
    assert poller.poll(0) == []


def test_a_selector_forgives_what_has_no_interest(pair: tuple[socket.socket, socket.socket]) -> None:
    # There a socket without interest is not registered at all.
    left, right = pair
    poller = SelectorPoller()
    try:
        poller.register(left.fileno(), ET)
        poller.modify(left.fileno(), ET | RDHUP)
        right.send(b"a")
        assert poller.poll(0) == []
        poller.modify(left.fileno(), IN)
        assert poller.poll(30) == [(left.fileno(), IN)]
        poller.unregister(left.fileno())
        poller.unregister(left.fileno())
        assert poller.poll(0) == []
    finally:
        poller.close()


def test_a_timeout_is_in_seconds(poller: Poller) -> None:
    assert poller.poll(0.001) == []
    assert poller.poll(0.0) == []


@pytest.mark.parametrize("portable", [False, True])
def test_the_environment_picks_the_poller(portable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not portable and not has_epoll:
        pytest.skip("the system has no epoll")
    monkeypatch.setattr(poller_module, "PORTABLE", portable)
    made = make_poller()
    try:
        assert isinstance(made, SelectorPoller if portable else EpollPoller)
        assert made.thread_safe is not portable
    finally:
        made.close()

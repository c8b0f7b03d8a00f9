"""The outbox of datagrams when the system has no room: who waits, for how long, and what the others see. With a socket that is none."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from actors.datagramoutbox import DatagramOutbox, Posted, Way
from actors.errors import BusError, Closed, NotSent, TooLarge
from actors.readerthread import ReaderThread
from tests.actors.engine import BOUND, held, settle
from tests.bus.peers import until

FULL = BlockingIOError(errno.EAGAIN, "no room")


class Wire:
    """What the outbox sends through: raises what it is told to, and then writes down."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.always: Exception | None = None
        self.sent: list[tuple[bytes, Any]] = []
        self.polled: list[bool] = []

    def sendto(self, data: bytes, target: Any = None) -> int:
        if self.always is not None:
            raise self.always
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append((data, target))
        return len(data)


class Desk:
    """An outbox, what it counts, and what it told."""

    def __init__(self, loop: ReaderThread) -> None:
        self.wire = Wire()
        self.messages_out = self.bytes_out = self.refused = 0
        self.reason: BusError | None = None
        self.told: list[tuple[str, Exception | None]] = []
        self.connected: list[Any] = []
        self.outbox = DatagramOutbox(
            threading.Lock(), loop, self, way=self._way, connect=self.connected.append, reason=lambda: self.reason
        )

    def _way(self, sockaddr: Any) -> Way:
        return self.wire.sendto, (sockaddr,), self.wire.polled.append

    def post(self, name: str, timeout: float | None = None, choose: Callable[[Any], Any] | None = None) -> None:
        posted = Posted(
            name.encode(), name, choose or (lambda found: found[0].sockaddr), timeout, lambda error: self.told.append((name, error))
        )
        self.outbox.post(posted, ("127.0.0.1", 9), socket.AF_INET)

    def names(self) -> list[str]:
        return [name for name, _ in self.told]

    def error_of(self, name: str) -> Exception | None:
        until(lambda: name in self.names(), f"{name} is told of")
        return dict(self.told)[name]


@pytest.fixture
def desk(loop: ReaderThread) -> Desk:
    return Desk(loop)


def test_it_goes_at_once_in_the_callers_thread(desk: Desk, loop: ReaderThread) -> None:
    with held(loop):
        desk.post("a")
        assert desk.wire.sent == [(b"a", ("127.0.0.1", 9))]
        assert desk.told == [("a", None)]
    assert (desk.messages_out, desk.bytes_out, len(desk.outbox), desk.outbox.weight) == (1, 1, 0, 0)


def test_without_room_it_waits_for_room_and_holds_up_what_is_behind(desk: Desk) -> None:
    desk.wire.failures = [FULL, FULL]
    desk.post("a")
    desk.post("b")
    assert desk.told == []
    assert desk.wire.polled == [True]
    assert (len(desk.outbox), desk.outbox.weight) == (2, 2)
    desk.outbox.push()  # as the poller would
    assert desk.told == []
    desk.outbox.push()
    assert desk.told == [("a", None), ("b", None)]
    assert desk.wire.polled == [True, True, False]
    assert [data for data, _ in desk.wire.sent] == [b"a", b"b"]


def test_its_time_is_counted_from_when_there_was_no_room(desk: Desk) -> None:
    desk.wire.always = FULL
    desk.post("first", timeout=0.02)
    desk.post("second", timeout=0.02)
    error = desk.error_of("first")
    assert isinstance(error, NotSent)
    assert "buffer stayed full" in str(error)
    assert isinstance(desk.error_of("second"), NotSent)
    assert desk.names() == ["first", "second"]
    assert desk.wire.polled[-1] is False
    assert desk.outbox.unsent == len("firstsecond")


def test_no_time_at_all_ends_at_once_if_there_is_no_room(desk: Desk) -> None:
    desk.post("room", timeout=0)
    assert desk.told == [("room", None)]
    desk.wire.always = FULL
    desk.post("none", timeout=0)
    assert isinstance(desk.error_of("none"), NotSent)


def test_a_name_takes_no_time_of_it(desk: Desk, loop: ReaderThread, monkeypatch: pytest.MonkeyPatch) -> None:
    # With timeout 0 a datagram that had to wait for its name is sent all the same.
    go_on = threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *rest: Any, **named: Any) -> Any:
        if host == "slow.example" and not rest[3] & socket.AI_NUMERICHOST:
            assert go_on.wait(BOUND)
            host = "127.0.0.1"
        return real(host, port, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    told: list[Exception | None] = []
    posted = Posted(b"x", "slow.example:9", lambda found: found[0].sockaddr, 0, told.append)
    desk.outbox.post(posted, ("slow.example", 9), socket.AF_INET)
    go_on.set()
    until(lambda: told)
    assert told == [None]


def test_a_buffer_that_does_not_tell_is_tried_again(desk: Desk) -> None:
    desk.wire.failures = [OSError(errno.ENOBUFS, "no buffers")] * 3
    desk.post("a")
    assert desk.error_of("a") is None
    assert True not in desk.wire.polled


def test_an_error_about_an_earlier_datagram_is_counted_and_it_goes(desk: Desk) -> None:
    desk.wire.failures = [ConnectionRefusedError(errno.ECONNREFUSED, "refused")] * 2
    desk.post("a")
    assert desk.told == [("a", None)]
    assert desk.refused == 2
    desk.wire.always = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    desk.post("b")
    assert isinstance(desk.error_of("b"), ConnectionRefusedError)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (PermissionError(errno.EACCES, "no"), PermissionError),
        (OSError(errno.ENETUNREACH, "no route"), OSError),
        (OSError(errno.EMSGSIZE, "long"), TooLarge),
    ],
)
def test_a_failure_is_its_own(desk: Desk, failure: Exception, kind: type[Exception]) -> None:
    desk.wire.failures = [failure]
    desk.post("bad")
    desk.post("good")
    assert isinstance(desk.told[0][1], kind)
    assert desk.told[1] == ("good", None)


def test_a_choice_that_fails_is_told(desk: Desk) -> None:
    def choose(found: Any) -> Any:
        raise LookupError("none of these")

    desk.post("a", choose=choose)
    assert isinstance(desk.told[0][1], LookupError)


def test_connecting_has_its_place_in_the_queue(desk: Desk) -> None:
    desk.wire.failures = [FULL]
    desk.post("before")
    connect = Posted(None, "127.0.0.1:9", lambda found: found[0].sockaddr, None, lambda error: desk.told.append(("connect", error)))
    desk.outbox.post(connect, ("127.0.0.1", 9), socket.AF_INET)
    desk.post("after")
    assert desk.connected == []
    desk.outbox.push()
    assert desk.connected == [("127.0.0.1", 9)]
    assert desk.told == [("before", None), ("connect", None), ("after", None)]


def test_the_end_is_told_to_all_that_wait_and_then_raised(desk: Desk) -> None:
    desk.wire.always = FULL
    desk.post("a")
    desk.post("b")
    desk.reason = Closed("here")
    desk.outbox.end(desk.reason)
    assert desk.names() == ["a", "b"]
    assert all(isinstance(error, Closed) for _, error in desk.told)
    assert desk.outbox.unsent == 2
    with pytest.raises(Closed):
        desk.post("c")


def test_ctrl_c_after_sending_sends_nothing_twice(desk: Desk, loop: ReaderThread) -> None:
    struck: list[bool] = []

    class Outbox(DatagramOutbox):
        __slots__ = ()

        def _done(self, posted: Posted, error: Exception | None) -> None:
            if not struck:
                struck.append(True)
                raise KeyboardInterrupt
            super()._done(posted, error)

    outbox = Outbox(threading.Lock(), loop, desk, way=desk._way, connect=desk.connected.append, reason=lambda: None)
    told: list[Exception | None] = []
    with pytest.raises(KeyboardInterrupt):
        outbox.post(Posted(b"once", "x", lambda found: found[0].sockaddr, None, told.append), ("127.0.0.1", 9), socket.AF_INET)
    until(lambda: told)
    settle(loop)
    assert told == [None]
    assert [data for data, _ in desk.wire.sent] == [b"once"]

"""Each error: what it can be caught as, what it says, what it carries."""

from __future__ import annotations

import errno
import pickle

import pytest

from actors import errors
from actors.errors import (
    BadAddress,
    BadTopic,
    Broken,
    BusError,
    Closed,
    ConnectFailed,
    ConnectTimeout,
    DeadlinePassed,
    EngineInUse,
    NoResponders,
    NotDurable,
    NotSent,
    PeerClosed,
    RequestTimeout,
    ResponderFailed,
    TooLarge,
)

CAUGHT_AS: dict[type[BusError], type[Exception]] = {
    Closed: ConnectionError,
    PeerClosed: ConnectionError,
    Broken: ConnectionError,
    NotSent: TimeoutError,
    TooLarge: ValueError,
    BadAddress: ValueError,
    ConnectFailed: ConnectionError,
    ConnectTimeout: TimeoutError,
    DeadlinePassed: TimeoutError,
    BadTopic: ValueError,
    NoResponders: ConnectionError,
    RequestTimeout: TimeoutError,
    ResponderFailed: RuntimeError,
    NotDurable: RuntimeError,
    EngineInUse: RuntimeError,
}

ALL = sorted(CAUGHT_AS, key=lambda kind: kind.__name__)


def test_every_exported_error_is_in_the_table() -> None:
    assert {getattr(errors, name) for name in errors.__all__} == {BusError, *CAUGHT_AS}


@pytest.mark.parametrize("kind", ALL)
def test_it_is_caught_as_ours_and_as_the_built_in_one(kind: type[BusError]) -> None:
    with pytest.raises(BusError):
        raise kind("127.0.0.1:9", "why")
    with pytest.raises(CAUGHT_AS[kind]):
        raise kind("127.0.0.1:9", "why")


def test_a_timeout_while_connecting_is_a_failure_to_connect() -> None:
    assert issubclass(ConnectTimeout, ConnectFailed)


@pytest.mark.parametrize("kind", ALL)
def test_it_carries_its_data_and_says_it_in_one_sentence(kind: type[BusError]) -> None:
    error = kind("127.0.0.1:9", " the reason")
    assert (error.address, error.reason) == ("127.0.0.1:9", " the reason")
    assert error.args == ("127.0.0.1:9", " the reason")
    assert "127.0.0.1:9" in str(error)
    assert "the reason" in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("kind", ALL)
def test_without_data_it_is_still_a_sentence(kind: type[BusError]) -> None:
    assert str(kind())
    assert "{" not in str(kind())


@pytest.mark.parametrize("text", ["{address}", "{0}", "{", "%s"])
def test_what_a_peer_puts_into_a_reason_is_not_interpreted(text: str) -> None:
    assert text in str(Broken("peer", text))


@pytest.mark.parametrize("kind", [kind for kind in ALL if issubclass(kind, OSError)])
def test_the_number_of_the_error_behind_it_is_its_own(kind: type[BusError]) -> None:
    cause = OSError(errno.EHOSTUNREACH, "no route")
    error = kind("peer", "no route").because(cause)
    assert error.__cause__ is cause
    assert error.errno == errno.EHOSTUNREACH
    assert kind("peer").errno is None


def test_a_cause_that_is_no_os_error_is_kept() -> None:
    cause = KeyError("k")
    assert Broken("peer", "its callback raised").because(cause).__cause__ is cause
    assert Broken("peer", "").because(None).__cause__ is None


@pytest.mark.parametrize("kind", ALL)
def test_again_is_an_equal_error_with_a_traceback_of_its_own(kind: type[BusError]) -> None:
    first = kind("peer", "why").because(OSError(errno.ECONNRESET, "reset"))
    with pytest.raises(kind):
        raise first
    assert first.__traceback__ is not None
    second = first.again()
    assert type(second) is kind
    assert second is not first
    assert second.args == first.args
    assert str(second) == str(first)
    assert second.__cause__ is first.__cause__
    assert second.__traceback__ is None
    if isinstance(second, OSError):
        assert second.errno == errno.ECONNRESET


def test_again_keeps_how_many_were_accepted() -> None:
    first = NotSent("peer", "full")
    assert first.accepted == 0
    first.accepted = 7
    copy = first.again()
    assert isinstance(copy, NotSent)
    assert copy.accepted == 7


@pytest.mark.parametrize("kind", ALL)
def test_it_survives_the_way_between_processes(kind: type[BusError]) -> None:
    error = pickle.loads(pickle.dumps(kind("127.0.0.1:9", "why")))
    assert type(error) is kind
    assert (error.address, error.reason, str(error)) == ("127.0.0.1:9", "why", str(kind("127.0.0.1:9", "why")))

"""Several threads open an engine at a time: each waits for its turn until its own deadline, and can be interrupted there."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

import bus
from actors import topics, waiting
from tests.bus.peers import WAIT, InThread


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of somebody who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"nats://127.0.0.1:{listening.getsockname()[1]}"


def interrupted(thread: InThread[bus.Topics]) -> None:
    """As the runner does at Ctrl-C."""
    assert thread.thread.ident is not None
    waiting.interrupt([thread.thread.ident])
    with pytest.raises(KeyboardInterrupt):
        thread.result()


@pytest.fixture
def opens(silent: str) -> Iterator[InThread[bus.Topics]]:
    """A thread that is about to open an engine, and will not get on."""
    opening = InThread(lambda: bus.open(silent, timeout=None)).until_blocked()
    yield opening
    if opening.thread.is_alive():
        interrupted(opening)


def test_who_comes_second_keeps_to_its_own_deadline(opens: InThread[bus.Topics], silent: str) -> None:
    for url in (silent, "embedded:"):
        with pytest.raises(bus.ConnectTimeout, match=f"cannot connect to {url}: another thread was opening it"):
            InThread(lambda url=url: bus.open(url, timeout=0.05)).result()  # type: ignore[misc]
    with pytest.raises(bus.ConnectTimeout, match="the engine behind the topics"):
        InThread(lambda: bus.request("a", "", timeout=0.05)).result()


def test_who_comes_second_can_be_interrupted(opens: InThread[bus.Topics], silent: str) -> None:
    interrupted(InThread(lambda: bus.open(silent, timeout=None)).until_blocked())


def test_who_comes_second_is_next(opens: InThread[bus.Topics]) -> None:
    second = InThread(lambda: bus.open("embedded:", timeout=None)).until_blocked()
    interrupted(opens)
    with second.result():
        bus.publish("a", "b")


def test_what_the_environment_names_is_opened_until_the_callers_deadline(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "engine", None)
    monkeypatch.setenv("ACTORBUS_URL", silent)
    monkeypatch.setattr(topics, "OPEN_TIMEOUT", 10 * WAIT)
    first = InThread(lambda: bus.subscribe("a")).until_blocked()
    for _ in range(2):
        with pytest.raises(bus.ConnectTimeout, match="the engine behind the topics: another thread"):
            InThread(lambda: bus.request("a", "", timeout=0.05)).result()
    assert first.thread.ident is not None
    waiting.interrupt([first.thread.ident])
    with pytest.raises(KeyboardInterrupt):
        first.result()
    with pytest.raises(bus.ConnectTimeout, match="within the timeout"):
        InThread(lambda: bus.request("a", "", timeout=0.05)).result()


def test_who_opens_one_while_it_opens_one_is_told() -> None:
    with topics.opening("one", None), pytest.raises(bus.EngineInUse, match="this thread is about to open one"):
        bus.open("embedded:")
    with bus.open("embedded:"):
        bus.publish("a", "b")

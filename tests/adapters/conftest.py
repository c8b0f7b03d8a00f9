"""For the tests of the dialects and the command line: nothing stays behind, a script of `hs` inside a test, and `actorbus cat`."""

from __future__ import annotations

import gc
import logging
import queue
from collections.abc import Callable, Iterator

import pykka
import pytest

import bus
from adapters import cat as command
from tests.adapters.conversation import Cat
from tests.adapters.hsscript import Log, Script, SlowName, script_of_test
from tests.bus.peers import until
from tests.conftest import LeakWatch


@pytest.fixture
def collected(no_leaks: LeakWatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing stays open. A slow callback leaves a thread that lives a moment longer; then the engine ends, too, before leaks are looked
    for.

    An exception that a test caught or that was logged holds the frames it came through, and with them what its thread waited with.
    """
    yield
    until(lambda: not pykka.ActorRegistry.get_all())
    caplog.get_records("call").clear()
    gc.collect()
    if no_leaks.leftovers():
        bus.shutdown()


@pytest.fixture
def script(caplog: pytest.LogCaptureFixture) -> Iterator[Script]:
    """The test's thread is the script's, and what `hs` says is logged."""
    caplog.set_level(logging.DEBUG, "actorbus.hs")
    with script_of_test() as script:
        yield script


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Log:
    return Log(caplog)


@pytest.fixture
def slow_name(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowName]:
    """A host name whose lookup is over when the test says so."""
    name = SlowName(monkeypatch)
    yield name
    name.answers("")


@pytest.fixture
def cat(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Cat]]:
    """`actorbus cat` with the words it is called with."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    monkeypatch.setattr(command, "say", lines.put)
    monkeypatch.setenv("no_proxy", "*")
    made: list[Cat] = []

    def make(*words: str) -> Cat:
        made.append(Cat(capsysbinary, lines, words))
        return made[-1]

    yield make
    for each in made:
        each.close()

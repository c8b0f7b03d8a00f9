"""For the tests of the dialects: nothing stays behind them, and a script of `hs` inside a test."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pykka
import pytest

import bus
from tests.adapters.hsscript import Log, Script, SlowName, script_of_test
from tests.bus.peers import until


@pytest.fixture
def collected(no_leaks: object, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing stays open. A slow callback leaves the loop with another thread than it had; so the engine ends, too, before leaks are
    looked for.

    An exception that a test caught or that was logged holds the frames it came through, and with them what its thread waited with.
    """
    yield
    until(lambda: not pykka.ActorRegistry.get_all())
    bus.shutdown()
    caplog.get_records("call").clear()
    gc.collect()


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

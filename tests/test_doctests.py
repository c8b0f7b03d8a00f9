"""The examples in docstrings run as they are printed, and leave nothing open."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

from tests.conftest import LeakWatch

PACKAGES = ("actors", "bus")


def examples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    for package in PACKAGES:
        imported = importlib.import_module(package)
        names = [package, *(found.name for found in pkgutil.walk_packages(imported.__path__, f"{package}."))]
        for name in names:
            yield from (found for found in finder.find(importlib.import_module(name)) if found.examples)


EXAMPLES = sorted(examples(), key=lambda example: example.name)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("example", EXAMPLES, ids=[example.name for example in EXAMPLES])
def test_an_example_shows_what_happens(example: doctest.DocTest, no_leaks: LeakWatch) -> None:
    report: list[str] = []
    # A copy of the names, because the runner clears them and another run of this test needs them.
    fresh = doctest.DocTest(example.examples, dict(example.globs), example.name, example.filename, example.lineno, example.docstring)
    doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(fresh, out=report.append)
    assert not report, "".join(report)


def test_what_a_script_holds_has_an_example_each() -> None:
    # `join` needs a network that carries multicast, and a server's client comes from its callbacks.
    shown = {example.name for example in EXAMPLES}
    held = {"connection.Connection", "listener.Listener", "datagrams.UdpSocket", "server.Server"}
    assert {f"bus.{name}" for name in {"connecting.connect", "anyof.receive_any", *held}} <= shown

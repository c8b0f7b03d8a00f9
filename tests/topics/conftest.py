"""The engines that the contract is run against: `engine` opens each in turn, and everything is closed when the test is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import bus

ENGINES = ("embedded",)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[bus.Topics]:
    """An engine behind the topics of this process."""
    with bus.open("embedded:") as engine:
        yield engine

"""For the tests of the engine's parts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from actors.readerthread import ReaderThread
from tests.actors.engine import reader_thread


@pytest.fixture
def loop() -> Iterator[ReaderThread]:
    """A reader thread of the test's own."""
    with reader_thread() as made:
        yield made

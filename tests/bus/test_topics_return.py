"""Subscriptions, responders and bridges give back what they took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bus
from actors import topics
from tests.bus.peers import WAIT, until


def test_threads_and_memory_return_to_where_they_were(all_returns: Callable[[], None]) -> None:
    for _ in range(5):
        with bus.subscribe("a"), bus.respond("b", lambda message: message), bus.bridge("a", "c"):
            bus.publish("a", "x")
            assert bus.request("b", "y", timeout=WAIT).text == "y"
    engine: Any = topics.current()
    until(lambda: not len(engine._router))
    assert not engine._inboxes
    assert not engine._awaited

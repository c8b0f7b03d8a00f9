"""Spare threads leave soon, so that a watch for leaks need not wait for them."""

from __future__ import annotations

import pytest

from actors import crew


@pytest.fixture(autouse=True)
def spare_threads_leave_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "IDLE_SECONDS", 0.05)

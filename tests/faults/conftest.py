"""No proxy of this machine comes between, and what a fault leaves behind is looked for."""

from __future__ import annotations

import os

import pytest

from tests.bus.conftest import all_returns

__all__ = ["all_returns"]


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)

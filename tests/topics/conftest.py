"""The engines that the contract is run against: `engine` opens each in turn, and everything is closed when the test is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import bus
from tests.bus.peers import WAIT
from tests.natsserver import NatsServer

ENGINES = ("embedded", "nats")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[bus.Topics]:
    """An engine behind the topics of this process."""
    url = "embedded:"
    if request.param == "nats":
        server: NatsServer = request.getfixturevalue("nats_server")
        url = server.url
    with bus.open(url, timeout=WAIT) as engine:
        yield engine

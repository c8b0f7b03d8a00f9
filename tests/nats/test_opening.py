"""Several open an engine: each waits for its turn until its own deadline and can be interrupted there, and hears how the engine stands."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bus
from actors import topics, waiting
from bus.opening import _how
from tests.bus.peers import WAIT, InThread, run_script, until
from tests.natsserver import NatsServer


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


def test_who_comes_second_keeps_to_its_own_deadline(
    opens: InThread[bus.Topics], silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "engine", None)
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


# -- who shares it ----------------------------------------------------------------------------------------------------------------


class Heard(list[str]):
    """What `on_state` was told."""

    def __call__(self, state: str, reason: bus.BusError | None) -> None:
        self.append(state)


def test_each_holder_hears_on_its_own_account(own_nats_server: NatsServer) -> None:
    first, second = Heard(), Heard()
    url = own_nats_server.url
    with bus.open(url, timeout=WAIT, on_state=first) as one, bus.open(url, timeout=WAIT, on_state=second) as two, bus.open(url):
        until(lambda: (first, second) == (["connected"], ["connected"]), "who joins hears how it stands")
        assert two.close()
        until(lambda: second == ["connected", "closed"])
        own_nats_server.kill()
        until(lambda: first[-1] == "reconnecting")
        assert one.close()
        own_nats_server.start()
    until(lambda: first == ["connected", "reconnecting", "closed"])
    assert second == ["connected", "closed"]


def test_one_that_joins_while_the_server_is_away_hears_so(own_nats_server: NatsServer) -> None:
    heard = Heard()
    with bus.open(own_nats_server.url, timeout=WAIT) as one:
        own_nats_server.kill()
        until(lambda: not one.connected())
        with bus.open(own_nats_server.url, on_state=heard):
            own_nats_server.start()
            until(lambda: heard == ["reconnecting", "connected"])
    until(lambda: heard[-1] == "closed")


def test_the_embedded_engine_tells_the_same() -> None:
    first, second = Heard(), Heard()
    with bus.open("embedded:", on_state=first), bus.open("embedded:", on_state=second):
        until(lambda: second == ["connected"])
    until(lambda: (first, second) == (["connected", "closed"], ["connected", "closed"]))


def test_a_callback_of_the_state_that_fails_is_logged_and_called_again(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()

    def fail(state: str, reason: bus.BusError | None) -> None:
        heard(state, reason)
        raise OSError("it went wrong")

    with bus.open("embedded:", on_state=fail):
        pass
    until(lambda: heard == ["connected", "closed"])
    until(lambda: caplog.text.count("on_state failed on 'closed' for embedded:") == 1)


@pytest.mark.parametrize(
    ("inside", "named"),
    [("ali:se%40same@", {"user": "ali", "password": "se@same"}), ("s%2Csame@", {"token": "s,same"})],
)
def test_who_comes_may_be_said_in_the_url_or_by_name(inside: str, named: dict[str, Any], tmp_path: Path) -> None:
    config = json.dumps({"user": "ali", "password": "se@same"} if "user" in named else {"token": "s,same"})
    with NatsServer(tmp_path, config=f"authorization {config}") as server:
        both: list[tuple[str, dict[str, Any]]] = [(f"nats://{inside}{server.address}", {}), (server.url, named)]
        for (first, options), (second, others) in (both, both[::-1]):
            with bus.open(first, timeout=WAIT, **options) as one:
                with bus.open(second, timeout=WAIT, **others):
                    pass
                assert one.connected()
                with pytest.raises(bus.EngineInUse):
                    bus.open(server.url, token="another one")


def test_what_the_environment_names_is_shared_by_who_opens_it(nats_server: NatsServer) -> None:
    code = """
import os, sys, bus
os.environ["ACTORBUS_URL"] = sys.argv[1]
with bus.subscribe("environment.a") as sub:
    with bus.open(sys.argv[1], on_state=lambda state, reason: None) as topics:
        bus.publish("environment.a", "shared")
        print(sub.receive(30).text, topics.connected())
    bus.publish("environment.a", "and left")
    print(sub.receive(30).text)
    try:
        bus.open("embedded:")
    except bus.EngineInUse:
        print("in use")
with bus.open("embedded:") as topics:
    print(topics.url)
"""
    assert run_script(code, nats_server.url).splitlines() == ["shared True", "and left", "in use", "embedded:"]


def test_a_path_is_the_same_as_a_str_or_as_a_path() -> None:
    assert _how("nats://here", {"nkey": Path("a")}) == _how("nats://here", {"nkey": "a"}) != _how("nats://here", {})

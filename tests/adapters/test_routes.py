"""The runner's routes: served as scripts come to their end, in any order, on one server that is no script's."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bus
from actors import scope
from actors.scope import Scope
from adapters.routes import Routes
from adapters.scriptling import runtime
from adapters.scriptling.runtime import http
from tests.bus.peers import WAIT, InThread, until

pytestmark = pytest.mark.usefixtures("collected")


def saying(word: str) -> Callable[[runtime.WebSocketClient], None]:
    return lambda client: client.send(word)


class Stage:
    """Scripts of one command, whose code runs when the test says so."""

    def __init__(self, *names: str, address: str = "127.0.0.1:0", patience: float = WAIT) -> None:
        self.scripts = {name: Scope(name) for name in names}
        self.said: list[str] = []
        self.routes = Routes(address, list(self.scripts.values()), self.said.append, patience=patience)

    @property
    def address(self) -> str:
        return self.said[0].rpartition("//")[2]

    def returns(self, name: str, *paths: str) -> None:
        """The script registers these, each of which says its path, and comes to its end."""
        with self.inside(name):
            for path in paths:
                runtime.http.websocket(path, saying(path))
            self.routes.returned(self.scripts[name])

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        previous = scope.enter(self.scripts[name])
        try:
            yield
        finally:
            scope.enter(previous)

    def hello(self, path: str) -> str:
        with bus.connect(f"ws://{self.address}{path}", timeout=WAIT) as conn:
            message = conn.receive(WAIT)
            assert message is not None
            return message.text


@pytest.fixture
def stage() -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def make(*names: str, **options: object) -> Stage:
        stages.append(Stage(*names, **options))  # type: ignore[arg-type]
        return stages[-1]

    yield make
    for each in stages:
        each.routes.forget()
        for script in each.scripts.values():
            script.close()
    bus.shutdown()


def test_each_scripts_routes_are_served_when_its_code_has_returned(stage: Callable[..., Stage]) -> None:
    here = stage("one", "two", "three", patience=0)
    here.returns("one", "/a", "/b")
    assert here.said == [f"serving /a, /b on ws://{here.address}"]
    assert (here.hello("/a"), here.hello("/b")) == ("/a", "/b")
    with pytest.raises(bus.ConnectFailed, match="404"):
        here.hello("/c")
    here.returns("two", "/c")
    here.returns("three")
    assert here.said[1:] == [f"serving /c on ws://{here.address}"]
    assert (here.hello("/a"), here.hello("/c")) == ("/a", "/c")
    assert [script.kept_alive for script in here.scripts.values()] == [True, True, False]


def test_who_comes_before_its_route_waits_for_the_scripts_that_still_start(stage: Callable[..., Stage]) -> None:
    here = stage("one", "two")
    here.returns("one", "/a")
    early = InThread(lambda: here.hello("/b?x=1"))
    until(lambda: here.routes._changed._waiters)  # type: ignore[attr-defined]
    assert here.hello("/a") == "/a"
    here.returns("two", "/b")
    assert early.result() == "/b"


@pytest.mark.parametrize("how", ["returned", "ended"])
def test_once_all_code_has_ended_nobody_waits(stage: Callable[..., Stage], how: str) -> None:
    here = stage("one", "two")
    here.returns("one", "/a")
    early = InThread(lambda: here.hello("/b"))
    until(lambda: here.routes._changed._waiters)  # type: ignore[attr-defined]
    if how == "returned":
        here.returns("two")
    else:
        here.routes.ended(here.scripts["two"])
    with pytest.raises(bus.ConnectFailed, match="404"):
        early.result()
    with pytest.raises(bus.ConnectFailed, match="404"):
        here.hello("/b")


def test_a_script_that_serves_its_routes_itself_is_left_to_it(stage: Callable[..., Stage]) -> None:
    here = stage("one", "two")
    with here.inside("one"):
        runtime.http.websocket("/own", lambda client: client.send("own"))
        with runtime.serve("127.0.0.1:0"):
            here.returns("one")
    assert here.said == []
    here.returns("two", "/a")
    with pytest.raises(bus.ConnectFailed, match="404"):
        here.hello("/own")


def test_one_that_could_not_serve_its_routes_itself_is_served(stage: Callable[..., Stage]) -> None:
    here = stage("one")
    with here.inside("one"), socket.create_server(("127.0.0.1", 0)) as taken:
        runtime.http.websocket("/a", lambda client: client.send("/a"))
        with pytest.raises(OSError):
            runtime.serve(f"127.0.0.1:{taken.getsockname()[1]}")
    here.returns("one")
    assert here.hello("/a") == "/a"


def test_an_address_in_use_ends_the_script_and_its_routes(stage: Callable[..., Stage]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        here = stage("one", "two", address=address)
        with pytest.raises(SystemExit, match=f"{address}.*--listen"):
            here.returns("one", "/a")
    here.returns("two", "/b")
    assert here.said == [f"serving /b on ws://{address}"]
    assert here.hello("/b") == "/b"
    with pytest.raises(bus.ConnectFailed, match="404"):
        here.hello("/a")


def test_what_a_script_registers_with_the_modules_of_its_handlers_counts(
    stage: Callable[..., Stage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "routes_handlers.py").write_text(
        "from adapters.scriptling import runtime\nruntime.http.websocket('/more', lambda client: client.send('more'))\n"
        "def f(client): client.send('f')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    here = stage("one")
    with here.inside("one"):
        http.websocket("/f", "routes_handlers.f")
    here.returns("one")
    assert (here.hello("/f"), here.hello("/more")) == ("f", "more")

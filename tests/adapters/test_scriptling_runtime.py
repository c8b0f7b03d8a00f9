"""`scriptling.runtime`: routes are registered, served by a program or by `actorbus run`, and each client has its handler."""

from __future__ import annotations

import doctest
import importlib
import json
import logging
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bus
from adapters.scriptling import runtime
from adapters.scriptling import websocket as ws
from adapters.scriptling.runtime import client as client_module
from adapters.scriptling.runtime import http, serving
from tests.adapters.command import Command, run, write
from tests.bus.peers import WAIT, InThread, Peer, until
from tests.certificates import Certificate


@pytest.fixture(autouse=True)
def forgotten(collected: None) -> Iterator[None]:
    """No route is left, and nothing open."""
    yield
    http.forget(None)


def serve(**options: Any) -> bus.Server:
    return runtime.serve("127.0.0.1:0", **options)


def visit(server: bus.Server, path: str = "/ws", **options: Any) -> bus.Connection:
    return bus.connect(f"ws://{server.address}{path}", timeout=WAIT, **options)


def text(conn: bus.Connection) -> str:
    message = conn.receive(WAIT)
    assert message is not None
    assert message.is_text
    return message.text


GOING_AWAY = 1001  # RFC 6455, section 7.4.1


def closed_with(conn: bus.Connection) -> int | None:
    with pytest.raises(bus.PeerClosed):
        while conn.receive(WAIT):
            pass
    return conn.close_code


@pytest.mark.parametrize("module", [http, serving])
def test_the_examples_in_the_docstrings_are_true(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


class TestTheirs:
    """What Scriptling's own tests of the library ask for, by their names."""

    def test_route_registration(self) -> None:
        runtime.http.websocket("/ws", "handlers.ws_handler")
        assert [(route.path, route.handler) for route in http.routes()] == [("/ws", "handlers.ws_handler")]

    def test_server_conn(self) -> None:
        gone: list[bool] = []

        @runtime.http.websocket("/ws")
        def handler(client: runtime.WebSocketClient) -> None:
            client.send(client.receive(timeout=WAIT) or "nothing")
            client.close()
            gone.append(client.connected())

        with serve() as server, visit(server) as conn:
            conn.send("echo")
            assert text(conn) == "echo"
            assert closed_with(conn) == 1000
        until(lambda: gone == [False])

    def test_reset_runtime(self) -> None:
        for path in ("/a", "/b"):
            runtime.http.websocket(path, "handlers.ws_handler")
        assert len(http.routes()) == 2
        http.forget(None)
        assert http.routes() == []

    def test_decorator(self) -> None:
        @runtime.http.websocket("/chat")
        def chat_handler(client: runtime.WebSocketClient) -> str:
            return "still a function"

        (route,) = http.routes()
        assert (route.path, route.handler) == ("/chat", chat_handler)
        assert callable(chat_handler)

    def test_imperative(self) -> None:
        runtime.http.websocket("/ws", "handler.ws")
        (route,) = http.routes()
        assert (route.path, route.handler) == ("/ws", "handler.ws")


class TestRegistration:
    def test_the_same_path_again_replaces(self) -> None:
        runtime.http.websocket("/ws", "handlers.one")
        runtime.http.websocket("/ws", "handlers.two")
        assert [route.handler for route in http.routes()] == ["handlers.two"]

    def test_arguments_go_by_position_and_by_name(self) -> None:
        runtime.http.websocket(path="/a", handler="handlers.one")
        runtime.http.websocket("/b", handler="deep.er.handlers.two")
        runtime.http.websocket(path="/c")(print)
        assert [route.path for route in http.routes()] == ["/a", "/b", "/c"]

    @pytest.mark.parametrize("path", ["", "chat", "ws://x/chat", "/chat?room=1", "/chat#top"])
    def test_what_is_no_path_is_a_value_error(self, path: str) -> None:
        with pytest.raises(ValueError) as caught:
            runtime.http.websocket(path, "handlers.one")
        assert repr(path) in str(caught.value)

    @pytest.mark.parametrize("path", [None, 5, b"/chat"])
    def test_a_path_of_another_type_is_a_type_error(self, path: Any) -> None:
        with pytest.raises(TypeError, match=f"not {type(path).__name__}$"):
            runtime.http.websocket(path, "handlers.one")

    @pytest.mark.parametrize("handler", ["", "chat", ".chat", "handlers.", "handlers..chat", "handlers.chat()", "a b.c"])
    def test_what_names_no_function_is_a_value_error(self, handler: str) -> None:
        with pytest.raises(ValueError) as caught:
            runtime.http.websocket("/chat", handler)
        assert repr(handler) in str(caught.value)

    @pytest.mark.parametrize("handler", [5, b"handlers.chat", ["handlers.chat"]])
    def test_a_handler_of_another_type_is_a_type_error(self, handler: Any) -> None:
        with pytest.raises(TypeError) as caught:
            runtime.http.websocket("/chat", handler)
        assert repr(handler) in str(caught.value)

    def test_it_is_the_same_module_by_both_names(self) -> None:
        assert importlib.import_module("adapters.scriptling.runtime.http") is runtime.http
        assert set(runtime.__all__) == {"WebSocketClient", "http", "serve"}


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that modules are imported from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


class TestServe:
    def test_a_handler_named_by_its_module(self, beside: Path) -> None:
        write(beside, "ws_handlers_a.py", "def greet(client): client.send('hello from the module')")
        write(beside, "ws_package/__init__.py", "")
        write(beside, "ws_package/deep.py", "def greet(client): client.send('hello from deep')")
        runtime.http.websocket("/ws", "ws_handlers_a.greet")
        runtime.http.websocket("/deep", "ws_package.deep.greet")
        with serve() as server, visit(server) as conn, visit(server, "/deep?x=1") as deep:
            assert text(conn) == "hello from the module"
            assert text(deep) == "hello from deep"

    def test_a_module_may_register_more(self, beside: Path) -> None:
        write(
            beside,
            "ws_handlers_b.py",
            """
            from adapters.scriptling import runtime
            def greet(client): client.send("one")
            @runtime.http.websocket("/two")
            def two(client): client.send("two")
            """,
        )
        runtime.http.websocket("/ws", "ws_handlers_b.greet")
        with serve() as server, visit(server) as one, visit(server, "/two") as two:
            assert (text(one), text(two)) == ("one", "two")

    @pytest.mark.parametrize(
        "handler, error, said",
        [
            ("ws_no_such_module.f", ImportError, "ws_no_such_module"),
            ("ws_handlers_c.nothing", AttributeError, "nothing"),
            ("ws_handlers_c.number", TypeError, "5"),
        ],
    )
    def test_a_handler_that_is_not_there_is_named(self, beside: Path, handler: str, error: type[Exception], said: str) -> None:
        write(beside, "ws_handlers_c.py", "number = 5")
        runtime.http.websocket("/ws", handler)
        with pytest.raises(error, match=said):
            serve()

    def test_without_routes_there_is_nothing_to_serve(self) -> None:
        with pytest.raises(RuntimeError, match="runtime.http.websocket"):
            serve()

    @pytest.mark.parametrize(
        "address, error", [("8000", ValueError), ("ws://127.0.0.1:0", ValueError), ("", ValueError), (8000, TypeError)]
    )
    def test_what_is_no_address_is_said(self, address: Any, error: type[Exception]) -> None:
        runtime.http.websocket("/ws", print)
        with pytest.raises(error):
            runtime.serve(address)

    def test_an_address_in_use_is_named(self) -> None:
        runtime.http.websocket("/ws", print)
        with serve() as server, pytest.raises(OSError) as caught:
            runtime.serve(server.address)
        assert server.address in str(caught.value)

    def test_the_default_address(self) -> None:
        assert runtime.serve.__defaults__ == ("127.0.0.1:8000", None)

    def test_unknown_paths_and_plain_requests_are_refused(self) -> None:
        runtime.http.websocket("/ws", print)
        with serve() as server:
            with pytest.raises(bus.ConnectFailed, match="404"):
                visit(server, "/other")
            with Peer.to(server.address) as peer:
                peer.sock.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")
                assert peer.read(12) == b"HTTP/1.1 426"

    def test_a_page_of_elsewhere_is_refused(self) -> None:
        runtime.http.websocket("/ws", lambda client: client.send("hi"))
        with serve() as server:
            with pytest.raises(bus.ConnectFailed, match="403"):
                visit(server, origin="https://elsewhere.example")
            with visit(server, origin=f"http://{server.address}") as conn:
                assert text(conn) == "hi"
        with serve(origins=["https://elsewhere.example"]) as server, visit(server, origin="https://elsewhere.example") as conn:
            assert text(conn) == "hi"

    @pytest.mark.parametrize("given", ["context", "files"])
    def test_with_a_certificate_clients_come_by_wss(self, certificate: Certificate, given: str) -> None:
        runtime.http.websocket("/ws", lambda client: client.send("hi"))
        options = {"tls": certificate.server()} if given == "context" else {"cert": certificate.certificate, "key": certificate.key}
        with serve(**options) as server:
            with bus.connect(f"wss://{server.address}/ws", timeout=WAIT, tls=certificate.client(), proxy=False) as conn:
                assert text(conn) == "hi"
            with pytest.raises(bus.ConnectFailed):
                visit(server)

    @pytest.mark.parametrize("wrong", [{"tls": "certificate.pem"}, {"cert": 5}, {"key": "key.pem"}])
    def test_what_is_no_certificate_is_said(self, wrong: dict[str, Any]) -> None:
        runtime.http.websocket("/ws", print)
        with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
            serve(**wrong)

    def test_a_program_may_serve_twice(self) -> None:
        runtime.http.websocket("/ws", lambda client: client.send("hi"))
        with serve() as one, serve() as two, visit(one) as first, visit(two) as second:
            assert (text(first), text(second)) == ("hi", "hi")


class TestClient:
    def test_it_has_the_documents_methods(self) -> None:
        seen: list[Any] = []

        @runtime.http.websocket("/ws")
        def handler(client: runtime.WebSocketClient) -> None:
            seen.extend([client.connected(), client.receive(timeout=0.01), client.remote_addr])
            seen.extend([client.receive(timeout=WAIT), client.receive(WAIT)])
            client.send("text")
            client.send({"a": 1})
            client.send_binary([0, 255])
            client.send_binary(b"\x01")

        with serve() as server, visit(server) as conn:
            until(lambda: len(seen) == 3)
            conn.send("grüße")
            conn.send(b"\x00\xff")
            heard = [conn.receive(WAIT) for _ in range(4)]
            assert [(message.data, message.is_text) for message in heard if message] == [
                (b"text", True),
                (b'{"a":1}', True),
                (b"\x00\xff", False),
                (b"\x01", False),
            ]
            assert seen == [True, None, conn.local_address, "grüße", [0, 255]]
            assert closed_with(conn) == 1000  # its handler has returned

    def test_it_is_a_connection(self) -> None:
        assert issubclass(runtime.WebSocketClient, ws.Connection)

    def test_sixteen_mebibytes(self) -> None:
        runtime.http.websocket("/ws", lambda client: client.send(client.receive(WAIT)))
        with serve() as server, visit(server, max_size=ws.MAX_SIZE) as conn:
            conn.send(bytes(ws.MAX_SIZE))
            message = conn.receive(WAIT)
            assert message is not None
            assert len(message.data) == ws.MAX_SIZE

    def test_when_it_has_left_receive_gives_none(self) -> None:
        seen: list[Any] = []
        over = threading.Event()

        @runtime.http.websocket("/ws")
        def handler(client: runtime.WebSocketClient) -> None:
            while client.connected():
                seen.append(client.receive(timeout=WAIT))
            seen.append(client.receive(timeout=WAIT))
            over.set()

        with serve() as server:
            with visit(server) as conn:
                conn.send("last words")
            assert over.wait(WAIT)
        assert seen in (["last words", None, None], ["last words", None])

    @pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
    def test_a_handler_that_raises_closes_its_client_with_1011(self, error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
        @runtime.http.websocket("/ws")
        def handler(client: runtime.WebSocketClient) -> None:
            if client.receive(WAIT) == "raise":
                raise error("oh no")
            client.send("fine")

        with serve() as server, visit(server) as bad, visit(server) as good:
            bad.send("raise")
            assert closed_with(bad) == 1011
            good.send("go on")
            assert text(good) == "fine"
        assert "oh no" in caplog.text
        assert "Traceback" in caplog.text

    def test_when_the_server_stops_handlers_end_in_order(self) -> None:
        """None once, so that the documents' loop ends by its condition; then Closed, so that one without a condition ends, too."""
        seen: list[Any] = []

        @runtime.http.websocket("/ws")
        def handler(client: runtime.WebSocketClient) -> None:
            client.send("ready")
            seen.append(client.receive(timeout=None))
            seen.append(client.connected())
            try:
                client.receive(timeout=None)
            except bus.Closed as exc:
                seen.append(type(exc))

        with serve() as server, visit(server) as conn:
            assert text(conn) == "ready"
            server.stop()
            assert closed_with(conn) == GOING_AWAY
        until(lambda: len(seen) == 3)
        assert seen == [None, False, bus.Closed]

    def test_its_own_close_is_never_forgiven(self) -> None:
        seen: list[Any] = []

        @runtime.http.websocket("/ws")
        def handler(client: runtime.WebSocketClient) -> None:
            assert client.connected()
            client.close()
            client.close()
            calls: list[Callable[[], object]] = [lambda: client.send("x"), lambda: client.send_binary([1]), lambda: client.receive(0)]
            for call in calls:
                try:
                    call()
                except bus.Closed:
                    seen.append("closed")

        with serve() as server, visit(server) as conn:
            assert closed_with(conn) == 1000
        until(lambda: seen == ["closed"] * 3)

    def test_a_client_that_another_handler_closes(self) -> None:
        """For its own handler that is as if it had left; a third one that trusts it goes on, too."""
        clients: dict[str, runtime.WebSocketClient] = {}
        seen: dict[str, Any] = {}
        closed = threading.Event()

        @runtime.http.websocket("/ws")
        def handler(client: runtime.WebSocketClient) -> None:
            name = client.receive(WAIT)
            assert isinstance(name, str)
            clients[name] = client
            client.send("ready")
            order = client.receive(WAIT)
            seen[name] = order
            if order == "kick":
                clients["victim"].close()
                closed.set()
            elif order == "trust":
                assert clients["victim"].connected()
                client.send("trusting")
                assert closed.wait(WAIT)
                clients["victim"].send("x")
                assert clients["victim"].dropped == 1
                assert not clients["victim"].connected()
                with pytest.raises(bus.Closed):
                    clients["victim"].send("x")
                client.send("done")

        with serve() as server, visit(server) as victim, visit(server) as kicker, visit(server) as third:
            for conn, name in ((victim, "victim"), (kicker, "kicker"), (third, "third")):
                conn.send(name)
                assert text(conn) == "ready"
            third.send("trust")
            assert text(third) == "trusting"
            kicker.send("kick")
            assert closed_with(victim) == 1000
            assert text(third) == "done"
            until(lambda: "victim" in seen)
        assert seen["victim"] is None

    def test_a_client_that_does_not_read_holds_up_nobody_elses_handler(self, caplog: pytest.LogCaptureFixture) -> None:
        clients: list[runtime.WebSocketClient] = []
        done = threading.Event()

        @runtime.http.websocket("/ws")
        def handler(client: runtime.WebSocketClient) -> None:
            clients.append(client)
            client.send("ready")
            if client.receive(WAIT) == "flood":
                deaf = clients[0]
                while deaf.connected():
                    deaf.send("x" * 1_000_000)
                assert deaf.dropped == 1
                client.send("done")
                done.set()
            client.receive(WAIT)

        with serve() as server, caplog.at_level(logging.WARNING, "actorbus.scriptling"):
            with Peer.to(server.address, receive_buffer=4096) as deaf:
                deaf.sock.sendall(
                    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                )
                assert deaf.read(12) == b"HTTP/1.1 101"
                until(lambda: clients)
                with visit(server) as speaker:
                    assert text(speaker) == "ready"
                    speaker.send("flood")
                    assert text(speaker) == "done"
                    assert clients[0].remote_addr in caplog.text
        assert done.is_set()

    def test_its_own_handler_waits_for_it_to_read(self) -> None:
        """Only other handlers give up at once."""

        @runtime.http.websocket("/ws")
        def handler(client: runtime.WebSocketClient) -> None:
            for _ in range(12):
                client.send(b"x" * 1_000_000)
            assert client.dropped == 0

        with serve() as server, visit(server, mailbox_messages=1) as conn:
            received = list(conn)
            assert [len(message.data) for message in received] == [1_000_000] * 12
            assert conn.close_code == 1000

    def test_module_state_is_shared_by_all_connections(self) -> None:
        everybody: list[runtime.WebSocketClient] = []

        @runtime.http.websocket("/chat")
        def chat(client: runtime.WebSocketClient) -> None:
            everybody.append(client)
            client.send("welcome")
            try:
                while client.connected():
                    if msg := client.receive(timeout=60):
                        for c in everybody.copy():
                            if c.connected():
                                c.send(msg)
            finally:
                everybody.remove(client)

        with serve() as server, ExitStack() as stack:
            clients = [stack.enter_context(visit(server, "/chat")) for _ in range(4)]
            for conn in clients:
                assert text(conn) == "welcome"
            for speaker in clients:
                speaker.send("hello")
                assert [text(conn) for conn in clients] == ["hello"] * 4
            clients.pop().close()
            until(lambda: len(everybody) == 3)
            for number in range(50):
                clients[number % 3].send(str(number))
                assert [text(conn) for conn in clients] == [str(number)] * 3

    def test_a_handlers_client_is_the_threads_own_only_while_it_runs(self) -> None:
        held: list[runtime.WebSocketClient] = []

        @runtime.http.websocket("/ws")
        def handler(client: runtime.WebSocketClient) -> None:
            held.append(client)
            client.receive(WAIT)

        with serve() as server, visit(server):
            until(lambda: held)
            assert client_module._handled.link is None
            held[0].send("from another thread")  # which is no handler, and waits as any


# --- under the runner ---

ECHO = """
    import scriptling.runtime as runtime

    @runtime.http.websocket("/echo")
    def echo(client):
        print("come")
        try:
            while client.connected():
                msg = client.receive(timeout=60)
                if msg:
                    client.send(msg)
            print("over")
        finally:
            print("left")
    """


def port_of(line: str) -> str:
    return line.rpartition("ws://")[2]


def free_address() -> str:
    """An address of this machine that no other test has, at a port below those that the system gives away."""
    dice = random.SystemRandom()  # not the seeded one: the workers of a run would all throw the same
    return "127." + ".".join(str(dice.randint(1, 254)) for _ in range(3)) + f":{dice.randint(10_000, 32_000)}"


def announced(command: Command) -> str:
    """Where it serves, which is what it says first."""
    assert command.process.stdout is not None
    line = command.process.stdout.readline().rstrip("\n")
    command.said.append(line)
    assert "serving /" in line, (line, command.process.stderr)
    return port_of(line)


# 127.0.0.0/8 is this machine on Linux only.
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8")


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_runner_serves_until_a_signal(tmp_path: Path, number: signal.Signals, status: int) -> None:
    path = write(tmp_path, "setup.py", ECHO)
    with Command("run", "--listen", "127.0.0.1:0", path) as command:
        address = announced(command)
        with bus.connect(f"ws://{address}/echo", timeout=WAIT) as conn:
            conn.send("hello")
            assert text(conn) == "hello"
            command.signal(number)
            assert closed_with(conn) == GOING_AWAY
        ended = command.end()
    assert (ended.status, ended.stderr) == (status, "")
    assert ended.lines[0].startswith("serving /echo on ws://127.0.0.1:")
    # Whether its loop ends by the signal or by its condition depends on which of the two reaches it first.
    assert [line for line in ended.lines[1:] if line not in ("", "over")] == ["come", "left"]


def test_a_handler_that_sleeps_hears_of_ctrl_c(tmp_path: Path) -> None:
    source = """
        import time
        import scriptling.runtime as runtime

        @runtime.http.websocket("/sleep")
        def handler(client):
            client.send("sleeping")
            try:
                time.sleep(600)
            finally:
                print("awake")
        """
    with Command("run", "--listen", "127.0.0.1:0", write(tmp_path, "setup.py", source)) as command:
        with bus.connect(f"ws://{announced(command)}/sleep", timeout=WAIT) as conn:
            assert text(conn) == "sleeping"
            command.signal(signal.SIGINT)
            assert closed_with(conn) == GOING_AWAY
        ended = command.end()
    assert (ended.status, ended.stderr) == (130, "")
    assert ended.lines[-1] == "awake"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_handler_that_a_signal_ends_goes_away_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    source = """
        import time
        import scriptling.runtime as runtime

        @runtime.http.websocket("/sleep")
        def handler(client):
            client.send("sleeping")
            try:
                time.sleep(600)
            except BaseException:
                print("went on")

        @runtime.http.websocket("/follow")
        def follow(client):
            client.send("following")
            try:
                client.receive(timeout=None)
            except KeyboardInterrupt:
                return
        """
    with Command("run", "--listen", "127.0.0.1:0", write(tmp_path, "setup.py", source)) as command:
        address = announced(command)
        with bus.connect(f"ws://{address}/sleep", timeout=WAIT) as sleeper, bus.connect(f"ws://{address}/follow", timeout=WAIT) as follower:
            assert (text(sleeper), text(follower)) == ("sleeping", "following")
            command.signal(number)
            assert (closed_with(sleeper), closed_with(follower)) == (GOING_AWAY, GOING_AWAY)
        ended = command.end()
    assert (ended.status, ended.stderr) == (128 + number, "")
    assert ended.lines[-1] == "went on"


def test_a_handler_that_raises_is_told_and_the_runner_goes_on(tmp_path: Path) -> None:
    write(tmp_path, "handlers.py", "def bad(client):\n    if client.receive(60) == 'raise':\n        1 / 0\n    client.send('fine')\n")
    path = write(tmp_path, "setup.py", 'import scriptling.runtime as runtime\nruntime.http.websocket("/bad", "handlers.bad")\n')
    with Command("run", "--listen", "127.0.0.1:0", path) as command:
        address = announced(command)
        with bus.connect(f"ws://{address}/bad") as conn:
            conn.send("raise")
            assert closed_with(conn) == 1011
        with bus.connect(f"ws://{address}/bad") as conn:
            conn.send("go on")
            assert text(conn) == "fine"
        command.signal(signal.SIGINT)
        ended = command.end()
    assert ended.status == 130
    assert "ZeroDivisionError" in ended.stderr
    assert "handlers.py" in ended.stderr


@linux
def test_scripts_share_one_server_and_their_handlers_print_in_their_names(tmp_path: Path) -> None:
    one = write(tmp_path, "one.py", ECHO.replace("/echo", "/one"))
    two = write(tmp_path, "two.py", ECHO.replace("/echo", "/two"))
    client = write(
        tmp_path,
        "client.py",
        """
        import sys
        import scriptling.websocket as ws
        for path in ("/one", "/two"):
            conn = ws.connect(f"ws://{sys.argv[1]}{path}", timeout=30)
            conn.send(path)
            print(conn.receive(timeout=30))
            conn.close()
        print("done")
        """,
    )
    address = free_address()
    with Command("run", "--listen", address, client, one, two, "--", address) as command:
        command.read_until("client | done", "one | left", "two | left")
        command.signal(signal.SIGINT)
        ended = command.end()
    assert ended.stderr == ""
    assert ended.lines_of("client") == ["/one", "/two", "done"]
    for name in ("one", "two"):
        assert [line for line in ended.lines_of(name) if "serving" not in line] == ["come", "over", "left"]
    assert f"one | serving /one on ws://{address}" in ended.lines
    assert f"two | serving /two on ws://{address}" in ended.lines


@linux
def test_a_route_that_comes_late_begins_to_be_served(tmp_path: Path) -> None:
    early = write(tmp_path, "early.py", ECHO)
    late = write(
        tmp_path,
        "late.py",
        """
        import scriptling.runtime as runtime
        input()
        runtime.http.websocket("/late", lambda client: client.send("better late"))
        """,
    )
    address = free_address()
    with Command("run", "--listen", address, early, late) as command:
        command.read_until(f"early | serving /echo on ws://{address}")
        with bus.connect(f"ws://{address}/echo", timeout=WAIT) as conn:
            command.tell("")
            command.read_until(f"late | serving /late on ws://{address}")
            with bus.connect(f"ws://{address}/late", timeout=WAIT) as other:
                assert text(other) == "better late"
            conn.send("as before")
            assert text(conn) == "as before"
            command.signal(signal.SIGINT)
            assert closed_with(conn) == GOING_AWAY
        ended = command.end()
    assert (ended.status, ended.stderr) == (130, "")


def test_pages_of_elsewhere_are_let_in_by_their_origin(tmp_path: Path) -> None:
    path = write(tmp_path, "setup.py", ECHO)
    with Command("run", "--listen", "127.0.0.1:0", "--origin", "https://one.example", "--origin", "https://two.example", path) as command:
        address = announced(command)
        for origin in ("https://one.example", "https://two.example"):
            with bus.connect(f"ws://{address}/echo", timeout=WAIT, origin=origin) as conn:
                conn.send("let in")
                assert text(conn) == "let in"
        with pytest.raises(bus.ConnectFailed, match="403"):
            bus.connect(f"ws://{address}/echo", timeout=WAIT, origin="https://three.example")
        command.signal(signal.SIGINT)
        assert command.end().status == 130


def test_two_scripts_cannot_have_the_same_path(tmp_path: Path) -> None:
    source = """
        import sys, scriptling.runtime as runtime
        try:
            runtime.http.websocket("/same", print)
        except ValueError as error:
            print(error)
        sys.exit()
        """
    ended = run(write(tmp_path, "one.py", source), write(tmp_path, "two.py", source))
    assert (ended.status, ended.stderr) == (0, "")
    assert len(ended.lines) == 1
    assert "the route '/same' was registered by script" in ended.stdout


@pytest.mark.parametrize("others", [0, 1])
def test_a_handler_that_is_not_there_ends_the_script(tmp_path: Path, others: int) -> None:
    path = write(tmp_path, "setup.py", 'import scriptling.runtime as runtime\nruntime.http.websocket("/x", "no_such_module.f")\n')
    ended = run("--listen", "127.0.0.1:0", path, *[write(tmp_path, f"other{n}.py", "") for n in range(others)])
    assert ended.status == 1
    assert "No module named 'no_such_module'" in ended.stderr


def test_an_address_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run("--listen", address, write(tmp_path, "setup.py", ECHO))
    assert ended.status == 1
    (line,) = ended.stderr.splitlines()
    assert address in line
    assert "--listen" in line


def test_a_script_that_serves_by_itself_is_left_to_it(tmp_path: Path) -> None:
    source = """
        import scriptling.runtime as runtime

        @runtime.http.websocket("/own")
        def own(client):
            client.send("hello")

        server = runtime.serve("127.0.0.1:0")
        print("serving /own on ws://" + server.address, flush=True)
        input()
        server.stop()
        """
    with socket.create_server(("127.0.0.1", 0)) as taken:  # the runner has nothing to do there
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Command("run", "--listen", address, write(tmp_path, "setup.py", source)) as command:
            with bus.connect(f"ws://{announced(command)}/own") as conn:
                assert text(conn) == "hello"
            command.tell("")
            ended = command.end()
    assert (ended.status, ended.stderr) == (0, "")


def test_modules_beside_each_script_are_its_own(tmp_path: Path) -> None:
    """Two files of one name cannot be loaded both: the second script ends with an error, and the first one's routes are served."""
    paths = []
    for name in ("a", "b"):
        write(tmp_path / name, "handlers.py", "def serve(client): client.send(__file__)")
        source = f'import scriptling.runtime as runtime\nruntime.http.websocket("/{name}", "handlers.serve")\n'
        paths.append(write(tmp_path / name, f"setup_{name}.py", source))
    with Command("run", "--listen", "127.0.0.1:0", *paths) as command:
        address = announced(command)
        assert command.process.stderr is not None
        told = next(line for line in command.process.stderr if "two files" in line)
        assert "two files are called 'handlers'" in told
        with bus.connect(f"ws://{address}/{'b' if told.startswith('setup_a') else 'a'}", timeout=WAIT) as conn:
            assert text(conn).endswith("handlers.py")
        command.signal(signal.SIGINT)
        command.end()


def test_without_routes_nothing_is_served(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run("--listen", address, write(tmp_path, "script.py", "import scriptling.runtime; print('ran')"))
    assert (ended.status, ended.stdout, ended.stderr) == (0, "ran\n", "")


def test_json_both_ways() -> None:
    @runtime.http.websocket("/add")
    def add(client: runtime.WebSocketClient) -> None:
        msg = client.receive(WAIT)
        assert ws.is_text(msg)
        client.send({"sum": sum(json.loads(msg)["numbers"])})

    with serve() as server:
        conn = ws.connect(f"ws://{server.address}/add")
        conn.send({"numbers": [1, 2, 3]})
        answer = InThread(lambda: conn.receive(WAIT)).result()
        conn.close()
    assert answer == '{"sum":6}'

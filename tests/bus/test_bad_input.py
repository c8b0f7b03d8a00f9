"""Bad input to every public function: the documented error, its text names the fault, and nothing stays open or changes."""

from __future__ import annotations

import inspect
import math
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import bus
from actors import crew
from tests.conftest import LeakWatch

BOUND = 30.0


class Scene:
    """One object of each kind, opened when a case first looks at it."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self._stack = stack
        self.path = path

    @cached_property
    def server(self) -> Any:  # and what else is given wrong arguments below
        return self._stack.enter_context(bus.serve("tcp://127.0.0.1:0", lambda message, client: message))

    wrong: Any = 5

    @cached_property
    def conn(self) -> bus.Connection:
        return self._connected(self.server)

    def _connected(self, server: bus.Server) -> bus.Connection:
        conn = self._stack.enter_context(bus.connect(f"tcp://{server.address}", timeout=BOUND, max_size=100))
        conn.send("here")
        assert conn.receive(timeout=BOUND) is not None
        return conn

    @cached_property
    def client(self) -> Any:
        assert self.conn
        return self.server.clients[0]

    @cached_property
    def another_servers_client(self) -> bus.Client:
        other = self._stack.enter_context(bus.serve("tcp://127.0.0.1:0", lambda message, client: message))
        self._connected(other)
        return other.clients[0]

    @cached_property
    def listener(self) -> bus.Listener:
        return self._stack.enter_context(bus.listen("tcp://127.0.0.1:0"))

    @cached_property
    def udp(self) -> bus.UdpSocket:
        return self._stack.enter_context(bus.bind("udp://127.0.0.1:0"))

    @cached_property
    def group(self) -> bus.Group:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return self._stack.enter_context(bus.join(f"udp://239.255.77.1:{port}", interface="127.0.0.1"))

    @cached_property
    def sub(self) -> bus.Subscription:
        return self._stack.enter_context(bus.subscribe("bad.input"))

    @cached_property
    def responder(self) -> bus.Responder:
        return self._stack.enter_context(bus.respond("bad.input", lambda message: message))

    @cached_property
    def bridge(self) -> bus.Bridge:
        return self._stack.enter_context(bus.bridge("bad.input.in", "bad.input.out"))

    def closed(self, kind: str) -> Any:
        thing = getattr(self, kind)
        assert thing.close() in (True, False)
        return thing


@pytest.fixture
def scene(no_leaks: LeakWatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(crew, "IDLE_SECONDS", 0.01)  # the thread of a lookup leaves soon
    with ExitStack() as stack:
        yield Scene(stack, tmp_path)


@dataclass(frozen=True)
class Case:
    """A call that must fail: the function that it is about, the error, and what its text says."""

    of: str
    call: Callable[[Scene], object]
    error: type[Exception]
    says: str

    def __str__(self) -> str:
        return f"{self.of}-{self.error.__name__}-{self.says[:30]}"


def nothing(message: bus.Message, client: bus.Client) -> None:
    """A callback that does not answer."""


def each(of: str, values: list[Any], call: Callable[[Scene, Any], object], error: type[Exception], says: str) -> list[Case]:
    return [Case(of, lambda s, value=value: call(s, value), error, says) for value in values]  # type: ignore[misc]


NO_TIMEOUT: list[tuple[Any, type[Exception]]] = [
    (-1, ValueError),
    (-0.5, ValueError),
    (math.nan, ValueError),
    (True, TypeError),
    ("1", TypeError),
    (object(), TypeError),
]


def timeouts(of: str, call: Callable[[Scene, Any], object], name: str = "timeout") -> list[Case]:
    return [
        Case(of, lambda s, value=value: call(s, value), error, name)  # type: ignore[misc]
        for value, error in NO_TIMEOUT
    ]


def counts(of: str, call: Callable[..., object], *names: str) -> list[Case]:
    """Arguments that are a number from 1 on."""
    return [
        Case(of, lambda s, name=name, value=value: call(s, **{name: value}), error, name)  # type: ignore[misc]
        for name in names
        for value, error in ((0, ValueError), (-1, ValueError), (True, TypeError), (1.5, TypeError), ("5", TypeError), (None, TypeError))
    ]


NO_URL: list[tuple[Any, type[Exception]]] = [
    (None, TypeError),
    (8080, TypeError),
    (b"tcp://127.0.0.1:0", TypeError),
    ("", bus.BadAddress),
    ("127.0.0.1:0", bus.BadAddress),
    ("http://127.0.0.1:0", bus.BadAddress),
    ("tcp://127.0.0.1", bus.BadAddress),
    ("udp://127.0.0.1:65536", bus.BadAddress),
    ("udp://127.0.0.1:-1", bus.BadAddress),
    ("tcp://:80", bus.BadAddress),
    ("unix://", bus.BadAddress),
]

NO_MESSAGE: list[tuple[Any, type[Exception]]] = [
    (None, TypeError),
    (5, TypeError),
    ([b"x"], TypeError),
    ({1: "a"}, TypeError),
    ({"a": {1}}, TypeError),
    ({"a": math.nan}, ValueError),
    ("\ud800", ValueError),
]


def urls(verb: str, call: Callable[[Any], object]) -> list[Case]:
    return [Case(verb, lambda s, url=url: call(url), error, "") for url, error in NO_URL]  # type: ignore[misc]


def messages(of: str, call: Callable[[Scene, Any], object]) -> list[Case]:
    return [Case(of, lambda s, message=message: call(s, message), error, "") for message, error in NO_MESSAGE]  # type: ignore[misc]


def threads(of: str, call: Callable[[Any], object]) -> list[Case]:
    return each(of, [1, 0, "shared", True], lambda s, value: call(value), ValueError, "threads")


CONNECT = [
    *urls("connect", bus.connect),
    Case("connect", lambda s: bus.connect("tcp://127.0.0.1:0"), bus.BadAddress, "port 0"),
    Case("connect", lambda s: bus.connect("udp://127.0.0.1:0"), bus.BadAddress, "port 0"),
    Case("connect", lambda s: bus.connect("tcp://a..b:80", timeout=BOUND), bus.ConnectFailed, "no address for the name 'a..b'"),
    Case("connect", lambda s: bus.connect(f"unix://{s.path}/{'x' * 200}"), bus.ConnectFailed, "too long"),
    Case("connect", lambda s: bus.connect(f"unix://{s.path}/nobody"), bus.ConnectFailed, "no such file"),
    Case("connect", lambda s: bus.connect(f"unix://{s.path}"), bus.ConnectFailed, "refused"),
    Case("connect", lambda s: bus.connect(f"tcp://{s.closed('listener').address}"), bus.ConnectFailed, "refused"),
    *timeouts("connect", lambda s, value: bus.connect(f"tcp://{s.server.address}", timeout=value)),
    Case("connect", lambda s: bus.connect(f"tcp://{s.server.address}", timeout=0), ValueError, "timeout must be over 0"),
    *timeouts("connect", lambda s, value: bus.connect(f"tcp://{s.server.address}", stall_timeout=value), "stall_timeout"),
    *counts(
        "connect",
        lambda s, **options: bus.connect(f"tcp://{s.server.address}", **options),
        "max_size",
        "mailbox_messages",
        "mailbox_bytes",
        "outbox_bytes",
        "outbox_messages",
    ),
    *threads("connect", lambda value: bus.connect("tcp://127.0.0.1:1", threads=value)),
    *each("connect", ["", "LENGTH", None, 5], lambda s, value: bus.connect("tcp://127.0.0.1:1", framing=value), ValueError, "framing"),
]

LISTEN = [
    *urls("listen", bus.listen),
    Case("listen", lambda s: bus.listen("udp://127.0.0.1:0"), bus.BadAddress, "use connect, bind, join"),
    Case("listen", lambda s: bus.listen(f"tcp://{s.listener.address}"), OSError, "Address already in use"),
    Case("listen", lambda s: bus.listen("tcp://192.0.2.1:0"), OSError, "192.0.2.1:0"),
    Case("listen", lambda s: bus.listen("tcp://a..b:0"), bus.ConnectFailed, "no address for the name"),
    Case("listen", lambda s: bus.listen(f"unix://{s.path}/{'x' * 200}"), OSError, "too long"),
    Case("listen", lambda s: bus.listen(f"unix://{s.path}"), OSError, "in use"),
    Case("listen", lambda s: bus.listen(f"unix://{s.path}/missing/a.sock"), FileNotFoundError, "missing"),
    *timeouts("listen", lambda s, value: bus.listen("tcp://127.0.0.1:0", stall_timeout=value), "stall_timeout"),
    *counts(
        "listen",
        lambda s, **options: bus.listen("tcp://127.0.0.1:0", **options),
        "max_size",
        "mailbox_messages",
        "mailbox_bytes",
        "outbox_bytes",
        "outbox_messages",
    ),
    *threads("listen", lambda value: bus.listen("tcp://127.0.0.1:0", threads=value)),
    *each("listen", ["", None], lambda s, value: bus.listen("tcp://127.0.0.1:0", framing=value), ValueError, "framing"),
]

BIND = [
    *urls("bind", bus.bind),
    Case("bind", lambda s: bus.bind("tcp://127.0.0.1:0"), bus.BadAddress, "use connect, listen, serve"),
    Case("bind", lambda s: bus.bind(f"udp://{s.udp.address}"), OSError, "Address already in use"),
    *counts("bind", lambda s, **options: bus.bind("udp://127.0.0.1:0", **options), "mailbox_messages", "mailbox_bytes"),
    *threads("bind", lambda value: bus.bind("udp://127.0.0.1:0", threads=value)),
]

GROUP = "udp://239.255.77.1:1"
JOIN = [
    *urls("join", bus.join),
    Case("join", lambda s: bus.join("tcp://239.255.77.1:1"), bus.BadAddress, "use connect, listen, serve"),
    Case("join", lambda s: bus.join("udp://127.0.0.1:9"), bus.BadAddress, "not a multicast address"),
    Case("join", lambda s: bus.join("udp://localhost:9"), bus.BadAddress, "not an IP address"),
    Case("join", lambda s: bus.join("udp://239.255.77.1:0"), bus.BadAddress, "port from 1 to 65535"),
    *each("join", [-1, 256, 10**10], lambda s, value: bus.join(GROUP, ttl=value), ValueError, "ttl must be 0 to 255"),
    *each("join", [True, "1", None, 1.0], lambda s, value: bus.join(GROUP, ttl=value), TypeError, "ttl must be an int"),
    *each(
        "join",
        ["nope0", "\ud800", "x" * 100],
        lambda s, value: bus.join(GROUP, interface=value),
        bus.BadAddress,
        "no such network interface",
    ),
    Case("join", lambda s: bus.join(GROUP, interface="192.0.2.1"), bus.BadAddress, "has that address"),
    *each("join", [5, b"lo", ("lo",)], lambda s, value: bus.join(GROUP, interface=value), TypeError, "interface must be a str"),
    *counts("join", lambda s, **options: bus.join(GROUP, interface="127.0.0.1", **options), "mailbox_messages", "mailbox_bytes"),
    *threads("join", lambda value: bus.join(GROUP, interface="127.0.0.1", threads=value)),
]


def rates(of: str, call: Callable[..., Any], *names: str) -> list[Case]:
    wrong: list[tuple[Any, type[Exception]]] = [(0, ValueError), (-1, ValueError), (math.nan, ValueError), (math.inf, ValueError)]
    wrong += [(10**400, ValueError), ("10", TypeError), (True, TypeError)]
    return [
        Case(of, lambda s, name=name, value=value: call(s, **{name: value}), error, name)  # type: ignore[misc]
        for name in names
        for value, error in wrong
    ]


def serve(**options: Any) -> bus.Server:
    return bus.serve("tcp://127.0.0.1:0", nothing, **options)


SERVE = [
    *urls("serve", lambda url: bus.serve(url, nothing)),
    Case("serve", lambda s: bus.serve("udp://127.0.0.1:0", nothing), bus.BadAddress, "use connect, bind, join"),
    Case("serve", lambda s: bus.serve(f"tcp://{s.listener.address}", nothing), OSError, "Address already in use"),
    *each("serve", [None, "f", 5], lambda s, value: bus.serve("tcp://127.0.0.1:0", value), TypeError, "on_message must be callable"),
    *each("serve", ["f", 5], lambda s, value: serve(on_connect=value), TypeError, "on_connect must be callable"),
    *each("serve", ["f", 5], lambda s, value: serve(on_disconnect=value), TypeError, "on_disconnect must be callable"),
    *each("serve", ["", "drop", None, 5], lambda s, value: serve(overflow=value), ValueError, "overflow"),
    *each("serve", ["", None], lambda s, value: serve(framing=value), ValueError, "framing"),
    *timeouts("serve", lambda s, value: serve(stall_timeout=value), "stall_timeout"),
    *timeouts("serve", lambda s, value: serve(idle_timeout=value), "idle_timeout"),
    *timeouts("serve", lambda s, value: serve(handshake_timeout=value), "handshake_timeout"),
    *each("serve", ["f", 5], lambda s, value: serve(authenticate=value), TypeError, "authenticate must be callable"),
    *each("serve", ["", "drop", None, 5], lambda s, value: serve(over_rate=value), ValueError, "over_rate"),
    *rates("serve", lambda s, **options: serve(**options), "max_messages_per_second", "max_bytes_per_second"),
    *counts("serve", lambda s, **options: serve(**options), "max_size", "outbox_bytes", "outbox_messages"),
    *counts("serve", lambda s, **options: serve(**options), "max_clients", "max_clients_per_address"),
    *each("serve", [0, -1], lambda s, value: serve(threads=value), ValueError, "threads"),
    *each("serve", [True, "shared", 1.0], lambda s, value: serve(threads=value), TypeError, "threads"),
]

CONNECTION = [
    *messages("Connection.send", lambda s, message: s.conn.send(message)),
    *timeouts("Connection.send", lambda s, value: s.conn.send("x", timeout=value)),
    Case("Connection.send", lambda s: s.conn.send("x" * 101), bus.TooLarge, "101 bytes are over max_size=100"),
    Case("Connection.send", lambda s: s.closed("conn").send("x"), bus.Closed, "was closed by this program"),
    *messages("Connection.send_many", lambda s, message: s.conn.send_many(["good", message])),
    *timeouts("Connection.send_many", lambda s, value: s.conn.send_many(["x"], timeout=value)),
    *each("Connection.send_many", [None, 5], lambda s, value: s.conn.send_many(value), TypeError, "iterable"),
    Case("Connection.send_many", lambda s: s.conn.send_many(["x", "x" * 101]), bus.TooLarge, "101 bytes"),
    Case("Connection.send_many", lambda s: s.closed("conn").send_many(["x"]), bus.Closed, "was closed"),
    *timeouts("Connection.receive", lambda s, value: s.conn.receive(value)),
    Case("Connection.receive", lambda s: s.closed("conn").receive(), bus.Closed, "was closed"),
    Case("Connection.receive", lambda s: s.closed("conn").receive(timeout=0), bus.Closed, "was closed"),
    Case("Connection.receive", lambda s: next(s.closed("conn")), bus.Closed, "was closed"),
    *timeouts("Connection.close", lambda s, value: s.conn.close(value), "linger"),
]

LISTENER = [
    *timeouts("Listener.accept", lambda s, value: s.listener.accept(value)),
    Case("Listener.accept", lambda s: s.closed("listener").accept(), bus.Closed, "was closed"),
    Case("Listener.accept", lambda s: next(s.closed("listener")), bus.Closed, "was closed"),
    *timeouts("Listener.close", lambda s, value: s.listener.close(value), "linger"),
]

DATAGRAMS = [
    *messages("UdpSocket.send_to", lambda s, message: s.udp.send_to(s.udp.address, message)),
    *timeouts("UdpSocket.send_to", lambda s, value: s.udp.send_to(s.udp.address, "x", timeout=value)),
    *each("UdpSocket.send_to", [None, 5, ("127.0.0.1", 9)], lambda s, to: s.udp.send_to(to, "x"), TypeError, "address must be a str"),
    *each("UdpSocket.send_to", ["", "127.0.0.1", "127.0.0.1:x", "::1:9"], lambda s, to: s.udp.send_to(to, "x"), bus.BadAddress, ""),
    Case("UdpSocket.send_to", lambda s: s.udp.send_to("udp://127.0.0.1:9", "x"), bus.BadAddress, "without a scheme"),
    Case("UdpSocket.send_to", lambda s: s.udp.send_to("a..b:9", "x"), bus.ConnectFailed, "no address for the name"),
    Case("UdpSocket.send_to", lambda s: s.udp.send_to("[::1]:9", "x"), bus.ConnectFailed, "::1"),
    Case("UdpSocket.send_to", lambda s: s.udp.send_to("127.0.0.1:0", "x"), OSError, "127.0.0.1:0"),
    Case("UdpSocket.send_to", lambda s: s.udp.send_to("255.255.255.255:9", "x"), PermissionError, "255.255.255.255:9"),
    Case("UdpSocket.send_to", lambda s: s.udp.send_to(s.udp.address, b"x" * 65_508), bus.TooLarge, "65508 bytes"),
    Case("UdpSocket.send_to", lambda s: s.closed("udp").send_to("127.0.0.1:9", "x"), bus.Closed, "was closed"),
    *messages("UdpSocket.post", lambda s, message: s.udp.post(s.udp.address, message)),
    *timeouts("UdpSocket.post", lambda s, value: s.udp.post(s.udp.address, "x", timeout=value)),
    *each("UdpSocket.post", [5, ("127.0.0.1", 9)], lambda s, to: s.udp.post(to, "x"), TypeError, "address must be a str"),
    Case("UdpSocket.post", lambda s: s.udp.post("127.0.0.1", "x"), bus.BadAddress, ""),
    Case("UdpSocket.post", lambda s: s.udp.post(s.udp.address, b"x" * 65_508), bus.TooLarge, "65508 bytes"),
    Case("UdpSocket.post", lambda s: s.udp.post(s.udp.address, "x", done=s.wrong), TypeError, "done must be callable"),
    Case("UdpSocket.post", lambda s: s.closed("udp").post("127.0.0.1:9", "x"), bus.Closed, "was closed"),
    Case("UdpSocket.post_connect", lambda s: s.udp.post_connect("127.0.0.1:9", choose=s.wrong), TypeError, "choose must be callable"),
    Case("UdpSocket.post_connect", lambda s: s.udp.post_connect(s.wrong), TypeError, "address must be a str"),
    Case("UdpSocket.post_connect", lambda s: s.closed("udp").post_connect("127.0.0.1:9"), bus.Closed, "was closed"),
    *each("UdpSocket.resume", [1.0, True, "1"], lambda s, count: s.udp.resume(count), TypeError, "count must be an int"),
    *each("UdpSocket.resume", [0, -1], lambda s, count: s.udp.resume(count), ValueError, "count must be at least 1"),
    Case("UdpSocket.resume", lambda s: s.closed("udp").resume(), bus.Closed, "was closed"),
    *each("UdpSocket.set_buffer_size", [1.0, True, None], lambda s, size: s.udp.set_buffer_size(size), TypeError, "size must be an int"),
    Case("UdpSocket.set_buffer_size", lambda s: s.udp.set_buffer_size(-1), ValueError, "0 or more"),
    Case("UdpSocket.set_buffer_size", lambda s: s.udp.set_buffer_size(9, s.wrong), ValueError, "version must be 4, 6"),
    Case("UdpSocket.set_buffer_size", lambda s: s.closed("udp").set_buffer_size(9), bus.Closed, "was closed"),
    Case("UdpSocket.set_reuse_port", lambda s: s.closed("udp").set_reuse_port(True), bus.Closed, "was closed"),
    Case("UdpSocket.when_ready", lambda s: s.udp.when_ready(s.wrong), TypeError, "call must be callable"),
    Case("UdpSocket.set_broadcast", lambda s: s.closed("udp").set_broadcast(True), bus.Closed, "was closed"),
    *timeouts("UdpSocket.receive", lambda s, value: s.udp.receive(value)),
    Case("UdpSocket.receive", lambda s: s.closed("udp").receive(), bus.Closed, "was closed"),
    Case("UdpSocket.receive", lambda s: next(s.closed("udp")), bus.Closed, "was closed"),
    *timeouts("UdpSocket.close", lambda s, value: s.udp.close(value), "linger"),
    *messages("Group.send", lambda s, message: s.group.send(message)),
    *timeouts("Group.send", lambda s, value: s.group.send("x", timeout=value)),
    Case("Group.send", lambda s: s.group.send(b"x" * 65_508), bus.TooLarge, "65508 bytes"),
    Case("Group.send", lambda s: s.closed("group").send("x"), bus.Closed, "was closed"),
    *timeouts("Group.receive", lambda s, value: s.group.receive(value)),
    Case("Group.receive", lambda s: s.closed("group").receive(), bus.Closed, "was closed"),
    *timeouts("Group.close", lambda s, value: s.group.close(value), "linger"),
]

SERVER = [
    *messages("Client.send", lambda s, message: s.client.send(message)),
    *timeouts("Client.send", lambda s, value: s.client.send("x", timeout=value)),
    Case("Client.send", lambda s: s.client.send("x" * (1024 * 1024 + 1)), bus.TooLarge, "max_size=1048576"),
    Case("Client.send", lambda s: s.closed("client").send("x"), bus.Closed, "was closed"),
    Case("Client.receive", lambda s: s.client.receive(), TypeError, "on_message"),
    Case("Client.receive", lambda s: s.client.receive(timeout=1), TypeError, "on_message"),
    *timeouts("Client.close", lambda s, value: s.client.close(value), "linger"),
    *messages("Server.send", lambda s, message: s.server.send(message, s.client)),
    *timeouts("Server.send", lambda s, value: s.server.send("x", s.client, timeout=value)),
    *each("Server.send", [None, "127.0.0.1:9", 5], lambda s, who: s.server.send("x", who), TypeError, "client must be a Client"),
    Case("Server.send", lambda s: s.server.send("x", s.conn), TypeError, "not Connection"),
    Case("Server.send", lambda s: s.server.send("x", s.another_servers_client), ValueError, "another server"),
    Case("Server.send", lambda s: s.server.send("x", s.closed("client")), bus.Closed, "was closed"),
    Case("Server.send", lambda s: (s.client, s.closed("server").send("x", s.client)), bus.Closed, "was closed"),
    *messages("Server.send_to_all", lambda s, message: s.server.send_to_all(message)),
    Case("Server.send_to_all", lambda s: s.server.send_to_all("x" * (1024 * 1024 + 1)), bus.TooLarge, "max_size=1048576"),
    Case("Server.send_to_all", lambda s: s.server.send_to_all("x", to=[s.client, "b"]), TypeError, "not str"),
    Case("Server.send_to_all", lambda s: s.server.send_to_all("x", to=s.client), TypeError, "iterable"),
    Case("Server.send_to_all", lambda s: s.server.send_to_all("x", to=[s.another_servers_client]), ValueError, "another server"),
    Case("Server.send_to_all", lambda s: s.closed("server").send_to_all("x"), bus.Closed, "was closed"),
    *timeouts("Server.wait", lambda s, value: s.server.wait(value)),
    *timeouts("Server.stop", lambda s, value: s.server.stop(value), "linger"),
    *timeouts("Server.stop", lambda s, value: s.server.stop(drain=value), "drain"),
    *timeouts("Server.close", lambda s, value: s.server.close(value), "linger"),
]

receive_any: Any = bus.receive_any  # a type checker refuses most of these calls already

OTHERS = [
    Case("receive_any", lambda s: receive_any([]), ValueError, "at least one"),
    Case("receive_any", lambda s: receive_any(None), TypeError, "iterable"),
    Case("receive_any", lambda s: receive_any(s.conn, timeout=0), TypeError, "takes a list"),
    Case("receive_any", lambda s: receive_any(s.udp, timeout=0), TypeError, "takes a list"),
    Case("receive_any", lambda s: receive_any([s.conn, s.server], timeout=0), TypeError, "not Server"),
    Case("receive_any", lambda s: receive_any([s.conn, "x"], timeout=0), TypeError, "not str"),
    Case("receive_any", lambda s: receive_any([s.udp, s.closed("conn")], timeout=0), bus.Closed, "was closed"),
    *timeouts("receive_any", lambda s, value: bus.receive_any([s.conn], timeout=value)),
    *timeouts("Connection.flush", lambda s, value: s.conn.flush(value)),
    *timeouts("deadline", lambda s, value: bus.deadline(value).__enter__(), "seconds"),
    *timeouts("shutdown", lambda s, value: bus.shutdown(value)),
]

NO_TOPIC: list[tuple[Any, type[Exception]]] = [
    (None, TypeError),
    (5, TypeError),
    (b"a", TypeError),
    ("", bus.BadTopic),
    ("a..b", bus.BadTopic),
]


def topics(of: str, call: Callable[[Any], object]) -> list[Case]:
    return [Case(of, lambda s, topic=topic: call(topic), error, "") for topic, error in NO_TOPIC]  # type: ignore[misc]


respond: Any = bus.respond

TOPICS = [
    *topics("publish", lambda topic: bus.publish(topic, "x")),
    *messages("publish", lambda s, message: bus.publish("a", message)),
    *timeouts("publish", lambda s, value: bus.publish("a", "x", timeout=value)),
    *each("publish", [5, "a", {"a": 5}, {1: "a"}], lambda s, value: bus.publish("a", "x", headers=value), TypeError, "headers"),
    Case("publish", lambda s: bus.publish("a", b"x" * (1024 * 1024 + 1)), bus.TooLarge, "1048577 bytes"),
    Case("publish", lambda s: bus.publish("a", "x", durable=True), bus.NotDurable, "keeps no messages"),
    *topics("subscribe", bus.subscribe),
    *each("subscribe", [5, b"q"], lambda s, value: bus.subscribe("a", queue=value), TypeError, "queue"),
    *each("subscribe", ["", "drop", None, 5], lambda s, value: bus.subscribe("a", overflow=value), ValueError, "overflow"),
    *counts("subscribe", lambda s, **options: bus.subscribe("a", **options), "mailbox_messages", "mailbox_bytes"),
    *topics("request", lambda topic: bus.request(topic, "x", timeout=BOUND)),
    *messages("request", lambda s, message: bus.request("a", message, timeout=BOUND)),
    *timeouts("request", lambda s, value: bus.request("a", "x", timeout=value)),
    Case("request", lambda s: bus.request("nobody.there", "x", timeout=BOUND), bus.NoResponders, "nobody"),
    *topics("respond", lambda topic: bus.respond(topic, lambda message: None)),
    *each("respond", [None, "f", 5], lambda s, value: respond("a", value), TypeError, "callback must be callable"),
    *counts("respond", lambda s, **options: respond("a", lambda message: None, **options), "mailbox_messages", "mailbox_bytes"),
    *timeouts("Subscription.receive", lambda s, value: s.sub.receive(value)),
    Case("Subscription.receive", lambda s: s.closed("sub").receive(timeout=0), bus.Closed, "was closed"),
    *each("Subscription.when_ready", [None, 5], lambda s, value: s.sub.when_ready(value), TypeError, "call must be callable"),
    *timeouts("Subscription.close", lambda s, value: s.sub.close(value), "linger"),
    *timeouts("Responder.close", lambda s, value: s.responder.close(value), "linger"),
    *each("open", [None, 5, b"embedded:"], lambda s, value: bus.open(value), TypeError, "url must be a str"),
    *each("open", ["", "embedded", "http://x", "embedded:x"], lambda s, value: bus.open(value), bus.BadAddress, ""),
    *timeouts("open", lambda s, value: bus.open("embedded:", timeout=value)),
    *each("bridge", [None, 5], lambda s, value: bus.bridge(value, "a"), TypeError, "source"),
    *each("bridge", [None, 5], lambda s, value: bus.bridge("a", value), TypeError, "target"),
    Case("bridge", lambda s: bus.bridge("a", "b.*"), bus.BadTopic, "b.*"),
    *timeouts("Bridge.wait", lambda s, value: s.bridge.wait(value)),
    *timeouts("Bridge.close", lambda s, value: s.bridge.close(value)),
    *timeouts("Server.nodes", lambda s, value: s.server.nodes(value)),
    *timeouts("Server.count_all", lambda s, value: s.server.count_all(value)),
    Case("Server.nodes", lambda s: s.server.nodes(timeout=0, expected=0), ValueError, "expected"),
]

CASES = [*CONNECT, *LISTEN, *BIND, *JOIN, *SERVE, *CONNECTION, *LISTENER, *DATAGRAMS, *SERVER, *OTHERS, *TOPICS]


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-{case}" for number, case in enumerate(CASES)])
def test_it_is_the_documented_error_and_leaves_nothing_open(case: Case, scene: Scene) -> None:
    with pytest.raises(case.error) as caught:
        case.call(scene)
    assert case.says in str(caught.value)


@pytest.mark.parametrize("kind", ["conn", "listener", "udp", "group", "client", "server"])
def test_what_was_refused_has_changed_nothing(kind: str, scene: Scene) -> None:
    prefix = {"conn": "Connection.", "listener": "Listener.", "udp": "UdpSocket.", "group": "Group."}.get(kind, f"{kind.capitalize()}.")
    for case in CASES:
        if case.of.startswith(prefix) and case.error is not bus.Closed:
            with pytest.raises(case.error):
                case.call(scene)
    thing = getattr(scene, kind)
    if kind == "conn":
        thing.send("still")
        assert thing.receive(timeout=BOUND) == bus.Message(b"still", thing.remote_address)
    elif kind == "listener":
        with bus.connect(f"tcp://{thing.address}", timeout=BOUND), thing.accept(timeout=BOUND):
            pass
    elif kind in ("udp", "group"):
        if kind == "udp":
            thing.send_to(thing.address, "still")
        else:
            thing.send("still")
        message = thing.receive(timeout=BOUND)
        assert message is not None
        assert message.text == "still"
        assert thing.receive(timeout=0) is None
    else:
        assert scene.server.send_to_all("still").taken == (scene.client,)
        message = scene.conn.receive(timeout=BOUND)
        assert message is not None
        assert message.text == "still"


def test_every_public_function_is_in_the_table() -> None:
    public = {name: getattr(bus, name) for name in bus.__all__}
    functions = {name for name, value in public.items() if inspect.isfunction(value) and inspect.signature(value).parameters}
    kinds = [bus.Connection, bus.Listener, bus.UdpSocket, bus.Group, bus.Client, bus.Server]
    kinds += [bus.Subscription, bus.Responder, bus.Bridge]
    for kind in kinds:
        functions |= {
            f"{kind.__name__}.{name}"
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") and len(inspect.signature(member).parameters) > 1
        }
    assert functions - {case.of for case in CASES} == set()


@pytest.mark.parametrize("kind", ["conn", "listener", "udp", "group", "client", "server"])
def test_closing_twice_is_nothing_and_what_only_looks_still_answers(kind: str, scene: Scene) -> None:
    thing = scene.closed(kind)
    assert thing.close() in (True, False)
    assert thing.close(linger=0) in (True, False)
    # A client's state is that of its TCP connection, which may still wait for the other end's FIN.
    assert any(state in repr(thing) for state in ("closed", "stopped", "lingering"))
    for name in ("stats", "connected", "local_address", "remote_address", "address", "clients"):
        found = getattr(thing, name, None)
        if callable(found):
            found()
    with pytest.raises((AttributeError, TypeError)):
        thing.address = thing.nonsense = "x"

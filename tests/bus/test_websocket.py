"""WebSocket as a script sees it: messages, routes, who may come in, how it ends at both ends, keepalive, compression, and why it fails."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import Any, Self

import pytest
from websockets.sync.client import connect as foreign_connect
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as foreign_serve

import bus
from actors.wsframes import build_frame
from tests.actors.test_wsframes import BINARY, CLOSE, PING, PONG, TEXT, Frame, unwire, wire
from tests.bus.peers import WAIT, InThread, Peer, until
from tests.bus.test_server import Diary

HEAD_END = b"\r\n\r\n"


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def echo(message: bus.Message, client: bus.WebSocketClient) -> bus.Message:
    return message


def serve(on_message: Callable[..., Any] | None = echo, diary: Diary | None = None, *, path: str = "", **options: Any) -> bus.Server:
    if diary is not None:
        options = {"on_connect": diary.connect, "on_disconnect": diary.disconnect, **options}
    return bus.serve(f"ws://127.0.0.1:0{path}", on_message, **options)


def connect(server: bus.Server, path: str = "/", **options: Any) -> bus.Connection:
    return bus.connect(f"ws://{server.address}{path}", **{"timeout": WAIT, **options})


def take(conn: bus.Connection | bus.Session) -> bus.Message:
    message = conn.receive(timeout=WAIT)
    assert message is not None, "no message came"
    return message


def upgrade(host: str = "here", path: str = "/", **headers: str) -> bytes:
    """A handshake request as a client by hand makes it."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def accept_key(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


class WebPeer(Peer):
    """A blocking socket that speaks WebSocket by hand, at either end."""

    masked = False

    @classmethod
    def visiting(cls, server: bus.Server, path: str = "/", *, receive_buffer: int = 0, **headers: str) -> Self:
        """A client whose handshake is over."""
        peer = cls.to(server.address, receive_buffer=receive_buffer)
        peer.masked = True
        peer.sock.sendall(upgrade(server.address, path, **headers))
        head = peer.head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return peer

    def welcome(self, **headers: str) -> dict[str, str]:
        """The server's part of the handshake; returns the client's headers, with lower-case names."""
        _, *lines = self.head().decode("latin-1").split("\r\n")
        asked = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        answer = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        answer += [f"Sec-WebSocket-Accept: {accept_key(asked['sec-websocket-key'])}"]
        answer += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.sock.sendall("\r\n".join((*answer, "", "")).encode())
        return asked

    def head(self) -> bytes:
        data = b""
        while not data.endswith(HEAD_END):
            byte = self.sock.recv(1)
            if not byte:
                break
            data += byte
        return data

    def put(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        self.sock.sendall(wire(opcode, payload, masked=self.masked, **options))

    def say_close(self, code: int = 1000, reason: str = "") -> None:
        self.put(CLOSE, code.to_bytes(2, "big") + reason.encode())

    def get(self) -> Frame | None:
        """The next frame; None at the end of the stream."""
        data = self.read(2)
        if not data:
            return None
        length = data[1] & 0x7F
        if length > 125:
            extended = self.read(2 if length == 126 else 8)
            length = int.from_bytes(extended, "big")
            data += extended
        (frame,) = unwire(data + self.read(length + (4 if data[1] & 0x80 else 0)))
        return frame

    def get_but_pings(self) -> Frame | None:
        while (frame := self.get()) is not None and frame.first == 0x80 | PING:
            pass
        return frame

    def the_close(self) -> tuple[int, str]:
        """Code and reason of the close frame, whatever comes before it."""
        while (frame := self.get()) is not None:
            if frame.first == 0x80 | CLOSE:
                return int.from_bytes(frame.payload[:2], "big"), frame.payload[2:].decode()
        raise AssertionError("the stream ended without a close frame")


@contextmanager
def web_pair(receive_buffer: int = 0, answer: Mapping[str, str] = {}, **options: Any) -> Iterator[tuple[bus.Connection, WebPeer]]:
    """A Connection of ours and, at its other end, a server by hand."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        if receive_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        host, port = listening.getsockname()
        connecting = InThread(lambda: bus.connect(f"ws://{host}:{port}/", **{"timeout": WAIT, **options}))
        with WebPeer(listening.accept()[0]) as peer:
            peer.welcome(**answer)
            with connecting.result() as conn:
                try:
                    yield conn, peer
                finally:
                    conn.close(linger=0)  # the peer would have to answer


def ask(address: str, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """What a server answers in plain HTTP: status, headers with lower-case names, body. It has to close behind that."""
    with Peer.to(address) as peer:
        peer.sock.sendall(request)
        data = peer.read(1 << 20)
    head, _, body = data.partition(HEAD_END)
    status, *lines = head.decode("latin-1").split("\r\n")
    assert status.startswith("HTTP/1.1 "), data
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]), headers, body


def status_of(address: str, request: bytes) -> int:
    """The status of an answer, 101 included."""
    with WebPeer.to(address) as peer:
        peer.sock.sendall(request)
        return int(peer.head().split()[1])


# --- messages ---


@pytest.mark.parametrize(
    ("message", "data", "is_text"),
    [
        ("hello", b"hello", True),
        ("für 5 €", "für 5 €".encode(), True),
        ("", b"", True),
        (b"\x00\xff", b"\x00\xff", False),
        (b"", b"", False),
        (bytearray(b"abc"), b"abc", False),
        (memoryview(b"abcdef")[::2], b"ace", False),
        ({"a": "ü", "n": [1, None]}, '{"a":"ü","n":[1,null]}'.encode(), True),
        (bus.Message(b"forwarded", "elsewhere", True), b"forwarded", True),
        (bus.Message(b"forwarded", "elsewhere", False), b"forwarded", False),
        (bus.Message(b"from tcp", "elsewhere"), b"from tcp", False),
    ],
)
def test_a_message_keeps_its_bytes_and_its_kind_both_ways(message: Any, data: bytes, is_text: bool) -> None:
    with serve() as server, connect(server) as conn:
        conn.send(message)
        received = take(conn)
        assert (received.data, received.is_text, received.source) == (data, is_text, conn.remote_address)
    with web_pair() as (conn, peer):
        conn.send(message)
        assert peer.get() == (0x80 | (TEXT if is_text else BINARY), data)


@pytest.mark.parametrize("nothing", [None, 1, 1.5, ["a"], object()])
def test_what_is_no_message_is_a_type_error(nothing: Any) -> None:
    with serve() as server, connect(server) as conn:
        with pytest.raises(TypeError, match=type(nothing).__name__):
            conn.send(nothing)
        conn.send("still in step")
        assert take(conn).text == "still in step"


@pytest.mark.parametrize("message", ["\ud800", {"a": "\udfff"}, {"a": float("nan")}, bus.Message(b"\xff", "", True)])
def test_what_no_text_can_carry_is_a_value_error(message: Any) -> None:
    with serve() as server, connect(server) as conn:
        with pytest.raises(ValueError):
            conn.send(message)
        conn.send("still in step")
        assert take(conn).text == "still in step"


@pytest.mark.parametrize("size", [1, 125, 126, 65_535, 65_536, 262_144, 5 * 2**20])
def test_a_message_of_any_size_makes_the_round_trip(size: int) -> None:
    payload = os.urandom(size)
    with serve(max_size=size) as server, connect(server) as conn:
        conn.send(payload)
        assert take(conn).data == payload


def test_a_thousand_messages_keep_their_order() -> None:
    with serve() as server, connect(server) as conn:
        conn.send("0")
        conn.send_many([str(n) if n % 2 else str(n).encode() for n in range(1, 1000)])
        received = [take(conn) for _ in range(1000)]
        assert [int(message.data) for message in received] == list(range(1000))
        assert [message.is_text for message in received] == [True, *(bool(n % 2) for n in range(1, 1000))]


def test_frames_of_many_threads_never_interleave() -> None:
    threads, each = 4, 150
    with serve() as server, connect(server) as conn:

        def send(sender: int) -> None:
            for number in range(each):
                conn.send(f"{sender} {number} " + "." * (number * 97 % 3000))

        sending = [InThread(lambda sender=sender: send(sender)) for sender in range(threads)]  # type: ignore[misc]
        last = dict.fromkeys(range(threads), -1)
        for _ in range(threads * each):
            sender, number, dots = take(conn).text.split(" ")
            assert int(number) == last[int(sender)] + 1
            assert dots == "." * (int(number) * 97 % 3000)
            last[int(sender)] += 1
        for one in sending:
            one.result()


def test_max_size_counts_at_both_ends() -> None:
    diary = Diary()
    with serve(echo, diary, max_size=100) as server, connect(server, max_size=200) as conn:
        conn.send(b"x" * 100)
        assert len(take(conn).data) == 100
        with pytest.raises(bus.TooLarge, match="max_size=200"):
            conn.send(b"x" * 201)
        conn.send(b"x" * 101)
        with pytest.raises(bus.PeerClosed, match="1009"):
            take(conn)
        assert conn.close_code == 1009
        reason = diary.reason()
        assert isinstance(reason, bus.Broken)
        assert "101" in str(reason)


def test_fragments_come_as_one_message_and_pings_between_them_are_answered() -> None:
    with web_pair() as (conn, peer):
        peer.put(TEXT, b"gr\xc3", fin=False)
        peer.put(PING, b"there?")
        peer.put(0, b"\xbc\xc3\x9fe")
        assert take(conn).text == "grüße"
        assert peer.get() == (0x80 | PONG, b"there?")


def test_what_comes_in_the_same_piece_as_the_handshake_is_not_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        connecting = InThread(lambda: bus.connect(f"ws://{host}:{port}/", timeout=WAIT))
        with WebPeer(listening.accept()[0]) as peer:
            key = peer.head().partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r")[0].decode()
            head = f"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
            peer.sock.sendall(head.encode() + wire(TEXT, b"first") + wire(PING, b"p") + wire(BINARY, b"second")[:3])
            with connecting.result() as conn:
                assert take(conn).text == "first"
                peer.sock.sendall(wire(BINARY, b"second")[3:])
                assert take(conn).data == b"second"
                assert peer.get() == (0x80 | PONG, b"p")
                conn.close(linger=0)
    with serve() as server, WebPeer.to(server.address) as client:
        client.sock.sendall(upgrade() + wire(TEXT, b"early", masked=True) + wire(TEXT, b"bird", masked=True)[:4])
        assert b" 101 " in client.head()
        client.sock.sendall(wire(TEXT, b"bird", masked=True)[4:])
        assert [client.get(), client.get()] == [(0x81, b"early"), (0x81, b"bird")]


def test_what_comes_right_behind_the_handshake_comes_in_order() -> None:
    texts = [b"%d" % number for number in range(20)]
    stream = b"".join(wire(TEXT, text) for text in texts)
    for cut in range(0, len(stream), 5):
        with web_pair() as (conn, peer):
            peer.sock.sendall(stream[:cut])
            peer.sock.sendall(stream[cut:] + wire(PING, b"and") + wire(CLOSE, b"\x03\xe8"))
            assert [message.data for message in conn] == texts
            assert peer.get() == (0x80 | PONG, b"and")
            assert peer.the_close()[0] == 1000


@pytest.mark.parametrize("times", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_receive_that_times_out_a_thousand_times_harms_nothing(times: int) -> None:
    patient = threading.Event()

    def handler(client: bus.Session) -> None:
        for _ in range(times):
            assert client.receive(timeout=0.0001) is None
        patient.set()
        for message in client:
            client.send(message)

    with serve(None, routes={"/": handler}) as server, connect(server) as conn:
        for _ in range(times):
            assert conn.receive(timeout=0.0001) is None
        assert patient.wait(WAIT)
        for number in range(50):
            conn.send(str(number))
            assert take(conn).text == str(number)
        assert conn.receive(timeout=0) is None


def test_a_timeout_inside_a_frame_loses_nothing() -> None:
    with web_pair() as (conn, peer):
        frame = wire(TEXT, b"x" * 300)
        for start in range(0, len(frame), 50):
            assert conn.receive(timeout=0.001) is None
            peer.sock.sendall(frame[start : start + 50])
        assert take(conn).data == b"x" * 300


def test_the_verbs_of_a_connection_work_here_too() -> None:
    with serve() as server, connect(server) as conn, connect(server) as other:
        assert conn.connected()
        assert conn.remote_address == server.address
        assert "connected" in repr(conn)
        other.send("to any")
        source, message = bus.receive_any([conn, other], timeout=WAIT)
        assert source is other
        assert message is not None
        assert message.text == "to any"
        conn.send("counted")
        take(conn)
        stats = conn.stats()
        assert (stats.messages_in, stats.messages_out) == (1, 1)


@pytest.mark.parametrize("host", ["localhost", "[::1]"])
def test_names_and_ipv6(host: str) -> None:
    if host == "[::1]":
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 on this machine's loopback")
    with bus.serve(f"ws://{host}:0", echo) as server:
        port = server.address.rpartition(":")[2]
        with bus.connect(f"ws://{host}:{port}", timeout=WAIT, origin=f"http://{host}:{port}") as conn:
            conn.send("hello")
            assert take(conn).text == "hello"


# --- routes ---


def shout(client: bus.Session) -> None:
    for message in client:
        client.send(message.text.upper())


def test_each_path_has_its_own_way_to_serve() -> None:
    routes: dict[str, Any] = {"/shout": shout}
    routes |= {"/reverse": lambda message, client: message.data[::-1], "/path": lambda message, client: client.path}
    with serve(routes=routes) as server:
        for path, reply in (("/shout", b"ABC"), ("/reverse", b"cba"), ("/", b"abc"), ("/shout?x=1", b"ABC"), ("/path?q=/", b"/path")):
            with connect(server, path) as conn:
                conn.send("abc")
                assert take(conn).data == reply
        for path in ("/shout/", "/Shout", "/other", "/shout/more", "//shout"):
            with pytest.raises(bus.ConnectFailed, match="404"):
                connect(server, path)


@pytest.mark.parametrize(
    ("where", "good", "bad"),
    [
        ("", ["/", "/any/thing", "/?q"], []),
        ("/", ["/", "/any/thing"], []),
        ("/only", ["/only", "/only?q"], ["/", "/any", "/only/"]),
    ],
)
def test_on_message_alone_serves_the_path_of_the_url(where: str, good: list[str], bad: list[str]) -> None:
    with serve(path=where) as server:
        for path in good:
            with connect(server, path) as conn:
                conn.send(path)
                assert take(conn).text == path
        for path in bad:
            with pytest.raises(bus.ConnectFailed, match="404"):
                connect(server, path)


def test_routes_may_come_and_go_while_the_server_runs(caplog: pytest.LogCaptureFixture) -> None:
    routes: dict[str, Any] = {"/first": shout}
    with serve(routes=routes, path="/own") as server, connect(server, "/first") as early:
        routes["/second"] = shout
        routes["/third"] = lambda message, client: message.data[::-1]
        for path, reply in (("/first", b"ABC"), ("/second", b"ABC"), ("/third", b"cba"), ("/own", b"abc")):
            with connect(server, path) as conn:
                conn.send("abc")
                assert take(conn).data == reply
        del routes["/first"]
        routes["/bad"] = 5
        for path, refusal in (("/first", "404"), ("/bad", "500")):
            with pytest.raises(bus.ConnectFailed, match=refusal):
                connect(server, path)
        early.send("still served")
        assert take(early).text == "STILL SERVED"
    assert "what serves /bad cannot serve" in caplog.text


@pytest.mark.parametrize("route", ["chat", "", "/chat?x", 5])
def test_a_route_is_a_path(route: Any) -> None:
    with pytest.raises(ValueError, match="route"):
        serve(None, routes={route: shout})


@pytest.mark.parametrize("handler", [None, 5, "module.function", lambda: None, lambda a, b, c: None])
def test_what_serves_a_route_is_a_function_of_one_or_two(handler: Any) -> None:
    with pytest.raises(TypeError, match="/chat"):
        serve(None, routes={"/chat": handler})


def test_a_server_needs_something_to_serve() -> None:
    with pytest.raises(TypeError, match="on_message"):
        serve(None)
    with pytest.raises(TypeError, match="on_request"):
        serve(on_request=5)
    with pytest.raises(TypeError, match="on_connect"):
        serve(on_connect=5)


@pytest.mark.parametrize("option", [{"routes": {"/": echo}}, {"on_request": print}, {"origins": ["*"]}, {"subprotocols": ["a"]}])
def test_the_options_of_a_websocket_are_for_nothing_else(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="ws://"):
        bus.serve("tcp://127.0.0.1:0", echo, **option)


@pytest.mark.parametrize("option", [{"headers": {"A": "b"}}, {"subprotocols": ["a"]}, {"origin": "http://a"}, {"compression": True}])
def test_the_options_of_a_websocket_client_are_for_nothing_else(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="ws://"):
        bus.connect("tcp://127.0.0.1:9", **option)


@pytest.mark.parametrize("verb", [bus.listen, bus.bind, bus.join])
def test_the_other_verbs_name_those_to_use(verb: Callable[[str], Any]) -> None:
    with pytest.raises(bus.BadAddress, match="connect, serve"):
        verb("ws://127.0.0.1:0")


@pytest.mark.parametrize("name", ["ping_interval", "ping_timeout"])
def test_no_pings_are_none_and_not_zero(name: str) -> None:
    options: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=name):
        serve(**options)
    with pytest.raises(ValueError, match=name):
        bus.connect("ws://127.0.0.1:9", **options)


def test_sessions_run_side_by_side_on_threads_of_their_own() -> None:
    meeting = threading.Barrier(3)

    def handler(client: bus.Session) -> None:
        meeting.wait(WAIT)
        client.send(take(client))

    with serve(None, routes={"/": handler}) as server, ExitStack() as stack:
        conns = [stack.enter_context(connect(server)) for _ in range(3)]
        for conn in conns:
            conn.send("met")
        assert [take(conn).text for conn in conns] == ["met"] * 3


def test_a_session_ends_its_loop_when_the_client_leaves_in_order() -> None:
    seen: SimpleQueue[Any] = SimpleQueue()

    def handler(client: bus.Session) -> None:
        seen.put([message.text for message in client])
        seen.put(client.connected())
        with pytest.raises(bus.PeerClosed, match="4000"):
            client.receive(timeout=WAIT)
        seen.put("done")

    with serve(None, routes={"/": handler}) as server:
        with connect(server) as conn:
            conn.send_many(["a", "b", "c"])
            conn.close(code=4000)
        assert [seen.get(timeout=WAIT) for _ in range(3)] == [["a", "b", "c"], False, "done"]


def test_the_chat_of_the_document_broadcasts() -> None:
    clients: list[bus.Session] = []

    def chat(client: bus.Session) -> None:
        clients.append(client)
        client.send("Welcome to the chat!")
        try:
            while client.connected():
                message = client.receive(timeout=WAIT)
                if message:
                    for each in clients[:]:
                        if each.connected():
                            each.send(message)
        except bus.PeerClosed:
            pass
        finally:
            clients.remove(client)

    with serve(None, routes={"/chat": chat}) as server, ExitStack() as stack:
        conns = [stack.enter_context(connect(server, "/chat")) for _ in range(3)]
        assert {take(conn).text for conn in conns} == {"Welcome to the chat!"}
        conns[0].send("to everybody")
        assert [take(conn).text for conn in conns] == ["to everybody"] * 3
        conns[1].close()
        until(lambda: len(clients) == 2)
        conns[2].send("to those who stayed")
        assert [take(conn).text for conn in (conns[0], conns[2])] == ["to those who stayed"] * 2


def test_on_connect_comes_first_and_on_disconnect_last() -> None:
    diary = Diary()
    with serve(diary.message, diary) as server, connect(server, "/a?b=c", headers={"X-Mine": "yes"}) as conn:
        conn.send("one")
        conn.send("two")
        conn.close(code=4001, reason="enough")
        entries = [diary.next() for _ in range(4)]
        assert [what for what, _, _ in entries] == ["connect", "message", "message", "disconnect"]
        assert len({id(client) for _, client, _ in entries}) == 1
        client = entries[0][1]
        assert isinstance(client, bus.WebSocketClient)
        assert (client.path, client.request.path, client.headers["x-mine"]) == ("/a", "/a?b=c", "yes")
        assert client.request.remote_address == client.remote_address


# --- who may come in ---


def test_a_page_is_not_found_where_nothing_is() -> None:
    with serve(None, routes={"/chat": shout}) as server:
        status, headers, body = ask(server.address, b"GET /nowhere HTTP/1.1\r\nHost: here\r\n\r\n")
        assert (status, headers["connection"]) == (404, "close")
        assert b"/nowhere" in body
        assert ask(server.address, upgrade(server.address, "/nowhere"))[0] == 404


def test_what_is_no_websocket_is_told_to_upgrade() -> None:
    with serve() as server:
        status, headers, _ = ask(server.address, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert (status, headers["upgrade"].lower()) == (426, "websocket")


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("{address}", None, 101),
        ("rebound.example:{port}", None, 101),  # no page asks
        ("{address}", "http://{address}", 101),
        ("localhost:{port}", "http://localhost:{port}", 101),
        ("LOCALHOST:{port}", "http://localhost:{port}", 101),
        ("{address}", "http://localhost:{port}", 403),
        ("{address}", "http://127.0.0.1:1", 403),
        ("{address}", "http://127.0.0.1", 403),
        ("{address}", "http://evil.example", 403),
        ("{address}", "http://evil.example:{port}", 403),
        ("{address}", "http://{address}.evil.example", 403),
        ("{address}", "null", 403),
        ("{address}", "", 403),
        ("{address}", "http://127.0.0.1:none", 403),
        ("{address}", "file://", 403),
        # DNS rebinding: the page's own name leads here by now, so page and host agree.
        ("evil.example:{port}", "http://evil.example:{port}", 403),
        ("127.0.0.1.evil.example:{port}", "http://127.0.0.1.evil.example:{port}", 403),
    ],
)
def test_a_page_connects_to_where_it_came_from_only(host: str, origin: str | None, status: int) -> None:
    diary = Diary()
    with serve(echo, diary) as server:
        names = {"address": server.address, "port": server.address.rpartition(":")[2]}
        headers = {} if origin is None else {"Origin": origin.format(**names)}
        assert status_of(server.address, upgrade(host.format(**names), **headers)) == status
        if status == 403:
            assert not server.clients
    assert diary.entries.empty() or status == 101


def test_a_page_served_by_another_address_of_loopback_connects() -> None:
    with bus.serve("ws://127.0.0.2:0", echo) as server:
        assert status_of(server.address, upgrade(server.address, Origin=f"http://{server.address}")) == 101


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        (["https://good.example"], "https://good.example", 101),
        (["https://a.example", "https://good.example"], "https://good.example", 101),
        (["https://good.example"], "https://bad.example", 403),
        (["https://good.example"], "https://good.example.bad", 403),
        (["https://good.example"], None, 101),
        (["*"], "https://any.example", 101),
        (["*"], "null", 101),
        ([], "https://any.example", 403),
    ],
)
def test_origins_says_whose_pages_may(origins: list[str], origin: str | None, status: int) -> None:
    with serve(origins=origins) as server:
        headers = {} if origin is None else {"Origin": origin}
        assert status_of(server.address, upgrade(server.address, **headers)) == status


@pytest.mark.parametrize("origin", ["page.example", "https://page.example/", "https://page.example/chat", "HTTPS://page.example", "", 5])
def test_an_origin_is_what_a_browser_says_of_a_page(origin: Any) -> None:
    with pytest.raises(ValueError, match="https://page.example"):
        serve(origins=["https://good.example", origin])


def test_one_str_is_not_several_origins() -> None:
    with pytest.raises(TypeError, match="origins"):
        serve(origins="https://good.example")


def test_a_refusal_is_a_connect_error_with_its_status_and_text() -> None:
    with serve() as server:
        with pytest.raises(bus.ConnectFailed, match="403.*evil.example"):
            connect(server, origin="http://evil.example")
        with connect(server, origin=f"http://{server.address}") as conn:
            conn.send("in")
            assert take(conn).text == "in"


@pytest.mark.parametrize(
    "request_", [upgrade(path="/other"), upgrade(Origin="http://evil.example"), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01"]
)
def test_who_was_refused_and_leaves_is_forgotten_at_once(request_: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.wshandshake.LINGER", 3600.0)
    with serve(path="/only", handshake_timeout=3600) as server:
        assert ask(server.address, request_)[0] >= 400
        until(lambda: not server._actor._present)


# --- on_request ---

PAGE = "<!doctype html><title>ü</title>"


def test_one_server_answers_the_page_and_its_websocket() -> None:
    asked: SimpleQueue[bus.Request] = SimpleQueue()

    def answer(request: bus.Request) -> bus.Response | None:
        asked.put(request)
        return bus.Response(200, PAGE) if request.path == "/" and "Upgrade" not in request.headers else None

    with serve(None, routes={"/chat": shout}, on_request=answer) as server:
        status, headers, body = ask(server.address, b"GET / HTTP/1.1\r\nHost: here\r\nX-Mine: yes\r\n\r\n")
        assert (status, headers["content-type"], body.decode()) == (200, "text/html; charset=utf-8", PAGE)
        request = asked.get(timeout=WAIT)
        assert (request.method, request.path, request.headers["x-mine"]) == ("GET", "/", "yes")
        assert request.remote_address.startswith("127.0.0.1:")
        with connect(server, "/chat") as conn:
            conn.send("hi")
            assert take(conn).text == "HI"
        assert asked.get(timeout=WAIT).path == "/chat"
        assert ask(server.address, b"GET /other HTTP/1.1\r\nHost: here\r\n\r\n")[0] == 404


def test_a_plain_answer_that_is_larger_than_the_kernels_buffers_arrives_whole() -> None:
    page = b"x" * 8_000_000
    with serve(on_request=lambda request: bus.Response(200, page)) as server, Peer.to(server.address, receive_buffer=4096) as browser:
        browser.sock.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        head = browser.read(4096)
        until(lambda: not server.clients)
        assert len((head + browser.read(2 * len(page))).partition(b"\r\n\r\n")[2]) == len(page)


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (401, 401, "Unauthorized"),
        (404, 404, "Not Found"),
        (503, 503, "Service"),
        (bus.Response(401, "a secret, please", {"WWW-Authenticate": "Basic"}), 401, "a secret, please"),
        (bus.Response(302, "", {"Location": "ws://elsewhere/"}), 302, "ws://elsewhere/"),
        (bus.Response(200, "a page"), 200, "a page"),
    ],
)
def test_on_request_may_refuse(answer: Any, status: int, text: str) -> None:
    diary = Diary()
    with serve(echo, diary, on_request=lambda request: answer) as server:
        with pytest.raises(bus.ConnectFailed, match=str(status)) as caught:
            connect(server)
        assert text in str(caught.value)
        if isinstance(answer, bus.Response) and "WWW-Authenticate" in answer.headers:
            assert ask(server.address, upgrade())[1]["www-authenticate"] == "Basic"
        assert not server.clients
    assert diary.entries.empty()


def test_on_request_sees_who_asks_and_lets_in_who_may() -> None:
    def guard(request: bus.Request) -> int | None:
        return None if request.headers.get("Authorization") == "Bearer good" else 401

    with serve(on_request=guard) as server:
        with pytest.raises(bus.ConnectFailed, match="401"):
            connect(server)
        with connect(server, headers={"Authorization": "Bearer good"}) as conn:
            conn.send("in")
            assert take(conn).text == "in"


def test_an_on_request_that_raises_is_a_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fails(request: bus.Request) -> None:
        raise RuntimeError("on purpose")

    with serve(on_request=fails) as server:
        assert ask(server.address, upgrade())[0] == 500
        assert ask(server.address, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")[0] == 500
    assert "on purpose" in caplog.text


NONSENSE: list[Any] = ["a page", 5.5, True, b"", object(), bus.Response(200, "", {"A": "b\r\nC: d"})]


@pytest.mark.parametrize("answer", [*NONSENSE, bus.Response(200, 5)])  # type: ignore[arg-type]
def test_an_on_request_that_gives_nonsense_is_a_500_and_logged(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    wrong = [True]

    with serve(on_request=lambda request: answer if wrong[0] else None) as server:
        status = ask(server.address, upgrade())[0]
        wrong[0] = False
        with connect(server) as conn:
            conn.send("goes on")
            assert take(conn).text == "goes on"
    assert status == 500
    assert [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_slow_on_request_holds_up_nobody() -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(request: bus.Request) -> None:
        if request.path == "/slow":
            entered.set()
            leave.wait(WAIT)

    with serve(on_request=slow) as server:
        waiting = InThread(lambda: connect(server, "/slow"))
        assert entered.wait(WAIT)
        with connect(server, "/quick") as conn:
            conn.send("quick")
            assert take(conn).text == "quick"
        leave.set()
        with waiting.result() as conn:
            conn.send("slow")
            assert take(conn).text == "slow"


# --- headers, subprotocols ---


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (["a", "b"], ["b", "a"], "a"),
        (["b"], ["a", "b"], "b"),
        (["a"], ["c"], None),
        (["a"], None, None),
        (None, ["a"], None),
    ],
)
def test_both_ends_know_the_subprotocol(ours: list[str] | None, theirs: list[str] | None, agreed: str | None) -> None:
    diary = Diary()
    with serve(echo, diary, subprotocols=ours) as server, connect(server, subprotocols=theirs) as conn:
        _, client, _ = diary.next()
        assert isinstance(client, bus.WebSocketClient)
        assert (conn.subprotocol, client.subprotocol) == (agreed, agreed)
        conn.send("in any case")
        assert take(conn).text == "in any case"


def test_headers_reach_the_server() -> None:
    diary = Diary()
    headers = {"Authorization": "Bearer x", "X-Ä".replace("Ä", "A"): "1", "User-Agent": "mine", "Cookie": "a=b; c=d"}
    with serve(echo, diary) as server, connect(server, headers=headers):
        _, client, _ = diary.next()
        assert isinstance(client, bus.WebSocketClient)
        assert {name: client.headers[name] for name in headers} == headers
        assert client.headers["authorization"] == "Bearer x"
        assert client.headers["host"] == server.address


def test_a_user_in_the_url_is_basic_authorization() -> None:
    diary = Diary()
    with serve(echo, diary) as server, bus.connect(f"ws://me:secret@{server.address}/", timeout=WAIT) as conn:
        _, client, _ = diary.next()
        assert isinstance(client, bus.WebSocketClient)
        assert client.headers["Authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
        assert "secret" not in repr(conn)


@pytest.mark.parametrize("name", ["Upgrade", "connection", "Sec-WebSocket-Key", "sec-websocket-version", "Sec-WebSocket-Extensions"])
def test_the_headers_of_the_handshake_are_not_the_scripts(name: str) -> None:
    with serve() as server, pytest.raises(ValueError, match=name):
        connect(server, headers={name: "x"})


@pytest.mark.parametrize("headers", [{"A": "b\r\nC: d"}, {"A\r\nB": "c"}, {"": "a"}, {"A B": "c"}])
def test_no_header_smuggles_in_another(headers: dict[str, str]) -> None:
    with serve() as server, pytest.raises(ValueError):
        connect(server, headers=headers)


@pytest.mark.parametrize("headers", [{"A": 1}, {1: "a"}, {"A": None}, {"A": b"b"}])
def test_headers_are_text(headers: Any) -> None:
    with serve() as server, pytest.raises(TypeError):
        connect(server, headers=headers)


def test_subprotocols_are_a_sequence_of_names() -> None:
    with serve() as server:
        with pytest.raises(TypeError):
            connect(server, subprotocols="chat")
        with pytest.raises(ValueError):
            connect(server, subprotocols=["not a token"])


# --- how it ends ---


def test_the_clients_code_and_reason_are_seen_at_both_ends() -> None:
    diary = Diary()
    with serve(echo, diary) as server, connect(server) as conn:
        _, client, _ = diary.next()
        assert isinstance(client, bus.WebSocketClient)
        assert (conn.close_code, client.close_code, client.close_reason) == (None, None, None)
        assert conn.close(code=4321, reason="für heute") is True
        reason = diary.reason()
        assert isinstance(reason, bus.PeerClosed)
        assert "4321: für heute" in str(reason)
        for end in (conn, client):
            assert (end.close_code, end.close_reason) == (4321, "für heute")
        with pytest.raises(bus.Closed):
            conn.send("more")


def test_the_servers_code_and_reason_are_seen_at_both_ends() -> None:
    diary = Diary()

    def leave(message: bus.Message, client: bus.WebSocketClient) -> str:
        client.send("last words")
        client.close(code=3000, reason="you said " + message.text)
        return "too late"

    with serve(leave, diary) as server, connect(server) as conn:
        _, client, _ = diary.next()
        assert isinstance(client, bus.WebSocketClient)
        conn.send("go")
        assert take(conn).text == "last words"
        with pytest.raises(bus.PeerClosed, match="3000: you said go"):
            take(conn)
        assert not conn.connected()
        with pytest.raises(bus.PeerClosed):
            conn.send("more")
        diary.reason()
        for end in (conn, client):
            assert (end.close_code, end.close_reason) == (3000, "you said go")


def test_a_close_from_another_thread_than_the_callbacks() -> None:
    diary = Diary()
    with serve(echo, diary) as server, connect(server) as conn:
        _, client, _ = diary.next()
        assert isinstance(client, bus.WebSocketClient)
        closing = InThread(lambda: client.close(code=4002))
        assert [message.text for message in conn] == []
        assert conn.close_code == 4002
        assert closing.result() is True


def test_a_handler_that_returns_closes_with_1000() -> None:
    diary = Diary()

    def once(client: bus.Session) -> None:
        client.send(take(client))

    with serve(None, diary, routes={"/": once}) as server, connect(server) as conn:
        conn.send("once")
        assert [message.text for message in conn] == ["once"]
        assert (conn.close_code, conn.close_reason) == (1000, "")
        assert isinstance(diary.reason(), bus.Closed)


def test_a_handler_may_choose_its_code() -> None:
    def chooses(client: bus.Session) -> None:
        client.send("bye")
        assert client.close(code=4444, reason="chosen") is True
        with pytest.raises(bus.Closed):
            client.receive(timeout=0)

    with serve(None, routes={"/": chooses}) as server, connect(server) as conn:
        assert [message.text for message in conn] == ["bye"]
        assert (conn.close_code, conn.close_reason) == (4444, "chosen")


@pytest.mark.parametrize("kind", ["handler", "callback"])
def test_one_that_raises_closes_its_client_with_1011(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary()

    def handler(client: bus.Session) -> None:
        client.send(take(client))
        take(client)
        raise RuntimeError("on purpose")

    def callback(message: bus.Message, client: bus.WebSocketClient) -> bus.Message:
        if message.text == "fail":
            raise RuntimeError("on purpose")
        return message

    routes: dict[str, Any] = {"/": handler if kind == "handler" else callback}
    with serve(None, diary, routes=routes) as server, connect(server) as conn, connect(server) as neighbour:
        conn.send("good")
        conn.send("fail")
        assert take(conn).text == "good"
        with pytest.raises(bus.PeerClosed, match="1011"):
            take(conn)
        assert conn.close_code == 1011
        assert "on purpose" not in (conn.close_reason or "")  # none of the peer's business
        reason = diary.reason()
        assert isinstance(reason, bus.Broken)
        assert "RuntimeError: on purpose" in str(reason)
        neighbour.send("unharmed")
        assert take(neighbour).text == "unharmed"
    assert "on purpose" in caplog.text


def test_a_server_that_stops_closes_with_1001() -> None:
    handled: SimpleQueue[str] = SimpleQueue()

    def handler(client: bus.Session) -> None:
        try:
            for message in client:
                client.send(message)
        finally:
            handled.put("over")

    with serve(echo, routes={"/session": handler}) as server, connect(server) as one, connect(server, "/session") as two:
        for conn in (one, two):
            conn.send("up")
            assert take(conn).text == "up"
        stopping = InThread(server.stop)
        for conn in (one, two):
            with pytest.raises(bus.PeerClosed, match="1001"):
                take(conn)
            assert conn.close_code == 1001
        assert stopping.result()
        assert handled.get(timeout=WAIT) == "over"


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70_000, "1000", 1000.0, None])
def test_a_code_that_may_not_be_sent_is_refused(code: Any) -> None:
    with serve() as server, connect(server) as conn:
        with pytest.raises(ValueError, match="code"):
            conn.close(code=code)
        conn.send("still open")
        assert take(conn).text == "still open"


def test_a_reason_is_at_most_123_bytes() -> None:
    with serve() as server, connect(server) as conn:
        with pytest.raises(ValueError, match="123"):
            conn.close(reason="ü" * 62)
        conn.send("still open")
        assert take(conn).text == "still open"
        conn.close(reason="ü" * 61)


def test_our_close_goes_behind_what_was_sent_and_waits_for_the_peers() -> None:
    with web_pair() as (conn, peer):
        conn.send("before")
        closing = InThread(lambda: conn.close(code=1000, reason="done")).until_blocked()
        assert peer.get() == (0x81, b"before")
        assert peer.the_close() == (1000, "done")
        assert closing.thread.is_alive()
        peer.put(TEXT, b"still under way")
        peer.say_close(1000, "done")
        assert peer.get() is None
        peer.close()
        assert closing.result() is True


def test_the_peers_close_is_answered_at_once_with_its_code() -> None:
    with web_pair() as (conn, peer):
        peer.put(TEXT, b"last")
        peer.say_close(4004, "why")
        assert peer.the_close()[0] == 4004
        assert take(conn).text == "last"
        with pytest.raises(bus.PeerClosed, match="4004: why"):
            take(conn)
        assert (conn.close_code, conn.close_reason) == (4004, "why")


def test_a_close_without_a_code_is_1005() -> None:
    with web_pair() as (conn, peer):
        peer.put(CLOSE)
        with pytest.raises(bus.PeerClosed):
            take(conn)
        assert conn.close_code == 1005


def test_a_peer_that_never_answers_our_close_costs_linger_at_most() -> None:
    with web_pair() as (conn, peer):
        conn.send("taken")
        assert InThread(lambda: conn.close(linger=0.1)).result() is True
        assert peer.get() == (0x81, b"taken")
        assert peer.the_close()[0] == 1000


def test_an_end_without_a_close_frame_is_a_break() -> None:
    for half in (b"", wire(TEXT, b"a whole message")[:5]):
        with web_pair() as (conn, peer):
            peer.put(TEXT, b"whole")
            peer.sock.sendall(half)
            peer.finish()
            assert take(conn).text == "whole"
            with pytest.raises(bus.Broken, match="without a close frame"):
                take(conn)
            assert not conn.connected()


def test_closing_from_another_thread_ends_a_receive() -> None:
    with serve() as server, connect(server) as conn:
        receiving = InThread(conn.receive).until_blocked()
        conn.close()
        with pytest.raises(bus.Closed):
            receiving.result()


def test_everything_returns(all_returns: Callable[[], None]) -> None:
    with serve(routes={"/session": shout}) as server:
        for number in range(20):
            with connect(server, "/session" if number % 2 else "/") as conn:
                conn.send("A")
                assert take(conn).text == "A"
        until(lambda: not server.clients)


# --- broadcast ---


@pytest.mark.parametrize(
    ("message", "first", "payload"), [("text ü", 0x81, "text ü".encode()), (b"\xff", 0x82, b"\xff"), ({"a": 1}, 0x81, b'{"a":1}')]
)
def test_a_broadcast_is_one_frame_for_all(message: Any, first: int, payload: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[bytes] = []

    def build(*arguments: Any, **options: Any) -> bytes:
        built.append(build_frame(*arguments, **options))
        return built[-1]

    monkeypatch.setattr("actors.wsserver.build_frame", build)
    with serve(compression=True) as server, ExitStack() as stack:
        peers = [stack.enter_context(WebPeer.visiting(server)) for _ in range(3)]
        conn = stack.enter_context(connect(server, compression=True))
        until(lambda: len(server.clients) == 4)
        report = server.send_to_all(message)
        assert set(report.taken) == set(server.clients)
        assert (report.queued, report.skipped) == ((), ())
        assert [peer.get() for peer in peers] == [(first, payload)] * 3
        received = take(conn)
        assert (received.data, received.is_text) == (payload, first == 0x81)
        assert len(built) == 1


def test_a_broadcast_to_some_and_to_sessions() -> None:
    with serve(routes={"/session": shout}) as server, connect(server) as one, connect(server, "/session") as two:
        until(lambda: len(server.clients) == 2)
        session = next(client for client in server.clients if isinstance(client, bus.Session))
        assert server.send_to_all("to the session", to=[session]).taken == (session,)
        server.send_to_all("to all")
        assert take(two).text == "to the session"
        assert take(two).text == take(one).text == "to all"
        server.send("to one", session)
        assert take(two).text == "to one"


def test_a_broadcast_over_max_size_goes_to_nobody() -> None:
    with serve(max_size=100) as server, connect(server) as conn:
        with pytest.raises(bus.TooLarge):
            server.send_to_all(b"x" * 101)
        with pytest.raises(TypeError):
            server.send_to_all(5)  # type: ignore[arg-type]
        conn.send("unharmed")
        assert take(conn).text == "unharmed"


# --- keepalive ---


def test_pings_measure_the_latency_at_both_ends() -> None:
    diary = Diary()
    with serve(echo, diary, ping_interval=0.02) as server, connect(server, ping_interval=0.02) as conn:
        _, client, _ = diary.next()
        assert isinstance(client, bus.WebSocketClient)
        until(lambda: conn.latency is not None and client.latency is not None)
        assert conn.latency is not None
        assert 0 <= conn.latency < WAIT
        conn.send("still here")
        assert take(conn).text == "still here"


def test_without_pings_there_is_no_latency() -> None:
    with web_pair(ping_interval=None) as (conn, peer):
        peer.put(PONG, b"nobody asked")
        peer.put(TEXT, b"hello")
        assert take(conn).text == "hello"
        assert conn.latency is None


def test_a_peer_that_says_nothing_after_a_ping_is_given_up() -> None:
    with web_pair(ping_interval=0.05, ping_timeout=0.1) as (conn, peer):
        with pytest.raises(bus.Broken, match="ping"):
            take(conn)
        assert peer.the_close()[0] == 1011
    diary = Diary()
    with serve(echo, diary, ping_interval=0.05, ping_timeout=0.1) as server, WebPeer.visiting(server) as peer:
        assert "ping" in str(diary.reason())
        assert peer.the_close()[0] == 1011


def test_anything_is_a_sign_of_life() -> None:
    # A peer that never answers a ping, but sends; by the time that three pings have come, one without a sign would have been the end.
    with web_pair(ping_interval=0.1, ping_timeout=0.2) as (conn, peer):
        for number in range(6):
            assert peer.get() is not None
            peer.put(TEXT, b"%d" % number)
            assert take(conn).data == b"%d" % number
        assert conn.connected()


def test_without_a_verdict_a_silent_peer_stays() -> None:
    with web_pair(ping_interval=0.02, ping_timeout=None) as (conn, peer):
        for _ in range(10):
            frame = peer.get()
            assert frame is not None
            assert frame.first == 0x80 | PING
        peer.put(TEXT, b"late")
        assert take(conn).text == "late"


@pytest.mark.slow
@pytest.mark.parametrize("end", ["connection", "session", "callback"])
def test_a_slow_consumer_is_not_dropped_and_loses_nothing(end: str) -> None:
    total, nap = 400, threading.Event()
    payload = "x" * 20_000
    received: SimpleQueue[str] = SimpleQueue()
    pings: dict[str, Any] = {"ping_interval": 0.1, "ping_timeout": 0.4}

    def slow(source: Any) -> None:
        for number, message in enumerate(source):
            if number == 0:
                nap.wait(2.0)  # what is tested: a script that sleeps, for longer than the verdict takes
            received.put(message.text)

    def pour(client: bus.Session) -> None:
        for number in range(total):
            client.send(f"{number} {payload}", timeout=WAIT)
        for _ in client:
            pass

    if end == "connection":
        with serve(None, routes={"/": pour}, **pings) as server, connect(server, mailbox_messages=10, **pings) as conn:
            reading = InThread(lambda: slow(conn))
            assert [received.get(timeout=WAIT).split()[0] for _ in range(total)] == [str(number) for number in range(total)]
            conn.close()
            with pytest.raises(bus.Closed):
                reading.result()
    else:
        naps = iter([2.0])

        def slow_once(message: bus.Message, client: bus.WebSocketClient) -> None:
            nap.wait(next(naps, 0))
            received.put(message.text)

        routes: dict[str, Any] = {"/": slow if end == "session" else slow_once}
        with serve(None, routes=routes, **pings) as server, connect(server, **pings) as conn:
            for number in range(total):
                conn.send(f"{number} {payload}", timeout=WAIT)
            assert [received.get(timeout=WAIT).split()[0] for _ in range(total)] == [str(number) for number in range(total)]
            assert conn.connected()


# --- compression, and peers of another make ---

TEXTS: list[Any] = ["", "short", "again and again " * 200, "für 5 € " * 5000]


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("theirs", [True, False])
def test_compression_is_used_where_both_ends_offer_it(ours: bool, theirs: bool) -> None:
    with serve(compression=ours) as server, connect(server, compression=theirs) as conn:
        for text in TEXTS:
            conn.send(text)
            conn.send(text.encode())
            assert (take(conn).text, take(conn).data) == (text, text.encode())
        plain = sum(2 * len(text.encode()) for text in TEXTS)
        assert (conn.stats().messages_in, conn.stats().messages_out) == (8, 8)
        assert plain > 0


def test_what_is_compressed_is_smaller_on_the_wire() -> None:
    with web_pair(compression=True, answer={"Sec_WebSocket_Extensions": "permessage-deflate"}) as (conn, peer):
        conn.send("again and again " * 1000)
        frame = peer.get()
        assert frame is not None
        assert frame.first == 0xC1
        assert len(frame.payload) < 1000


@pytest.mark.parametrize("compression", ["deflate", None])
@pytest.mark.parametrize("ours", [True, False])
def test_a_client_of_another_make(compression: str | None, ours: bool) -> None:
    diary = Diary()
    with serve(echo, diary, compression=ours, routes={"/session": shout}) as server:
        with foreign_connect(f"ws://{server.address}/", compression=compression, proxy=None, max_size=None) as client:
            for message in [*TEXTS, b"", b"\xff" * 70_000, os.urandom(300_000)]:
                client.send(message)
                assert client.recv(timeout=WAIT) == message
            client.send(["frag", "men", "ted"])
            assert client.recv(timeout=WAIT) == "fragmented"
            assert client.ping().wait(WAIT)
            client.close(4100, "bye")
        assert "4100: bye" in str(diary.reason())
        with foreign_connect(f"ws://{server.address}/session", compression=compression, proxy=None) as client:
            client.send("loud")
            assert client.recv(timeout=WAIT) == "LOUD"


@pytest.mark.parametrize("compression", ["deflate", None])
@pytest.mark.parametrize("ours", [True, False])
def test_a_server_of_another_make(compression: str | None, ours: bool) -> None:
    def handler(peer: ServerConnection) -> None:
        for message in peer:
            if message == "fragments":
                peer.send(["frag", "men", "ted"])
            elif message == "close":
                peer.close(4200, "as you wish")
            else:
                peer.send(message)

    with foreign_serve(handler, "127.0.0.1", 0, compression=compression, max_size=None) as server:
        serving = InThread(server.serve_forever)
        host, port = server.socket.getsockname()
        with bus.connect(f"ws://{host}:{port}/", timeout=WAIT, compression=ours) as conn:
            for message in [*TEXTS, b"", b"\xff" * 70_000, os.urandom(300_000)]:
                conn.send(message)
                received = take(conn)
                assert (received.text if received.is_text else received.data) == message
            conn.send("fragments")
            assert take(conn).text == "fragmented"
            conn.send("close")
            with pytest.raises(bus.PeerClosed, match="4200: as you wish"):
                take(conn)
        with bus.connect(f"ws://{host}:{port}/", timeout=WAIT) as conn:
            assert conn.close(code=4300) is True
        server.shutdown()
        serving.result()


# --- why it fails ---


def test_nobody_there_is_a_connect_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(bus.ConnectFailed, match=f"127.0.0.1:{port}.*refused"):
        bus.connect(f"ws://127.0.0.1:{port}/", timeout=WAIT)


def failing_against(answer: bytes | None, match: str, kind: type[bus.BusError] = bus.ConnectFailed, timeout: float = WAIT) -> str:
    """Connect to somebody who answers the request like that (None: not at all); the text of the error."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        connecting = InThread(lambda: bus.connect(f"ws://{host}:{port}/", timeout=timeout))
        with WebPeer(listening.accept()[0]) as peer:
            peer.head()
            if answer is not None:
                peer.sock.sendall(answer)
                peer.finish()
            with pytest.raises(kind, match=match) as caught:
                connecting.result()
    assert f"127.0.0.1:{port}" in str(caught.value)
    return str(caught.value)


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"", "closed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not a WebSocket server.*SSH"),
        (b"220 mail.example ESMTP\r\n", "not a WebSocket server"),
        (b"\x00\x00\x00\x02hi", "not a WebSocket server"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\nno such page", "404 Not Found.*no such page"),
        (b"HTTP/1.1 404 Not Found\r\n\r\nuntil the end", "404 Not Found.*until the end"),
        (b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "500 Oops.*abc"),
        (b"HTTP/1.1 301 Moved\r\nLocation: wss://elsewhere/\r\nContent-Length: 0\r\n\r\n", "301.*wss://elsewhere/"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<ht", "200|not a WebSocket"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000, "200|too long"),
        (b"HTTP/1.1 2", "closed"),
        (b"HTTP/1.1 101 Go\r\nContent-Length: 0\r\n\r\n", "not a WebSocket server"),
        (SWITCH + b"\r\n", "Sec-WebSocket-Accept"),
        (SWITCH + b"Sec-WebSocket-Accept: d3Jvbmc=\r\n\r\n", "Sec-WebSocket-Accept"),
        (b"HTTP/1.1 101 Go\r\n" + b"X-Long: x\r\n" * 10_000 + b"\r\n", "too long|not a WebSocket"),
        (b"HTTP/9.9 what\r\n\r\n", "not a WebSocket server"),
    ],
)
def test_what_is_no_websocket_server_is_a_readable_error(answer: bytes, match: str) -> None:
    text = failing_against(answer, match)
    assert len(text) < 600


def test_who_never_answers_costs_the_timeout() -> None:
    failing_against(None, "handshake", bus.ConnectTimeout, timeout=0.1)


def test_who_answers_half_costs_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        connecting = InThread(lambda: bus.connect(f"ws://{host}:{port}/", timeout=0.2))
        with WebPeer(listening.accept()[0]) as peer:
            peer.head()
            peer.sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\nhalf")
            with pytest.raises(bus.ConnectFailed):
                connecting.result()


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
def test_the_length_framing_and_a_websocket_do_not_understand_each_other(scheme: str) -> None:
    if scheme == "tcp":
        with bus.serve("tcp://127.0.0.1:0", lambda message, client: message) as server, pytest.raises(bus.ConnectFailed):
            connect(server, timeout=WAIT)
    else:
        with serve() as server, bus.connect(f"tcp://{server.address}", timeout=WAIT) as conn:
            conn.send("hello")
            with pytest.raises((bus.Broken, bus.PeerClosed)):  # by the send, if the answer was here first
                conn.send("\r\n\r\n")
                take(conn)


@pytest.mark.parametrize(
    "url",
    [
        "ws://",
        "ws:///path",
        "ws://:80/",
        "ws://127.0.0.1:0/",
        "ws://127.0.0.1:99999/",
        "ws://127.0.0.1:none/",
        "ws://127.0.0.1:-1/",
        "ws://127.0.0.1:80/#part",
        "ws:127.0.0.1:80",
        "http://127.0.0.1:80/",
        "wsx://127.0.0.1:80/",
        "ws://[::1/",
        "ws://a b/",
        "ws://127.0.0.1:80/a\r\nX-Smuggled: yes",
        "ws://127.0.0.1:80/a b",
    ],
)
def test_a_url_that_is_none_is_a_bad_address(url: str) -> None:
    with pytest.raises(bus.BadAddress):
        bus.connect(url, timeout=1)


@pytest.mark.parametrize("url", ["ws://me:secret@127.0.0.1:0/", "ws://me:secret@127.0.0.1:none/", "ws://me:secret@/", "ws://me:secret@h/#x"])
def test_no_error_shows_a_password(url: str) -> None:
    with pytest.raises(bus.BadAddress) as caught:
        bus.connect(url, timeout=1)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["ws://127.0.0.1:0/?q", "ws://me@127.0.0.1:0", "ws://127.0.0.1", "ws://127.0.0.1:0/#f"])
def test_an_address_to_serve_at_is_a_host_a_port_and_a_path(url: str) -> None:
    with pytest.raises(bus.BadAddress):
        bus.serve(url, echo)


# --- proxies ---


class ProxyServer:
    """HTTP CONNECT, for one visitor."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._answer = answer
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.request = b""
        self._working = InThread(self._work)

    def _work(self) -> None:
        with WebPeer(self._listening.accept()[0]) as visitor:
            self.request = visitor.head()
            if b" 200 " not in self._answer:
                visitor.sock.sendall(self._answer)
                visitor.finish()
                visitor.read(1 << 16)
                return
            with Peer.to(self.request.split()[1].decode()) as target:
                visitor.sock.sendall(self._answer)
                back = InThread(lambda: self._pump(target.sock, visitor.sock))
                self._pump(visitor.sock, target.sock)
                back.result()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self._listening.close()
        self._working.result()


def test_through_a_proxy() -> None:
    with serve() as server, ProxyServer() as proxy:
        with connect(server, proxy=proxy.url) as conn:
            conn.send("through")
            assert take(conn).text == "through"
            assert conn.close() is True
        assert proxy.request.startswith(f"CONNECT {server.address} HTTP/1.1\r\n".encode())


def test_through_a_proxy_that_wants_a_password() -> None:
    with serve() as server, ProxyServer() as proxy:
        with connect(server, proxy=proxy.url.replace("//", "//me:secret@")) as conn:
            conn.send("through")
            assert take(conn).text == "through"
        assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:secret") in proxy.request


def test_the_systems_proxy_is_used_unless_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as server, ProxyServer() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        with connect(server, proxy=False) as conn:
            conn.send("direct")
            assert take(conn).text == "direct"
        assert proxy.request == b""
        with connect(server) as conn:
            conn.send("through")
            assert take(conn).text == "through"
        assert proxy.request.startswith(b"CONNECT ")


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "proxy.*403 Forbidden"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "proxy.*407"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "proxy.*502"),
        (b"nonsense\r\n\r\n", "proxy"),
        (b"", "proxy"),
    ],
)
def test_a_proxy_that_refuses_says_so(answer: bytes, match: str) -> None:
    with serve() as server, ProxyServer(answer) as proxy:
        with pytest.raises(bus.ConnectFailed, match=match) as caught:
            connect(server, proxy=proxy.url.replace("//", "//me:secret@"))
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "ftp://127.0.0.1:1", "127.0.0.1:1", "http://", "http://me:secret@"])
def test_a_proxy_that_is_none_is_a_bad_address(proxy: str) -> None:
    with serve() as server, pytest.raises(bus.BadAddress) as caught:
        connect(server, proxy=proxy)
    assert "secret" not in str(caught.value)


def test_a_proxy_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with serve() as server, pytest.raises(bus.ConnectFailed, match=str(port)):
        connect(server, proxy=f"http://127.0.0.1:{port}")


def test_a_connect_that_fails_leaves_nothing(no_leaks: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        failing_against(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404")
        failing_against(b"nonsense", "not a WebSocket")
        failing_against(None, "handshake", bus.ConnectTimeout, timeout=0.05)

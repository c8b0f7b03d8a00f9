"""`scriptling.websocket`: the document's names and results, and a server that leaves when it likes."""

from __future__ import annotations

import dis
import doctest
import json
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

import bus
from adapters import dialect
from adapters.scriptling import websocket as ws
from adapters.scriptling.net import websocket as net_ws
from tests.bus.peers import WAIT, InThread, Peer, until

pytestmark = pytest.mark.usefixtures("collected")

DIALECT_LOG = "actorbus.dialect"


class Far:
    """A server's end of one connection, driven by the test. `session` is there once it has come."""

    def __init__(self) -> None:
        self.here = threading.Event()
        self.over = threading.Event()
        self._sessions: list[bus.Session] = []

    def serve(self, session: bus.Session) -> None:
        self._sessions.append(session)
        self.here.set()
        self.over.wait(WAIT)

    @property
    def session(self) -> bus.Session:
        assert self.here.wait(WAIT)
        return self._sessions[-1]

    def receive(self) -> bus.Message:
        message = self.session.receive(WAIT)
        assert message is not None
        return message

    def broken(self) -> None:
        """Break the connection off, without a close frame."""
        actor: Any = self.session._actor
        actor.loop.call_soon(lambda: actor.break_off(bus.Broken(self.session.remote_address, "cut")))


@contextmanager
def pair(**options: Any) -> Iterator[tuple[ws.Connection, Far]]:
    """A connection, and the server's end of it."""
    far = Far()
    with bus.serve("ws://127.0.0.1:0", routes={"/ws": far.serve}, max_size=32 * 1024 * 1024, **options) as server:
        try:
            with closing(ws.connect(f"ws://{server.address}/ws", timeout=WAIT)) as conn:
                yield conn, far
        finally:
            far.over.set()


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(ws).failed == 0


def silent(client: bus.Session) -> None:
    client.receive()


def test_its_newer_name_gives_the_same() -> None:
    for name in ws.__all__:
        assert getattr(net_ws, name) is getattr(ws, name)
    assert net_ws.__all__ == ws.__all__


class TestTheirs:
    """What Scriptling's own tests of the library ask for, by their names."""

    def test_client_connect(self) -> None:
        with pair() as (conn, _):
            assert conn.connected() is True
            conn.close()
            assert conn.connected() is False

    def test_client_echo(self) -> None:
        with pair() as (conn, far):
            conn.send("hello")
            far.session.send(far.receive())
            assert conn.receive(timeout=WAIT) == "hello"

    def test_client_json(self) -> None:
        with pair() as (conn, far):
            conn.send({"type": "test", "data": "hello"})
            far.session.send(far.receive())
            text = conn.receive(timeout=WAIT)
            assert ws.is_text(text)
            assert "type" in text
            assert "test" in text

    def test_client_timeout(self) -> None:
        with pair() as (conn, far):
            assert conn.receive(timeout=0.01) is None
            assert conn.connected()
            far.session.send("and it goes on")  # theirs is poisoned from here on
            assert conn.receive(timeout=WAIT) == "and it goes on"

    def test_is_text_is_binary(self) -> None:
        assert [ws.is_text("x"), ws.is_text([1]), ws.is_binary("x"), ws.is_binary([1])] == [True, False, False, True]


@pytest.mark.parametrize("other", [b"x", bytearray(b"x"), (1, 2), None, {}, 5])
def test_neither_text_nor_binary(other: object) -> None:
    assert not ws.is_text(other)
    assert not ws.is_binary(other)


class TestMessages:
    @pytest.mark.parametrize(
        "message, data, is_text",
        [
            ("é€", "é€".encode(), True),
            ("", b"", True),
            ({}, b"{}", True),
            ({"ä": [1, None, True, 2.5, {"b": "<&>"}]}, '{"ä":[1,null,true,2.5,{"b":"<&>"}]}'.encode(), True),
            (b"\x00\xff", b"\x00\xff", False),
            (bytearray(b"\x01"), b"\x01", False),
            (memoryview(b"abc")[1:], b"bc", False),
            ([0, 127, 255], b"\x00\x7f\xff", False),
            ([], b"", False),
        ],
    )
    def test_what_can_be_sent(self, message: Any, data: bytes, is_text: bool) -> None:
        with pair() as (conn, far):
            conn.send(message)
            received = far.receive()
            assert (received.data, received.is_text) == (data, is_text)

    @pytest.mark.parametrize("data", [[1, 2, 255], b"\x01\x02\xff", bytearray(b"\x01\x02\xff"), memoryview(b"\x01\x02\xff")])
    def test_send_binary(self, data: Any) -> None:
        with pair() as (conn, far):
            conn.send_binary(data)
            received = far.receive()
            assert (received.data, received.is_text) == (b"\x01\x02\xff", False)

    @pytest.mark.parametrize("message", [42, 1.5, True, None, (1, "b"), {1}, len])
    def test_anything_else_is_refused_by_its_type(self, message: Any) -> None:
        with pair() as (conn, _), pytest.raises(TypeError) as caught:
            conn.send(message)
        assert str(caught.value) == f"message must be a string, bytes or dict, not {type(message).__name__}"

    @pytest.mark.parametrize("data", ["text", 5, None, (1, 2), {"a": 1}])
    def test_send_binary_takes_lists_and_bytes_only(self, data: Any) -> None:
        with pair() as (conn, _), pytest.raises(TypeError, match=f"not {type(data).__name__}$"):
            conn.send_binary(data)

    @pytest.mark.parametrize(
        "data, error, text",
        [
            ([1, 256], ValueError, "not 256 (at index 1)"),
            ([-1], ValueError, "not -1 (at index 0)"),
            ([1.0], TypeError, "not 1.0 (at index 0)"),
            ([0, "a"], TypeError, "not 'a' (at index 1)"),
        ],
    )
    def test_a_list_that_holds_no_bytes_names_the_element(self, data: Any, error: type[Exception], text: str) -> None:
        with pair() as (conn, _):
            for call in (conn.send, conn.send_binary):
                with pytest.raises(error) as caught:
                    call(data)
                assert text in str(caught.value)

    @pytest.mark.parametrize(
        "message, error",
        [
            ("\udcff", ValueError),
            ({"a": "\udcff"}, ValueError),
            ({"a": math.nan}, ValueError),
            ({"a": math.inf}, ValueError),
            ({1: "a"}, TypeError),
            ({"a": b"x"}, TypeError),
        ],
    )
    def test_what_is_no_text_or_no_json(self, message: Any, error: type[Exception]) -> None:
        with pair() as (conn, far):
            with pytest.raises(error):
                conn.send(message)
            conn.send("still here")
            assert far.receive().text == "still here"

    def test_text_comes_as_str_and_binary_as_a_list(self) -> None:
        with pair() as (conn, far):
            for message in ("grüße", "", b"\x00\xff", b"", {"a": 1}):
                far.session.send(message)
            received = [conn.receive(WAIT) for _ in range(5)]
            assert received == ["grüße", "", [0, 255], [], '{"a":1}']
            assert [type(message) for message in received] == [str, str, list, list, str]

    @pytest.mark.parametrize("message", [bus.Message(b"text", is_text=True), bus.Message(b"\x00\xff", is_text=False)])
    def test_what_was_received_can_be_sent_on(self, message: bus.Message) -> None:
        with pair() as (conn, far):
            far.session.send(message)
            received = conn.receive(WAIT)
            assert received is not None
            conn.send(received)
            echoed = far.receive()
            assert (echoed.data, echoed.is_text) == (message.data, message.is_text)

    def test_sixteen_mebibytes_go_and_not_a_byte_more(self) -> None:
        largest = "x" * ws.MAX_SIZE
        with pair() as (conn, far):
            with pytest.raises(ValueError, match="16777217"):
                conn.send(largest + "x")
            conn.send(largest)
            assert far.receive().data == largest.encode()

    def test_a_message_over_the_limit_ends_the_connection(self, caplog: pytest.LogCaptureFixture) -> None:
        with pair() as (conn, far), caplog.at_level(logging.WARNING, DIALECT_LOG):
            far.session.send("before")
            far.session.send(bytes(ws.MAX_SIZE + 1))
            assert conn.receive(WAIT) == "before"
            assert conn.receive(WAIT) is None
            assert not conn.connected()
            assert conn.remote_addr in caplog.text


class TestTimeouts:
    @pytest.mark.parametrize("timeout, error", [(-1, ValueError), (math.nan, ValueError), (True, TypeError), ("5", TypeError)])
    def test_what_is_no_timeout_is_said(self, timeout: Any, error: type[Exception]) -> None:
        with pair() as (conn, _):
            with pytest.raises(error):
                conn.receive(timeout)
            with pytest.raises(error):
                ws.connect(f"ws://{conn.remote_addr}/ws", timeout)

    def test_zero_polls(self) -> None:
        with pair() as (conn, far):
            assert conn.receive(0) is None
            far.session.send("x")
            until(lambda: conn.receive(0) == "x")

    def test_fractions_of_a_second_count(self) -> None:
        with pair() as (conn, _):
            assert conn.receive(0.05) is None
            with closing(ws.connect(f"ws://{conn.remote_addr}/ws", 0.5 + WAIT)):
                pass

    def test_a_thousand_timeouts_harm_nothing(self) -> None:
        with pair() as (conn, far):
            for _ in range(1000):
                assert conn.receive(0.0001) is None
            conn.send("question")
            assert far.receive().text == "question"
            far.session.send("answer")
            assert conn.receive(WAIT) == "answer"

    def test_none_waits_and_a_close_from_another_thread_ends_it(self) -> None:
        with pair() as (conn, _):
            blocked = InThread(lambda: conn.receive(None)).until_blocked()
            conn.close()
            with pytest.raises(bus.Closed):
                blocked.result()

    def test_one_thread_sends_while_another_receives(self) -> None:
        with pair() as (conn, far):
            blocked = InThread(lambda: conn.receive(None)).until_blocked()
            conn.send("question")
            assert conn.connected()
            assert far.receive().text == "question"
            far.session.send("answer")
            assert blocked.result() == "answer"

    def test_arguments_go_by_position_and_by_name(self) -> None:
        with pair() as (conn, far):
            conn.send(message="x")
            conn.send_binary(data=[1])
            far.session.send("y")
            assert conn.receive(timeout=WAIT) == "y"
            url = f"ws://{conn.remote_addr}/ws"
            ws.connect(url, WAIT, {}).close()
            ws.connect(url=url, timeout=None, headers=None).close()
            assert ws.is_text(message="x")
            assert ws.is_binary(message=[])

    def test_the_defaults_are_the_documents(self) -> None:
        assert ws.connect.__defaults__ == (10, None)
        assert ws.Connection.receive.__defaults__ == (30,)


class TestEnd:
    def test_what_came_before_the_end_is_delivered_then_none(self) -> None:
        with pair() as (conn, far):
            far.session.send("one")
            far.session.send(b"2")
            far.over.set()  # its handler returns: closed in order
            assert conn.receive(WAIT) == "one"
            assert conn.connected() is True  # a message waits
            assert conn.receive(WAIT) == [50]
            assert conn.receive(WAIT) is None
            assert conn.connected() is False

    def test_an_end_without_a_close_frame_is_an_end(self) -> None:
        with pair() as (conn, far):
            far.session.send("one")
            far.broken()
            assert conn.receive(WAIT) in ("one", None)  # whether it was written before is a matter of luck
            assert conn.receive(WAIT) is None
            assert conn.connected() is False

    def test_close_does_the_closing_handshake(self) -> None:
        with pair() as (conn, far):
            session = far.session
            conn.close()
            conn.close()
            until(lambda: session.close_code is not None)
            assert (session.close_code, session.close_reason) == (1000, "")
            assert not session.connected()

    def test_after_close_its_methods_say_so(self) -> None:
        with pair() as (conn, _):
            conn.close()
            calls: list[Callable[[], object]] = [lambda: conn.send("x"), lambda: conn.send_binary([1]), lambda: conn.receive(0)]
            for call in calls:
                with pytest.raises(bus.Closed):
                    call()
            assert conn.connected() is False
            assert conn.remote_addr.startswith("127.0.0.1:")

    def test_a_loop_around_an_ended_link_is_slowed_down(self) -> None:
        with pair() as (conn, far):
            far.over.set()
            assert conn.receive(None) is None
            began = time.monotonic()
            for timeout in (WAIT, None, 1, 0.5):
                assert conn.receive(timeout) is None
            assert time.monotonic() - began >= 4 * dialect.PACE * 0.99
            for _ in range(1000):
                assert conn.receive(0) is None

    def test_between_the_look_and_the_send_the_server_may_leave(self, caplog: pytest.LogCaptureFixture) -> None:
        with pair() as (conn, far), caplog.at_level(logging.WARNING, DIALECT_LOG):
            assert conn.connected()
            far.over.set()
            assert conn.receive(WAIT) is None
            for count in (1, 2, 3):
                conn.send("tick")
                assert conn.dropped == count
            (record,) = caplog.records
            assert conn.remote_addr in record.getMessage()
            assert not conn.connected()
            calls: list[Callable[[], object]] = [lambda: conn.send("tick"), lambda: conn.send_binary([1])]
            for call in calls:
                with pytest.raises(ConnectionError):
                    call()
            assert conn.dropped == 3

    def test_who_never_looked_is_told(self) -> None:
        with pair() as (conn, far):
            far.over.set()
            assert conn.receive(WAIT) is None
            with pytest.raises(bus.PeerClosed):
                conn.send("tick")
            assert conn.dropped == 0


class TestConnect:
    def test_remote_addr_is_where_the_server_is(self) -> None:
        with pair() as (conn, far):
            assert conn.remote_addr == far.session.local_address
            assert conn.remote_addr in repr(conn)
            assert conn.stats().messages_in == 0

    def test_headers_go_into_the_handshake(self) -> None:
        asked: list[bus.Request] = []

        def look(request: bus.Request) -> None:
            asked.append(request)

        with bus.serve("ws://127.0.0.1:0", routes={"/ws": silent}, on_request=look) as server:
            with closing(ws.connect(f"ws://{server.address}/ws?room=1", headers={"Authorization": "Bearer x", "Host": "robot"})):
                (request,) = asked
                assert request.path == "/ws?room=1"
                assert request.headers["authorization"] == "Bearer x"
                assert request.headers["Host"] == "robot"

    def test_subprotocols_are_offered_in_a_header(self) -> None:
        taken: list[str | None] = []

        def handler(client: bus.Session) -> None:
            taken.append(client.subprotocol)
            client.send("hello")
            client.receive()

        with bus.serve("ws://127.0.0.1:0", routes={"/": handler}, subprotocols=["v2", "v1"]) as server:
            with closing(ws.connect(f"ws://{server.address}", headers={"sec-websocket-protocol": "v1, v2"})) as conn:
                assert conn.receive(WAIT) == "hello"
        assert taken == ["v2"]

    @pytest.mark.parametrize(
        "headers, error",
        [
            ({"X": "a\r\nb"}, ValueError),
            ({"a b": "c"}, ValueError),
            ({"Upgrade": "x"}, ValueError),
            ({"Sec-WebSocket-Key": "x"}, ValueError),
            ({"X": 5}, TypeError),
            ({5: "X"}, TypeError),
            ("X: y", TypeError),
            ([("X", "y")], TypeError),
        ],
    )
    def test_what_is_no_header_is_said(self, headers: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            ws.connect("ws://127.0.0.1:9/", headers=headers)

    @pytest.mark.parametrize(
        "url", ["127.0.0.1:80", "http://127.0.0.1", "tcp://127.0.0.1:80", "WS", "ws://", "ws://127.0.0.1:99999/", "ws://127.0.0.1/#x", ""]
    )
    def test_what_is_no_websocket_url_is_a_value_error(self, url: str) -> None:
        with pytest.raises(ValueError):
            ws.connect(url)

    def test_a_password_is_not_told(self) -> None:
        with pytest.raises(ValueError) as caught:
            ws.connect("http://user:secret@127.0.0.1/")
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("url", [None, 42, b"ws://127.0.0.1/"])
    def test_a_url_of_another_type_is_named(self, url: Any) -> None:
        with pytest.raises(TypeError) as caught:
            ws.connect(url)
        assert str(caught.value) == f"url must be a string, not {url!r}"

    def test_a_refused_connection_names_the_address(self) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # bound, so that no other test gets it; and it does not listen
            address = f"127.0.0.1:{nobody.getsockname()[1]}"
            with pytest.raises(ConnectionError) as caught:
                ws.connect(f"ws://{address}/ws", timeout=WAIT)
        assert address in str(caught.value)
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)

    @pytest.mark.parametrize("path, status", [("/nowhere", "404"), ("/secret", "401")])
    def test_a_refused_handshake_tells_the_status(self, path: str, status: str) -> None:
        def refuse(request: bus.Request) -> int | None:
            return 401 if request.path == "/secret" else None

        with bus.serve("ws://127.0.0.1:0", routes={"/": silent}, on_request=refuse) as server:
            with pytest.raises(ConnectionError, match=status):
                ws.connect(f"ws://{server.address}{path}", timeout=WAIT)

    def test_a_server_that_says_nothing_is_a_timeout(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            with pytest.raises(TimeoutError) as caught:
                ws.connect(f"ws://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.05)
        assert isinstance(caught.value, ConnectionError)

    def test_a_server_that_speaks_something_else_is_said(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            call = InThread(lambda: ws.connect(f"ws://127.0.0.1:{listening.getsockname()[1]}/", timeout=WAIT))
            with Peer(listening.accept()[0]) as peer:
                peer.sock.sendall(b"220 mail.example ESMTP\r\n\r\n")
                with pytest.raises(ConnectionError):
                    call.result()

    @pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
    def test_ipv6(self) -> None:
        with bus.serve("ws://[::1]:0", routes={"/": silent}) as server:
            with closing(ws.connect(f"ws://{server.address}/", timeout=WAIT)) as conn:
                assert conn.remote_addr == server.address
                assert conn.remote_addr.startswith("[::1]:")


def test_both_ends_are_ours() -> None:
    def shout(client: bus.Session) -> None:
        for message in client:
            client.send({"heard": message.text})

    with bus.serve("ws://127.0.0.1:0", routes={"/": shout}) as server, closing(ws.connect(f"ws://{server.address}")) as conn:
        conn.send("hello")
        answer = conn.receive(WAIT)
        assert ws.is_text(answer)
        assert json.loads(answer) == {"heard": "hello"}


@pytest.mark.parametrize("function", [ws.receive_message, ws.Connection.receive])
def test_no_place_where_ctrl_c_strikes_lies_behind_the_taking(function: Callable[..., object]) -> None:
    instructions = list(dis.get_instructions(function))
    named = next(i for i, one in enumerate(instructions) if one.argval in ("receive", "receive_message"))
    taken = next(i for i, one in enumerate(instructions) if i > named and one.opname.startswith("CALL"))
    behind = [one.opname for one in instructions[taken + 1 :]]
    if "PUSH_EXC_INFO" in behind:
        del behind[behind.index("PUSH_EXC_INFO") :]  # what an error is handled with
    assert "RETURN_VALUE" in behind
    assert [name for name in behind if name.startswith(("CALL", "JUMP_BACKWARD", "RESUME", "FOR_ITER"))] == []

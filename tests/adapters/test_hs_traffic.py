"""What is sent and received with hs.socket.udp: order, callbacks, failures, any bytes at all; and a flood."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from adapters import hs
from adapters.hs import udpsocket
from tests.adapters.hsscript import EVERYBODY, Heard, Log, Script, SlowName, plain_socket
from tests.bus.peers import WAIT, until

UDPSocket = hs.socket.udp.UDPSocket
new, server = hs.socket.udp.new, hs.socket.udp.server


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with plain_socket() as peer:
        yield peer


def at(peer: socket.socket) -> int:
    port = peer.getsockname()[1]
    assert isinstance(port, int)
    return port


def own(sock: UDPSocket) -> tuple[str, int]:
    return "127.0.0.1", sock.info()["localPort"]


def receiving(fn: Any) -> UDPSocket:
    sock = server(0, fn)
    assert sock.receive() is sock
    return sock


# --- sending ---


def test_a_send_opens_and_binds_and_then_receiving_is_possible(script: Script, peer: socket.socket) -> None:
    heard = Heard()
    sock = new(heard)
    assert sock.send("hello", "127.0.0.1", at(peer)) is sock
    assert not sock.closed()
    assert not sock.connected()
    assert sock.info()["userData"] == ""
    assert sock.receive() is sock
    data, sender = peer.recvfrom(100)
    assert data == b"hello"
    assert sender[1] == sock.info()["localPort"]
    peer.sendto(b"answer", sender)
    script.until(lambda: heard)
    assert heard.data == ["answer"]


@pytest.mark.parametrize("message", ["für", b"\x00\xff", "\udcff", bytearray(b"x"), "x" * 65_507])
def test_every_byte_arrives_and_comes_back(script: Script, peer: socket.socket, message: Any) -> None:
    heard = Heard()
    sock = receiving(heard)
    sock.write(message, "127.0.0.1", at(peer))
    wire = peer.recv(70_000)
    assert wire == (message.encode("utf-8", "surrogateescape") if isinstance(message, str) else bytes(message))
    peer.sendto(wire, own(sock))
    script.until(lambda: heard)
    assert heard[0][0] == wire.decode("utf-8", "surrogateescape")
    sock.send(heard[0][0], "127.0.0.1", at(peer))
    assert peer.recv(70_000) == wire


def test_each_send_keeps_its_own_function_and_tag(script: Script, peer: socket.socket) -> None:
    called: list[tuple[str, int]] = []
    port = at(peer)
    sock = new()
    sock.send("1", "127.0.0.1", port, 5, lambda tag: called.append(("one", tag)))
    sock.send("2", "127.0.0.1", port, lambda tag: called.append(("two", tag)))
    sock.send("3", "127.0.0.1", port, None, lambda tag: called.append(("three", tag)))
    sock.send("4", "127.0.0.1", port, 7.0)
    sock.send("5", "127.0.0.1", port, fn=lambda tag: called.append(("five", tag)), tag=9)
    assert called == []
    assert [peer.recv(10) for _ in range(5)] == [b"1", b"2", b"3", b"4", b"5"]
    script.run()
    assert called == [("one", 5), ("two", -1), ("three", -1), ("five", 9)]


def test_a_connected_object_sends_to_its_peer_only(script: Script, peer: socket.socket) -> None:
    tags: list[int] = []
    sock = new()
    assert sock.connect("127.0.0.1", at(peer)) is sock
    sock.send("1").send("2", 2).send("3", tags.append).send("4", 4, tags.append).send("5", None, tags.append)
    assert [peer.recv(10) for _ in range(5)] == [b"1", b"2", b"3", b"4", b"5"]
    script.run()
    assert tags == [-1, 4, -1]
    for arguments in (("x", "127.0.0.1", at(peer)), ("x", "127.0.0.1")):
        with pytest.raises(TypeError, match="connected"):
            sock.send(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("x",),
        ("x", "localhost"),
        ("x", 9001, "localhost"),
        (5, "localhost", 9),
        (None, "localhost", 9),
        ({}, "localhost", 9),
        ("x", None, 9),
        ("x", "localhost", 9, "tag"),
        ("x", "localhost", 9, 1.5),
        ("x", "localhost", 9, True),
        ("x", "localhost", 9, 1, None),
        ("x", "localhost", 9, 1, 5),
        ("x", "localhost", 9, print, print),
        ("x", "localhost", 9, 1, print, 1),
    ],
)
def test_wrong_arguments_of_send_raise_and_send_nothing(script: Script, arguments: Any) -> None:
    sock = new()
    with pytest.raises(TypeError):
        sock.send(*arguments)
    assert sock.closed()


def test_unknown_names_of_arguments_raise(script: Script) -> None:
    with pytest.raises(TypeError, match="'hots'"):
        new().send("x", hots="localhost", port=9)
    with pytest.raises(TypeError, match="'host'"):
        new().send("x", "localhost", 9, host="localhost")


def test_an_empty_message_is_nothing(script: Script, peer: socket.socket, logged: Log) -> None:
    called: list[int] = []
    sock = new()
    assert sock.send("", "127.0.0.1", at(peer), called.append) is sock
    assert sock.closed()
    sock.send("x", "127.0.0.1", at(peer))
    assert peer.recv(10) == b"x"
    script.run()
    assert called == []
    assert logged.errors() == []


def test_a_socket_for_one_message_closes_itself(script: Script, peer: socket.socket) -> None:
    sock = new()
    sock.send("once", "127.0.0.1", at(peer), lambda tag: sock.close())
    script.run()
    assert sock.closed()
    assert peer.recv(10) == b"once"


def test_what_waits_for_a_name_holds_up_what_is_behind_it(script: Script, peer: socket.socket, slow_name: SlowName) -> None:
    tags: list[int] = []
    sock = new()
    sock.send("named", "slow.example", at(peer), 1, tags.append)
    sock.send("numeric", "127.0.0.1", at(peer), 2, tags.append)
    assert script.run() <= 2
    assert tags == []
    assert script.scope.kept_alive
    slow_name.answers("127.0.0.1")
    script.until(lambda: len(tags) == 2)
    assert tags == [1, 2]
    assert [peer.recv(10), peer.recv(10)] == [b"named", b"numeric"]
    until(lambda: not script.scope.kept_alive)


def test_a_destination_that_is_named_before_the_connect_is_done_is_one_too_many(
    script: Script, peer: socket.socket, slow_name: SlowName, logged: Log
) -> None:
    tags: list[int] = []
    sock = new()
    assert sock.connect("slow.example", at(peer)) is sock
    with pytest.raises(TypeError, match="host and a port"):
        sock.send("x")
    sock.send("x", "127.0.0.1", at(peer), 1, tags.append)
    slow_name.answers("127.0.0.1")
    assert logged.next_error(script) == "Data not sent on UDP socket: Cannot specify destination of packet for connected socket"
    assert sock.connected()
    sock.send("y", 2, tags.append)
    assert peer.recv(10) == b"y"
    script.until(lambda: tags)
    assert tags == [2]


def test_an_unknown_name_costs_its_datagram_only(
    script: Script, peer: socket.socket, slow_name: SlowName, logged: Log
) -> None:
    tags: list[int] = []
    sock = new().send("x", "slow.example", 9, 1, tags.append).send("y", "127.0.0.1", at(peer), 2, tags.append)
    slow_name.answers("")
    script.until(lambda: tags)
    assert tags == [2]
    assert logged.errors() == ["Data not sent on UDP socket: Name or service not known"]
    assert sock.stats().unsent == 1


@pytest.mark.parametrize(
    ("message", "host", "port", "number"),
    [("x", EVERYBODY, 9, errno.EACCES), ("x" * 65_508, "127.0.0.1", 9, errno.EMSGSIZE), ("x", "127.0.0.1", 0, errno.EINVAL)],
)
def test_a_fatal_error_costs_its_datagram_only(
    script: Script, peer: socket.socket, logged: Log, message: str, host: str, port: int, number: int
) -> None:
    tags: list[int] = []
    heard = Heard()
    sock = receiving(heard)
    before = own(sock)
    assert sock.send(message, host, port, 1, tags.append) is sock
    assert logged.errors() == [f"Data not sent on UDP socket: {os.strerror(number)}"]
    sock.send("fine", "127.0.0.1", at(peer), 2, tags.append)
    script.until(lambda: tags)
    assert tags == [2]
    assert own(sock) == before
    peer.sendto(b"still here", own(sock))
    script.until(lambda: heard)


def test_a_peer_that_is_not_there_closes_nothing(script: Script, logged: Log) -> None:
    with plain_socket() as gone:
        port = at(gone)
    sock = new()
    sock.connect("127.0.0.1", port)
    for _ in range(3):
        sock.send("anyone?")
    until(lambda: sock.stats().refused)
    assert sock.connected()
    assert logged.errors() == []


class Full:
    """A socket whose buffer has no room."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def sendto(self, *arguments: Any) -> int:
        raise BlockingIOError(errno.EAGAIN, "no room")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def clog(sock: UDPSocket) -> Any:
    """Fill its buffer; gives what undoes that. (Loopback never refuses a datagram.)"""
    assert sock._sock is not None
    reader = sock._sock._actor.reader
    real: Any = reader.sock
    reader.sock = Full(real)  # type: ignore[assignment]
    return lambda: setattr(reader, "sock", real)


@pytest.mark.parametrize("seconds", [0, 0.02])
def test_a_send_that_finds_no_room_in_time_is_not_sent(script: Script, peer: socket.socket, logged: Log, seconds: float) -> None:
    tags: list[int] = []
    sock = server(0).setTimeout(seconds)
    free = clog(sock)
    sock.send("late", "127.0.0.1", at(peer), 1, tags.append)
    assert logged.next_error(script) == "Data not sent on UDP socket: Send operation timed out"
    free()
    sock.send("in time", "127.0.0.1", at(peer), 2, tags.append)
    script.until(lambda: tags)
    assert tags == [2]
    assert peer.recv(100) == b"in time"


def test_without_a_timeout_it_waits_for_room(script: Script, peer: socket.socket, logged: Log) -> None:
    tags: list[int] = []
    sock = server(0)
    free = clog(sock)
    sock.send("1", "127.0.0.1", at(peer), 1, tags.append).send("2", "127.0.0.1", at(peer), 2, tags.append)
    script.run()
    assert tags == []
    free()
    script.until(lambda: len(tags) == 2)
    assert [peer.recv(10), peer.recv(10)] == [b"1", b"2"]
    assert tags == [1, 2]
    assert logged.errors() == []


def test_waiting_write_callbacks_are_bounded(
    script: Script, peer: socket.socket, logged: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udpsocket, "MAX_CALLBACKS", 3)
    tags: list[int] = []
    sock = new()
    for number in range(5):
        sock.send("x", "127.0.0.1", at(peer), number, tags.append)
    assert len(logged.errors()) == 2
    script.run()
    assert tags == [0, 1, 2]
    sock.send("x", "127.0.0.1", at(peer), 5, tags.append)
    script.run()
    assert tags[-1] == 5


def test_a_write_callback_comes_before_the_answer_to_what_was_written(script: Script) -> None:
    order: list[str] = []

    def answer(data: str, sockaddr: bytes) -> None:
        echo.send(data, "127.0.0.1", own(sock)[1])

    echo: UDPSocket = receiving(answer)
    sock: UDPSocket = receiving(lambda data, sockaddr: order.append(f"answer {data}"))
    for number in range(20):
        sock.send(str(number), "127.0.0.1", own(echo)[1], number, lambda tag: order.append(f"written {tag}"))
        script.until(lambda number=number: f"answer {number}" in order)  # type: ignore[misc]
    assert order == [f"{what} {number}" for number in range(20) for what in ("written", "answer")]


# --- receiving ---


def test_receiving_needs_a_callback_and_sockets(script: Script, logged: Log) -> None:
    sock = new()
    for call in (sock.receive, sock.receiveOne, sock.read, sock.readOne):
        assert call() is None
    assert logged.errors() == ["No callback defined!"] * 4
    heard = Heard()
    assert sock.receive(heard) is None
    assert sock.receiveOne() is None  # the callback was kept
    assert logged.errors() == [
        "Unable to read from UDP socket: Must bind socket before you can receive data. "
        "You can do this explicitly via bind, or implicitly via connect or by sending data."
    ] * 2
    assert sock.broadcast() is sock
    assert sock.receive() is sock
    assert sock.listen(0) is sock
    with plain_socket() as peer:
        peer.sendto(b"x", own(sock))
        script.until(lambda: heard)


@pytest.mark.parametrize("fn", [None, 5, "fn"])
def test_a_callback_is_a_function(script: Script, fn: Any) -> None:
    sock = server(0, print)
    for call in (sock.receive, sock.receiveOne, sock.readOne):
        with pytest.raises(TypeError):
            call(fn)
    if fn is not None:
        with pytest.raises(TypeError):
            sock.setCallback(fn)


def test_read_is_receive_and_knows_no_delimiter(script: Script, peer: socket.socket) -> None:
    heard = Heard()
    sock = server(0)
    assert sock.read(heard) is sock
    for arguments in (("\n",), ("\n", 5), (5,), (print, 5)):
        with pytest.raises(TypeError, match="delimiter"):
            sock.read(*arguments)
    peer.sendto(b"x", own(sock))
    script.until(lambda: heard)


def test_the_callback_gets_text_and_the_senders_address(script: Script, peer: socket.socket) -> None:
    heard = Heard()
    sock = receiving(heard)
    peer.sendto("für".encode(), own(sock))
    script.until(lambda: heard)
    data, sockaddr = heard[0]
    assert data == "für"
    assert isinstance(sockaddr, bytes)
    assert len(sockaddr) == 16
    address = hs.socket.parseAddress(sockaddr)
    assert address
    assert (address.host, address.port) == peer.getsockname()


def test_callbacks_come_later_and_in_order(script: Script, peer: socket.socket) -> None:
    heard = Heard()
    sock = receiving(heard)
    for number in range(100):
        peer.sendto(b"%d" % number, own(sock))
    until(lambda: sock.stats().messages_in == 100)
    assert heard == []
    script.until(lambda: len(heard) == 100)
    assert heard.data == [str(number) for number in range(100)]


def test_one_at_a_time_is_one_and_the_rest_waits_in_the_system(script: Script, peer: socket.socket) -> None:
    heard = Heard()
    sock = server(0, heard)
    for number in range(5):
        peer.sendto(b"%d" % number, own(sock))
    assert sock.receiveOne() is sock
    assert sock.receiveOne() is sock  # armed already: this is not two
    script.until(lambda: heard)
    script.run()
    assert heard.data == ["0"]
    assert sock.stats().messages_in == 1
    sock.receiveOne()
    script.until(lambda: len(heard) == 2)
    sock.receive()
    script.until(lambda: len(heard) == 5)
    assert heard.data == ["0", "1", "2", "3", "4"]


def test_modes_may_be_switched_both_ways_and_nothing_is_lost(script: Script, peer: socket.socket) -> None:
    heard = Heard()
    sock = receiving(heard)
    for number in range(10):
        peer.sendto(b"%d" % number, own(sock))
    until(lambda: sock.stats().messages_in == 10)  # read ahead
    assert sock.receiveOne() is sock
    script.until(lambda: heard)
    script.run()
    assert heard.data == ["0"]
    for count in (2, 3):
        sock.receiveOne()
        script.until(lambda count=count: len(heard) == count)  # type: ignore[misc]
    peer.sendto(b"10", own(sock))
    sock.receive()
    sock.receive()
    script.until(lambda: len(heard) == 11)
    assert heard.data == [str(number) for number in range(11)]


def test_receive_one_can_be_asked_for_in_the_callback(script: Script, peer: socket.socket) -> None:
    heard: list[str] = []

    def read(data: str, sockaddr: bytes) -> None:
        heard.append(data)
        if len(heard) < 3:
            sock.receiveOne()

    sock = server(0, read)
    assert sock.receiveOne() is sock
    for number in range(5):
        peer.sendto(b"%d" % number, own(sock))
    script.until(lambda: len(heard) == 3)
    script.run()
    assert heard == ["0", "1", "2"]


def test_pause_is_legal_in_any_state_and_keeps_what_comes(script: Script, peer: socket.socket) -> None:
    heard = Heard()
    sock = new(heard)
    assert sock.pause() is sock
    assert sock.listen(0) is sock
    assert sock.pause() is sock
    assert sock.receive() is sock
    peer.sendto(b"0", own(sock))
    script.until(lambda: heard)
    peer.sendto(b"1", own(sock))
    until(lambda: sock.stats().messages_in == 2)
    assert sock.pause() is sock  # what was read already waits as well
    script.run()
    peer.sendto(b"2", own(sock))
    script.run()
    assert heard.data == ["0"]
    assert not script.scope.kept_alive
    sock.receive()
    script.until(lambda: len(heard) == 3)
    assert heard.data == ["0", "1", "2"]


def test_the_callback_is_the_one_that_is_set_when_its_turn_comes(script: Script, peer: socket.socket) -> None:
    first, second = Heard(), Heard()
    sock = receiving(first)
    peer.sendto(b"x", own(sock))
    until(lambda: sock.stats().messages_in)
    sock.setCallback(second)
    script.until(lambda: second)
    assert first == []


def test_without_a_callback_what_is_read_is_discarded(script: Script, peer: socket.socket) -> None:
    heard = Heard()
    sock = server(0, heard)
    assert sock.receiveOne() is sock
    assert sock.setCallback(None) is sock
    peer.sendto(b"lost", own(sock))
    script.until(lambda: sock.stats().messages_in)
    script.until(lambda: not sock.stats().waiting_in)
    peer.sendto(b"kept", own(sock))
    assert sock.setCallback(heard).receiveOne() is sock
    script.until(lambda: heard)
    assert heard.data == ["kept"]


def test_an_empty_datagram_is_not_delivered(script: Script, peer: socket.socket) -> None:
    heard = Heard()
    sock = server(0, heard)
    assert sock.receiveOne() is sock
    peer.sendto(b"", own(sock))
    peer.sendto(b"x", own(sock))
    script.until(lambda: heard)
    assert heard.data == ["x"]


def test_a_socket_that_cannot_be_read_is_closed_and_says_why(script: Script, peer: socket.socket, logged: Log) -> None:
    def receive(size: int, space: int) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    sock = receiving(Heard())
    assert sock._sock is not None
    for reader in sock._sock._actor.readers:
        reader._receive = receive
    peer.sendto(b"x", own(sock))
    assert logged.next_error(script) == "UDP socket closed: Input/output error"
    assert sock.closed()
    assert not script.scope.kept_alive
    assert sock.listen(0) is sock


# --- what callbacks do ---


def test_an_exception_in_a_callback_is_logged_and_ends_nothing(script: Script, peer: socket.socket, logged: Log) -> None:
    calls: list[str] = []

    def failing(name: str) -> Any:
        def call(*arguments: object) -> None:
            calls.append(name)
            raise LookupError(name)

        return call

    sock = receiving(failing("read"))
    for _ in range(2):
        peer.sendto(b"x", own(sock))
    script.until(lambda: len(calls) == 2)
    sock.send("x", "127.0.0.1", at(peer), failing("write"))
    sock.connect("127.0.0.1", at(peer), failing("connect"))
    hs.timer.doAfter(0, failing("timer"))
    script.until(lambda: len(calls) == 5)
    assert calls == ["read", "read", "write", "connect", "timer"]
    assert logged.errors() == [
        "hs.socket.udp:read callback",
        "hs.socket.udp:read callback",
        "hs.socket.udp:write callback",
        "hs.socket.udp:connect",
        "hs.timer callback",
    ]
    peer.sendto(b"x", own(sock))
    script.until(lambda: len(calls) == 6)


def test_everything_in_and_out_is_logged_for_debugging(script: Script, peer: socket.socket, logged: Log) -> None:
    heard = Heard()
    sock = receiving(heard)
    sock.send("x", "127.0.0.1", at(peer))
    peer.sendto(b"x", own(sock))
    script.until(lambda: heard)
    sock.close()
    assert logged.debug() == ["Data written to UDP socket", "Data read from UDP socket", "UDP socket closed: (null)"]


# --- timers ---


def test_a_timer_calls_once_and_keeps_the_script_alive(script: Script) -> None:
    late = hs.timer.doAfter(3600, print)
    assert late.running()
    assert script.scope.kept_alive
    late.stop()
    called: list[float] = []
    began = time.monotonic()
    timer = hs.timer.doAfter(0.02, lambda: called.append(time.monotonic()))
    script.until(lambda: called)
    assert called[0] >= began + 0.02
    assert not timer.running()
    until(lambda: not script.scope.kept_alive)
    assert script.run() == 0


def test_a_stopped_timer_does_not_call(script: Script) -> None:
    called: list[int] = []
    late = hs.timer.doAfter(3600, lambda: called.append(1))
    assert late.stop() is late.stop() is late
    rung = hs.timer.doAfter(0, lambda: called.append(2))
    until(lambda: not script.scope.idle)
    rung.stop()  # rung already, and not yet called
    script.run()
    until(lambda: not script.scope.kept_alive)
    assert called == []
    assert repr(late) == "<Timer stopped>"


@pytest.mark.parametrize(("seconds", "fn"), [("1", print), (None, print), (True, print), (1, None), (1, 5)])
def test_wrong_arguments_of_a_timer_raise(script: Script, seconds: Any, fn: Any) -> None:
    with pytest.raises(TypeError):
        hs.timer.doAfter(seconds, fn)


def test_a_negative_time_is_now(script: Script) -> None:
    called: list[int] = []
    hs.timer.doAfter(-1, lambda: called.append(1))
    script.until(lambda: called)


# --- many ---


@pytest.mark.slow
def test_100_000_datagrams_are_delivered_or_counted(script: Script, peer: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "actorbus.hs")
    count = 0

    def read(data: str, sockaddr: bytes) -> None:
        nonlocal count
        count += 1

    sock = receiving(read)
    total, target = 100_000, own(sock)
    payload = b"x" * 64
    for _ in range(0, total, 1000):
        for _ in range(1000):
            peer.sendto(payload, target)
        script.run()
        assert sock.stats().waiting_in <= 10_000
        assert len(script.scope._calls) <= 2
    deadline = time.monotonic() + WAIT
    while count + sock.stats().lost < total and time.monotonic() < deadline:
        script.run()
    assert count + sock.stats().lost == total
    assert count >= 1000

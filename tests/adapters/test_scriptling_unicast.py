"""`scriptling.net.unicast`: the document's names and results, a real Scriptling's bytes, and a peer that leaves when it likes."""

from __future__ import annotations

import ctypes
import dis
import doctest
import errno
import gc
import json
import logging
import math
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import ModuleType
from typing import Any

import pykka
import pytest

import bus
from adapters import dialect
from adapters.scriptling import messages
from adapters.scriptling.net import multicast as mc
from adapters.scriptling.net import unicast as uc
from tests.bus.peers import WAIT, InThread, Peer, inet, until

pytestmark = pytest.mark.usefixtures("collected")

# Not the seeded one: the workers of a run would all throw the same.
dice = random.SystemRandom()

DIALECT_LOG = "actorbus.dialect"
SCRIPTLING_LOG = "actorbus.scriptling"


@pytest.mark.parametrize("module", [dialect, messages, uc])
def test_the_examples_in_the_docstrings_are_true(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


def port_of(addr: str) -> int:
    return int(addr.rpartition(":")[2])


@contextmanager
def tcp_pair() -> Iterator[tuple[uc.Connection, uc.Connection]]:
    """Both ends of a connection: the one that connected, the one that accepted."""
    with closing(uc.listen("127.0.0.1")) as server:
        with closing(uc.connect("127.0.0.1", port_of(server.addr), protocol="tcp")) as client:
            accepted = server.accept(timeout=WAIT)
            assert accepted is not None
            with closing(accepted):
                yield client, accepted


@contextmanager
def with_plain_peer() -> Iterator[tuple[uc.Connection, Peer]]:
    """A connection of ours, and a socket that speaks the wire by hand, as a real Scriptling does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with closing(uc.connect("127.0.0.1", listening.getsockname()[1], protocol="tcp")) as conn, Peer(listening.accept()[0]) as peer:
            yield conn, peer


@contextmanager
def udp_pair() -> Iterator[tuple[uc.Connection, uc.UDPListener]]:
    with closing(uc.listen("127.0.0.1", protocol="udp")) as server:
        with closing(uc.connect("127.0.0.1", port_of(server.addr))) as client:
            yield client, server


def deserted() -> tuple[str, int]:
    """A UDP address where nobody is. Random among the loopback addresses, because others are given free ports all the time."""
    host = "127." + ".".join(str(dice.randint(1, 254)) for _ in range(3))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return host, probe.getsockname()[1]


def data_of(received: Any) -> str:
    assert received is not None
    assert set(received) == {"data", "source"}
    assert type(received) is dict
    assert type(received["data"]) is str
    assert type(received["source"]) is str
    return str(received["data"])


class TestTheirs:
    """What Scriptling's own tests of the library ask for, by their names."""

    def test_tcp_echo(self) -> None:
        with tcp_pair() as (client, server):
            client.send("hello")
            server.send(data_of(server.receive(timeout=WAIT)) + " world")
            assert data_of(client.receive(timeout=WAIT)) == "hello world"

    def test_tcp_receive_returns_dict(self) -> None:
        with tcp_pair() as (client, server):
            client.send("check")
            assert server.receive(timeout=WAIT) == {"data": "check", "source": client.local_addr}

    def test_udp_echo(self) -> None:
        with udp_pair() as (client, server):
            client.send("ping")
            msg = server.receive(timeout=WAIT)
            assert data_of(msg) == "ping"
            assert msg
            server.send_to(msg["source"], "pong")
            assert data_of(client.receive(timeout=WAIT)) == "pong"

    def test_udp_receive_returns_dict(self) -> None:
        with udp_pair() as (client, server):
            client.send("check")
            assert server.receive(timeout=WAIT) == {"data": "check", "source": client.local_addr}

    def test_tcp_timeout(self) -> None:
        with tcp_pair() as (client, server):
            assert server.receive(timeout=0.01) is None
            assert client.receive(0) is None

    def test_tcp_accept_timeout(self) -> None:
        with closing(uc.listen("127.0.0.1")) as server:
            assert server.accept(timeout=0.01) is None
            assert server.accept(0) is None

    @pytest.mark.parametrize("protocol", ["tcp", "udp"])
    def test_connected(self, protocol: str) -> None:
        with closing(uc.listen("127.0.0.1", protocol=protocol)) as server:
            conn = uc.connect("127.0.0.1", port_of(server.addr), protocol=protocol)
            assert conn.connected() is True
            conn.close()
            assert conn.connected() is False

    def test_json_message(self) -> None:
        with tcp_pair() as (client, server):
            client.send({"key": "value", "n": 42})
            assert json.loads(data_of(server.receive(timeout=WAIT))) == {"key": "value", "n": 42}

    def test_udp_bytes_round_trip(self) -> None:
        every = bytes.fromhex("ff008001fe")
        with udp_pair() as (client, server):
            client.send(every)
            msg = server.receive(timeout=WAIT)
            assert msg
            assert msg["data"].encode("utf-8", "surrogateescape") == every
            server.send_to(msg["source"], msg["data"])
            assert data_of(client.receive(timeout=WAIT)).encode("utf-8", "surrogateescape") == every

    def test_listen_invalid_host(self) -> None:
        with pytest.raises(TypeError, match=r"^host must be a string, not 42$"):
            uc.listen(42)  # type: ignore[call-overload]

    def test_connect_invalid_protocol(self) -> None:
        with pytest.raises(ValueError, match=r"^protocol must be 'udp' or 'tcp', not 'sctp'$"):
            uc.connect("127.0.0.1", 9, protocol="sctp")

    @pytest.mark.parametrize("protocol", ["tcp", "udp"])
    def test_listener_tracking(self, protocol: str) -> None:
        """Theirs counts the listeners that the runtime would close; here an actor stands for each."""
        before = set(pykka.ActorRegistry.get_all())
        server = uc.listen("127.0.0.1", protocol=protocol)
        (ref,) = set(pykka.ActorRegistry.get_all()) - before
        server.close()
        until(lambda: ref not in pykka.ActorRegistry.get_all())


class TestWire:
    def test_a_frame_is_a_length_of_four_bytes_and_the_payload(self) -> None:
        with with_plain_peer() as (conn, peer):
            conn.send("ab")
            conn.send({"k": 1})
            conn.send("")
            assert peer.read(21) == bytes.fromhex("00000002 6162 00000007 7b226b223a317d 00000000")

    def test_what_a_real_one_sends_arrives(self) -> None:
        with with_plain_peer() as (conn, peer):
            peer.sock.sendall(bytes.fromhex("00000002 6162 00000000 00000001 ff"))
            assert [data_of(conn.receive(timeout=WAIT)) for _ in range(3)] == ["ab", "", "\udcff"]

    def test_header_and_body_may_come_in_any_pieces(self) -> None:
        with with_plain_peer() as (conn, peer):
            for byte in bytes.fromhex("00000003 616263"):
                assert conn.receive(0) is None  # inside the header and inside the body, and nothing is lost
                peer.sock.sendall(bytes([byte]))
            assert data_of(conn.receive(timeout=WAIT)) == "abc"

    @pytest.mark.parametrize(
        "message, payload",
        [
            ("é€", "é€".encode()),
            ("a\udcffb", b"a\xffb"),
            (b"\x00\xff", b"\x00\xff"),
            (bytearray(b"\x01"), b"\x01"),
            (memoryview(b"abc")[1:], b"bc"),
            ({}, b"{}"),
            ({"ä": [1, None, True, 2.5, {"b": "<&>"}]}, '{"ä":[1,null,true,2.5,{"b":"<&>"}]}'.encode()),
            ({"raw": "\udc80"}, b'{"raw":"\x80"}'),
        ],
    )
    def test_what_can_be_sent(self, message: Any, payload: bytes) -> None:
        with with_plain_peer() as (conn, peer):
            conn.send(message)
            assert peer.receive() == payload

    @pytest.mark.parametrize("message", [42, 1.5, True, None, [1], (1, "b"), {1}, len, uc.Connection])
    def test_anything_else_is_refused_by_its_type(self, message: Any) -> None:
        name = type(message).__name__
        with udp_pair() as (client, server):
            for send in (client.send, lambda message: server.send_to(client.local_addr, message)):
                with pytest.raises(TypeError) as caught:
                    send(message)
                assert str(caught.value) == f"message must be a string, bytes or dict, not {name}"

    @pytest.mark.parametrize("message", [{"n": math.nan}, {"n": [math.inf]}, "\ud800", {"text": "\udfff"}])
    def test_what_the_wire_has_no_form_for_is_a_value_error(self, message: Any) -> None:
        with udp_pair() as (client, _), pytest.raises(ValueError):
            client.send(message)

    @pytest.mark.parametrize("message", [{1: "a"}, {"a": {None: 1}}, {"a": [{True: 1}]}, {"a": b"x"}, {"a": {1}}])
    def test_a_dict_that_is_no_json_object_is_a_type_error(self, message: Any) -> None:
        with udp_pair() as (client, _), pytest.raises(TypeError):
            client.send(message)

    def test_sixteen_mebibytes_go_and_not_a_byte_more(self) -> None:
        largest = "x" * (16 * 1024 * 1024)
        with tcp_pair() as (client, server):
            with pytest.raises(ValueError, match="16777217"):
                client.send(largest + "x")
            client.send(largest)
            assert data_of(server.receive(timeout=WAIT)) == largest

    def test_a_frame_over_the_limit_ends_that_connection(self, caplog: pytest.LogCaptureFixture) -> None:
        with with_plain_peer() as (conn, peer), caplog.at_level(logging.WARNING, DIALECT_LOG):
            peer.send(b"before")
            peer.sock.sendall((16 * 1024 * 1024 + 1).to_bytes(4, "big"))
            assert data_of(conn.receive(timeout=WAIT)) == "before"
            assert conn.receive(timeout=WAIT) is None
            assert not conn.connected()
            assert "16777217" in caplog.text

    def test_what_a_real_one_would_refuse_is_warned_about_once(self, caplog: pytest.LogCaptureFixture) -> None:
        with tcp_pair() as (client, server), caplog.at_level(logging.WARNING, SCRIPTLING_LOG):
            client.send("x" * 65_536)
            assert caplog.records == []
            for size in (65_537, 70_000):
                client.send("x" * size)
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            assert "65537" in caplog.text
            assert client.remote_addr in caplog.text
            assert [len(data_of(server.receive(timeout=WAIT))) for _ in range(3)] == [65_536, 65_537, 70_000]

    def test_a_datagram_holds_65507_bytes(self) -> None:
        with udp_pair() as (client, server):
            client.send("x" * 65_507)
            assert len(data_of(server.receive(timeout=WAIT))) == 65_507
            with pytest.raises(ValueError, match="65508"):
                client.send("x" * 65_508)
            with pytest.raises(ValueError, match="65508"):
                server.send_to(client.local_addr, "x" * 65_508)

    def test_an_empty_message_is_a_message(self) -> None:
        with udp_pair() as (client, server):
            client.send("")
            assert server.receive(timeout=WAIT) == {"data": "", "source": client.local_addr}


class TestTimeouts:
    @pytest.mark.parametrize("timeout, error", [(-1, ValueError), (math.nan, ValueError), (True, TypeError), ("5", TypeError)])
    def test_what_is_no_timeout_is_said(self, timeout: Any, error: type[Exception]) -> None:
        with tcp_pair() as (client, _), udp_pair() as (_, udp), closing(uc.listen("127.0.0.1")) as server:
            for call in (client.receive, udp.receive, server.accept):
                with pytest.raises(error):
                    call(timeout)
            with pytest.raises(error):
                uc.connect("127.0.0.1", port_of(server.addr), "tcp", timeout)

    def test_none_waits_and_a_close_from_another_thread_ends_it(self) -> None:
        with tcp_pair() as (client, _), udp_pair() as (_, udp), closing(uc.listen("127.0.0.1")) as server:
            for waits, close in ((client.receive, client.close), (udp.receive, udp.close), (server.accept, server.close)):
                blocked = InThread(lambda waits=waits: waits(None)).until_blocked()  # type: ignore[misc]
                close()
                with pytest.raises(bus.Closed):
                    blocked.result()

    def test_arguments_go_by_position_and_by_name(self) -> None:
        with closing(uc.listen(host="127.0.0.1", port=0, protocol="tcp")) as server:
            with closing(uc.connect("127.0.0.1", port_of(server.addr), "tcp", 5)) as client:
                accepted = server.accept(5)
                assert accepted
                with closing(accepted):
                    client.send(message="x")
                    assert accepted.receive(5)
            with closing(uc.connect(host="127.0.0.1", port=port_of(server.addr), protocol="tcp", timeout=None)):
                accepted = server.accept(timeout=5)
                assert accepted
                accepted.close()
        with closing(uc.listen("127.0.0.1", 0, "udp")) as udp:
            udp.send_to(address=udp.addr, message="x")
            assert udp.receive(timeout=5)


class TestEnd:
    def test_what_came_before_the_end_is_delivered_then_none(self) -> None:
        with with_plain_peer() as (conn, peer):
            peer.send(b"one", b"two")
            peer.close()
            assert data_of(conn.receive(timeout=WAIT)) == "one"
            assert conn.connected() is True  # a message waits
            assert data_of(conn.receive(timeout=WAIT)) == "two"
            assert conn.receive(timeout=WAIT) is None
            assert conn.connected() is False

    def test_a_peer_that_has_finished_is_still_answered(self) -> None:
        with with_plain_peer() as (conn, peer):
            peer.send(b"question")
            peer.finish()
            msg = conn.receive(timeout=WAIT)
            assert msg
            conn.send("Echo: " + msg["data"])
            conn.close()
            assert peer.receive_all() == [b"Echo: question"]

    @pytest.mark.parametrize("how", ["reset", "inside a header", "inside a body"])
    def test_a_link_that_breaks_gives_none(self, how: str, caplog: pytest.LogCaptureFixture) -> None:
        with with_plain_peer() as (conn, peer), caplog.at_level(logging.INFO, DIALECT_LOG):
            if how == "reset":
                peer.reset()
            else:
                peer.sock.sendall(bytes.fromhex("0000" if how == "inside a header" else "00000004 6162"))
                peer.close()
            assert conn.receive(timeout=WAIT) is None
            assert conn.connected() is False
            assert conn.receive(0) is None
            (level,) = {record.levelname for record in caplog.records if record.name == DIALECT_LOG}
            assert level == ("INFO" if how == "reset" else "WARNING")

    def test_the_script_that_closed_it_is_told_so(self) -> None:
        with tcp_pair() as (client, server):
            client.close()
            client.close()
            with pytest.raises(bus.Closed):
                client.receive(timeout=WAIT)
            with pytest.raises(bus.Closed):
                client.send("x")
            assert server.receive(timeout=WAIT) is None
        with pytest.raises(bus.Closed):
            server.receive(0)

    def test_listeners_that_were_closed_say_so(self) -> None:
        tcp, udp = uc.listen("127.0.0.1"), uc.listen("127.0.0.1", protocol="udp")
        for listener in (tcp, udp):
            listener.close()
            listener.close()
        with pytest.raises(bus.Closed):
            tcp.accept(0)
        with pytest.raises(bus.Closed):
            udp.receive(0)
        with pytest.raises(bus.Closed):
            udp.send_to(udp.addr, "x")

    def test_closing_a_listener_leaves_its_connections(self) -> None:
        with closing(uc.listen("127.0.0.1")) as server, closing(uc.connect("127.0.0.1", port_of(server.addr), protocol="tcp")) as client:
            accepted = server.accept(timeout=WAIT)
            assert accepted
            with closing(accepted):
                server.close()
                client.send("still here")
                assert data_of(accepted.receive(timeout=WAIT)) == "still here"

    def test_a_loop_around_an_ended_link_is_slowed_down(self) -> None:
        with with_plain_peer() as (conn, peer):
            peer.close()
            assert conn.receive(None) is None
            began = time.monotonic()
            for timeout in (WAIT, None, 1, 0.5):
                assert conn.receive(timeout) is None
            # Only how early it may end: how late is up to the machine.
            assert time.monotonic() - began >= 4 * dialect.PACE * 0.99
            for _ in range(1000):
                assert conn.receive(0) is None  # zero polls, here as elsewhere

    def test_an_ended_link_keeps_the_shorter_of_pace_and_timeout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        slept: list[float] = []
        monkeypatch.setattr(dialect, "sleep", slept.append)
        monkeypatch.setattr(dialect, "monotonic", lambda: 1000.0)
        with with_plain_peer() as (conn, peer):
            peer.close()
            for timeout in (WAIT, 0, 0.01, 1, None):
                assert conn.receive(timeout) is None
        assert slept == [0.01, pytest.approx(dialect.PACE), pytest.approx(dialect.PACE)]


class TestGuardedSend:
    """`if c.connected(): c.send(x)`, and what happens when the peer leaves in between."""

    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_between_the_look_and_the_send_the_peer_may_leave(self, how: str, caplog: pytest.LogCaptureFixture) -> None:
        with with_plain_peer() as (conn, peer), caplog.at_level(logging.WARNING, DIALECT_LOG):
            assert conn.connected()
            getattr(peer, how)()
            assert conn.receive(timeout=WAIT) is None  # returns when the end has been noticed
            for count in (1, 2, 3):
                conn.send("tick")
                assert conn.dropped == count
            (record,) = caplog.records
            assert conn.remote_addr in record.getMessage()
            assert not conn.connected()
            for _ in range(2):
                with pytest.raises(ConnectionError):
                    conn.send("tick")
            assert conn.dropped == 3

    def test_who_never_looked_is_told(self) -> None:
        with with_plain_peer() as (conn, peer):
            peer.reset()
            assert conn.receive(timeout=WAIT) is None
            with pytest.raises(bus.Broken):
                conn.send("tick")
            assert conn.dropped == 0

    def test_one_threads_look_is_not_anothers(self) -> None:
        with with_plain_peer() as (conn, peer):
            assert conn.connected()
            peer.reset()
            assert conn.receive(timeout=WAIT) is None
            assert InThread(conn.connected).result() is False
            conn.send("tick")
            assert conn.dropped == 1

    def test_one_own_close_is_never_forgiven(self) -> None:
        with with_plain_peer() as (conn, _):
            assert conn.connected()
            conn.close()
            with pytest.raises(bus.Closed):
                conn.send("tick")

    def test_what_cannot_be_sent_is_the_scripts_mistake(self) -> None:
        with udp_pair() as (client, _):
            assert client.connected()
            with pytest.raises(bus.TooLarge):
                client.send("x" * 65_508)

    @pytest.mark.parametrize("error", [bus.NotSent("10.0.0.1:1", "the outbox is full"), OSError(errno.EHOSTUNREACH, "No route to host")])
    def test_a_peer_that_does_not_read_or_cannot_be_reached_is_dropped_alike(self, error: OSError) -> None:
        class Unwilling:
            remote_address = "10.0.0.1:1"
            up = True

            def connected(self) -> bool:
                return self.up

            def send(self, payload: bytes) -> None:
                raise error

        conn: Any = Unwilling()
        link = dialect.Link(conn)
        with pytest.raises(type(error)):
            link.send(b"x")
        assert link.connected()
        link.send(b"x")
        assert link.dropped == 1
        conn.up = False
        assert not link.connected()
        with pytest.raises(type(error)):
            link.send(b"x")

    def test_many_threads_may_broadcast_while_peers_leave(self) -> None:
        with closing(uc.listen("127.0.0.1")) as server:
            peers = [Peer.to(server.addr) for _ in range(8)]
            connections = [conn for _ in peers if (conn := server.accept(timeout=WAIT))]

            def broadcast() -> None:
                while [c for c in connections if c.connected()]:
                    for c in connections:
                        if c.connected():
                            c.send("tick")

            threads = [InThread(broadcast) for _ in range(3)]
            for index, peer in enumerate(peers):
                assert peer.receive() == b"tick"
                if index % 2:
                    peer.reset()
                else:
                    peer.close()  # with ticks unread: a reset, too
            for thread in threads:
                thread.result()
            for c in connections:
                c.close()


class TestUdp:
    def test_a_refusal_is_counted_and_ends_nothing(self) -> None:
        host, port = deserted()
        with closing(uc.connect(host, port)) as conn:
            conn.send("anybody?")
            assert conn.receive(timeout=0.05) is None
            assert conn.stats().refused == 1
            assert conn.connected()
            with closing(uc.listen(host, port, protocol="udp")) as server:
                conn.send("now?")
                msg = server.receive(timeout=WAIT)
                assert msg
                assert msg["data"] == "now?"
                server.send_to(msg["source"], "yes")
                assert conn.receive(timeout=WAIT) == {"data": "yes", "source": f"{host}:{port}"}

    def test_the_documents_client_after_its_server_has_gone(self) -> None:
        """The example in one piece: nobody is left when the client sends, and yet nothing raises."""
        host, port = deserted()
        server = uc.listen(host, port, protocol="udp")
        assert server.receive(timeout=0.01) is None
        server.close()
        conn = uc.connect(host, port, protocol="udp")
        conn.send("Hello UDP!")
        assert conn.receive(timeout=0.05) is None
        conn.send("Hello again!")
        conn.close()

    def test_a_connected_socket_hears_its_peer_only(self) -> None:
        with udp_pair() as (client, server), closing(uc.listen("127.0.0.1", protocol="udp")) as stranger:
            stranger.send_to(client.local_addr, "psst")
            server.send_to(client.local_addr, "hello")
            assert client.receive(timeout=WAIT) == {"data": "hello", "source": server.addr}
            assert client.receive(0) is None

    @pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x", "::1:80", ":80", "udp://127.0.0.1:80"])
    def test_an_address_that_is_none_is_named(self, address: str) -> None:
        with udp_pair() as (_, server), pytest.raises(ValueError) as caught:
            server.send_to(address, "x")
        assert repr(address) in str(caught.value)

    def test_names_can_be_sent_to(self) -> None:
        with udp_pair() as (_, server):
            server.send_to(f"localhost:{port_of(server.addr)}", "x")
            assert data_of(server.receive(timeout=WAIT)) == "x"

    def test_dropped_datagrams_are_counted(self) -> None:
        with udp_pair() as (client, server):
            for number in range(12_000):
                client.send(str(number))
            until(lambda: server.stats().messages_in + server.stats().lost >= 12_000 or server.stats().waiting_in >= 10_000)
            received = []
            while (msg := server.receive(timeout=0.2)) is not None:
                received.append(int(msg["data"]))
            assert received == sorted(received)
            assert len(received) + server.stats().lost == 12_000


class TestAddresses:
    def test_a_listener_on_all_interfaces_says_so(self) -> None:
        for protocol in ("tcp", "udp"):
            with closing(uc.listen("0.0.0.0", protocol=protocol)) as server:
                host, port = server.addr.split(":")  # as the documents' scripts do
                assert host == "0.0.0.0"
                assert int(port) > 0

    def test_both_ends_name_each_other(self) -> None:
        with tcp_pair() as (client, server):
            assert (client.local_addr, client.remote_addr) == (server.remote_addr, server.local_addr)
            for text in (client.local_addr, client.remote_addr):
                assert inet(text)[0] == "127.0.0.1"
            assert client.remote_addr in repr(client)
        assert (client.local_addr, client.remote_addr) == (server.remote_addr, server.local_addr)  # readable after close

    @pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
    @pytest.mark.parametrize("host", ["::1", "[::1]"])
    @pytest.mark.parametrize("protocol", ["tcp", "udp"])
    def test_ipv6_with_and_without_brackets(self, host: str, protocol: str) -> None:
        with closing(uc.listen(host, protocol=protocol)) as server:
            assert server.addr.startswith("[::1]:")
            with closing(uc.connect(host, port_of(server.addr), protocol=protocol)) as client:
                assert client.remote_addr == server.addr
                client.send("six")
                if isinstance(server, uc.UDPListener):
                    msg = server.receive(timeout=WAIT)
                    assert msg
                    server.send_to(msg["source"], "seven")
                    assert client.receive(timeout=WAIT)
                else:
                    accepted = server.accept(timeout=WAIT)
                    assert accepted
                    msg = accepted.receive(timeout=WAIT)
                    accepted.close()
                assert msg == {"data": "six", "source": client.local_addr}

    @pytest.mark.parametrize("protocol", ["tcp", "udp"])
    @pytest.mark.parametrize("port", [-1, 65_536, 70_000])
    def test_a_port_out_of_range_is_named(self, port: int, protocol: str) -> None:
        for call, lowest in ((uc.connect, 1), (uc.listen, 0)):
            with pytest.raises(ValueError, match=rf"^port must be between {lowest} and 65535, not {port}$"):
                call("127.0.0.1", port, protocol=protocol)

    @pytest.mark.parametrize("protocol", ["tcp", "udp"])
    def test_nobody_can_be_reached_on_port_0(self, protocol: str) -> None:
        with pytest.raises(ValueError, match=r"not 0$"):
            uc.connect("127.0.0.1", 0, protocol=protocol)

    @pytest.mark.parametrize("port", ["80", None, 80.0, True])
    def test_a_port_of_another_type_is_named(self, port: Any) -> None:
        for call in (uc.connect, uc.listen):
            with pytest.raises(TypeError, match=r"^port must be an integer, not ") as caught:
                call("127.0.0.1", port)
            assert repr(port) in str(caught.value)

    @pytest.mark.parametrize("host", [None, 42, b"127.0.0.1"])
    def test_a_host_of_another_type_is_named(self, host: Any) -> None:
        for call in (uc.connect, uc.listen):
            with pytest.raises(TypeError) as caught:
                call(host, 80)
            assert str(caught.value) == f"host must be a string, not {host!r}"

    @pytest.mark.parametrize("host", ["", "127.0.0.1:80", "::1::2", "tcp://127.0.0.1", "a b", "[127.0.0.1]", "user@127.0.0.1"])
    def test_what_is_no_host_is_a_value_error(self, host: str) -> None:
        for call in (uc.connect, uc.listen):
            with pytest.raises(ValueError):
                call(host, 80)

    @pytest.mark.parametrize("protocol", ["TCP", "sctp", ""])
    def test_an_unknown_protocol_is_named(self, protocol: str) -> None:
        for call in (uc.connect, uc.listen):
            with pytest.raises(ValueError) as caught:
                call("127.0.0.1", 80, protocol=protocol)
            assert str(caught.value) == f"protocol must be 'udp' or 'tcp', not {protocol!r}"
        with pytest.raises(TypeError):
            uc.connect("127.0.0.1", 80, protocol=None)  # type: ignore[arg-type]

    def test_a_refused_connection_names_the_address(self) -> None:
        host, port = deserted()
        with pytest.raises(ConnectionError) as caught:
            uc.connect(host, port, protocol="tcp", timeout=WAIT)
        assert f"{host}:{port}" in str(caught.value)
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)

    @pytest.mark.parametrize("protocol", ["tcp", "udp"])
    def test_a_port_in_use_names_the_address(self, protocol: str) -> None:
        with closing(uc.listen("127.0.0.1", protocol=protocol)) as server:
            with pytest.raises(OSError) as caught:
                uc.listen("127.0.0.1", port_of(server.addr), protocol=protocol)
            assert caught.value.errno == errno.EADDRINUSE
            assert server.addr in str(caught.value)

    def test_a_port_can_be_listened_on_again_at_once(self) -> None:
        with tcp_pair() as (client, server):
            port = port_of(server.local_addr)
            server.close()
            assert client.receive(timeout=WAIT) is None
        uc.listen("127.0.0.1", port).close()

    @pytest.mark.parametrize("protocol", ["tcp", "udp"])
    def test_an_address_of_another_machine_cannot_be_listened_on(self, protocol: str) -> None:
        with pytest.raises(OSError) as caught:
            uc.listen("198.51.100.7", protocol=protocol)  # RFC 5737: of no machine
        assert caught.value.errno == errno.EADDRNOTAVAIL
        assert "198.51.100.7:0" in str(caught.value)


@pytest.mark.parametrize(
    "function", [dialect.receive_text, uc.Connection.receive, uc.UDPListener.receive, mc.Group.receive, dialect.Link.receive]
)
def test_no_place_where_ctrl_c_strikes_lies_behind_the_taking(function: Callable[..., object]) -> None:
    instructions = list(dis.get_instructions(function))
    named = next(i for i, one in enumerate(instructions) if one.argval in ("receive", "receive_text"))
    taken = next(i for i, one in enumerate(instructions) if i > named and one.opname.startswith("CALL"))
    behind = [one.opname for one in instructions[taken + 1 :]]
    if "PUSH_EXC_INFO" in behind:
        del behind[behind.index("PUSH_EXC_INFO") :]  # what an error is handled with
    assert "RETURN_VALUE" in behind
    assert [name for name in behind if name.startswith(("CALL", "JUMP_BACKWARD", "RESUME", "FOR_ITER"))] == []


def interrupt(thread: threading.Thread) -> None:
    """What Ctrl-C does to the main thread: KeyboardInterrupt at the next place where the interpreter looks."""
    ident = thread.ident
    assert ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(KeyboardInterrupt))


@pytest.fixture
def strikes_only_our_code() -> Iterator[None]:
    """Quick switches between the threads; and no garbage collection, since what strikes inside a `gc` callback is swallowed."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    gc.disable()
    yield
    gc.enable()
    sys.setswitchinterval(before)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.usefixtures("strikes_only_our_code")
def test_no_message_is_lost_to_ctrl_c(protocol: str) -> None:
    got: list[str] = []
    struck = 0
    inside = False  # whether an interrupt would be caught
    begun = threading.Event()

    def take() -> None:
        nonlocal inside
        inside = True
        while "last" not in got[-1:]:
            message = receive(WAIT)
            # Nothing stands between the two where Ctrl-C could strike.
            got.append(message["data"])

    def take_and_go_on() -> None:
        nonlocal inside, struck
        assert receive(0) is None  # what the thread waits with is made once
        begun.set()
        while "last" not in got[-1:]:
            try:
                take()  # a call, because a loop's jump back may lie outside of the `try` around it
            except KeyboardInterrupt:
                inside = False
                struck += 1

    with tcp_pair() as (client, accepted), udp_pair() as (udp_client, udp):
        receive: Any = accepted.receive if protocol == "tcp" else udp.receive
        send: Any = client.send if protocol == "tcp" else udp_client.send
        thread = threading.Thread(target=take_and_go_on)
        thread.start()
        assert begun.wait(WAIT)
        sent = fired = 0
        deadline = time.monotonic() + WAIT
        while (fired < 100 or struck < fired) and time.monotonic() < deadline and thread.is_alive():
            # Some always wait, so that it strikes the taking of messages and not the waiting for them; and never as many as the
            # kernel would drop.
            waiting = sent - len(got)
            if waiting < 200:
                send(str(sent))
                sent += 1
            # One at a time. `inside` is looked at last: once the one before has struck, it is True only from the next `try` on.
            if waiting > 50 and struck == fired < 100 and inside:
                interrupt(thread)
                fired += 1
        send("last")
        thread.join(WAIT)
    assert got == [*map(str, range(sent)), "last"]
    assert struck == 100

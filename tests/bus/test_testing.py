"""`bus.testing` on real sockets: pairs, and what a FaultProxy does to the scripts at both of its ends."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from selectors import DefaultSelector
from typing import Any

import pytest

import bus
import bus.testing
from actors.resolving import numeric
from bus.testing import FaultProxy, Faults
from bus.testing.streams import Links, Settings
from tests.bus.peers import ROOT, WAIT, InThread, Peer, fill_up, until
from tests.conftest import LeakWatch


def echo(message: bus.Message, client: bus.Client) -> bus.Message:
    return message


@contextmanager
def through(proxy_options: dict[str, Any] | None = None, **options: Any) -> Iterator[tuple[bus.Connection, FaultProxy, Peer]]:
    """A connection of ours through a proxy to a plain peer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WAIT)
        with FaultProxy(f"tcp://127.0.0.1:{listening.getsockname()[1]}", **proxy_options or {}) as proxy:
            with bus.connect(proxy.url, timeout=WAIT, **options) as conn, Peer(listening.accept()[0]) as peer:
                yield conn, proxy, peer


def received(conn: bus.Connection) -> str:
    return conn.receive(timeout=WAIT).text  # type: ignore[union-attr]


def test_bus_loads_it_on_demand_only() -> None:
    code = "import bus, sys; assert 'bus.testing' not in sys.modules; import bus.testing; assert bus.testing.pair"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=2 * WAIT)


# -- pairs --------------------------------------------------------------------------------------------------------------


def test_a_pair_talks_both_ways_and_ends_in_order(no_leaks: LeakWatch) -> None:
    ours, theirs = bus.testing.pair()
    with ours, theirs:
        ours.send({"a": 1})
        theirs.send(b"\x00" * 100_000)
        assert theirs.receive(timeout=WAIT).json() == {"a": 1}  # type: ignore[union-attr]
        assert len(ours.receive(timeout=WAIT).data) == 100_000  # type: ignore[union-attr]
        assert ours.receive(timeout=0) is None
        assert ours.remote_address == theirs.local_address != ours.local_address
        ours.send("last")
        ours.close(linger=0)
        assert received(theirs) == "last"
        with pytest.raises(bus.PeerClosed):
            theirs.receive(timeout=WAIT)


@pytest.mark.parametrize("framing", ["length", "etx", "lines", "raw"])
def test_a_pair_has_every_framing(framing: Any) -> None:
    ours, theirs = bus.testing.pair(framing=framing)
    with ours, theirs:
        ours.send("hello")
        assert received(theirs) == "hello"


def test_each_end_of_a_pair_has_a_heartbeat_of_its_own() -> None:
    ours, theirs = bus.testing.pair(heartbeat=0.05)
    with ours, theirs:
        ours.send("hello")
        assert received(theirs) == "hello"
        assert ours.receive(timeout=0.3) is None  # longer than a silent peer would be borne
        assert theirs.receive(timeout=0) is None


def test_the_ends_of_a_pair_can_say_all_one_after_the_other() -> None:
    ours, theirs = bus.testing.pair(half_open=True)
    with ours, theirs:
        ours.send_eof()
        with pytest.raises(bus.PeerClosed):
            theirs.receive(timeout=WAIT)
        theirs.send("still here")
        assert received(ours) == "still here"


def test_a_pair_has_the_limits_of_connections() -> None:
    ours, theirs = bus.testing.pair(max_size=100, mailbox_messages=2, outbox_bytes=1000, threads="own")
    with ours, theirs:
        with pytest.raises(bus.TooLarge):
            ours.send("x" * 101)
        sent = fill_up(ours, b"x" * 100)
        assert theirs.stats().waiting_in < sent
        for _ in range(sent):
            assert theirs.receive(timeout=WAIT) is not None
        ours.close(linger=0.1)
        theirs.close(linger=0.1)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"framing": "x"}, ValueError), ({"max_size": 0}, ValueError), ({"threads": 3}, ValueError), ({"stall_timeout": "1"}, TypeError)],
)
def test_a_pair_refuses_what_connect_refuses(wrong: dict[str, Any], error: type[Exception], no_leaks: LeakWatch) -> None:
    with pytest.raises(error, match=next(iter(wrong))):
        bus.testing.pair(**wrong)


# -- TCP ----------------------------------------------------------------------------------------------------------------


def test_without_faults_a_proxy_is_not_noticed(no_leaks: LeakWatch) -> None:
    with through() as (conn, proxy, peer):
        conn.send_many(["one", "two"])
        assert [peer.receive(), peer.receive()] == [b"one", b"two"]
        large = bytes(range(256)) * 20_000
        sending = InThread(lambda: peer.send(large))
        assert conn.receive(timeout=WAIT).data == large  # type: ignore[union-attr]
        sending.result()
        until(lambda: proxy.stats().bytes_down == len(large) + 4)
        assert proxy.stats() == bus.testing.ProxyStats(connections=1, bytes_up=14, bytes_down=len(large) + 4)
        conn.send("last")
        peer.finish()
        with pytest.raises(bus.PeerClosed):
            conn.receive(timeout=WAIT)
        assert peer.receive() == b"last", "the other direction is still open"
        assert conn.close()
        assert peer.receive() is None


@pytest.mark.parametrize("scheme", ["ws", "tcp"])
def test_a_server_of_ours_behind_a_proxy(scheme: str, no_leaks: LeakWatch) -> None:
    with bus.serve(f"{scheme}://127.0.0.1:0", echo) as server, FaultProxy(f"{scheme}://{server.address}") as proxy:
        with bus.connect(proxy.url) as conn:
            conn.send("hello")
            assert received(conn) == "hello"
        until(lambda: not server.clients)


def test_the_url_keeps_scheme_and_path() -> None:
    with FaultProxy("ws://127.0.0.1:9/chat?room=1") as proxy:
        assert proxy.url == f"ws://{proxy.address}/chat?room=1"
        assert proxy.address in repr(proxy)
        assert str(proxy.seed) in repr(proxy)
    assert "closed" in repr(proxy)


def test_latency_holds_up_each_direction() -> None:
    with bus.serve("tcp://127.0.0.1:0", echo) as server, FaultProxy(f"tcp://{server.address}", latency=0.02) as proxy:
        with bus.connect(proxy.url) as conn:
            conn.send("x")
            assert received(conn) == "x"
            proxy.set("down", latency=300)
            assert (proxy.up.latency, proxy.down.latency) == (0.02, 300)
            conn.send("y")
            until(lambda: proxy.stats().bytes_up == 10)
            assert conn.receive(timeout=0.05) is None


def test_a_trickle_comes_in_single_bytes_until_it_is_lifted() -> None:
    with through({"trickle": 0.001}) as (conn, proxy, peer):
        conn.send("hello")
        assert peer.read(1) == b"\x00"
        proxy.set(trickle=None)
        assert peer.read(8) == b"\x00\x00\x05hello"


def test_a_reset_now() -> None:
    with through() as (conn, proxy, peer):
        proxy.cut()
        with pytest.raises(bus.Broken, match="reset"):
            conn.receive(timeout=WAIT)
        with pytest.raises(ConnectionResetError):
            peer.read(1)


def test_an_orderly_end_now() -> None:
    with through() as (conn, proxy, peer):
        proxy.cut(in_order=True)
        with pytest.raises(bus.PeerClosed):
            conn.receive(timeout=WAIT)
        assert peer.read(1) == b""


@pytest.mark.parametrize("after", [0, 1, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("in_order", [True, False])
def test_a_cut_after_so_many_bytes(after: int, in_order: bool) -> None:
    with through() as (conn, proxy, peer):
        conn.send("first")
        assert peer.receive() == b"first"
        proxy.cut(after, "up", in_order=in_order)
        if after:
            conn.send("hello")
        assert peer.read(after) == b"\x00\x00\x00\x05hello"[:after]
        with pytest.raises(bus.PeerClosed if in_order else bus.Broken):
            conn.receive(timeout=WAIT)
        if in_order:
            assert peer.read(1) == b""
        else:
            with pytest.raises(ConnectionResetError):
                peer.read(1)


def test_a_cut_to_come_concerns_new_connections_until_it_is_released() -> None:
    with bus.serve("tcp://127.0.0.1:0", echo) as server, FaultProxy(f"tcp://{server.address}") as proxy:
        proxy.cut(after=6, direction="down")
        for _ in range(2):
            with bus.connect(proxy.url) as conn:
                conn.send("hello")
                with pytest.raises(bus.Broken):
                    conn.receive(timeout=WAIT)
        proxy.release()
        with bus.connect(proxy.url) as conn:
            conn.send("hello")
            assert received(conn) == "hello"


def test_a_cut_to_come_that_is_released_does_not_come() -> None:
    with through() as (conn, proxy, peer):
        proxy.cut(after=20)
        conn.send("hello")
        assert peer.receive() == b"hello"
        proxy.release()
        conn.send("a message of more than 20 bytes")
        assert peer.receive() == b"a message of more than 20 bytes"


def test_who_had_connected_before_a_cut_is_cut_although_the_proxy_has_not_looked_yet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, DefaultSelector() as selector:
        links = Links(selector, numeric("127.0.0.1", server.getsockname()[1], socket.SOCK_STREAM, 0), Settings(Faults(), 1))
        with socket.create_connection(links.sockname, WAIT) as early:
            links.cut(None, ("up", "down"), False)
            with pytest.raises(ConnectionResetError):
                early.recv(1)
        links.close()


def test_connections_that_have_ended_leave_nothing_in_the_proxy(no_leaks: LeakWatch) -> None:
    with bus.serve("tcp://127.0.0.1:0", echo) as server, FaultProxy(f"tcp://{server.address}") as proxy:
        no_leaks.rebase()
        for _ in range(20):
            with bus.connect(proxy.url) as conn:
                conn.send("hello")
                assert received(conn) == "hello"
        assert no_leaks.wait() == []
        assert proxy.stats().connections == 20


def test_a_stall_holds_a_direction_until_it_is_released() -> None:
    with through() as (conn, proxy, peer):
        proxy.stall("down")
        peer.send(b"held")
        conn.send("the other way")
        assert peer.receive() == b"the other way"
        assert conn.receive(timeout=0.05) is None
        assert proxy.stats().bytes_down == 0
        proxy.release()
        assert received(conn) == "held"


def test_a_stalled_writer_is_slowed_not_buffered() -> None:
    with through(outbox_bytes=100_000) as (conn, proxy, peer):
        proxy.stall("up")
        sent = fill_up(conn)
        reading = InThread(lambda: [peer.receive() for _ in range(sent)])
        proxy.release()
        assert len(reading.result()) == sent


def test_a_slow_reader_slows_the_writer() -> None:
    with through(outbox_bytes=100_000) as (conn, proxy, peer):
        sent = fill_up(conn)
        assert proxy.stats().bytes_up < sent * 65_540
        reading = InThread(lambda: [peer.receive() for _ in range(sent)])
        assert len(reading.result()) == sent


@pytest.mark.parametrize("gone", ["target", "client"])
def test_half_open_the_one_end_is_gone_and_the_other_does_not_hear_of_it(gone: Any) -> None:
    with through(stall_timeout=None) as (conn, proxy, peer):
        conn.send("before")
        assert peer.receive() == b"before"
        proxy.half_open(gone)
        if gone == "target":
            with pytest.raises(ConnectionResetError):
                peer.read(1)
            conn.send_many([b"x" * 100_000] * 100, timeout=WAIT)  # more than buffers hold: it is swallowed
            assert conn.receive(timeout=0.05) is None
            assert conn.connected()
            assert conn.close(linger=WAIT), "its TCP has acknowledged everything"
        else:
            with pytest.raises(bus.Broken):
                conn.receive(timeout=WAIT)
            peer.send(*[b"x" * 100_000] * 100)
        until(lambda: proxy.stats().connections == 1)


def test_a_websockets_ping_notices_a_half_open_link() -> None:
    with bus.serve("ws://127.0.0.1:0", echo) as server, FaultProxy(f"ws://{server.address}") as proxy:
        with bus.connect(proxy.url, ping_interval=0.05, ping_timeout=0.05) as conn:
            proxy.half_open()
            with pytest.raises(bus.Broken, match="ping|answer"):
                conn.receive(timeout=WAIT)


def test_refusing_is_a_refusal_until_it_is_released() -> None:
    with bus.serve("tcp://127.0.0.1:0", echo) as server, FaultProxy(f"tcp://{server.address}") as proxy:
        with bus.connect(proxy.url) as before:
            proxy.refuse()
            proxy.refuse()
            with pytest.raises(bus.ConnectFailed, match="refused"):
                bus.connect(proxy.url)
            before.send("still there")
            assert received(before) == "still there"
            proxy.release()
            with bus.connect(proxy.url) as after:
                after.send("back")
                assert received(after) == "back"


def test_a_target_that_is_not_there_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with FaultProxy(f"tcp://127.0.0.1:{port}") as proxy, pytest.raises((bus.Broken, bus.ConnectFailed), match="reset"):
        with bus.connect(proxy.url) as conn:
            conn.receive(timeout=WAIT)


def test_a_reset_passes_through() -> None:
    with through() as (conn, _, peer):
        peer.reset()
        with pytest.raises(bus.Broken, match="reset"):
            conn.receive(timeout=WAIT)


def test_close_resets_ends_the_thread_and_frees_the_port(no_leaks: LeakWatch) -> None:
    with through() as (conn, proxy, _):
        proxy.set(latency=60)
        conn.send("on its way")
        proxy.close()
        proxy.close()
        with pytest.raises(bus.Broken):
            conn.receive(timeout=WAIT)
        for call in (proxy.cut, proxy.stall, proxy.release, proxy.refuse, proxy.half_open, lambda: proxy.set(latency=0)):
            with pytest.raises(bus.Closed):
                call()
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", int(proxy.address.rpartition(":")[2])))


# -- what cannot be -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["loss", "duplicate", "reorder"])
def test_a_stream_loses_doubles_and_swaps_nothing(fault: str) -> None:
    some: Any = {fault: 0.1}
    none: Any = {fault: 0}
    with pytest.raises(ValueError, match=f"{fault} is for UDP"):
        FaultProxy("tcp://127.0.0.1:9", **some)
    with FaultProxy("tcp://127.0.0.1:9") as proxy:
        with pytest.raises(ValueError, match=f"{fault} is for UDP"):
            proxy.set(**some)
        proxy.set(**none)


def test_datagrams_are_not_cut() -> None:
    with pytest.raises(ValueError, match="trickle is for connections"):
        FaultProxy("udp://127.0.0.1:9", trickle=1)
    with FaultProxy("udp://127.0.0.1:9") as proxy:
        for call in (proxy.cut, proxy.half_open, proxy.refuse):
            with pytest.raises(ValueError, match="UDP has none"):
                call()


def test_wrong_arguments_are_named(no_leaks: LeakWatch) -> None:
    for target, why in (("unix:///tmp/x", "unix"), ("tcp://127.0.0.1:0", "port 0"), ("127.0.0.1:9", "no scheme")):
        with pytest.raises(bus.BadAddress, match=why):
            FaultProxy(target)
    with pytest.raises(TypeError, match="latency"):
        FaultProxy("tcp://127.0.0.1:9", latency="1")  # type: ignore[arg-type]
    with FaultProxy("tcp://127.0.0.1:9") as proxy:
        calls: list[tuple[Any, str]] = [
            (lambda: proxy.set(speed=1), "speed"),  # type: ignore[call-arg]
            (lambda: proxy.set("left", latency=1), "direction"),  # type: ignore[arg-type]
            (lambda: proxy.cut(-1), "after"),
            (lambda: proxy.cut(True), "after"),
            (lambda: proxy.half_open("both"), "gone"),  # type: ignore[arg-type]
            (lambda: proxy.stall("left"), "direction"),  # type: ignore[arg-type]
        ]
        for call, name in calls:
            with pytest.raises((TypeError, ValueError), match=name):
                call()

"""receive_any: one thread that waits for several objects."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any

import pytest

import bus
from tests.bus.peers import WAIT, InThread, Peer, inet, pair, until


def test_the_message_comes_with_its_source() -> None:
    with pair() as (a, peer_a), pair() as (b, peer_b):
        peer_b.send(b"from b")
        assert bus.receive_any([a, b]) == (b, bus.Message(b"from b", b.remote_address))
        peer_a.send(b"from a")
        assert bus.receive_any([a, b], timeout=WAIT) == (a, bus.Message(b"from a", a.remote_address))


def test_nothing_within_the_timeout() -> None:
    with pair() as (a, _), pair() as (b, _):
        assert bus.receive_any([a, b], timeout=0) == (None, None)
        assert bus.receive_any([a, b], timeout=0.01) == (None, None)


def test_it_wakes_for_whoever_is_first() -> None:
    with pair() as (a, peer_a), pair() as (b, peer_b):
        for conn, peer in ((a, peer_a), (b, peer_b), (b, peer_b), (a, peer_a)):
            waiting = InThread(lambda: bus.receive_any([a, b])).until_blocked()
            peer.send(b"now")
            assert waiting.result() == (conn, bus.Message(b"now", conn.remote_address))


def test_connections_udp_sockets_and_groups_together() -> None:
    with pair() as (conn, peer), bus.bind("udp://127.0.0.1:0") as sock, bus.bind("udp://127.0.0.1:0") as other:
        with bus.connect(f"udp://{other.address}") as datagrams:
            sources = [conn, sock, datagrams]
            other.send_to(sock.address, "a datagram")
            source, message = bus.receive_any(sources, timeout=WAIT)
            assert source is sock
            assert message is not None
            assert message.source == other.address
            peer.send(b"a frame")
            assert bus.receive_any(sources, timeout=WAIT)[0] is conn
            datagrams.send("who?")
            asked = other.receive(timeout=WAIT)
            assert asked is not None
            other.send_to(asked.source, "you")
            source, message = bus.receive_any(sources, timeout=WAIT)
            assert source is datagrams
            assert message is not None
            assert message.text == "you"


def test_each_source_keeps_its_order_and_none_starves() -> None:
    total = 300
    with ExitStack() as stack:
        pairs = [stack.enter_context(pair()) for _ in range(4)]
        for _, peer in pairs:
            peer.send(*(b"%d" % number for number in range(total)))
        sources = [conn for conn, _ in pairs]
        until(lambda: all(conn.stats().waiting_in == total for conn in sources))
        seen: dict[bus.Connection, list[int]] = {conn: [] for conn in sources}
        firsts: list[bus.Connection] = []
        for count in range(4 * total):
            source, message = bus.receive_any(sources, timeout=WAIT)
            assert source is not None
            assert message is not None
            seen[source].append(int(message.text))
            if count < total and source not in firsts:
                firsts.append(source)
        assert all(numbers == list(range(total)) for numbers in seen.values())
        assert set(firsts) == set(sources), "a busy source hides the others"


def test_it_mixes_with_receive_on_the_same_objects() -> None:
    with pair() as (a, peer_a), pair() as (b, peer_b):
        for number in range(50):
            peer_a.send(b"a%d" % number)
            assert a.receive(timeout=WAIT) == bus.Message(b"a%d" % number, a.remote_address)
            peer_b.send(b"b%d" % number)
            assert bus.receive_any([a, b], timeout=WAIT) == (b, bus.Message(b"b%d" % number, b.remote_address))


def test_polling_after_a_direct_read_finds_what_is_there() -> None:
    with pair() as (a, peer_a), pair() as (b, _):
        peer_a.send(b"1")
        assert a.receive().data == b"1"
        peer_a.send(b"2")
        assert bus.receive_any([a, b], timeout=WAIT) == (a, bus.Message(b"2", a.remote_address))


def test_the_end_of_one_source_is_told_once_and_the_others_go_on() -> None:
    with pair() as (a, peer_a), pair() as (b, peer_b):
        peer_a.send(b"last words")
        peer_a.close()
        assert bus.receive_any([a, b], timeout=WAIT) == (a, bus.Message(b"last words", a.remote_address))
        assert bus.receive_any([a, b], timeout=WAIT) == (a, None)
        assert bus.receive_any([a, b], timeout=0.01) == (None, None)
        peer_b.send(b"still here")
        assert bus.receive_any([a, b], timeout=WAIT) == (b, bus.Message(b"still here", b.remote_address))
        waiting = InThread(lambda: bus.receive_any([a, b])).until_blocked()
        peer_b.close()
        assert waiting.result() == (b, None)
        with pytest.raises(bus.PeerClosed):
            bus.receive_any([a, b], timeout=WAIT)
        with pytest.raises(bus.PeerClosed):
            bus.receive_any([a, b])


def test_a_broken_source_is_raised() -> None:
    with pair() as (a, _), pair() as (b, peer_b):
        waiting = InThread(lambda: bus.receive_any([a, b])).until_blocked()
        peer_b.reset()
        with pytest.raises(bus.Broken, match="reset") as caught:
            waiting.result()
        assert caught.value.address == b.remote_address


def test_a_closed_source_is_raised() -> None:
    with pair() as (a, _), pair() as (b, _):
        b.close(0)
        with pytest.raises(bus.Closed):
            bus.receive_any([a, b], timeout=0)


def test_what_comes_before_the_break_comes_first() -> None:
    with pair() as (a, _), pair(max_size=100) as (b, peer_b):
        peer_b.send(b"good", b"x" * 101)
        assert bus.receive_any([a, b], timeout=WAIT) == (b, bus.Message(b"good", b.remote_address))
        with pytest.raises(bus.Broken, match="max_size"):
            bus.receive_any([a, b], timeout=WAIT)


def test_without_sources_it_would_wait_for_ever() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bus.receive_any([])


def test_a_connection_is_not_a_list_of_sources() -> None:
    with pair() as (conn, peer):
        peer.send(b"x")
        with pytest.raises(TypeError, match="list of sources"):
            bus.receive_any(conn)  # type: ignore[call-overload]
        assert conn.receive().data == b"x"


def test_only_what_can_be_received_from_is_a_source() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener, bus.serve("tcp://127.0.0.1:0", print) as server:
        for wrong in (listener, server, "tcp://127.0.0.1:1", None):
            with pytest.raises(TypeError, match=type(wrong).__name__):
                bus.receive_any([wrong])  # type: ignore[list-item]


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), (math.nan, ValueError), (True, TypeError), ("1", TypeError)])
def test_what_is_no_timeout_is_refused(timeout: Any, error: type[Exception]) -> None:
    with pair() as (conn, _), pytest.raises(error):
        bus.receive_any([conn], timeout)


def test_the_same_source_twice_is_one_source() -> None:
    with pair() as (conn, peer):
        peer.send(b"1", b"2")
        assert bus.receive_any([conn, conn])[1] == bus.Message(b"1", conn.remote_address)
        assert bus.receive_any([conn, conn])[1] == bus.Message(b"2", conn.remote_address)
        peer.close()
        assert bus.receive_any([conn, conn]) == (conn, None)
        with pytest.raises(bus.PeerClosed):
            bus.receive_any([conn, conn])


def test_two_threads_share_the_messages() -> None:
    total = 400
    with pair() as (a, peer_a), pair() as (b, peer_b):

        def collect() -> list[bytes]:
            seen = []
            try:
                while True:
                    _, message = bus.receive_any([a, b])
                    if message is not None:
                        seen.append(message.data)
            except bus.PeerClosed:
                return seen

        collecting = [InThread(collect) for _ in range(2)]
        for number in range(total):
            peer_a.send(b"a%d" % number)
            peer_b.send(b"b%d" % number)
        peer_a.close()
        peer_b.close()
        seen = sorted(data for each in collecting for data in each.result())
        assert seen == sorted([b"a%d" % n for n in range(total)] + [b"b%d" % n for n in range(total)])


def test_a_hundred_sources() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener, ExitStack() as stack:
        peers, conns = [], []
        for _ in range(100):
            peers.append(stack.enter_context(Peer.to(listener.address)))
            conns.append(stack.enter_context(listener.accept()))
        for peer in peers:
            stack.callback(peer.close)
        for index in (0, 99, 50, 7):
            peers[index].send(b"here")
            assert bus.receive_any(conns, timeout=WAIT)[0] is conns[index]


def test_udp_only() -> None:
    with bus.bind("udp://127.0.0.1:0") as a, bus.bind("udp://127.0.0.1:0") as b:
        assert inet(a.address) != inet(b.address)
        a.send_to(b.address, "x")
        source, _ = bus.receive_any([a, b], timeout=WAIT)
        assert source is b

"""bus.bridge: what one object receives, another sends."""

from __future__ import annotations

import socket

import pytest

import bus
from tests.bus.peers import WAIT, InThread, Peer, pair, until


def text(message: bus.Message | None) -> str:
    assert message is not None
    return message.text


def test_a_connections_messages_go_to_a_topic_and_a_topics_to_a_connection() -> None:
    with pair() as (conn, peer), bus.subscribe("in.*") as sub:
        with bus.bridge(conn, "in.a") as inwards, bus.bridge("out", conn) as outwards:
            peer.send(b"1", b"2")
            assert [text(sub.receive(timeout=WAIT)) for _ in range(2)] == ["1", "2"]
            bus.publish("out", "3")
            assert peer.receive() == b"3"
            until(lambda: (inwards.stats().messages_out, inwards.stats().bytes_out) == (2, 2))
            until(lambda: outwards.stats().messages_out == 1)
            assert "in.a forwarding" in repr(inwards)
            assert f"bridge from {conn.remote_address} to topic in.a, for" in bus.explain()
        peer.send(b"4")
        assert text(conn.receive(timeout=WAIT)) == "4"  # it is the script's again
        assert isinstance(inwards.reason, bus.Closed)


def test_headers_go_from_topic_to_topic() -> None:
    with bus.subscribe("b") as sub, bus.bridge("a", "b"):
        bus.publish("a", "x", headers={"Kind": "y"})
        message = sub.receive(timeout=WAIT)
        assert message is not None
        assert (message.topic, dict(message.headers)) == ("b", {"Kind": "y"})


def test_datagrams_go_to_the_clients_of_a_server() -> None:
    with (
        bus.bind("udp://127.0.0.1:0") as sock,
        bus.serve("ws://127.0.0.1:0", lambda message, client: None) as server,
        bus.connect(f"ws://{server.address}", timeout=WAIT) as page,
        bus.bridge(sock, server) as bridge,
    ):
        until(lambda: len(server.clients) == 1)
        sock.send_to(sock.address, "21.5")
        assert text(page.receive(timeout=WAIT)) == "21.5"
        until(lambda: bridge.stats().messages_out == 1)


def test_it_ends_with_its_source() -> None:
    with bus.subscribe("a") as sub:
        with pair() as (conn, peer):
            bridge = bus.bridge(conn, "a")
            peer.send(b"last words")
            peer.finish()
            assert bridge.wait(WAIT)
        assert isinstance(bridge.reason, bus.PeerClosed)
        assert text(sub.receive(timeout=WAIT)) == "last words"


def test_it_ends_with_its_target_and_counts_what_that_did_not_take() -> None:
    with pair() as (conn, peer):
        bridge = bus.bridge("a", conn)
        peer.reset()
        until(lambda: not conn.connected())
        bus.publish("a", "too late")
        assert bridge.wait(WAIT)
        assert isinstance(bridge.reason, bus.Broken)
        assert (bridge.stats().lost, bridge.stats().messages_out) == (1, 0)


def test_what_the_target_cannot_take_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.bind(("127.0.0.1", 0))
        plain.settimeout(WAIT)
        with bus.connect(f"udp://127.0.0.1:{plain.getsockname()[1]}") as target, bus.bridge("a", target) as bridge:
            bus.publish("a", b"x" * 100_000)
            bus.publish("a", b"small")
            assert plain.recv(100) == b"small"
            until(lambda: bridge.stats().messages_out == 1)
            assert bridge.stats().lost == 1
    assert "100000 bytes is lost" in caplog.text


def test_a_slow_target_slows_the_source_and_nothing_is_lost() -> None:
    total = 300
    with pair(receive_buffer=4096, outbox_bytes=65_536) as (target, reader):
        with bus.subscribe("flow", overflow="wait", mailbox_messages=10) as source, bus.bridge(source, target) as bridge:

            def publish() -> None:
                for number in range(total):
                    bus.publish("flow", bytes([number % 256]) * 65_536, timeout=None)

            publishing = InThread(publish).until_blocked()
            assert bridge.stats().messages_in < total
            for number in range(total):
                payload = reader.receive()
                assert payload is not None
                assert payload == bytes([number % 256]) * 65_536
            publishing.result()
            until(lambda: bridge.stats().messages_out == total)
            assert (bridge.stats().lost, source.stats().lost) == (0, 0)


def test_a_close_ends_it_while_it_waits_for_its_target() -> None:
    with pair(receive_buffer=4096, outbox_bytes=65_536) as (target, _):
        with bus.subscribe("flow") as source:
            bridge = bus.bridge(source, target)
            for _ in range(1000):
                bus.publish("flow", b"x" * 65_536)
                if bridge.stats().messages_in > bridge.stats().messages_out:
                    break
            until(lambda: "waits in" in bus.explain() or bridge.stats().messages_in > bridge.stats().messages_out)
            assert bridge.close(WAIT)
            assert bridge.close(WAIT)
            assert bridge.stats().messages_in - bridge.stats().messages_out == bridge.stats().lost
            assert source.receive(timeout=0) is not None or source.connected()


def test_what_cannot_be_bridged() -> None:
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: None) as server, bus.bind("udp://127.0.0.1:0") as sock:
        with pytest.raises(TypeError, match="source must be"):
            bus.bridge(server, "a")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="use connect"):
            bus.bridge("a", sock)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="target must be"):
            bus.bridge("a", 7)  # type: ignore[arg-type]
        with pytest.raises(bus.BadTopic):
            bus.bridge("a", "b.*")
        with pytest.raises(bus.BadTopic):
            bus.bridge("a..b", "c")
        with Peer.to(server.address):
            until(lambda: server.clients)

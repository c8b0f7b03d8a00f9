"""The server goes away and comes back: what scripts see, what is kept, what is lost."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

import adapters.nats
import bus
from actors.errors import BusError
from actors.topicbox import TopicBox
from actors.topics import NO_HEADERS
from adapters.nats import interest, outgoing, wire
from adapters.nats.engine import NatsEngine
from adapters.nats.loop import Loop
from tests.bus.peers import WAIT, InThread, until
from tests.natsserver import NatsServer


class States:
    """What `on_state` was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, BusError | None]] = []

    def __call__(self, state: str, reason: BusError | None) -> None:
        self.told.append((state, reason))

    @property
    def names(self) -> list[str]:
        return [state for state, _ in self.told]


def receive(sub: bus.Subscription) -> str:
    message = sub.receive(timeout=WAIT)
    assert message is not None
    return message.text


def test_what_a_script_sees(own_nats_server: NatsServer, no_leaks: object, caplog: pytest.LogCaptureFixture) -> None:
    server, states = own_nats_server, States()
    with bus.open(server.url, timeout=WAIT, on_state=states) as topics, bus.subscribe("a.>") as sub:
        pending = threading.Event()
        with bus.respond("slow", lambda msg: pending.set()):
            asking = InThread(lambda: bus.request("slow", b"", timeout=WAIT))
            assert pending.wait(WAIT)
            server.kill()
            with pytest.raises(bus.Broken, match=f"{server.url} broke: "):  # at once, not after the timeout
                asking.result()
        until(lambda: not topics.connected())
        assert repr(topics) == f"<Topics {server.url} not connected>"
        with pytest.raises(bus.Broken):
            bus.request("slow", b"", timeout=WAIT)
        late = bus.subscribe("b.>")
        for number in range(3):
            bus.publish("a.b", f"kept {number}")
        bus.publish("b.b", "kept")
        server.start()
        assert [receive(sub) for _ in range(3)] == ["kept 0", "kept 1", "kept 2"]
        assert receive(late) == "kept"
        until(topics.connected)
        late.close()
        until(lambda: states.names == ["connected", "reconnecting", "connected"])
        assert isinstance(states.told[1][1], bus.Broken)
    until(lambda: states.names[-1] == "closed")
    assert caplog.text.count("connecting again") == 1


def test_publishing_waits_when_all_that_is_kept_is_full(own_nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MAX_MESSAGES", 10)
    with bus.open(own_nats_server.url, timeout=WAIT) as topics, bus.subscribe("a") as sub:
        own_nats_server.kill()
        until(lambda: not topics.connected())
        for number in range(10):
            bus.publish("a", f"{number}", timeout=0)
        with pytest.raises(bus.NotSent, match="there is no connection .*10 messages wait for that; nothing of this one was taken"):
            bus.publish("a", "too much", timeout=0.01)
        waiting = InThread(lambda: bus.publish("a", "waited", timeout=WAIT)).until_blocked()
        own_nats_server.start()
        waiting.result()
        assert [receive(sub) for _ in range(11)] == [*(f"{number}" for number in range(10)), "waited"]


def test_what_could_not_go_out_is_told_at_the_close(
    own_nats_server: NatsServer, no_leaks: object, caplog: pytest.LogCaptureFixture
) -> None:
    topics = bus.open(own_nats_server.url, timeout=WAIT)
    own_nats_server.kill()
    until(lambda: not topics.connected())
    assert topics.close(timeout=WAIT)  # nothing was left to send, so nothing is waited for
    own_nats_server.start()
    topics = bus.open(own_nats_server.url, timeout=WAIT)
    own_nats_server.kill()
    until(lambda: not topics.connected())
    assert "are lost" not in caplog.text
    bus.publish("a", "lost")
    assert not topics.close(timeout=0.1)
    until(lambda: "1 messages that were published are lost: the connection with nats://" in caplog.text)


def test_what_nobody_can_hold_back_any_longer_is_counted(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interest, "HELD_MESSAGES", 10)
    with bus.open(nats_server.url, timeout=WAIT), bus.subscribe("test.held", overflow="wait", mailbox_messages=5) as sub:
        for number in range(100):
            bus.publish("test.held", f"{number}")
        until(lambda: sub.stats().lost > 0)
        with bus.subscribe("test.held") as other:
            bus.publish("test.held", "last")
            assert receive(other) == "last"
        heard: list[bus.Message] = []
        while len(heard) + sub.stats().lost < 101:
            message = sub.receive(timeout=WAIT)
            assert message is not None
            heard.append(message)
        bus.publish("test.held", "after it")
        message = sub.receive(timeout=WAIT)
        assert message is not None
        assert message.text == "after it"
        numbers = [int(message.text) for message in heard if message.text != "last"]
        assert numbers == sorted(set(numbers))
        # Told, though not everywhere at the very place.
        assert sum(message.lost_before for message in [*heard, message]) == sub.stats().lost


def test_everything_that_was_published_is_out_when_it_is_closed(nats_server: NatsServer) -> None:
    with listening(nats_server.url, "test.outage.close") as (box, _):
        with bus.open(nats_server.url, timeout=WAIT) as topics:
            for number in range(5000):
                bus.publish("test.outage.close", f"{number}")
            assert topics.close(timeout=WAIT)
        until(lambda: len(box) == 5000)


def test_a_server_that_hangs_is_found_out(own_nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, no_leaks: object) -> None:
    monkeypatch.setattr(wire, "PING_SECONDS", 0.1)
    with bus.open(own_nats_server.url, timeout=WAIT) as topics, bus.subscribe("a") as sub:
        own_nats_server.pause()
        try:
            until(lambda: not topics.connected())
            bus.publish("a", "kept")
        finally:
            own_nats_server.resume()
        assert receive(sub) == "kept"


def test_closing_does_not_wait_for_a_server_that_hangs(own_nats_server: NatsServer, no_leaks: object) -> None:
    topics = bus.open(own_nats_server.url, timeout=WAIT)
    own_nats_server.pause()
    try:
        for _ in range(20):
            bus.publish("a", b"x" * 1_000_000, timeout=0.1) if topics.connected() else None
    except bus.NotSent:
        pass
    finally:
        assert not topics.close(timeout=0.2)
        own_nats_server.resume()


def test_a_server_that_throws_us_out_is_tried_again(tmp_path: Path) -> None:
    config = 'authorization {{ users = [ {{ user: ali, password: "{}" }}, {{ user: other, password: x }} ] }}'
    with NatsServer(tmp_path, config=config.format("sesame")) as server:
        with bus.open(f"nats://ali:sesame@{server.address}", timeout=WAIT) as topics, bus.subscribe("a") as sub:
            server.configure(config.format("changed"))
            server.reload()
            until(lambda: not topics.connected())
            server.configure(config.format("sesame"))
            server.reload()
            bus.publish("a", "back")
            assert receive(sub) == "back"


def test_a_lost_connection_leaves_no_task_behind(own_nats_server: NatsServer) -> None:
    with bus.open(own_nats_server.url, timeout=WAIT) as opened, bus.subscribe("a.>") as sub, bus.subscribe("b"):
        engine = opened._engine
        assert isinstance(engine, NatsEngine)
        loop = engine.transport.loop
        before = len(asyncio.all_tasks(loop))
        own_nats_server.kill()
        while opened.connected():
            bus.publish("a.b", "on its way")  # so that there is something left to write
        own_nats_server.start()
        bus.publish("a.c", "back")
        while receive(sub) != "back":
            pass
        until(lambda: len(asyncio.all_tasks(loop)) <= before)


def test_of_a_cluster_another_server_takes_over(tmp_path: Path) -> None:
    # The first one learns of the second from that alone.
    text = "cluster {{ name: c, listen: 127.0.0.1:-1, routes: [ {} ] }}"
    with NatsServer(tmp_path / "1", config=text.format("")) as first, NatsServer(tmp_path / "2", config=text.format(first.route)) as second:
        with bus.open(first.url, timeout=WAIT) as topics, bus.subscribe("a") as sub, listening(second.url, "b") as (box, engine):
            engine_of_first = topics._engine
            assert isinstance(engine_of_first, NatsEngine)

            def heard() -> bool:
                bus.publish("b", "routed?")
                return len(box) > 0

            until(heard)  # the two know each other, and tell their clients
            until(lambda: engine_of_first.transport.servers_known() == {first.address, second.address})
            first.kill()
            until(lambda: not topics.connected() or engine_of_first.transport.connected_to() == second.address)
            until(topics.connected)
            engine.publish("a", b"by the other", NO_HEADERS, None, WAIT)
            assert receive(sub) == "by the other"


def test_closing_does_not_wait_for_a_server_that_hangs_with_much_under_way(
    own_nats_server: NatsServer, no_leaks: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = Loop.create_connection

    async def connect_slowly(loop: Loop, *arguments: object, **options: object) -> Any:  # as over a slow link
        made = await connect(loop, *arguments, **options)
        made[0].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        return made

    monkeypatch.setattr(Loop, "create_connection", connect_slowly)
    with bus.open(own_nats_server.url, timeout=WAIT) as topics:
        own_nats_server.pause()
        with pytest.raises(bus.NotSent):
            while True:
                bus.publish("a", bytes(20_000), timeout=0.1)
        assert topics.close(timeout=0.1) is False


def test_connected_again_means_subscribed_again(tmp_path: Path) -> None:
    with NatsServer(tmp_path, "-V") as server, bus.open(server.url, timeout=WAIT) as topics, bus.subscribe("a"):
        server.kill()
        until(lambda: not topics.connected())
        server.start()
        until(topics.connected)
        _, heard = (tmp_path / "server.log").read_text().rsplit("[CONNECT", 1)
        subscribed, confirmed = heard.find("[SUB a "), heard.rfind("[PONG]")
        assert 0 <= subscribed < confirmed, heard


@contextmanager
def listening(url: str, topic: str, limit: int = 1_000_000) -> Iterator[tuple[TopicBox, NatsEngine]]:
    """Somebody else's subscription, on a connection of its own."""
    engine = adapters.nats.open(url, timeout=WAIT)
    try:
        box = TopicBox(topic, max_messages=limit, max_bytes=1 << 30)
        engine.subscribe(topic, None, box)
        yield box, engine
    finally:
        engine.close(WAIT)


def published_until(done: threading.Event, publish: Callable[[bytes], None]) -> int:
    for number in count():
        if done.is_set():
            return number
        publish(b"%d" % number)
        if number % 10 == 0:
            time.sleep(0.001)  # about what scripts do; as fast as it can, a reader that starves would drop from its mailbox
    raise AssertionError


@pytest.mark.fault
def test_killed_under_load_each_outage_costs_one_gap_at_most(own_nats_server: NatsServer) -> None:
    server, outages, done = own_nats_server, 3, threading.Event()
    with bus.open(server.url, timeout=WAIT) as topics, listening(server.url, "load") as (box, engine):
        publishing = InThread(lambda: published_until(done, lambda payload: bus.publish("load", payload, timeout=WAIT)))
        for _ in range(outages):
            before = len(box)
            until(lambda before=before: len(box) > before + 200)  # type: ignore[misc]
            server.kill()
            until(lambda: not topics.connected() and not engine.up)
            server.start()
            until(lambda: topics.connected() and engine.up)
        before = len(box)
        until(lambda: len(box) > before + 200)
        done.set()
        total = publishing.result()
        until(lambda: box.items[-1].data == b"%d" % (total - 1))  # nothing is lost behind the last outage
    numbers = [int(message.data) for message in box.items]
    steps = [after - before for before, after in pairwise(numbers)]
    assert min(steps) > 0, "out of order, or twice"
    assert numbers[0] == 0
    assert sum(step > 1 for step in steps) <= outages, "more gaps than outages"

"""Durable topics: what was stored arrives, until it is acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

import bus
from actors.errors import NotDurable
from adapters.nats import jetstream
from adapters.nats.engine import NatsEngine
from adapters.nats.jetstream import JetStream, Refused, stream_name
from tests.bus.peers import WAIT, InThread, until
from tests.natsserver import NatsServer


@pytest.fixture
def topic() -> str:
    """One that no other test knows, so that its stream is its own."""
    return f"test-{token_hex(4)}.a"


@pytest.fixture
def opened(nats_server: NatsServer) -> Iterator[bus.Topics]:
    with bus.open(nats_server.url, timeout=WAIT) as opened:
        yield opened


def api(opened: bus.Topics) -> JetStream:
    return JetStream("here", lambda where, payload: opened._engine.request(where, payload, {}, time.monotonic() + WAIT).data)


def take(sub: bus.Subscription) -> bus.TopicMessage:
    message = sub.receive(timeout=WAIT)
    assert isinstance(message, bus.TopicMessage)
    return message


def take_all(sub: bus.Subscription, count: int) -> list[str]:
    texts = []
    for _ in range(count):
        message = take(sub)
        texts.append(message.text)
        message.ack()
    return texts


def test_what_is_stored_comes_to_who_subscribes_later(opened: bus.Topics, topic: str) -> None:
    for number in range(3):
        bus.publish(topic, f"{number}", durable=True, headers={"Number": f"{number}"})
    with bus.subscribe(topic, durable="later") as sub:
        for number in range(3):
            message = take(sub)
            assert (message.text, message.topic, message.headers["Number"]) == (f"{number}", topic, f"{number}")
            assert message.reply_to is None
            assert not message.redelivered
            message.ack()
        bus.publish(topic, "now", durable=True)
        assert take_all(sub, 1) == ["now"]


def test_a_name_goes_on_where_it_was(opened: bus.Topics, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetstream, "ACK_SECONDS", 1)
    for number in range(6):
        bus.publish(topic, f"{number}", durable=True)
    with bus.subscribe(topic, durable="name") as sub:
        assert take_all(sub, 2) == ["0", "1"]
        assert take(sub).text == "2"  # and not acknowledged
    with bus.subscribe(topic, durable="name") as sub:
        again = dict[str, bool]()
        while again.keys() != {"2", "3", "4", "5"}:  # what waited in the mailbox soon, what was taken when its time is over
            message = take(sub)
            message.ack()
            again.setdefault(message.text, message.redelivered)
        assert again["2"]


def test_what_is_not_acknowledged_comes_again_marked(opened: bus.Topics, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetstream, "ACK_SECONDS", 0.2)
    bus.publish(topic, "x", durable=True)
    with bus.subscribe(topic, durable="slow") as sub:
        first, second = take(sub), take(sub)
        assert (first.redelivered, second.redelivered) == (False, True)
        assert first.text == second.text == "x"


def test_who_uses_one_name_shares_its_messages(opened: bus.Topics, topic: str) -> None:
    with bus.subscribe(topic, durable="shared") as one, bus.subscribe(topic, durable="shared") as two:
        for number in range(300):
            bus.publish(topic, f"{number}", durable=True)
        heard: list[int] = []
        while len(heard) < 300:
            _, message = bus.receive_any([one, two], timeout=WAIT)
            assert isinstance(message, bus.TopicMessage)
            heard.append(int(message.text))
            message.ack()
        assert sorted(heard) == list(range(300))


def test_where_a_new_name_begins(opened: bus.Topics, topic: str) -> None:
    bus.publish(topic, "old", durable=True)
    time.sleep(0.01)  # the clock of the server's timestamps moves on
    between = time.time()
    bus.publish(topic, "young", durable=True)
    with (
        bus.subscribe(topic, durable="new", replay="new") as new,
        bus.subscribe(topic, durable="since", replay=between) as since,
        bus.subscribe(topic, durable="since2", replay=datetime.fromtimestamp(between, UTC)) as since2,
        bus.subscribe(topic, durable="all") as everything,
    ):
        bus.publish(topic, "last", durable=True)
        assert take_all(new, 1) == ["last"]
        assert take_all(since, 2) == take_all(since2, 2) == ["young", "last"]
        assert take_all(everything, 3) == ["old", "young", "last"]


def test_patterns_within_one_first_token(opened: bus.Topics, topic: str) -> None:
    first = topic.partition(".")[0]
    with bus.subscribe(f"{first}.*.done", durable="done") as sub:
        for name in ("a", "a.done", "b.open", "b.done"):
            bus.publish(f"{first}.{name}", name, durable=True)
        assert take_all(sub, 2) == ["a.done", "b.done"]
    with pytest.raises(NotDurable, match="the first token of .* is a wildcard"):
        bus.subscribe(f"*.{topic}", durable="everything")


def test_others_hear_it_too(opened: bus.Topics, topic: str) -> None:
    with bus.subscribe(topic) as plain, bus.respond(topic, lambda msg: "a reply that is no confirmation"):
        bus.publish(topic, "x", durable=True)
        message = take(plain)
        assert message.text == "x"
        with pytest.raises(ValueError, match="nothing to acknowledge"):
            message.ack()


def test_the_name_of_another_topic_is_refused(opened: bus.Topics, topic: str) -> None:
    with bus.subscribe(topic, durable="taken"), pytest.raises(NotDurable, match=f"the name taken is for {topic} already"):
        bus.subscribe(f"{topic}.b", durable="taken")


def test_nothing_is_dropped_when_a_script_is_slow(opened: bus.Topics, topic: str) -> None:
    with bus.subscribe(topic, durable="slow", mailbox_messages=5) as sub:
        for number in range(250):
            bus.publish(topic, f"{number}", durable=True)
        assert take_all(sub, 250) == [f"{number}" for number in range(250)]
        assert sub.stats().lost == 0


def test_a_stream_that_somebody_made_is_used_as_it_is(opened: bus.Topics, topic: str) -> None:
    name = token_hex(4)
    api(opened).call(f"STREAM.CREATE.{name}", {"name": name, "subjects": [topic], "storage": "memory", "max_msg_size": 200})
    bus.publish(topic, "x", durable=True)
    assert api(opened).call(f"STREAM.INFO.{name}")["state"]["messages"] == 1
    with pytest.raises(bus.NotSent, match="the server did not store it: message size exceeds"):
        bus.publish(topic, "x" * 300, durable=True)
    with pytest.raises(NotDurable, match="none can be made: subjects overlap"):
        bus.publish(f"{topic}.b", "x", durable=True)
    with pytest.raises(Refused):
        api(opened).call("STREAM.INFO.nobody")


def test_a_server_without_jetstream_says_how_to_start_it(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server, bus.open(server.url, timeout=WAIT):
        with pytest.raises(NotDurable, match="JetStream is off there.*nats-server -js"):
            bus.publish("a", "x", durable=True)
        with pytest.raises(NotDurable):
            bus.subscribe("a", durable="x")


def test_what_could_not_be_stored_in_time_is_said(own_nats_server: NatsServer) -> None:
    with bus.open(own_nats_server.url, timeout=WAIT) as opened:
        bus.publish("a", "x", durable=True)
        own_nats_server.kill()
        until(lambda: not opened.connected())
        with pytest.raises(bus.NotSent, match="in time.*; there is no connection"):
            bus.publish("a", "never", durable=True, timeout=0.1)
        waiting = InThread(lambda: bus.publish("a", "later", durable=True, timeout=WAIT)).until_blocked()
        own_nats_server.start()
        waiting.result()
        with bus.subscribe("a", durable="all") as sub:
            assert take_all(sub, 2) == ["x", "later"]  # what was given up before it went out stays out


def test_a_confirmation_that_is_lost_stores_nothing_twice(opened: bus.Topics, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, lost = opened._engine, list[str]()
    assert isinstance(engine, NatsEngine)
    really_ask = engine.ask

    def ask(where: str, *given: Any, **options: Any) -> bus.TopicMessage | None:
        answer = really_ask(where, *given, **options)
        if where == topic and not lost:
            lost.append(where)
            raise bus.Broken("the server", "it was killed right then")
        return answer

    monkeypatch.setattr(engine, "ask", ask)
    bus.publish(topic, "x", durable=True)
    assert lost
    assert api(opened).call(f"STREAM.INFO.{jetstream.stream_name(topic)}")["state"]["messages"] == 1


@pytest.mark.fault
def test_killed_under_load_everything_stored_arrives(own_nats_server: NatsServer) -> None:
    server, done, stored, heard = own_nats_server, threading.Event(), list[str](), list[tuple[str, bool]]()

    def publish(name: int) -> None:
        for number in count():
            if done.is_set():
                return
            text = f"{name} {number:05}"
            bus.publish("load", text, durable=True, timeout=WAIT)
            stored.append(text)

    def receive(sub: bus.Subscription) -> None:
        for message in sub:
            assert isinstance(message, bus.TopicMessage)
            heard.append((message.text, message.redelivered))
            message.ack()

    with bus.open(server.url, timeout=WAIT) as opened, bus.subscribe("load", durable="reader") as sub:
        receiving = InThread(lambda: receive(sub))
        publishing = [InThread(lambda name=name: publish(name)) for name in range(4)]  # type: ignore[misc]
        for _ in range(3):
            before = len(heard)
            until(lambda before=before: len(heard) > before + 100)  # type: ignore[misc]
            server.kill()
            until(lambda: not opened.connected())
            server.start()
            until(opened.connected)
        before = len(heard)
        until(lambda: len(heard) > before + 100)
        done.set()
        for thread in publishing:
            thread.result()
        until(lambda: set(stored) <= {text for text, _ in heard}, "everything that was stored arrives")
        info = api(opened).call("STREAM.INFO.ACTORBUS-load")
        assert info["state"]["messages"] == len({text for text, _ in heard}), "stored twice"
    with pytest.raises(bus.Closed):
        receiving.result()
    first_times = [text for text, redelivered in heard if not redelivered]
    assert len(first_times) == len(set(first_times)), "came twice, and was not marked"
    for name in range(4):
        mine = [text for text in first_times if text.startswith(f"{name} ")]
        assert mine == sorted(mine)


def test_a_bridge_acknowledges_what_its_target_has_taken(opened: bus.Topics, topic: str) -> None:
    there = topic.replace(".", "-")
    for number in range(3):
        bus.publish(topic, f"{number}", durable=True)
    with bus.subscribe(there) as target, bus.subscribe(topic, durable="bridge") as source, bus.bridge(source, there) as bridge:
        assert [take(target).text for _ in range(3)] == ["0", "1", "2"]
        known = partial(api(opened).call, f"CONSUMER.INFO.{stream_name(topic)}.bridge")
        until(lambda: known()["ack_floor"]["consumer_seq"] == 3)
        assert bridge.stats().lost == 0


def test_a_bridge_gives_up_what_its_target_can_never_take(opened: bus.Topics, topic: str, caplog: pytest.LogCaptureFixture) -> None:
    for size in (100_000, 1):
        bus.publish(topic, b"x" * size, durable=True)
    with bus.bind("udp://127.0.0.1:0") as there, bus.connect(f"udp://{there.address}") as target:
        with bus.subscribe(topic, durable="bridge") as source, bus.bridge(source, target) as bridge:
            heard = there.receive(timeout=WAIT)
            assert heard is not None
            assert heard.data == b"x"
            known = partial(api(opened).call, f"CONSUMER.INFO.{stream_name(topic)}.bridge")
            until(lambda: known()["num_ack_pending"] == 0, "the server will not deliver it again")
            until(lambda: (bridge.stats().lost, bridge.stats().messages_out) == (1, 1))
    assert caplog.text.count("a message of 100000 bytes is lost: ") == 1

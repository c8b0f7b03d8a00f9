"""`actorbus pub`, `sub` and `req`, in this process and over its own topics: stdin a pipe, stdout what pytest captures."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import bus
from actors.topics import MAX_PAYLOAD
from adapters import options, pubsub
from adapters.pubsub import messages_of
from adapters.screen import Screen
from tests.bus.peers import WAIT, InThread

Said = queue.SimpleQueue[str]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """What is said on stderr; and topics end with this process, which the command itself does not allow."""
    lines = Said()
    monkeypatch.setattr(pubsub, "say", lines.put)
    monkeypatch.setattr(pubsub, "server_of", lambda wanted, environ: "embedded:")
    return lines


@contextmanager
def stdin(data: bytes = b"") -> Iterator[int]:
    reader, writer = os.pipe()
    try:
        with open(writer, "wb") as typed:
            typed.write(data)
        yield reader
    finally:
        os.close(reader)


def run(*words: str, source: int | None = None) -> int:
    return pubsub.pubsub(options.parse(words), source)


def subscribing(said: Said, *words: str) -> InThread[int]:
    """`actorbus sub`, once it is subscribed."""
    running = InThread(lambda: run("sub", *words))
    assert said.get(timeout=WAIT) == f"subscribed to {words[-1]}"
    return running


def read(*words: str, data: bytes = b"") -> list[bytes]:
    with stdin(data) as source:
        return list(messages_of(options.parse(["pub", *words]), source))


# --- what to publish ---


@pytest.mark.parametrize(
    ("words", "data", "messages"),
    [
        (["t", "hello"], b"not read", [b"hello"]),
        (["t", "hello", "-n", "2"], b"", [b"hello", b"hello"]),
        (["t", "--count", "3", "\udcff"], b"", [b"\xff"] * 3),  # bytes of the command line that are no UTF-8
        (["t"], b"one\ntwo\n\nthree", [b"one", b"two", b"", b"three"]),
        (["t", "--count", "2"], b"one\ntwo\nthree\n", [b"one", b"two"]),
        (["t", "--whole"], b"one\ntwo\n\0", [b"one\ntwo\n\0"]),
        (["t", "--whole"], b"", [b""]),
        (["t"], b"", []),
    ],
)
def test_a_message_its_repetitions_the_lines_of_stdin_or_all_of_it(words: list[str], data: bytes, messages: list[bytes]) -> None:
    assert read(*words, data=data) == messages


def test_without_stdin_there_is_nothing_to_publish() -> None:
    assert list(messages_of(options.parse(["pub", "t"]), None)) == []


# --- pub ---


def test_pub_publishes_with_headers_and_tells_what_in_json(said: Said, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with bus.subscribe("cli.pub.*") as subscription, stdin(b"one\ntwo\n") as source:
        pubsub.publish(options.parse(["pub", "cli.pub.a", "--header", "K: v", "--json"]), source)
        messages = [subscription.receive(timeout=WAIT) for _ in range(2)]
        assert [message and (message.text, dict(message.headers)) for message in messages] == [("one", {"K": "v"}), ("two", {"K": "v"})]
    told = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert [(each["topic"], each["data"], each["headers"]) for each in told] == [
        ("cli.pub.a", "one", {"K": "v"}),
        ("cli.pub.a", "two", {"K": "v"}),
    ]


def test_fewer_lines_than_the_count_are_a_failure(said: Said) -> None:
    with stdin(b"one\n") as source:
        assert run("pub", "--count", "2", "cli.few", source=source) == 1
    assert said.get() == "1 of 2 messages were published: that was the end of the input"


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (["pub", "a..b", "x"], 2, "bad topic 'a..b'"),
        (["pub", "a.*", "x"], 2, "bad topic 'a.*'"),
        (["sub", "a.>.b"], 2, "bad topic 'a.>.b'"),
        (["pub", "--durable", "a", "x"], 1, "keeps no messages"),
        (["sub", "--durable", "me", "a"], 1, "keeps no messages"),
        (["req", "cli.nobody", "x"], 1, "nobody answers on topic cli.nobody"),
    ],
)
def test_what_topics_refuse_is_told_in_one_line(said: Said, words: list[str], status: int, line: str) -> None:
    assert run(*words) == status
    assert line in said.get()
    assert said.empty()


def test_a_message_that_is_too_large_is_a_failure_behind_those_before(said: Said) -> None:
    running = subscribing(said, "--count", "1", "cli.large")
    reader, writer = os.pipe()
    with open(reader, "rb") as source, open(writer, "wb") as typed:
        publishing = InThread(lambda: run("pub", "cli.large", source=source.fileno()))
        typed.write(b"good\n" + b"x" * (MAX_PAYLOAD + 1) + b"\n")
        typed.close()
        assert publishing.result() == 1
    assert "too large" in said.get(timeout=WAIT)
    assert running.result() == 0


# --- sub ---


def test_sub_prints_what_comes_and_ends_with_the_count(said: Said, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    running = subscribing(said, "--count", "3", "cli.sub.>")
    for number in range(3):
        bus.publish(f"cli.sub.{number}", bytes([0x61 + number, 0xFF]))
    assert running.result() == 0
    assert capsysbinary.readouterr().out == b"a\xff\nb\xff\nc\xff\n"


def test_sub_tells_topics_in_json(said: Said, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    running = subscribing(said, "--json", "--count", "1", "cli.json.*")
    bus.publish("cli.json.x", "hi", headers={"K": "v"})
    assert running.result() == 0
    told = json.loads(capsysbinary.readouterr().out)
    assert (told["topic"], told["data"], told["headers"]) == ("cli.json.x", "hi", {"K": "v"})


def test_a_message_is_printed_when_it_comes(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = threading.Event()
    plain = Screen.flush

    def flush(screen: Screen) -> None:
        plain(screen)
        flushed.set()

    running = subscribing(said, "--count", "2", "cli.soon")
    monkeypatch.setattr(Screen, "flush", flush)
    bus.publish("cli.soon", "one")
    assert flushed.wait(WAIT)
    bus.publish("cli.soon", "two")
    assert running.result() == 0


def test_sub_shares_a_queue(said: Said, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with bus.open("embedded:"), bus.subscribe("cli.queue", queue="crew") as other:
        running = subscribing(said, "--queue", "crew", "--count", "1", "cli.queue")
        for number in range(100):
            bus.publish("cli.queue", str(number))
        assert running.result() == 0
        assert other.stats().messages_in < 100


def test_silence_ends_sub_and_missing_messages_are_a_failure(said: Said) -> None:
    assert run("sub", "--timeout", "0.05", "cli.silence") == 0
    assert run("sub", "--timeout", "0.05", "--count", "1", "cli.silence") == 1
    assert [said.get() for _ in range(3)][-1] == "0 of 1 messages came: nothing more came for 0.05 s"


def test_what_is_lost_is_told(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pubsub, "WAITING_MESSAGES", 10)
    go = threading.Event()
    put = Screen.put

    def slow_put(screen: Screen, message: bus.Message, when: float) -> None:
        go.wait(WAIT)
        put(screen, message, when)

    monkeypatch.setattr(Screen, "put", slow_put)
    running = subscribing(said, "--count", "10", "cli.lost")
    for number in range(100):
        bus.publish("cli.lost", str(number))
    go.set()
    assert running.result() == 0
    line = said.get(timeout=WAIT)
    assert line.endswith("messages were lost: they came faster than they were printed")
    assert int(line.split()[0]) in (89, 90)  # one may have been taken before the first was lost


# --- req ---


def test_req_prints_the_answer(said: Said, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    asked: list[tuple[bytes, dict[str, str]]] = []

    def answer(message: bus.TopicMessage) -> str:
        asked.append((message.data, dict(message.headers)))
        return message.text.upper()

    with bus.respond("cli.req", answer):
        pubsub.request(options.parse(["req", "cli.req", "ha", "--count", "2", "--header", "K: v"]), None)
    assert capsysbinary.readouterr().out == b"HA\nHA\n"
    assert asked == [(b"ha", {"K": "v"})] * 2


@pytest.mark.parametrize("raises", [True, False])
def test_req_that_is_not_answered_is_a_failure(said: Said, raises: bool, caplog: pytest.LogCaptureFixture) -> None:
    def answer(message: bus.TopicMessage) -> None:
        if raises:
            raise RuntimeError("out of order")

    with bus.respond("cli.unanswered", answer), pytest.raises(bus.ResponderFailed if raises else bus.RequestTimeout) as failed:
        pubsub.request(options.parse(["req", "--timeout", str(WAIT) if raises else "0.05", "cli.unanswered", "x"]), None)
    assert "cli.unanswered" in str(failed.value)


def test_closing_what_could_not_get_out_is_a_failure(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus.Topics, "close", unfinished(bus.Topics.close))
    assert run("pub", "cli.stuck", "x") == 1
    assert said.get() == "not all that was published has reached embedded:"


def unfinished(close: Callable[..., bool]) -> Callable[..., bool]:
    return lambda topics, timeout=0.0: close(topics, timeout) and False

"""Strangers on the same server: what they publish costs its reader that message, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError

import bus
from actors.cluster import ASKED, NODES, SUBJECT, TEXT
from actors.topicbox import TopicBox
from actors.topics import ERROR, topic_message
from adapters.nats.engine import NatsEngine
from adapters.nats.frames import delivery
from adapters.nats.incoming import Parser, headers_in
from adapters.nats.jetstream import JetStream, Refused, is_stored
from tests.bus.peers import WAIT, InThread, until
from tests.natsserver import NatsServer

HEAD = b"NATS/1.0\r\n"


class Stranger:
    """Somebody who writes NATS's protocol by hand."""

    def __init__(self, server: NatsServer) -> None:
        self._sock = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)
        self._lines = self._sock.makefile("rb")
        self._lines.readline()
        self.say(b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n')

    def say(self, command: bytes) -> None:
        """Until the server is through with it."""
        self._sock.sendall(command + b"PING\r\n")
        while (line := self._lines.readline()) != b"PONG\r\n":
            assert line
            assert not line.startswith(b"-ERR"), line

    def publish(self, subject: bytes, payload: bytes = b"x", headers: bytes = b"", reply: bytes = b"") -> None:
        if headers:
            sizes = b"%d %d" % (len(headers), len(headers) + len(payload))
            self.say(b"HPUB %b %b %b\r\n%b%b\r\n" % (subject, reply, sizes, headers, payload))
        else:
            self.say(b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._lines.close()
        self._sock.close()


@pytest.fixture
def stranger(nats_server: NatsServer) -> Iterator[Stranger]:
    with Stranger(nats_server) as stranger:
        yield stranger


@pytest.fixture
def opened(nats_server: NatsServer) -> Iterator[bus.Topics]:
    with bus.open(nats_server.url, timeout=WAIT) as opened:
        yield opened


def wire(opened: bus.Topics) -> Any:
    assert isinstance(opened._engine, NatsEngine)
    return opened._engine.transport._wire


def take(sub: bus.Subscription) -> bus.TopicMessage:
    message = sub.receive(timeout=WAIT)
    assert message is not None
    return message


# -- a message that is odd ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [b"hostile.\x0b", b"hostile.a\x0cb", b"hostile.\x1c\x1d\x00", "hostile.\x85\xa0".encode()])
def test_topics_with_blanks_that_are_none_to_a_server(opened: bus.Topics, stranger: Stranger, subject: bytes) -> None:
    before = wire(opened)
    with bus.subscribe("hostile.>") as sub:
        stranger.publish(subject)
        assert take(sub).topic == subject.decode()
        assert wire(opened) is before


def test_topics_that_are_no_text_are_passed_over(opened: bus.Topics, stranger: Stranger, caplog: pytest.LogCaptureFixture) -> None:
    before = wire(opened)
    with bus.subscribe("hostile.>") as sub:
        stranger.publish(b"hostile.\xff\xfe")
        stranger.publish(b"hostile.a", reply=b"reply.\xff")
        stranger.publish(b"hostile.a", b"last")
        assert take(sub).text == "last"
        assert wire(opened) is before
    assert "1 messages passed over so far, whose topics are no UTF-8" in caplog.text


@pytest.mark.parametrize(
    ("block", "headers"),
    [
        (HEAD + b"K: \xff\r\n\r\n", {"K": "\ufffd"}),
        (HEAD + b"\xff: v\r\n\r\n", {"\ufffd": "v"}),
        (b"N", {}),
        (b"NATS/1.0", {}),
        (b"HTTP/1.0 200 OK\r\nK: v\r\n\r\n", {}),
        (HEAD, {}),
        (HEAD + b"K: v", {"K": "v"}),
        (HEAD + b"no colon\r\n: no name\r\nK: v\r\n folded\r\n\r\n", {"K": "v"}),
        (b"NATS/1.0 \xff\xff\xff\r\nK: v\r\n\r\n", {"K": "v"}),
        (b"NATS/1.0 \xc2\xb2\r\n\r\n", {}),
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503"}),
        (HEAD + b"K: " + b"v" * 1_000_000 + b"\r\n\r\n", {"K": "v" * 1_000_000}),
        (HEAD + b"".join(b"%d: v\r\n" % n for n in range(50_000)) + b"\r\n", {f"{n}": "v" for n in range(50_000)}),
    ],
)
def test_headers_that_are_none(opened: bus.Topics, stranger: Stranger, block: bytes, headers: dict[str, str]) -> None:
    before = wire(opened)
    with bus.subscribe("hostile.headers") as sub:
        stranger.publish(b"hostile.headers", b"x", block)
        message = take(sub)
        assert message.text == "x"
        assert dict(message.headers) == headers
        assert wire(opened) is before


@given(st.binary())
def test_no_headers_are_an_error(block: bytes) -> None:
    for name, value in headers_in(HEAD + block).items():
        assert name
        assert value is not None
    headers_in(block)


def test_headers_weigh_something_in_a_mailbox() -> None:
    box = TopicBox("a", max_messages=10_000, max_bytes=1000)
    for _ in range(10):
        box.deliver(topic_message(b"", "a", {"K": "v" * 300}))
    assert (len(box), box.lost) == (2, 8)


def test_headers_that_wait_behind_a_full_mailbox_are_counted(
    opened: bus.Topics, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.nats.interest.HELD_BYTES", 100_000)
    with bus.subscribe("hostile.held", overflow="wait", mailbox_messages=1) as sub:
        for _ in range(10):
            stranger.publish(b"hostile.held", b"", HEAD + b"K: " + b"v" * 30_000 + b"\r\n\r\n")
        until(lambda: sub.stats().lost >= 4, "what is held back is bounded")


# -- the protocol, cut anywhere -------------------------------------------------------------------------------------------


class Client:
    """What a parser told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    async def _process_msg(self, *message: Any) -> None:
        self.told.append(message)

    async def _process_ping(self) -> None:
        self.told.append(("ping",))

    async def _process_pong(self) -> None:
        self.told.append(("pong",))

    async def _process_info(self, info: Any) -> None:
        self.told.append(("info", info))

    async def _process_err(self, text: str) -> None:
        self.told.append(("err", text))


def parsed(*pieces: bytes) -> list[tuple[Any, ...]]:
    client = Client()
    parser = Parser(client)

    async def parse_all() -> None:
        for piece in pieces:
            await parser.parse(piece)

    asyncio.run(parse_all())
    return client.told


SAID = (
    b'INFO {"server_id":"x"} \r\nPING\r\nMSG a.b 1 5\r\nhe\r\no\r\n+OK\r\nMSG a 2 _INBOX.1 0\r\n\r\nPONG\r\n'
    b"HMSG c 3 12 14\r\nNATS/1.0\r\n\r\nhi\r\nHMSG c 3 reply 16 16\r\nNATS/1.0 503\r\n\r\n\r\n-ERR 'Some Thing'\r\n"
)
MEANT = [
    ("info", {"server_id": "x"}),
    ("ping",),
    (1, b"a.b", b"", b"he\r\no", b""),
    (2, b"a", b"_INBOX.1", b"", b""),
    ("pong",),
    (3, b"c", b"", b"hi", b"NATS/1.0\r\n\r\n"),
    (3, b"c", b"reply", b"", b"NATS/1.0 503\r\n\r\n"),
    ("err", "'some thing'"),
]


@given(st.lists(st.integers(0, len(SAID)), max_size=12))
def test_cut_anywhere_it_means_the_same(cuts: list[int]) -> None:
    at = [0, *sorted(cuts), len(SAID)]
    assert parsed(*(SAID[begin:end] for begin, end in pairwise(at))) == MEANT


NEVER_SAID = [b"MSG a 1\r\n", b"MSG a 1 -5\r\n", b"HMSG a 1 5 4\r\n", b"INFO {\r\n", b"HELLO\r\n", b"MSG a b c d e\r\n"]


@pytest.mark.parametrize("said", NEVER_SAID)
def test_what_a_server_never_says_is_a_protocol_error(said: bytes) -> None:
    with pytest.raises(ProtocolError):
        parsed(said)


@given(st.binary())
def test_what_a_server_never_says_is_a_protocol_error_or_waited_for(said: bytes) -> None:
    try:
        parsed(said)
    except ProtocolError:
        pass


def test_a_line_has_an_end() -> None:
    with pytest.raises(ProtocolError):
        parsed(*[b"x" * 100_000] * 20)


# -- what is in our own words ---------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=5), max_size=12).map(lambda tokens: "$JS.ACK." + ".".join(tokens)) | st.text())
def test_what_is_no_acknowledgement_of_jetstreams_is_none(reply: str) -> None:
    assert all(number >= 0 for number in delivery(reply))


@pytest.mark.parametrize("said", [b"[" * 100_000, b"{", b'{"error":"boom"}', b'{"error":{"code":"x"}}', b"[]", b"null", b"\xff"])
def test_what_a_responder_says_is_no_answer_of_a_stream(said: bytes) -> None:
    assert not is_stored(said)
    with pytest.raises(Refused, match="none of JetStream's"):
        JetStream("here", lambda where, payload: said).call("INFO")


def test_a_responder_with_errors_does_not_end_a_durable_publish(opened: bus.Topics) -> None:
    with bus.respond("hostile-durable.a", lambda msg: {"error": "boom"}):
        bus.publish("hostile-durable.a", "x", durable=True, timeout=WAIT)


def test_an_answer_is_not_said_to_the_server_itself(opened: bus.Topics, stranger: Stranger) -> None:
    asked: list[str | None] = []

    def answer(msg: bus.TopicMessage) -> str:
        asked.append(msg.reply_to)
        return "answer"

    with bus.respond("hostile.ask", answer), bus.subscribe("hostile.there") as there, bus.subscribe("$HOSTILE.*") as never:
        stranger.publish(b"hostile.ask", reply=b"$HOSTILE.there")
        stranger.publish(b"hostile.ask", reply=b"hostile.there")
        assert take(there).text == "answer"
        assert asked == [None, "hostile.there"]
        assert never.receive(timeout=0) is None


def test_an_error_of_a_stranger_is_short_and_one_line(opened: bus.Topics, stranger: Stranger) -> None:
    def answer(msg: bus.TopicMessage) -> None:
        assert msg.reply_to is not None
        stranger.publish(msg.reply_to.encode(), b"", HEAD + ERROR.encode() + b": it\nis \x1b" + b"x" * 100_000 + b"\r\n\r\n")

    with bus.respond("hostile.error", answer), pytest.raises(bus.ResponderFailed) as raised:
        bus.request("hostile.error", "", timeout=WAIT)
    assert raised.value.reason.startswith("it is xxx")
    assert len(raised.value.reason) <= 1000


def test_a_stranger_in_a_cluster_reaches_clients_with_messages_only(
    opened: bus.Topics, stranger: Stranger, caplog: pytest.LogCaptureFixture
) -> None:
    with bus.serve("ws://127.0.0.1:0", lambda msg, client: None, cluster="hostile", max_size=1000) as server:
        with bus.connect(f"ws://{server.address}", timeout=WAIT) as client:
            until(lambda: server.clients)
            subject = f"{SUBJECT}.hostile".encode()
            text = HEAD + TEXT.encode() + b": 1\r\n\r\n"
            stranger.publish(subject, b"\xff\xfe", text)
            stranger.publish(subject, b"x" * 2000, text)
            for reply in (b"", b"$JS.API.STREAM.DELETE.orders", subject):
                stranger.publish(subject, b"", HEAD + ASKED.encode() + b": nodes\r\n\r\n", reply=reply)
            stranger.publish(subject, b"last", text)
            message = client.receive(timeout=WAIT)
            assert message is not None
            assert message.text == "last"
            assert client.connected()
    assert "1 broadcasts of cluster hostile so far did not reach the clients of this node: a text message must be UTF-8" in caplog.text
    assert "Traceback" not in caplog.text


def answer_for_ever(server: NatsServer, cluster: str, answers: list[bytes], listening: list[bool], over: list[bool]) -> None:
    """To the next who asks for the nodes of that cluster."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as sock, sock.makefile("rb") as lines:
        sock.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB %b.%b 1\r\nPING\r\n' % (SUBJECT.encode(), cluster.encode()))
        while not (line := lines.readline()).startswith(b"PONG"):
            assert line
        listening.append(True)
        while not (line := lines.readline()).startswith(b"HMSG"):
            assert line
        inbox = line.split()[3]
        assert inbox.startswith(NODES.encode())
        while not over:
            sock.sendall(b"".join(b"PUB %b %d\r\n%b\r\n" % (inbox, len(answer), answer) for answer in answers))


@pytest.mark.parametrize("expected", [2, None])
def test_a_stranger_among_the_nodes_is_no_node_or_one(opened: bus.Topics, nats_server: NatsServer, expected: int | None) -> None:
    odd = [b"[" * 100_000, b"\xff", b'{"id":"x","address":"a","clients":-1}', b'{"id":"x","address":"a","clients":true}', b"7"]
    node = json.dumps({"id": "x", "address": "a", "clients": 3}).encode()
    listening: list[bool] = []
    over: list[bool] = []
    with bus.serve("tcp://127.0.0.1:0", lambda msg, client: None, cluster="nodes") as server:
        answering = InThread(lambda: answer_for_ever(nats_server, "nodes", [*odd, node, node], listening, over))
        until(lambda: listening)
        try:
            found = server.nodes(timeout=0.1 if expected is None else WAIT, expected=expected)
            if expected is not None:
                assert found[1] == bus.Node("x", "a", 3)
            assert len(found) <= 2
        finally:
            over.append(True)
            with contextlib.suppress(OSError):  # a server throws out who floods it
                answering.result()


def test_what_goes_wrong_with_a_message_is_told_and_ends_nothing(
    opened: bus.Topics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    really = TopicBox.offer

    def offer(box: TopicBox, message: bus.TopicMessage) -> bool:
        if message.data == b"odd":
            raise LookupError("nobody thought of that")
        return really(box, message)

    monkeypatch.setattr(TopicBox, "offer", offer)
    with bus.subscribe("hostile.bug") as sub:
        bus.publish("hostile.bug", "odd")
        bus.publish("hostile.bug", "last")
        assert take(sub).text == "last"
    assert "a message is lost" in caplog.text
    assert "nobody thought of that" in caplog.text


# -- what is left behind --------------------------------------------------------------------------------------------------


def test_subscriptions_that_are_over_leave_nothing(opened: bus.Topics) -> None:
    before = len(wire(opened).misses), len(wire(opened)._subs)
    with bus.serve("tcp://127.0.0.1:0", lambda msg, client: None, cluster="left") as server:
        for _ in range(10):
            bus.subscribe("hostile.left").close()
            server.nodes(timeout=WAIT, expected=1)
            responder = bus.respond("hostile.left", lambda msg: None)
            responder._actor.drain(None)
            responder.close()
    until(lambda: (len(wire(opened).misses), len(wire(opened)._subs)) == before)

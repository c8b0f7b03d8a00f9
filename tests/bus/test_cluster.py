"""Servers of one cluster name: a broadcast of one reaches the clients of all. In one process, over the embedded engine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import pytest

import bus
from actors import topics
from actors.cluster import SUBJECT, told_by
from actors.topicbox import TopicBox
from actors.topics import TopicMessage
from tests.bus.peers import WAIT, InThread, until


def node(url: str = "tcp://127.0.0.1:0", **options: Any) -> bus.Server:
    return bus.serve(url, lambda msg, client: None, **({"cluster": "chat"} | options))


@contextmanager
def clients(*servers: bus.Server, each: int = 1) -> Iterator[list[bus.Connection]]:
    """So many of each server, all known to it."""
    with ExitStack() as stack:
        made = [stack.enter_context(bus.connect(f"tcp://{server.address}", timeout=WAIT)) for server in servers for _ in range(each)]
        until(lambda: all(len(server.clients) == each for server in servers))
        yield made


def texts(conns: list[bus.Connection], count: int = 1) -> list[list[str]]:
    return [[message.text for _ in range(count) if (message := conn.receive(timeout=WAIT))] for conn in conns]


def test_a_broadcast_reaches_the_clients_of_every_node_once(all_returns: object) -> None:
    with node() as one, node() as two, node() as three, clients(one, two, three, each=2) as conns:
        for server in (one, two, three):
            report = server.send_to_all(f"from {server.address}")
            assert len(report.taken) == 2
            assert report.elsewhere == "taken"
        expected = sorted(f"from {server.address}" for server in (one, two, three))
        assert [sorted(heard) for heard in texts(conns, 3)] == [expected] * 6
        one.send_to_all("the end")
        assert texts(conns) == [["the end"]] * 6  # and nothing came twice in between


def test_what_one_node_says_comes_in_its_order() -> None:
    with node() as one, node() as two, clients(one, two) as conns:
        for number in range(500):
            one.send_to_all(f"{number}")
        assert texts(conns, 500) == [[f"{number}" for number in range(500)]] * 2


def test_clusters_of_other_names_hear_nothing() -> None:
    with node() as one, node(cluster="other") as other, node(cluster=None) as alone, clients(one, other, alone) as (_, at_other, at_alone):
        assert one.send_to_all("x").elsewhere == "taken"
        assert alone.send_to_all("here").elsewhere is None
        other.send_to_all("other")
        assert texts([at_other, at_alone]) == [["other"], ["here"]]
        assert (one.cluster, other.cluster, alone.cluster) == ("chat", "other", None)


def test_some_clients_are_of_this_node_only() -> None:
    with node() as one, node() as two, clients(one, two) as conns:
        assert one.send_to_all("here", to=one.clients).elsewhere is None
        two.send_to_all("all")
        assert texts(conns[:1], 2) == [["here", "all"]]
        assert texts(conns[1:]) == [["all"]]


def test_text_stays_text_and_bytes_bytes() -> None:
    with node() as tcp, node("ws://127.0.0.1:0") as ws, bus.connect(f"ws://{ws.address}", timeout=WAIT) as conn:
        until(lambda: ws.clients)
        for message in ("text", b"bytes", {"a": 1}, bus.Message(b"m", is_text=True)):
            tcp.send_to_all(message)
        got = [conn.receive(timeout=WAIT) for _ in range(4)]
        assert [(message.data, message.is_text) for message in got if message is not None] == [
            (b"text", True),
            (b"bytes", False),
            (b'{"a":1}', True),
            (b"m", True),
        ]


def test_nodes_and_their_clients_are_counted() -> None:
    with node() as one, node() as two, node() as three, clients(two, three, each=2):
        found = one.nodes(timeout=WAIT, expected=3)
        assert found[0].address == one.address
        assert {(found.address, found.clients) for found in found} == {(one.address, 0), (two.address, 2), (three.address, 2)}
        assert len({found.id for found in found}) == 3
        assert two.count_all(timeout=WAIT, expected=3) == 4
        three.stop()
        assert {found.address for found in one.nodes(timeout=WAIT, expected=2)} == {one.address, two.address}
        assert one.nodes(timeout=0) == [bus.Node(one.nodes(0)[0].id, one.address, 0)]


def test_a_server_without_a_cluster_is_its_only_node() -> None:
    with node(cluster=None) as alone, clients(alone):
        assert alone.nodes() == [bus.Node("", alone.address, 1)]
        assert alone.count_all() == 1
        assert not alone.cut_off


def test_a_node_that_has_stopped_says_nothing_more(all_returns: object) -> None:
    with node() as one, clients(one) as conns:
        two = node()
        two.stop()
        with pytest.raises(bus.Closed):
            two.send_to_all("late")
        one.send_to_all("x")
        assert texts(conns) == [["x"]]


def test_a_node_whose_engine_is_closed_serves_its_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "actorbus.cluster")
    with bus.open("embedded:") as opened, node() as one, clients(one) as conns:
        opened.close()
        assert one.cut_off
        assert "cut off" in repr(one)
        assert one.send_to_all("here").elsewhere == "skipped"
        assert texts(conns) == [["here"]]
        assert one.nodes() == [bus.Node(one.nodes()[0].id, one.address, 1)]
        assert "is cut off from the other nodes; it serves its own clients on" in caplog.text
        assert "reached its own clients only" in caplog.text


def test_what_cannot_be_passed_on_is_said_to_nobody() -> None:
    with node(max_size=4 << 20) as one, clients(one) as conns:
        with pytest.raises(bus.TooLarge):
            one.send_to_all(b"x" * (1 << 20))
        one.send_to_all("x")
        assert texts(conns) == [["x"]]


def test_a_node_with_a_smaller_limit_drops_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with node() as one, node(max_size=10) as small, clients(one, small) as conns:
        one.send_to_all("x" * 11)
        one.send_to_all("y")
        assert texts(conns[1:]) == [["y"]]
        assert "over max_size=10" in caplog.text


def test_no_script_hears_what_nodes_say_to_each_other() -> None:
    with bus.subscribe(">") as sub, node() as one, node() as two:
        assert len(two.nodes(timeout=WAIT, expected=2)) == 2
        one.send_to_all("x")
        bus.publish("a", "b")
        message = sub.receive(timeout=WAIT)
        assert message is not None
        assert message.topic == "a"
        with pytest.raises(bus.BadTopic):
            bus.publish(f"{SUBJECT}.chat", "forged")


def test_a_broadcast_in_a_callback_goes_round_too() -> None:
    with node() as one:

        def tell_all(msg: bus.Message, client: bus.Client) -> None:
            two.send_to_all(msg)

        with bus.serve("tcp://127.0.0.1:0", tell_all, cluster="chat") as two:
            with clients(one, two) as conns:
                conns[1].send("to all")
                assert texts(conns) == [["to all"]] * 2


def test_many_threads_broadcast_at_once() -> None:
    with node() as one, node() as two, clients(one, two) as conns:

        def say(server: bus.Server, name: str) -> None:
            for number in range(100):
                server.send_to_all(f"{name} {number:03}")

        saying = [InThread(lambda server=server, name=name: say(server, name)) for name in "ab" for server in (one, two)]  # type: ignore[misc]
        for thread in saying:
            thread.result()
        for heard in texts(conns, 400):
            assert len(heard) == 400
            for name in "ab":
                assert all(before <= after for before, after in pairwise(sorted(text for text in heard if text.startswith(name))))
            assert sorted(heard) == sorted(f"{name} {number:03}" for name in "aabb" for number in range(100))


@pytest.mark.parametrize(("name", "error"), [("a.b", ValueError), ("*", ValueError), ("", ValueError), (5, TypeError)])
def test_a_name_is_one_token(name: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="cluster must be"):
        node(cluster=name)


def test_times_and_counts_are_checked() -> None:
    with node() as one:
        with pytest.raises(TypeError):
            one.nodes(None)  # type: ignore[arg-type]
        with pytest.raises(ValueError):
            one.nodes(expected=0)


def test_a_node_asked_by_somebody_else_answers_what_it_is() -> None:
    with node() as one:
        engine, box = topics.current(), TopicBox("answers")
        engine.subscribe("answers", None, box)
        try:
            engine.publish(f"{SUBJECT}.chat", b"", {"Actorbus-Node": "me", "Actorbus-Asked": "nodes"}, "answers", None)
            answer = box.get(None)
            assert answer is not None
            assert bus.Node(**answer.json()) == one.nodes(0)[0]
        finally:
            engine.unsubscribe("answers", None, box)


@pytest.mark.parametrize("answer", [b"", b"\xff", b"[]", b'{"id": "a", "address": "b"}', b'{"id": "a", "address": "b", "clients": "3"}'])
def test_what_is_no_node_is_none(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert told_by(TopicMessage(answer, "here")) is None
    assert "here says something else" in caplog.text


def test_a_node_of_a_later_version_may_say_more() -> None:
    assert told_by(TopicMessage(b'{"id": "a", "address": "b", "clients": 3, "since": 1}', "here")) == bus.Node("a", "b", 3)

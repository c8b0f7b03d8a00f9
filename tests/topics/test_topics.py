"""Topics beside the rest of the library: which engine there is, back-pressure, waiting for several, explain, shutdown, fork, Ctrl-C."""

from __future__ import annotations

import gc
import os
import re
import select
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

import bus
from actors import topics
from tests.bus.peers import WAIT, InThread, pair, run_script, until
from tests.conftest import LeakWatch


def text(message: bus.Message | None) -> str:
    assert message is not None
    return message.text


# -- which engine ---------------------------------------------------------------------------------------------------------------


def test_the_embedded_engine_is_there_by_itself_and_opens_nothing(no_leaks: LeakWatch) -> None:
    with bus.subscribe("a") as sub:
        bus.publish("a", "hi")
        assert text(sub.receive(timeout=WAIT)) == "hi"


def test_one_that_is_open_is_left_by_its_last_holder() -> None:
    first, second = bus.open("embedded:"), bus.open("embedded:")
    sub = bus.subscribe("a")
    assert first.close()
    assert first.close()
    assert second.connected()
    assert not first.connected()
    bus.publish("a", "still here")
    assert text(sub.receive(timeout=WAIT)) == "still here"
    with pytest.raises(bus.EngineInUse, match="embedded: is open already"):
        bus.open("embedded:", token="other")
    assert second.close()
    with pytest.raises(bus.Closed):
        sub.receive(timeout=WAIT)
    with bus.subscribe("a") as again:
        bus.publish("a", "anew")
        assert text(again.receive(timeout=WAIT)) == "anew"
    assert repr(second) == "<Topics embedded: closed>"


def test_no_engine_takes_the_place_of_one_in_use() -> None:
    with bus.subscribe("in.use") as sub, pytest.raises(bus.EngineInUse, match="in\\.use"):
        bus.open("embedded:")
    bus.publish("in.use", "")
    with bus.respond("in.use", lambda message: None), pytest.raises(bus.EngineInUse):
        bus.open("embedded:")
    assert sub.stats().messages_in == 0


@pytest.mark.parametrize(
    ("url", "error", "says"),
    [
        ("gopher://user:secret@host", bus.BadAddress, "gopher://host.*no engine"),
        ("host:4222", bus.BadAddress, "no engine"),
        ("host", bus.BadAddress, "needs a scheme"),
        ("embedded:there", bus.BadAddress, "has no address"),
        (7, TypeError, "must be a str"),
    ],
)
def test_what_cannot_be_opened(url: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as raised:
        bus.open(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("options", [{"token": "x"}, {"timeout": 0}, {"timeout": -1}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="token|timeout"):
        bus.open("embedded:", **options)


def test_the_environment_names_what_is_opened_first(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import bus
for _ in range(2):
    try:
        bus.publish("a", "b")
    except bus.BadAddress as exc:
        print(exc)
with bus.open("embedded:") as topics:
    bus.publish("a", "b")
"""
    monkeypatch.setenv("ACTORBUS_URL", "gopher://me:secret@host")
    said = run_script(code).splitlines()
    assert [line.partition(",")[0] for line in said] == ["bad address 'gopher://host': no engine for topics is installed for gopher:"] * 2


def test_the_embedded_engine_says_that_it_keeps_nothing() -> None:
    for call in (
        lambda: bus.publish("a", "b", durable=True),
        lambda: bus.subscribe("a", durable="name"),
        lambda: bus.subscribe("a", durable="name", replay=datetime.now(UTC)),
    ):
        with pytest.raises(bus.NotDurable, match="nats://"):
            call()
        bus.open("embedded:").close()  # nobody uses the engine before


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"durable": "a.b"}, ValueError),
        ({"durable": 7}, TypeError),
        ({"durable": "a", "queue": "q"}, ValueError),
        ({"durable": "a", "replay": "some"}, ValueError),
        ({"durable": "a", "replay": float("inf")}, ValueError),
        ({"replay": None}, TypeError),
        ({"overflow": "block"}, ValueError),
        ({"mailbox_messages": 0}, ValueError),
        ({"mailbox_bytes": True}, TypeError),
        ({"queue": 7}, TypeError),
    ],
)
def test_options_of_subscribe_that_make_no_sense(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        bus.subscribe("a", **options)


# -- back-pressure --------------------------------------------------------------------------------------------------------------


def test_a_publisher_waits_for_who_asked_for_it_and_for_nobody_else() -> None:
    with bus.subscribe("p", overflow="wait", mailbox_messages=4) as slow, bus.subscribe("p") as other:
        for number in range(4):
            bus.publish("p", f"{number}", timeout=0)
        with pytest.raises(bus.NotSent, match="topic p"):
            bus.publish("p", "4", timeout=0.01)
        bus.publish("elsewhere", "x", timeout=0)
        publishing = InThread(lambda: bus.publish("p", "5", timeout=WAIT)).until_blocked()
        assert [text(slow.receive(timeout=WAIT)) for _ in range(3)] == ["0", "1", "2"]
        publishing.result()
        assert [text(slow.receive(timeout=WAIT)) for _ in range(2)] == ["3", "5"]
        assert [text(other.receive(timeout=WAIT)) for _ in range(5)] == ["0", "1", "2", "3", "5"]  # of the 4 nobody has anything
        assert slow.stats().lost == 0


def test_a_publisher_that_waits_is_freed_by_the_close() -> None:
    slow = bus.subscribe("p", overflow="wait", mailbox_messages=1)
    bus.publish("p", "1")
    publishing = InThread(lambda: bus.publish("p", "2", timeout=None)).until_blocked()
    slow.close()
    publishing.result()


def test_a_queue_gives_to_those_that_have_room() -> None:
    with (
        bus.subscribe("p", queue="q", overflow="wait", mailbox_messages=5) as full,
        bus.subscribe("p", queue="q", overflow="wait", mailbox_messages=50) as roomy,
    ):
        for number in range(55):
            bus.publish("p", f"{number}", timeout=0)
        assert (full.stats().waiting_in, roomy.stats().waiting_in) == (5, 50)


def test_in_a_callback_publish_does_not_wait() -> None:
    raised: list[BaseException] = []

    def forward(message: bus.Message, client: bus.Client) -> str:
        try:
            bus.publish("p", message)
        except bus.NotSent as exc:
            raised.append(exc)
        return "done"

    with bus.subscribe("p", overflow="wait", mailbox_messages=1), bus.serve("tcp://127.0.0.1:0", forward) as server:
        with bus.connect(f"tcp://{server.address}") as conn:
            for _ in range(2):
                conn.send("x")
                assert text(conn.receive(timeout=WAIT)) == "done"
    assert len(raised) == 1
    assert "callback" in str(raised[0])


# -- beside the others ----------------------------------------------------------------------------------------------------------


def test_receive_any_takes_subscriptions() -> None:
    with pair() as (conn, peer), bus.subscribe("a") as sub:
        sources = [conn, sub]
        waiting = InThread(lambda: bus.receive_any(sources)).until_blocked()
        bus.publish("a", "from a topic")
        source, message = waiting.result()
        assert source is sub
        assert text(message) == "from a topic"
        peer.send(b"from a peer")
        assert bus.receive_any(sources, timeout=WAIT)[0] is conn
        assert bus.receive_any(sources, timeout=0) == (None, None)


def test_select_and_when_ready_tell_of_a_message() -> None:
    with bus.subscribe("a") as sub:
        called = threading.Event()
        assert sub.when_ready(called.set)
        assert not called.is_set()
        bus.publish("a", "1")
        assert called.wait(WAIT)
        assert not sub.when_ready(called.set)
        assert select.select([sub], [], [], 0)[0]
        assert text(sub.receive()) == "1"
        assert not select.select([sub], [], [], 0)[0]
        bus.publish("a", "2")
        assert select.select([sub], [], [], 0)[0]
        assert text(next(sub)) == "2"


def test_it_can_be_waited_for_with_a_deadline_scope() -> None:
    with bus.subscribe("a") as sub, pytest.raises(bus.DeadlinePassed), bus.deadline(0.01):
        sub.receive()


def test_explain_names_the_engine() -> None:
    with bus.open("embedded:"):
        assert re.search(r"^topics by embedded:, connected for \d+\.\d s$", bus.explain(), re.MULTILINE)


def test_explain_tells_of_subscriptions_and_responders() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def answer(message: bus.TopicMessage) -> str:
        begun.set()
        go_on.wait(WAIT)
        return "done"

    with bus.subscribe("told.*", queue="q", mailbox_messages=1) as sub, bus.respond("asked", answer), bus.respond("idle", answer):
        bus.publish("told.a", "1")
        bus.publish("told.a", "2")
        asking = InThread(lambda: bus.request("asked", "", timeout=WAIT))
        assert begun.wait(WAIT)
        asking.until_blocked()
        said = bus.explain()
        go_on.set()
        assert asking.result().text == "done"
        assert "subscription to told.* in queue q (embedded:), open for" in said
        assert "in: 2 messages, 1 of them waiting" in said
        assert "losses: lost 1" in said
        assert "responder to asked (embedded:)" in said
        assert re.search(rf"waiting for something else .*\n  .+ waits in request, {re.escape(__file__)}:", said)
        assert "waits" not in said.partition("responder to idle")[2].partition("waiting for something else")[0]  # its own thread does
        assert f"{__file__}:" in said.partition("a callback runs, in ")[2].splitlines()[0]
        sub.receive()
        waiting = InThread(sub.receive).until_blocked()
        assert "waits in receive" in bus.explain()
        sub.close()
        with pytest.raises(bus.Closed):
            waiting.result()


def test_a_subscription_that_is_dropped_leaves_the_table() -> None:
    def forget() -> None:
        bus.subscribe("forgotten")

    with pytest.warns(ResourceWarning, match="forgotten"):
        forget()
        gc.collect()
    engine: Any = topics.current()
    until(lambda: not engine._router.route("forgotten").each)


def test_a_responder_that_is_closed_refuses_what_waits_and_waits_for_its_callback() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def answer(message: bus.TopicMessage) -> str:
        begun.set()
        go_on.wait(WAIT)
        return "done"

    responder = bus.respond("a", answer)
    first = InThread(lambda: bus.request("a", "1", timeout=WAIT))
    assert begun.wait(WAIT)
    second = InThread(lambda: bus.request("a", "2", timeout=WAIT))
    until(lambda: responder.stats().waiting_in == 1)
    assert not responder.close(0)
    with pytest.raises(bus.ResponderFailed, match="closed"):
        second.result()
    closing = InThread(lambda: responder.close(WAIT)).until_blocked()
    go_on.set()
    assert closing.result()
    assert first.result().text == "done"


def test_a_responder_may_close_itself() -> None:
    closed: list[bool] = []

    def answer(message: bus.TopicMessage) -> str:
        closed.append(responder.close())
        return "bye"

    responder = bus.respond("a", answer)
    assert bus.request("a", "", timeout=WAIT).text == "bye"
    assert closed == [False]
    assert responder.close(WAIT)


def test_scripts_that_start_together_need_not_start_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_forgiving_until", float("inf"))
    asking = InThread(lambda: bus.request("late", "", timeout=WAIT))
    with pytest.raises(bus.NoResponders):
        bus.request("never", "", timeout=0.05)
    with bus.respond("late", lambda message: "here now"):
        assert asking.result().text == "here now"


def test_shutdown_ends_what_is_open_and_topics_work_again() -> None:
    out = run_script("""
import bus
sub, responder = bus.subscribe("a"), bus.respond("b", lambda message: "x")
topics = bus.subscribe("c", overflow="wait")
assert bus.shutdown()
for call in (sub.receive, topics.receive):
    try:
        call()
    except bus.Closed as exc:
        print(exc)
try:
    bus.request("b", "", timeout=5)
except bus.NoResponders as exc:
    print(exc)
with bus.subscribe("a") as again:
    bus.publish("a", "again")
    print(again.receive(5).text)
""")
    assert out.splitlines() == [
        "topic a was closed by this program",
        "topic c was closed by this program",
        "nobody answers on topic b",
        "again",
    ]


def test_shutdown_does_not_wait_for_who_opens_an_engine() -> None:
    out = run_script("""
import threading
import bus
import bus.opening  # or it would say itself what is opened, as soon as somebody publishes
from actors import topics

begun, go_on = threading.Event(), threading.Event()

def open_slowly(deadline):
    begun.set()
    go_on.wait()
    return topics._embedded(deadline)

topics.default(open_slowly)
publishing = threading.Thread(target=bus.publish, args=("a", "b"))
publishing.start()
begun.wait()
print(bus.shutdown())
go_on.set()
publishing.join()
""")
    assert out == "True\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_leaves_topics_to_the_parent() -> None:
    out = run_script("""
import bus, os, sys, warnings
warnings.simplefilter("ignore")
sub = bus.subscribe("a")
responder = bus.respond("b", lambda message: "x")
bridge = bus.bridge("a", "d")
bus.publish("a", "before")
child = os.fork()
if not child:
    try:
        sub.receive()
    except bus.Broken as exc:
        print(exc, flush=True)
    try:
        bus.request("b", "", timeout=5)
    except bus.NoResponders as exc:
        print(exc, flush=True)
    with bus.subscribe("a") as own:
        bus.publish("a", "in the child")
        print(own.receive(5).text, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(sub.receive(5).text, sub.stats().messages_in, bus.request("b", "", timeout=5).text)
""")
    assert out.splitlines() == [
        "the connection with topic a broke: it was opened before a fork and belongs to the parent process; open it again in the child",
        "nobody answers on topic b",
        "in the child",
        "before 1 x",
    ]


STORM = """
import bus, signal, sys, threading, time
armed = False
def interrupt(number, frame):
    if armed:
        raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
sub = bus.subscribe("storm", mailbox_messages=1_000_000, mailbox_bytes=1 << 30)
inner = bus.subscribe("inner", mailbox_messages=1_000_000)
got, told = [], []
def receive():
    for msg in sub:
        got.append(int(msg.data))
        if got[-1] < 0:
            return
thread = threading.Thread(target=receive)
thread.start()
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0002)
caught = number = 0
taken = []
end = time.monotonic() + float(sys.argv[1])
def rest():  # a loop of its own frame, for the sake of Python 3.12: its jumps back are not within a `try` there
    global number
    while time.monotonic() < end:
        bus.publish("storm", b"%d" % number)
        told.append(number)
        number += 1
        bus.publish("inner", b"%d" % number)
        msg = inner.receive()
        taken.append(int(msg.data))
while time.monotonic() < end:
    try:
        armed = True
        rest()
        armed = False
    except KeyboardInterrupt:
        armed = False
        caught += 1
        number += 1
signal.setitimer(signal.ITIMER_REAL, 0)
bus.publish("storm", b"-1")
thread.join(30)
while (msg := inner.receive(0)) is not None:
    taken.append(int(msg.data))
assert not thread.is_alive(), "a lost wake-up"
assert got.pop() == -1
assert got == sorted(set(got)), "twice, or out of order"
assert set(told) <= set(got), "lost"
assert taken == sorted(set(taken)), "twice, or out of order"
assert len(taken) >= len(told) - caught, "lost"
assert sub._mailbox.weight == inner._mailbox.weight == 0
sub.close(); inner.close()
print(caught)
"""


@pytest.mark.slow
def test_ctrl_c_loses_nothing_that_was_published_and_delivers_nothing_twice() -> None:
    assert int(run_script(STORM, "5")) > 200

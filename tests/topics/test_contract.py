"""What every engine does alike. Nothing here knows which one it is."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack

import pytest

import bus
from tests.bus.peers import WAIT, InThread, until

pytestmark = pytest.mark.usefixtures("engine")

LIMIT = 1024 * 1024


def text(sub: bus.Subscription) -> str:
    message = sub.receive(timeout=WAIT)
    assert message is not None
    return message.text


def texts(sub: bus.Subscription, end: str = "end") -> list[str]:
    """What comes before the message that says that it is the last."""
    return list(iter(lambda: text(sub), end))


# -- who hears what -------------------------------------------------------------------------------------------------------


def test_a_message_says_what_it_is() -> None:
    with bus.subscribe("robots.*.moved") as sub:
        bus.publish("robots.arm.moved", {"x": 3}, headers={"Kind": " hasty ", "n": "1"})
        message = sub.receive(timeout=WAIT)
        assert message is not None
        assert isinstance(message, bus.TopicMessage)
        assert (message.json(), message.topic, message.source) == ({"x": 3}, "robots.arm.moved", "robots.arm.moved")
        assert dict(message.headers) == {"Kind": "hasty", "n": "1"}
        assert (message.reply_to, message.redelivered) == (None, False)
        with pytest.raises(ValueError, match="nobody waits for an answer"):
            message.respond("what for?")
        with pytest.raises(ValueError, match="nothing to acknowledge"):
            message.ack()


@pytest.mark.parametrize(
    ("message", "data"), [("ü", b"\xc3\xbc"), (b"\0\xff", b"\0\xff"), (bytearray(b"a"), b"a"), ({"a": None}, b'{"a":null}'), ("", b"")]
)
def test_it_takes_what_send_takes(message: str | bytes | dict[str, None], data: bytes) -> None:
    with bus.subscribe("a") as sub:
        bus.publish("a", message)
        received = sub.receive(timeout=WAIT)
        assert received is not None
        assert received.data == data
        bus.publish("a", received)
        assert sub.receive(timeout=WAIT) == received


HEARD = {
    "a": ["a"],
    "a.b": ["a.b"],
    "*": ["a", "b"],
    "a.*": ["a.b", "a.c"],
    "*.b": ["a.b"],
    "*.*": ["a.b", "a.c"],
    "a.>": ["a.b", "a.b.c", "a.c"],
    "a.*.>": ["a.b.c"],
    "*.>": ["a.b", "a.b.c", "a.c"],
    ">": ["a", "a.b", "a.b.c", "a.c", "b"],
    "A": [],
    "a.b.c.d": [],
}


@pytest.mark.parametrize("pattern", HEARD)
def test_a_pattern_hears_what_matches_it(pattern: str) -> None:
    with bus.subscribe(pattern) as sub, bus.subscribe("end") as end:
        for topic in ("a", "a.b", "a.b.c", "a.c", "b"):
            bus.publish(topic, topic)
        bus.publish("end", "end")
        assert text(end) == "end"
        heard = []
        while (message := sub.receive(timeout=0)) is not None:
            heard.append(message.text)
        assert [topic for topic in heard if topic != "end"] == HEARD[pattern]


def test_everybody_who_is_subscribed_gets_it_once_for_each_subscription() -> None:
    with bus.subscribe("a.b") as one, bus.subscribe("a.*") as two, bus.subscribe("a.b") as three:
        bus.publish("a.b", "hi")
        bus.publish("a.b", "end")
        assert texts(one) == texts(two) == texts(three) == ["hi"]


def test_of_a_queue_one_gets_it_and_of_each_queue_one() -> None:
    with ExitStack() as stack:
        members = [stack.enter_context(bus.subscribe(topic, queue="workers")) for topic in ("job.*", "job.*", "job.>")]
        loner = stack.enter_context(bus.subscribe("job.a", queue="watchers"))
        watcher = stack.enter_context(bus.subscribe("job.a"))
        for number in range(100):
            bus.publish("job.a", f"{number}")
        wanted = [f"{number}" for number in range(100)]
        assert [text(watcher) for _ in wanted] == wanted
        assert [text(loner) for _ in wanted] == wanted
        got: list[str] = []
        while len(got) < 100:
            source, message = bus.receive_any(members, timeout=WAIT)
            assert source is not None
            assert message is not None
            got.append(message.text)
        assert sorted(got, key=int) == wanted
        assert bus.receive_any(members, timeout=0) == (None, None)
        assert all(member.stats().messages_in for member in members)  # by chance: not once in 10**17 runs


def test_who_leaves_a_queue_leaves_the_work_to_the_others() -> None:
    with bus.subscribe("job", queue="q") as stays:
        leaves = bus.subscribe("job", queue="q")
        leaves.close()
        for number in range(30):
            bus.publish("job", f"{number}")
        assert [text(stays) for _ in range(30)] == [f"{number}" for number in range(30)]


def test_nobody_there_is_no_error() -> None:
    bus.publish("nobody.is.here", "hello?")


# -- order and limits -------------------------------------------------------------------------------------------------------


def test_each_publishers_order_is_kept() -> None:
    total, publishers = 500, 4

    def publish(name: int) -> None:
        for number in range(total):
            bus.publish(f"order.{name}", f"{name} {number}")

    with bus.subscribe("order.*", mailbox_messages=total * publishers + 1) as sub:
        threads = [InThread(lambda name=name: publish(name)) for name in range(publishers)]  # type: ignore[misc]
        received = [text(sub).split() for _ in range(total * publishers)]
        for thread in threads:
            thread.result()
    for name in range(publishers):
        assert [int(number) for who, number in received if who == f"{name}"] == list(range(total))


def test_the_limit_counts_headers_and_nothing_of_what_is_over_it_is_taken() -> None:
    with bus.subscribe("big") as sub:
        bus.publish("big", b"x" * LIMIT)
        with pytest.raises(bus.TooLarge, match="topic big"):
            bus.publish("big", b"x" * (LIMIT + 1))
        with pytest.raises(bus.TooLarge):
            bus.publish("big", b"x" * LIMIT, headers={"a": "b"})
        with pytest.raises(bus.TooLarge):
            bus.request("big", b"x" * (LIMIT + 1), timeout=WAIT)
        bus.publish("big", "end")
        first = sub.receive(timeout=WAIT)
        assert first is not None
        assert len(first.data) == LIMIT
        assert text(sub) == "end"


BAD = ["", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\r\nb", "a\x00", "\x7f", "a\u00a0b", "a\u2028b", "\ud800", "é" * 600]
WILD = ["*", ">", "a.*", "a.>", "a*", "a>b", "a.b*.c"]
RESERVED = ["$SYS.x", "$JS", "_INBOX.x", "_INBOX"]
BAD_PATTERNS = ["a*", "*a", ">.a", "a.>.b", "a>", "**", "a.**"]


@pytest.mark.parametrize("topic", [*BAD, *WILD, *RESERVED], ids=ascii)
def test_a_bad_topic_is_refused(topic: str) -> None:
    with pytest.raises(bus.BadTopic):
        bus.publish(topic, "")
    with pytest.raises(bus.BadTopic):
        bus.request(topic, "", timeout=WAIT)


@pytest.mark.parametrize("pattern", [*BAD, *BAD_PATTERNS], ids=ascii)
def test_a_bad_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(bus.BadTopic):
        bus.subscribe(pattern)
    with pytest.raises(bus.BadTopic):
        bus.respond(pattern, lambda message: None)


@pytest.mark.parametrize("topic", ["a", "é.ß", "a.$b", "a-b_c/d:e", "x" * 1024])
def test_a_good_topic_is_taken(topic: str) -> None:
    with bus.subscribe(topic) as sub:
        bus.publish(topic, "here")
        assert text(sub) == "here"


@pytest.mark.parametrize("queue", ["", "a b", "a.b", "*", ">", "q*"])
def test_a_bad_queue_is_refused(queue: str) -> None:
    with pytest.raises(ValueError, match="queue"):
        bus.subscribe("a", queue=queue)


@pytest.mark.parametrize("headers", [{"": "a"}, {"a b": "c"}, {"a:b": "c"}, {"ü": "c"}, {"a": "b\r\nc"}, {"a": "b\0"}], ids=ascii)
def test_bad_headers_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        bus.publish("a", "", headers=headers)


# -- requests -----------------------------------------------------------------------------------------------------------------


def test_a_request_gets_the_callbacks_answer() -> None:
    with bus.respond("double.*", lambda msg: f"{msg.topic}: {msg.text * 2} {msg.headers.get('who')}") as responder:
        reply = bus.request("double.it", "ha", timeout=WAIT, headers={"who": "me"})
        assert reply.text == "double.it: haha me"
        assert reply.topic == "double.it"
        until(lambda: responder.stats().messages_out == 1)
        assert responder.stats().messages_in == 1


def test_nobody_responds_is_known_at_once() -> None:
    with pytest.raises(bus.NoResponders, match="nobody\\.here"):
        bus.request("nobody.here", "hello?", timeout=2 * WAIT)
    bus.respond("was.here", lambda message: None).close()
    with pytest.raises(bus.NoResponders):
        bus.request("was.here", "hello?", timeout=2 * WAIT)


def test_a_responder_that_says_nothing_is_waited_for_until_the_deadline() -> None:
    with bus.respond("silent", lambda message: None), pytest.raises(bus.RequestTimeout) as raised:
        bus.request("silent", "hello?", timeout=0.05)
    assert isinstance(raised.value, TimeoutError)


def test_a_responder_that_raises_tells_who_asked(caplog: pytest.LogCaptureFixture) -> None:
    def fail(message: bus.TopicMessage) -> str:
        raise LookupError("no such\npart: ü\0\x1b")

    with bus.respond("parts", fail):
        for _ in range(2):  # and goes on
            with pytest.raises(bus.ResponderFailed, match="LookupError: no such part: ü"):
                bus.request("parts", "7", timeout=2 * WAIT)
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["actorbus.topics"] * 2


def test_what_cannot_be_an_answer_is_the_responders_failure() -> None:
    with bus.respond("odd", lambda message: 7), pytest.raises(bus.ResponderFailed, match="TypeError"):  # type: ignore[arg-type, return-value]
        bus.request("odd", "", timeout=2 * WAIT)


def test_an_answer_may_be_given_later_and_the_first_one_counts() -> None:
    with bus.subscribe("slow") as sub:
        asking = InThread(lambda: bus.request("slow", "how much?", timeout=WAIT))
        question = sub.receive(timeout=WAIT)
        assert question is not None
        assert question.reply_to is not None
        question.respond("3", headers={"a": "b"})
        question.respond("4")
        reply = asking.result()
        assert (reply.text, dict(reply.headers)) == ("3", {"a": "b"})
        question.respond("5")  # nobody waits any more, and that is nobody's fault


def test_of_a_queue_of_responders_one_answers() -> None:
    asked: list[int] = []

    def answering(number: int) -> bus.Responder:
        def answer(message: bus.TopicMessage) -> str:
            asked.append(number)
            return f"{number}"

        return bus.respond("who", answer, queue="q")

    with answering(1), answering(2), answering(3):
        replies = [bus.request("who", "", timeout=WAIT).text for _ in range(60)]
    assert [int(reply) for reply in replies] == asked
    assert set(replies) == {"1", "2", "3"}


def test_a_responders_callbacks_do_not_overlap_and_those_of_two_may() -> None:
    together = threading.Barrier(2)

    def meet(message: bus.TopicMessage) -> str:
        together.wait(WAIT)
        return "met"

    with bus.respond("left", meet), bus.respond("right", meet):
        left = InThread(lambda: bus.request("left", "", timeout=WAIT))
        assert bus.request("right", "", timeout=WAIT).text == left.result().text == "met"

    running = threading.Lock()

    def alone(message: bus.TopicMessage) -> str:
        assert running.acquire(blocking=False)
        running.release()
        return "alone"

    with bus.respond("one", alone):
        asking = [InThread(lambda: bus.request("one", "", timeout=WAIT)) for _ in range(8)]
        assert [thread.result().text for thread in asking] == ["alone"] * 8


def test_a_responder_may_ask_another() -> None:
    with bus.respond("inner", lambda msg: msg.text + "!"):
        with bus.respond("outer", lambda msg: bus.request("inner", msg, timeout=WAIT).text + "?"):
            assert bus.request("outer", "a", timeout=WAIT).text == "a!?"


@pytest.mark.parametrize(("timeout", "error"), [(None, TypeError), (-1, ValueError), (float("nan"), ValueError), (True, TypeError)])
def test_a_request_needs_a_timeout(timeout: float, error: type[Exception]) -> None:
    with pytest.raises(error, match="timeout"):
        bus.request("a", "", timeout)


# -- the end, the slow, the many ----------------------------------------------------------------------------------------------


def test_after_a_close_nothing_comes_and_receive_says_so() -> None:
    sub = bus.subscribe("a")
    bus.publish("a", "1")
    assert text(sub) == "1"
    waiting = InThread(sub.receive).until_blocked()
    assert sub.close()
    assert sub.close()
    with pytest.raises(bus.Closed):
        waiting.result()
    bus.publish("a", "2")
    with pytest.raises(bus.Closed):
        sub.receive(timeout=0)
    assert not sub.connected()
    assert "closed" in repr(sub)


@pytest.mark.slow
def test_subscribing_and_leaving_while_messages_fly() -> None:
    stop = threading.Event()

    def publish() -> int:
        count = 0
        while not stop.is_set():
            bus.publish("fly.high", f"{count}")
            count += 1
            if count % 20 == 0:
                time.sleep(0.001)  # who floods a server from the process that reads it, waits for that, and so does who subscribes
        return count

    with bus.subscribe("fly.*", overflow="drop_oldest") as all_along:
        publishing = [InThread(publish) for _ in range(2)]
        try:
            for _ in range(100):
                with bus.subscribe("fly.>", mailbox_messages=10) as passing, bus.subscribe("fly.high", queue="q"):
                    assert passing.receive(timeout=WAIT) is not None
        finally:
            stop.set()
        assert all(thread.result() > 0 for thread in publishing)
        bus.publish("fly.high", "end")
        assert texts(all_along)


@pytest.mark.slow
def test_a_thousand_subscribers() -> None:
    with ExitStack() as stack:
        subs = [stack.enter_context(bus.subscribe("crowd.*" if number % 2 else "crowd.here")) for number in range(1000)]
        other = stack.enter_context(bus.subscribe("elsewhere"))
        for word in ("a", "b", "end"):
            bus.publish("crowd.here", word)
        for sub in subs:
            assert texts(sub) == ["a", "b"]
        assert other.receive(timeout=0) is None


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_a_slow_subscriber_loses_and_is_told(overflow: str, caplog: pytest.LogCaptureFixture) -> None:
    with bus.subscribe("fast", overflow=overflow, mailbox_messages=10) as slow, bus.subscribe("fast") as quick:  # type: ignore[arg-type]
        for number in range(100):
            bus.publish("fast", f"{number}")
        assert [text(quick) for _ in range(100)] == [f"{number}" for number in range(100)]
        until(lambda: slow.stats().messages_in == 100)
        assert slow.stats().lost == 90
        assert slow.stats().waiting_in == 10
        bus.publish("fast", "100")
        until(lambda: slow.stats().messages_in == 101)
        first = slow.receive(timeout=WAIT)
        assert first is not None
        if overflow == "drop_oldest":
            assert (first.text, first.lost_before) == ("91", 91)
            assert [text(slow) for _ in range(9)] == [f"{number}" for number in range(92, 101)]
        else:
            assert (first.text, first.lost_before) == ("0", 0)
            assert [text(slow) for _ in range(9)] == [f"{number}" for number in range(1, 10)]
            bus.publish("fast", "101")
            last = slow.receive(timeout=WAIT)
            assert last is not None
            assert (last.text, last.lost_before) == ("101", 91)
        assert quick.stats().lost == 0
    losses = [record for record in caplog.records if "too slow" in record.message]
    assert len(losses) == 2  # at the first, and at the tenth
    assert all(record.levelno == logging.WARNING for record in losses)


def test_a_mailbox_is_bounded_in_bytes_too() -> None:
    with bus.subscribe("heavy", mailbox_bytes=10_000) as sub:
        for number in range(5):
            bus.publish("heavy", bytes([number]) * 4000)
        bus.publish("heavy", b"\7" * 20_000)  # larger than all of it, and alone then
        until(lambda: sub.stats().messages_in == 6)
        message = sub.receive(timeout=WAIT)
        assert message is not None
        assert (len(message.data), message.lost_before) == (20_000, 5)
        assert sub.stats().bytes_in == 40_000


def test_a_subscriber_that_dies_hurts_nobody() -> None:
    """Its thread ends without a close, and the proxy is dropped."""

    def die() -> None:
        bus.subscribe("mortal").receive(timeout=0)
        raise SystemExit

    with bus.subscribe("mortal") as lives:
        with pytest.warns(ResourceWarning, match="was not closed"), pytest.raises(SystemExit):
            InThread(die).result()
        for number in range(20):
            bus.publish("mortal", f"{number}")
        assert [text(lives) for _ in range(20)] == [f"{number}" for number in range(20)]

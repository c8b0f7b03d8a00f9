"""What decides, without a server: URLs, causes, commands, and the queue between threads and loop."""

from __future__ import annotations

import asyncio
import errno
import ssl
import threading
from typing import Any

import pytest
from nats.aio.client import Client

import bus
from actors.errors import BadAddress, Broken, Closed, ConnectFailed, ConnectTimeout, NotSent
from actors.topics import size_of
from adapters.nats import causes, outgoing
from adapters.nats.frames import delivery, publication
from adapters.nats.outgoing import Op, Outgoing
from adapters.nats.servers import Credentials, parse
from adapters.nats.wire import REQUIRED_INSIDES
from tests.bus.peers import InThread

# -- servers and credentials ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown", "credentials"),
    [
        ("nats://one", "nats://one:4222", Credentials()),
        ("nats://one:1/", "nats://one:1", Credentials()),
        ("nats+tls://[::1]", "nats+tls://[::1]:4222", Credentials()),
        ("nats://[::1]:5,two", "nats://[::1]:5,two:4222", Credentials()),
        ("nats://ali:se%40same@one", "nats://one:4222", Credentials(user="ali", password="se@same")),
        ("nats://t0ken@one,two:2", "nats://one:4222,two:2", Credentials(token="t0ken")),
        ("nats://:@one", "nats://one:4222", Credentials(user="", password="")),
    ],
)
def test_a_url_names_servers_and_who_comes(url: str, shown: str, credentials: Credentials) -> None:
    servers = parse(url)
    assert str(servers) == shown
    assert tuple(servers.credentials) == tuple(credentials)
    assert servers.encrypted == url.startswith("nats+tls")


@pytest.mark.parametrize(
    "url", ["", "nats:one", "tcp://one", "nats://", "nats://one:x", "nats://one:0", "nats://one,", "nats://one/x", "nats://u:secret@a@b", "nats://a:secret,b@c"]
)
def test_a_url_that_means_nothing_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadAddress) as caught:
        parse(url)
    assert "secret" not in str(caught.value)


def test_credentials_are_not_shown() -> None:
    for shown in (repr(Credentials("ali", "secret")), str(parse("nats://ali:secret@one")), repr(Credentials(token="secret"))):
        assert "secret" not in shown


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"user": "ali"}, ValueError),
        ({"password": "x"}, ValueError),
        ({"user": "ali", "password": "x", "token": "t"}, ValueError),
        ({"token": 5}, TypeError),
        ({"nkey": "/nowhere/seed"}, OSError),
        ({"nkey": __file__}, ValueError),
        ({"key": "/nowhere"}, ValueError),
        ({"ca": "/nowhere"}, OSError),
        ({"ca": __file__}, ValueError),
        ({"tls": "yes"}, TypeError),
        ({"tls": ssl.create_default_context(), "ca": "x"}, ValueError),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_sent(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        bus.open("nats://127.0.0.1:1", **options)
    with pytest.raises(ValueError):
        bus.open("nats://ali:x@127.0.0.1:1", token="t")


# -- causes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), ConnectFailed, "refused; nothing listens there"),
        (OSError(f"Multiple exceptions: [Errno {errno.ECONNREFUSED}] a, [Errno 1] b"), ConnectFailed, "nothing listens there"),
        (ConnectionResetError("Connection lost"), ConnectFailed, "before it let us in"),
        (OSError(errno.EHOSTUNREACH, "x"), ConnectFailed, "no route to host"),
        (TimeoutError(), ConnectTimeout, "no answer"),
        (Exception("nats: 'Authorization Violation'"), ConnectFailed, "without credentials"),
        (Exception("nats: empty response from server when expecting INFO message"), ConnectFailed, "not as a NATS server"),
        (Exception("nats: 'maximum connections exceeded'"), ConnectFailed, "max_connections"),
        (Exception("nats: 'something new'"), ConnectFailed, "it says 'something new'"),
        (ConnectFailed("a", "b"), ConnectFailed, "b"),
    ],
)
def test_the_cause_is_in_the_error(raised: Exception, kind: type[Exception], words: str) -> None:
    error = causes.no_connection("nats://one:4222", raised)
    assert type(error) is kind
    assert words in str(error)


def test_who_was_refused_is_named_without_the_password() -> None:
    error = causes.no_connection("nats://one:4222", Exception("nats: 'Authorization Violation'"), Credentials("ali", "secret"))
    assert "'ali'" in str(error)
    assert "secret" not in str(error)


def test_nats_py_has_the_insides_that_we_use() -> None:
    client = Client()
    assert [name for name in REQUIRED_INSIDES if not hasattr(client, name)] == []


# -- commands -------------------------------------------------------------------------------------------------------------


def test_the_size_that_is_checked_is_the_size_that_is_sent() -> None:
    headers = {"One": "1", "Zwei": "zwölf"}
    line = publication("a.b", b"payload", headers, None).partition(b"\r\n")[0]
    assert int(line.split()[-1]) == size_of(b"payload", headers)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("$JS.ACK.stream.name.1.2.3.4.5", (1, 2)),
        ("$JS.ACK.stream.name.12.2.3.4.5", (12, 2)),
        ("$JS.ACK._.hash.stream.name.3.4.5.6.7.token", (3, 4)),
        ("_INBOX.x.1", (0, 0)),
        ("$JS.ACK.x", (0, 0)),
    ],
)
def test_a_delivery_tells_how_often_there_was_one(reply: str, found: tuple[int, int]) -> None:
    assert delivery(reply) == found


# -- the queue ------------------------------------------------------------------------------------------------------------


class Wakes:
    def __init__(self) -> None:
        self.count = 0
        self.queue = Outgoing("nats://one:4222", self.wake, lambda: "the server is slow")

    def wake(self) -> None:
        self.count += 1


async def nothing(wire: object) -> None:
    pass


def test_a_burst_wakes_once_and_comes_out_joined_and_in_order() -> None:
    wakes = Wakes()
    for number in range(100):
        wakes.queue.send(b"%02d" % number, None)
    wakes.queue.call(nothing)
    wakes.queue.send(b"last", None)
    assert wakes.count == 1
    assert wakes.queue.take() == b"".join(b"%02d" % number for number in range(100))
    assert wakes.queue.take() is nothing
    assert wakes.queue.take() == b"last"
    assert wakes.queue.take() is None
    wakes.queue.send(b"next", None)
    assert wakes.count == 2


def test_a_wake_up_that_comes_too_late_does_not_stand_for_the_next_one() -> None:
    # The loop was awake and took the message before its sender came to wake it; woken for nothing, it sleeps again before `wake` returns.
    wakes: list[bytes | Op | None] = []
    queue = Outgoing("it", lambda: wakes.append(queue.take()), lambda: "")
    queue._wake_up()
    assert wakes == [None]
    queue._wake_up()
    assert wakes == [None, None]


def test_what_is_written_in_one_go_is_bounded() -> None:
    queue = Wakes().queue
    frame = b"x" * (outgoing.SLICE_BYTES // 3)
    for _ in range(5):
        queue.send(frame, None)
    taken = queue.take()
    assert isinstance(taken, bytes)
    assert len(taken) == 4 * len(frame)


def test_over_the_bound_nothing_is_taken() -> None:
    queue = Wakes().queue
    large = b"x" * (outgoing.MAX_BYTES + 1)
    queue.send(large, 0)  # one larger fits when it is empty
    with pytest.raises(NotSent, match="the server is slow.*nothing of this one was taken"):
        queue.send(b"x", 0)
    assert queue.take() == large
    assert queue.take() is None


def test_who_waits_for_room_goes_on_when_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MAX_MESSAGES", 4)
    queue = Wakes().queue
    for _ in range(4):
        queue.send(b"x", 0)
    waiting = InThread(lambda: queue.send(b"y", 60)).until_blocked()
    assert queue.take() == b"xxxx"
    waiting.result()
    assert queue.take() == b"y"


def test_the_end_reaches_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MAX_MESSAGES", 1)
    queue = Wakes().queue
    queue.send(b"x", 0)
    waiting = InThread(lambda: queue.send(b"y", 60)).until_blocked()
    assert queue.end(Closed("it"), nothing)
    with pytest.raises(Closed):
        waiting.result()
    with pytest.raises(Closed):
        queue.call(nothing)
    assert not queue.end(Broken("it", "again"), nothing)
    assert queue.take() == b"x"
    assert queue.take() is nothing
    assert queue.abandon(Closed("it")) == 0


def test_what_is_left_is_counted() -> None:
    queue = Wakes().queue
    queue.send(b"x", 0)
    queue.call(nothing)
    queue.send(b"y", 0)
    assert queue.abandon(Closed("it")) == 2


def test_threads_keep_their_own_order() -> None:
    woken = threading.Event()
    queue = Outgoing("it", woken.set, lambda: "")
    got: list[bytes] = []

    def send(name: int) -> None:
        for number in range(2000):
            queue.send(b"%d:%04d " % (name, number), None)

    senders = [InThread(lambda name=name: send(name)) for name in range(3)]  # type: ignore[misc]
    while sum(chunk.count(b" ") for chunk in got) < 6000:
        assert woken.wait(30)
        woken.clear()
        while (item := queue.take()) is not None:
            assert isinstance(item, bytes)
            got.append(item)
    for sender in senders:
        sender.result()
    words = b"".join(got).split()
    for name in range(3):
        mine = [word for word in words if word.startswith(b"%d:" % name)]
        assert mine == [b"%d:%04d" % (name, number) for number in range(2000)]


def test_a_name_that_nobody_knows_is_looked_up_by_no_thread_of_asyncio() -> None:
    from adapters.nats.loop import Loop

    loop = Loop()
    try:
        with pytest.raises(ConnectFailed):
            loop.run_until_complete(loop.getaddrinfo("nobody.invalid", 1))
        assert loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 5))[0][4] == ("127.0.0.1", 5)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("asyncio")]
    finally:
        loop.close()
    assert asyncio.events._get_running_loop() is None

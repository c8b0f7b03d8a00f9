"""Server and Client: one callback for many connections, replies, broadcasts, limits, and the end."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import pytest

import bus
from tests.bus.peers import WAIT, InThread, Peer, fill_up, frame, run_script, until


def echo(message: bus.Message, client: bus.Client) -> bus.Message:
    return message


class Diary:
    """What a server's callbacks were told, in order."""

    def __init__(self) -> None:
        self.entries: SimpleQueue[tuple[str, bus.Client, Any]] = SimpleQueue()

    def connect(self, client: bus.Client) -> None:
        self.entries.put(("connect", client, None))

    def message(self, message: bus.Message, client: bus.Client) -> None:
        self.entries.put(("message", client, message.data))

    def disconnect(self, client: bus.Client, reason: bus.BusError) -> None:
        self.entries.put(("disconnect", client, reason))

    def next(self) -> tuple[str, bus.Client, Any]:
        return self.entries.get(timeout=WAIT)

    def reason(self) -> bus.BusError:
        """The reason of the next disconnect, whatever comes before it."""
        while True:
            what, _, reason = self.next()
            if what == "disconnect":
                assert isinstance(reason, bus.BusError)
                return reason


def serve(on_message: Callable[[bus.Message, bus.Client], Any] = echo, diary: Diary | None = None, **options: Any) -> bus.Server:
    if diary is not None:
        options = {"on_connect": diary.connect, "on_disconnect": diary.disconnect, **options}
    return bus.serve("tcp://127.0.0.1:0", on_message, **options)


MODES: list[dict[str, Any]] = [{}, {"threads": 1}, {"threads": 2}, {"threads": "own"}, {"serial": True}, {"serial": True, "threads": 2}]
every_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: ",".join(f"{key}={value}" for key, value in mode.items()) or "default")


# --- messages and replies ---


@every_mode
def test_every_message_gets_its_reply_in_order(mode: dict[str, Any]) -> None:
    with serve(lambda message, client: message.text.upper(), **mode) as server, Peer.to(server.address) as peer:
        for number in range(300):
            peer.send(b"trip %d" % number)
            assert peer.receive() == b"TRIP %d" % number
        peer.send(*(b"many %d" % number for number in range(300)))
        assert [peer.receive() for _ in range(300)] == [b"MANY %d" % number for number in range(300)]


@pytest.mark.parametrize(
    ("reply", "wire"),
    [
        ("text", b"text"),
        (b"bytes", b"bytes"),
        (bytearray(b"more"), b"more"),
        (memoryview(b"view"), b"view"),
        ({"ok": True}, b'{"ok":true}'),
        (bus.Message(b"as it is", "elsewhere"), b"as it is"),
        ("", b""),
    ],
)
def test_what_a_callback_returns_is_the_reply(reply: Any, wire: bytes) -> None:
    with serve(lambda message, client: reply) as server, Peer.to(server.address) as peer:
        peer.send(b"?")
        assert peer.receive() == wire


def test_none_is_no_reply() -> None:
    with serve(lambda message, client: message if message.data == b"now" else None) as server, Peer.to(server.address) as peer:
        peer.send(b"a", b"b", b"now")
        assert peer.receive() == b"now"


@pytest.mark.parametrize("reply", [1, True, ["a"], object(), "\ud800", {"a": float("nan")}, {1: 2}])
def test_a_reply_that_is_no_message_ends_that_client_only_and_says_why(reply: Any, caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary()

    def answer(message: bus.Message, client: bus.Client) -> Any:
        return reply if message.data == b"wrong" else message

    with serve(answer, diary) as server, Peer.to(server.address) as bad, Peer.to(server.address) as good:
        good.send(b"before")
        assert good.receive() == b"before"
        bad.send(b"wrong")
        reason = diary.reason()
        assert isinstance(reason, bus.Broken)
        expected = "ValueError"
        if not isinstance(reply, str | dict) or reply == {1: 2}:
            expected = "TypeError"
        elif isinstance(reply, str):
            expected = "Unicode"
        assert expected in str(reason)
        assert isinstance(reason.__cause__, TypeError | ValueError)
        good.send(b"after")
        assert good.receive() == b"after"
    assert expected in caplog.text


def test_a_reply_over_max_size_is_no_reply(caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary()
    with serve(lambda message, client: b"x" * 101, diary, max_size=100) as server, Peer.to(server.address) as peer:
        peer.send(b"?")
        assert "max_size=100" in str(diary.reason())


def test_a_message_tells_who_sent_it() -> None:
    with serve(lambda message, client: message.source + " " + client.remote_address) as server, Peer.to(server.address) as peer:
        peer.send(b"who am I?")
        assert peer.receive() == f"{peer.address} {peer.address}".encode()


def test_a_callback_may_send_first_and_reply_then() -> None:
    def answer(message: bus.Message, client: bus.Client) -> str:
        client.send("first")
        client.send("second")
        return "third"

    with serve(answer) as server, Peer.to(server.address) as peer:
        peer.send(b"?")
        assert [peer.receive() for _ in range(3)] == [b"first", b"second", b"third"]


def test_callbacks_must_be_callable() -> None:
    wrong: list[dict[str, Any]] = [{"on_message": None}, {"on_message": 1}]
    wrong += [{"on_message": echo, "on_connect": 1}, {"on_message": echo, "on_disconnect": "x"}]
    for options in wrong:
        with pytest.raises(TypeError, match="callable"):
            bus.serve("tcp://127.0.0.1:0", **options)


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"max_clients": 0}, ValueError),
        ({"max_clients_per_address": True}, TypeError),
        ({"max_size": -1}, ValueError),
        ({"outbox_bytes": "x"}, TypeError),
        ({"overflow": "drop"}, ValueError),
        ({"threads": 0}, ValueError),
        ({"threads": "shared"}, (TypeError, ValueError)),
        ({"framing": "xml"}, ValueError),
        ({"stall_timeout": -1}, ValueError),
    ],
)
def test_options_are_checked_before_the_port_is_taken(option: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=str(next(iter(option)))):
        serve(**option)


# --- a client's life ---


@every_mode
def test_on_connect_comes_first_and_on_disconnect_last_and_once(mode: dict[str, Any]) -> None:
    diary = Diary()
    with serve(diary.message, diary, **mode) as server:
        with Peer.to(server.address) as peer:
            peer.send(b"1", b"2", b"3")
        entries = [diary.next() for _ in range(5)]
        assert [what for what, _, _ in entries] == ["connect", "message", "message", "message", "disconnect"]
        assert [data for _, _, data in entries[1:4]] == [b"1", b"2", b"3"]
        assert len({id(client) for _, client, _ in entries}) == 1
        assert isinstance(entries[4][2], bus.PeerClosed)
    assert diary.entries.empty()


@every_mode
def test_many_short_lives_are_all_told_in_full(mode: dict[str, Any]) -> None:
    diary = Diary()
    with serve(diary.message, diary, **mode) as server:
        for number in range(50):
            with Peer.to(server.address) as peer:
                peer.send(b"%d" % number)
        kept: list[bus.Client] = []
        told: dict[int, list[str]] = {}
        for _ in range(150):
            what, client, _ = diary.next()
            told.setdefault(id(client), []).append(what)
            kept.append(client)  # so that no id is used twice
    assert diary.entries.empty()
    assert list(told.values()) == [["connect", "message", "disconnect"]] * 50


def test_a_client_that_never_says_a_word_is_told_of_too() -> None:
    diary = Diary()
    with serve(diary.message, diary) as server:
        Peer.to(server.address).close()
        assert [diary.next()[0] for _ in range(2)] == ["connect", "disconnect"]


def test_on_connect_may_greet_before_any_message_is_handled() -> None:
    with serve(on_connect=lambda client: client.send("welcome")) as server, Peer.to(server.address) as peer:
        peer.send(b"hello")
        assert peer.receive() == b"welcome"
        assert peer.receive() == b"hello"


def test_state_is_the_clients_own() -> None:
    def on_connect(client: bus.Client) -> None:
        client.state.count = 0

    def count(message: bus.Message, client: bus.Client) -> str:
        client.state.count += 1
        return str(client.state.count)

    with serve(count, on_connect=on_connect) as server, Peer.to(server.address) as a, Peer.to(server.address) as b:
        a.send(b"", b"", b"")
        b.send(b"")
        assert [a.receive() for _ in range(3)] == [b"1", b"2", b"3"]
        assert b.receive() == b"1"


def test_the_table_of_clients_follows_who_is_there() -> None:
    diary = Diary()
    with serve(diary.message, diary) as server, ExitStack() as stack:
        peers = [stack.enter_context(Peer.to(server.address)) for _ in range(3)]
        for _ in peers:
            assert diary.next()[0] == "connect"
        assert {client.remote_address for client in server.clients} == {peer.address for peer in peers}
        assert all(client.local_address == server.address for client in server.clients)
        assert server.stats().clients == 3
        peers[0].close()
        assert isinstance(diary.reason(), bus.PeerClosed)
        until(lambda: len(server.clients) == 2)
        assert server.stats() == bus.ServerStats(clients=2, accepted=3, refused=0, skipped=0)


def test_a_client_has_left_the_table_when_on_disconnect_runs() -> None:
    seen: SimpleQueue[tuple[bool, bool]] = SimpleQueue()

    def on_disconnect(client: bus.Client, reason: bus.BusError) -> None:
        seen.put((client in server.clients, client.connected()))

    with serve(on_disconnect=on_disconnect) as server:
        Peer.to(server.address).close()
        assert seen.get(timeout=WAIT) == (False, False)


def test_the_reason_tells_a_reset_from_a_goodbye() -> None:
    diary = Diary()
    with serve(diary.message, diary) as server:
        peer = Peer.to(server.address)
        peer.send(b"here")
        until(lambda: diary.next()[0] == "message")
        peer.reset()
        reason = diary.reason()
        assert isinstance(reason, bus.Broken)
        assert "reset" in str(reason)


def test_a_clients_receive_points_to_the_callback() -> None:
    clients: SimpleQueue[bus.Client] = SimpleQueue()
    with serve(on_connect=clients.put) as server, Peer.to(server.address):
        client = clients.get(timeout=WAIT)
        with pytest.raises(TypeError, match=r"on_message.*bus\.listen"):
            client.receive()
        with pytest.raises(TypeError):
            client.receive(timeout=0)


def test_a_blocking_receive_inside_a_callback_is_refused_at_once(caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary()
    with serve(lambda message, client: client.receive(), diary) as server, Peer.to(server.address) as peer:
        peer.send(b"?")
        assert "on_message" in str(diary.reason())


def test_a_callback_may_wait_on_other_objects() -> None:
    # A proxy server in one line. Behind it stands the same reader thread, which therefore must not be the one that waits.
    with serve(lambda message, client: message.text[::-1]) as behind, bus.connect(f"tcp://{behind.address}") as upstream:

        def forward(message: bus.Message, client: bus.Client) -> bus.Message | None:
            upstream.send(message)
            return upstream.receive(timeout=WAIT)

        with serve(forward, serial=True) as front, Peer.to(front.address) as a, Peer.to(front.address) as b:
            for number in range(20):
                a.send(b"ab%d" % number)
                b.send(b"xy%d" % number)
                assert a.receive() == (b"ab%d" % number)[::-1]
                assert b.receive() == (b"xy%d" % number)[::-1]
        with serve(forward) as front, Peer.to(front.address) as a:
            for number in range(20):
                a.send(b"ab%d" % number)
                assert a.receive() == (b"ab%d" % number)[::-1]


def test_a_callback_may_open_and_close_a_connection_of_its_own() -> None:
    with serve(lambda message, client: message.text[::-1]) as behind:

        def forward(message: bus.Message, client: bus.Client) -> bus.Message | None:
            with bus.connect(f"tcp://{behind.address}") as upstream:
                upstream.send(message)
                return upstream.receive(timeout=WAIT)

        with serve(forward) as front, Peer.to(front.address) as peer:
            for number in range(5):
                peer.send(b"ab%d" % number)
                assert peer.receive() == (b"ab%d" % number)[::-1]


# --- one after the other, or side by side ---


def test_callbacks_of_one_client_never_overlap() -> None:
    inside = threading.Lock()
    overlaps = []

    def answer(message: bus.Message, client: bus.Client) -> bus.Message:
        if not inside.acquire(blocking=False):
            overlaps.append(message)
        else:
            if message.data == b"slow":
                threading.Event().wait(0.03)  # long enough that another thread takes the loop over
            inside.release()
        return message

    with serve(answer, threads=2) as server, Peer.to(server.address) as peer:
        sent = [b"slow" if number % 20 == 0 else b"%d" % number for number in range(200)]
        peer.send(*sent)
        assert [peer.receive() for _ in sent] == sent
    assert not overlaps


def test_a_slow_callback_holds_up_its_own_client_only() -> None:
    release = threading.Event()
    entered = threading.Event()

    def answer(message: bus.Message, client: bus.Client) -> bus.Message:
        if message.data == b"block":
            entered.set()
            assert release.wait(WAIT)
        return message

    with serve(answer) as server, Peer.to(server.address) as slow, Peer.to(server.address) as quick:
        slow.send(b"block", b"behind it")
        assert entered.wait(WAIT)
        for number in range(200):
            quick.send(b"%d" % number)
            assert quick.receive() == b"%d" % number
        assert len(server.send_to_all("to all").taken) == 2
        assert quick.receive() == b"to all"
        assert slow.receive() == b"to all"
        release.set()
        assert [slow.receive() for _ in range(2)] == [b"block", b"behind it"]


def test_serial_runs_all_callbacks_one_at_a_time_on_one_thread() -> None:
    inside = threading.Lock()
    threads = set()

    def once(*_: Any) -> None:
        assert inside.acquire(blocking=False), "two callbacks at once"
        threads.add(threading.get_ident())
        inside.release()

    def answer(message: bus.Message, client: bus.Client) -> bus.Message:
        once()
        return message

    with serve(answer, on_connect=once, on_disconnect=once, serial=True, threads=2) as server, ExitStack() as stack:
        peers = [stack.enter_context(Peer.to(server.address)) for _ in range(8)]
        for peer in peers:
            peer.send(*(b"%d" % number for number in range(100)))
        for peer in peers:
            assert [peer.receive() for _ in range(100)] == [b"%d" % number for number in range(100)]
    assert len(threads) == 1


def test_serial_keeps_each_clients_order_and_broadcasts_do_not_wait() -> None:
    release, entered = threading.Event(), threading.Event()

    def answer(message: bus.Message, client: bus.Client) -> bus.Message:
        if message.data == b"block":
            entered.set()
            assert release.wait(WAIT)
        return message

    with serve(answer, serial=True) as server, Peer.to(server.address) as a, Peer.to(server.address) as b:
        a.send(b"block", b"after")
        assert entered.wait(WAIT)
        b.send(b"1", b"2", b"3")
        until(lambda: len(server.clients) == 2)
        server.send_to_all("meanwhile")
        assert a.receive() == b.receive() == b"meanwhile"
        release.set()
        assert [a.receive() for _ in range(2)] == [b"block", b"after"]
        assert [b.receive() for _ in range(3)] == [b"1", b"2", b"3"]


def test_serial_stops_reading_a_client_behind_a_blocked_callback() -> None:
    release, entered = threading.Event(), threading.Event()

    def answer(message: bus.Message, client: bus.Client) -> None:
        entered.set()
        assert release.wait(WAIT)

    with serve(answer, serial=True) as server, Peer.to(server.address) as a, Peer.to(server.address, receive_buffer=8192) as b:
        a.send(b"block")
        assert entered.wait(WAIT)
        b.sock.settimeout(0.5)
        try:
            with pytest.raises(TimeoutError):
                for _ in range(1000):
                    b.send(b"x" * 100_000)
        finally:
            release.set()
        b.reset()


# --- callbacks that raise ---


@every_mode
@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, bus.TooLarge])
def test_a_callback_that_raises_ends_its_own_client_with_that_reason(
    mode: dict[str, Any], kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    error = kind("on purpose")  # made here: one of the parameters would keep this test's frames, and what they hold, for the whole run
    diary = Diary()

    def answer(message: bus.Message, client: bus.Client) -> bus.Message:
        if message.data == b"raise":
            raise error
        return message

    with serve(answer, diary, **mode) as server, Peer.to(server.address) as bad, Peer.to(server.address) as good:
        bad.send(b"fine")
        assert bad.receive() == b"fine"
        bad.send(b"raise", b"never handled")
        reason = diary.reason()
        assert isinstance(reason, bus.Broken)
        assert type(error).__name__ in reason.reason
        assert reason.__cause__ is error
        good.send(b"as ever")
        assert good.receive() == b"as ever"
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.name == "actorbus.server"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_an_on_connect_that_raises_ends_its_client(caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary()

    def on_connect(client: bus.Client) -> None:
        raise RuntimeError("not you")

    with serve(diary.message, on_connect=on_connect, on_disconnect=diary.disconnect) as server, Peer.to(server.address) as peer:
        peer.send(b"?")
        what, _, reason = diary.next()
        assert what == "disconnect"
        assert "RuntimeError: not you" in str(reason)


def test_an_on_disconnect_that_raises_is_logged_and_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    def on_disconnect(client: bus.Client, reason: bus.BusError) -> None:
        raise RuntimeError("on the way out")

    with serve(on_disconnect=on_disconnect) as server, Peer.to(server.address) as other:
        Peer.to(server.address).close()
        until(lambda: "on the way out" in caplog.text)
        until(lambda: len(server.clients) == 1)
        other.send(b"still there?")
        assert other.receive() == b"still there?"


# --- broadcasts ---


def test_a_broadcast_reaches_everybody_and_reports() -> None:
    with serve() as server, ExitStack() as stack:
        peers = [stack.enter_context(Peer.to(server.address)) for _ in range(5)]
        until(lambda: len(server.clients) == 5)
        report = server.send_to_all({"tick": 1})
        assert {client.remote_address for client in report.taken} == {peer.address for peer in peers}
        assert (report.queued, report.skipped) == ((), ())
        assert [peer.receive() for peer in peers] == [b'{"tick":1}'] * 5


def test_a_broadcast_to_some_reaches_those() -> None:
    with serve() as server, ExitStack() as stack:
        peers = [stack.enter_context(Peer.to(server.address)) for _ in range(4)]
        until(lambda: len(server.clients) == 4)
        chosen = [client for client in server.clients if client.remote_address in {peers[0].address, peers[2].address}]
        report = server.send_to_all("for two", to=chosen)
        assert set(report.taken) == set(chosen)
        server.send_to_all("for all", to=None)
        server.send_to_all("for nobody", to=[])
        for index, peer in enumerate(peers):
            if index in (0, 2):
                assert peer.receive() == b"for two"
            assert peer.receive() == b"for all"
        stopping = InThread(server.stop)
        assert [peer.receive() for peer in peers] == [None] * 4
    assert stopping.result()


def test_a_broadcast_to_one_who_left_skips_and_counts_it() -> None:
    diary = Diary()
    with serve(diary.message, diary) as server:
        with Peer.to(server.address):
            client = diary.next()[1]
        diary.reason()
        report = server.send_to_all("anyone?", to=[client])
        assert report.skipped == (client,)
        assert server.stats().skipped == 1
        assert server.send_to_all("anyone?") == bus.BroadcastReport()


@pytest.mark.parametrize("stranger", ["x", 1, None])
def test_a_broadcast_is_for_clients_only(stranger: Any) -> None:
    with serve() as server, pytest.raises(TypeError, match=type(stranger).__name__):
        server.send_to_all("x", to=[stranger])
    with serve() as server, pytest.raises(TypeError, match=type(stranger).__name__):
        server.send("x", stranger)


def test_another_servers_client_is_refused() -> None:
    with serve() as one, serve() as other, Peer.to(other.address):
        until(lambda: other.clients)
        with pytest.raises(ValueError, match="another server"):
            one.send("x", other.clients[0])
        with pytest.raises(ValueError, match="another server"):
            one.send_to_all("x", to=other.clients)


def test_what_is_no_message_is_no_broadcast() -> None:
    with serve(max_size=100) as server, Peer.to(server.address) as peer:
        until(lambda: server.clients)
        with pytest.raises(TypeError, match="int"):
            server.send_to_all(1)  # type: ignore[arg-type]
        with pytest.raises(bus.TooLarge):
            server.send_to_all(b"x" * 101)
        server.send_to_all(b"x" * 100)
        assert peer.receive() == b"x" * 100


def full_client(server: bus.Server, payload: bytes) -> bus.Client:
    """The first client of the server, which does not read, with an outbox that has no room for such a message."""
    until(lambda: server.clients)
    client = server.clients[0]
    fill_up(client, payload)
    return client


def test_a_client_over_its_outbox_is_skipped_and_the_others_are_served(caplog: pytest.LogCaptureFixture) -> None:
    payload = b"x" * 50_000
    with serve(outbox_bytes=200_000) as server, Peer.to(server.address, receive_buffer=8192) as deaf:
        client = full_client(server, payload)
        with Peer.to(server.address) as good:
            until(lambda: len(server.clients) == 2)
            report = server.send_to_all(payload)
            assert report.skipped == (client,)
            assert [taken.remote_address for taken in report.taken + report.queued] == [good.address]
            assert good.receive() == payload
        assert server.stats().skipped == 1
        assert client.connected()
        count = client.stats().messages_out
        assert [deaf.receive() for _ in range(count)] == [payload] * count
        until(lambda: not client.stats().waiting_out)
        assert len(server.send_to_all("back again", to=[client]).skipped) == 0
        assert deaf.receive() == b"back again", "the skipped message was not taken at all"
    assert "skipped 1 of" in caplog.text


def test_a_client_with_a_little_room_gets_its_broadcast_queued() -> None:
    with serve(outbox_bytes=4_000_000) as server, Peer.to(server.address, receive_buffer=8192) as peer:
        until(lambda: server.clients)
        client = server.clients[0]
        sent = 0
        while not client.stats().waiting_out:
            client.send(b"x" * 500_000)
            sent += 1
        report = server.send_to_all("behind it")
        assert report.queued == (client,)
        assert [peer.receive() for _ in range(sent)] == [b"x" * 500_000] * sent
        assert peer.receive() == b"behind it"


def test_overflow_disconnect_parts_with_who_reads_too_slowly(caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary()
    payload = b"x" * 50_000
    with serve(diary.message, diary, outbox_bytes=200_000, overflow="disconnect") as server:
        with Peer.to(server.address, receive_buffer=8192), Peer.to(server.address) as good:
            until(lambda: len(server.clients) == 2)
            client = next(client for client in server.clients if client.remote_address != good.address)
            fill_up(client, payload)
            assert server.send_to_all(payload).skipped == (client,)
            reason = diary.reason()
            assert isinstance(reason, bus.Broken)
            assert "reads too slowly" in str(reason)
            assert good.receive() == payload
            assert client not in server.clients


# --- back-pressure in callbacks ---


def test_a_client_that_does_not_read_its_replies_is_not_read_either() -> None:
    handled = 0

    def answer(message: bus.Message, client: bus.Client) -> bytes:
        nonlocal handled
        handled += 1
        return b"x" * 50_000

    with serve(answer, outbox_bytes=200_000) as server, Peer.to(server.address, receive_buffer=8192) as peer:
        total = 1000  # 50 MB: more than any kernel keeps
        sending = InThread(lambda: peer.send(*(b"%d" % number for number in range(total))))
        until(lambda: server.clients and server.clients[0].stats().waiting_out >= 200_000)
        client = server.clients[0]
        assert client.stats().waiting_out <= 300_000
        with Peer.to(server.address) as other:
            other.send(b"?")
            assert other.receive() == b"x" * 50_000
        for _ in range(total):
            assert peer.receive() == b"x" * 50_000
        sending.result()
        assert handled == total + 1


def test_sending_in_a_callback_never_waits() -> None:
    seen: SimpleQueue[str] = SimpleQueue()

    def answer(message: bus.Message, client: bus.Client) -> None:
        try:
            while True:
                client.send(b"x" * 50_000, timeout=None)
        except bus.NotSent as exc:
            seen.put(str(exc))

    with serve(answer, outbox_bytes=200_000) as server, Peer.to(server.address, receive_buffer=8192) as peer:
        peer.send(b"?")
        assert "a callback never waits" in seen.get(timeout=WAIT)
        peer.reset()


def test_sending_to_another_full_client_in_a_callback_never_waits() -> None:
    seen: SimpleQueue[str] = SimpleQueue()
    payload = b"x" * 50_000

    def answer(message: bus.Message, client: bus.Client) -> None:
        deaf = next(each for each in server.clients if each is not client)
        try:
            deaf.send(payload, timeout=None)
        except bus.NotSent as exc:
            seen.put(str(exc))

    with serve(answer, outbox_bytes=200_000) as server, Peer.to(server.address, receive_buffer=8192):
        full_client(server, payload)
        with Peer.to(server.address) as peer:
            peer.send(b"pass it on")
            assert "a callback never waits" in seen.get(timeout=WAIT)


# --- limits ---


def test_one_client_too_many_is_turned_away(caplog: pytest.LogCaptureFixture) -> None:
    with serve(max_clients=2) as server, Peer.to(server.address) as a, Peer.to(server.address) as b:
        a.send(b"a")
        b.send(b"b")
        assert (a.receive(), b.receive()) == (b"a", b"b")
        with Peer.to(server.address) as c:
            assert c.sock.recv(1) == b""
        assert server.stats() == bus.ServerStats(clients=2, accepted=2, refused=1)
        assert "max_clients" in caplog.text
        a.close()
        until(lambda: len(server.clients) == 1)

        def admitted() -> bool:
            with Peer.to(server.address) as again:
                try:
                    again.send(b"now?")
                    return again.receive() == b"now?"
                except ConnectionError:
                    return False

        until(admitted)


def test_one_address_gets_no_more_than_its_share() -> None:
    with serve(max_clients_per_address=1) as server, Peer.to(server.address) as a:
        a.send(b"a")
        assert a.receive() == b"a"
        with Peer.to(server.address) as b:
            assert b.sock.recv(1) == b""
        assert server.stats().refused == 1


def test_a_message_over_max_size_ends_its_client_only() -> None:
    diary = Diary()
    with serve(diary.message, diary, max_size=1000) as server, Peer.to(server.address) as bad:
        bad.sock.sendall(frame(b"good") + frame(b"x" * 1001))
        assert [diary.next()[0] for _ in range(2)] == ["connect", "message"]
        assert "1001 bytes is over max_size=1000" in str(diary.reason())


def test_a_server_takes_a_megabyte_unless_told_otherwise() -> None:
    diary = Diary()
    with serve(diary.message, diary) as server, Peer.to(server.address) as peer:
        peer.send(b"x" * 2**20)
        assert [len(diary.next()[2] or b"") for _ in range(2)] == [0, 2**20]
        with pytest.raises(ConnectionError):
            peer.send(b"x" * (2**20 + 1))
            peer.sock.recv(1)
            raise ConnectionResetError("an orderly end will do, too")
        assert "over max_size" in str(diary.reason())


# --- the end ---


@every_mode
def test_stop_ends_everything_and_frees_the_port(mode: dict[str, Any]) -> None:
    diary = Diary()
    server = serve(diary.message, diary, **mode)
    with Peer.to(server.address) as a, Peer.to(server.address) as b:
        assert {diary.next()[0] for _ in range(2)} == {"connect"}
        server.send_to_all("last")
        stopping = InThread(server.stop)
        assert a.receive_all() == b.receive_all() == [b"last"]
    assert stopping.result()
    reasons = [diary.next() for _ in range(2)]
    assert [what for what, _, _ in reasons] == ["disconnect"] * 2
    assert all(isinstance(reason, bus.Closed) for _, _, reason in reasons)
    assert diary.entries.empty()
    assert server.clients == []
    assert server.wait(timeout=0)
    assert server.stop(), "stopping twice is nothing"
    with bus.serve(f"tcp://{server.address}", echo) as again, Peer.to(again.address) as peer:
        peer.send(b"same port")
        assert peer.receive() == b"same port"


def test_a_stopped_server_says_so() -> None:
    server = serve()
    server.stop()
    with pytest.raises(bus.Closed):
        server.send_to_all("anyone?")
    assert "stopped" in repr(server)
    with pytest.raises(ConnectionRefusedError):
        Peer.to(server.address)


def test_wait_returns_whether_it_has_stopped() -> None:
    with serve() as server:
        assert server.wait(timeout=0) is False
        assert server.wait(timeout=0.01) is False
        waiting = InThread(server.wait).until_blocked()
        server.stop()
        assert waiting.result() is True
    for timeout, error in ((-1, ValueError), (float("nan"), ValueError), (True, TypeError)):
        with pytest.raises(error):
            server.wait(timeout)


@every_mode
def test_stop_inside_a_callback(mode: dict[str, Any]) -> None:
    diary = Diary()

    def answer(message: bus.Message, client: bus.Client) -> str:
        if message.data == b"stop":
            assert not server.stop(), "it can not wait for itself"
        return "ok"

    server = serve(answer, diary, **mode)
    with Peer.to(server.address) as a, Peer.to(server.address) as b:
        b.send(b"x")
        assert b.receive() == b"ok"
        a.send(b"stop")
        assert a.receive_all() in ([], [b"ok"])
        assert b.receive_all() == []
    assert server.wait(timeout=WAIT)
    assert diary.reason()
    assert diary.reason()


@every_mode
def test_close_of_the_own_client_inside_a_callback(mode: dict[str, Any]) -> None:
    diary = Diary()

    def answer(message: bus.Message, client: bus.Client) -> None:
        client.send("bye")
        assert client.close() is False, "it can not wait for itself"
        with pytest.raises(bus.Closed):
            client.send("more")

    with serve(answer, diary, **mode) as server, Peer.to(server.address) as peer:
        peer.send(b"leave", b"never handled")
        assert peer.receive_all() == [b"bye"]
        peer.close()
        assert isinstance(diary.reason(), bus.Closed)


def test_close_of_another_client_inside_a_callback() -> None:
    diary = Diary()

    def answer(message: bus.Message, client: bus.Client) -> str:
        for other in server.clients:
            if other is not client:
                assert other.close() is False
        return "done"

    with serve(answer, diary) as server, Peer.to(server.address) as a, Peer.to(server.address) as b:
        until(lambda: len(server.clients) == 2)
        a.send(b"close the other")
        assert a.receive() == b"done"
        assert b.receive() is None
        b.close()
        assert isinstance(diary.reason(), bus.Closed)
        a.send(b"again")
        assert a.receive() == b"done"


def test_close_of_a_client_from_another_thread_waits_until_it_has_everything() -> None:
    with serve() as server, Peer.to(server.address) as peer:
        until(lambda: server.clients)
        (client,) = server.clients
        client.send(b"x" * 300_000)
        closing = InThread(client.close)
        assert peer.receive_all() == [b"x" * 300_000]
        peer.close()
        assert closing.result()
        assert not client.connected()
        with pytest.raises(bus.Closed):
            client.send("more")


def test_stop_waits_for_no_callback_longer_than_linger() -> None:
    release, entered = threading.Event(), threading.Event()

    def answer(message: bus.Message, client: bus.Client) -> None:
        entered.set()
        assert release.wait(WAIT)

    diary = Diary()
    server = serve(answer, diary)
    with Peer.to(server.address) as peer:
        peer.send(b"block")
        assert entered.wait(WAIT)
        assert not server.stop(linger=0.1)
        release.set()
        assert isinstance(diary.reason(), bus.Closed)
        assert server.wait(WAIT)


def test_a_client_that_never_met_on_connect_never_meets_on_disconnect() -> None:
    # With serial=True the second client waits behind the first one's callback; then the server stops.
    release, entered = threading.Event(), threading.Event()
    diary = Diary()

    def answer(message: bus.Message, client: bus.Client) -> None:
        entered.set()
        assert release.wait(WAIT)

    server = serve(answer, diary, serial=True)
    with Peer.to(server.address) as a:
        a.send(b"block")
        assert entered.wait(WAIT)
        with Peer.to(server.address):
            until(lambda: len(server.clients) == 2)
            server.stop(linger=0.1)
            release.set()
            assert server.wait(WAIT)
    told: dict[bus.Client, list[str]] = {}
    while not diary.entries.empty():
        what, client, _ = diary.next()
        told.setdefault(client, []).append(what)
    assert ["connect", "disconnect"] in told.values()
    assert all(each == ["connect", "disconnect"] for each in told.values())


def test_a_fin_ends_input_only() -> None:
    with serve() as server, Peer.to(server.address) as peer:
        peer.send(*(b"%d" % number for number in range(1000)))
        peer.finish()
        assert peer.receive_all() == [b"%d" % number for number in range(1000)]


def test_a_fin_with_slow_callbacks_is_answered_too() -> None:
    def answer(message: bus.Message, client: bus.Client) -> bus.Message:
        threading.Event().wait(0.03)
        return message

    with serve(answer) as server, Peer.to(server.address) as peer:
        peer.send(b"1", b"2", b"3")
        peer.finish()
        assert peer.receive_all() == [b"1", b"2", b"3"]


def test_a_server_lives_on_without_a_name() -> None:
    address = serve_and_forget()
    gc.collect()
    with Peer.to(address) as peer:
        peer.send(b"still there?")
        assert peer.receive() == b"still there?"
        peer.send(b"stop")
        assert peer.receive() is None


def serve_and_forget() -> str:
    def answer(message: bus.Message, client: bus.Client) -> bus.Message | None:
        if message.data == b"stop":
            server.stop()
            return None
        return message

    server = serve(answer)
    return server.address


def test_the_repr_counts_clients() -> None:
    with serve() as server, Peer.to(server.address) as peer:
        until(lambda: server.clients)
        assert repr(server) == f"<Server {server.address} serving, 1 clients>"
        assert repr(server.clients[0]) == f"<Client {peer.address} of {server.address} open>"


def test_two_servers_can_not_share_a_port() -> None:
    with serve() as server, pytest.raises(OSError, match=server.address):
        bus.serve(f"tcp://{server.address}", echo)


# --- other carriers ---


@every_mode
def test_a_server_on_a_unix_socket(mode: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bus.serve(f"unix://{path}", echo, **mode) as server:
        assert server.address == str(path)
        with Peer.to(str(path)) as peer, bus.connect(f"unix://{path}") as conn:
            peer.send(b"plain")
            conn.send("ours")
            assert peer.receive() == b"plain"
            assert conn.receive().text == "ours"
            assert conn.remote_address == str(path)
            server.send_to_all("all")
            assert peer.receive() == b"all"
    assert not path.exists()


@pytest.mark.parametrize("framing", ["etx", "lines", "raw"])
def test_a_server_in_the_other_framings(framing: Literal["etx", "lines", "raw"]) -> None:
    end = {"etx": b"\x03", "lines": b"\n", "raw": b""}[framing]
    with serve(lambda message, client: message.text.upper(), framing=framing) as server, Peer.to(server.address) as peer:
        peer.sock.sendall(b"hello" + end)
        assert peer.read(5 + len(end)) == b"HELLO" + end
        if end:
            peer.sock.sendall(b"a" + end + b"b" + end + b"c")
            assert peer.read(4) == b"A" + end + b"B" + end if len(end) == 1 else True
            peer.sock.sendall(end)
            assert peer.read(2) == b"C" + end
        until(lambda: server.clients)
        server.send_to_all("tick")
        assert peer.read(4 + len(end)) == b"tick" + end


def test_a_script_that_serves_until_ctrl_c() -> None:
    printed = run_script(
        """
import bus
from tests.bus.peers import interrupt_when_blocked
with bus.serve("tcp://127.0.0.1:0", on_message=lambda msg, client: msg) as server:
    interrupt_when_blocked()
    try:
        server.wait()
    except KeyboardInterrupt:
        print("bye")
print(server.wait(timeout=0))
"""
    )
    assert printed == "bye\nTrue\n"

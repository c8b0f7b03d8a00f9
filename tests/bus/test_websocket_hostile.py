"""WebSocket peers that are dead, slow, lying or silent: each costs itself, never its neighbours, never the process."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

import bus
from tests.actors.test_wsframes import BINARY, CLOSE, CONTINUED, PING, TEXT, wire
from tests.bus.peers import WAIT, InThread, Peer, fill_up, until
from tests.bus.test_server import Diary
from tests.bus.test_websocket import HEAD_END, WebPeer, connect, echo, serve, take, upgrade, web_pair

SMALL_BUFFER = 4096


@contextmanager
def neighbours(server: bus.Server, path: str = "/") -> Iterator[None]:
    """Two clients that go on with their round trips as long as the block runs; they must not notice a thing."""
    over = threading.Event()
    with connect(server, path) as one, connect(server, path) as two:

        def trips() -> None:
            count = 0
            while not over.is_set() or count < 20:
                for conn in (one, two):
                    conn.send(str(count))
                for conn in (one, two):
                    reply = take(conn).text
                    while reply.startswith("to all"):
                        reply = take(conn).text
                    assert reply == str(count)
                count += 1

        talking = InThread(trips)
        try:
            yield
        finally:
            over.set()
            talking.result()


def until_closed(peer: Peer) -> bytes:
    """What comes until the other side has closed, by whatever kind of end."""
    data = b""
    try:
        while more := peer.sock.recv(65_536):
            data += more
    except ConnectionError:
        pass
    return data


def serve_sessions(client: bus.Session) -> None:
    for message in client:
        client.send(message)


# --- malformed handshakes ---

GOOD = upgrade()
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="


def without(line: bytes) -> bytes:
    lines = GOOD.split(b"\r\n")
    return b"\r\n".join(each for each in lines if not each.lower().startswith(line))


def instead(line: bytes, by: bytes) -> bytes:
    return b"\r\n".join(by if each.lower().startswith(line) else each for each in GOOD.split(b"\r\n"))


MALFORMED = {
    "no key": without(b"sec-websocket-key"),
    "a short key": instead(b"sec-websocket-key", b"Sec-WebSocket-Key: c2hvcnQ="),
    "a key that is no base64": instead(b"sec-websocket-key", b"Sec-WebSocket-Key: !!!"),
    "two keys": instead(b"sec-websocket-key", KEY + b"\r\n" + KEY),
    "no version": without(b"sec-websocket-version"),
    "an old version": instead(b"sec-websocket-version", b"Sec-WebSocket-Version: 8"),
    "a version that is none": instead(b"sec-websocket-version", b"Sec-WebSocket-Version: x"),
    "no upgrade": without(b"upgrade"),
    "another upgrade": instead(b"upgrade", b"Upgrade: h2c"),
    "no connection": without(b"connection"),
    "a keep-alive connection": instead(b"connection", b"Connection: keep-alive"),
    "POST": instead(b"get", b"POST / HTTP/1.1"),
    "no version of HTTP": instead(b"get", b"GET /"),
    "HTTP/1.0": instead(b"get", b"GET / HTTP/1.0"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a header without a colon": instead(b"host", b"Host"),
    "a header that is folded": instead(b"host", b"Host: a\r\n b"),
    "a space before the colon": instead(b"host", b"Host : a"),
    "a NUL": instead(b"host", b"Host: a\0b"),
    "one very long header": instead(b"host", b"Host: " + b"x" * 20_000),
    "very many headers": instead(b"host", b"\r\n".join([b"X-More: x"] * 1000)),
    "an origin that is no URL": instead(b"host", b"Host: a\r\nOrigin: http://["),
    "a host that is none, with an origin": instead(b"host", b"Host: [\r\nOrigin: http://a"),
    "two origins": instead(b"host", b"Host: a\r\nOrigin: http://a\r\nOrigin: http://a"),
    "two hosts, with an origin": instead(b"host", b"Host: a\r\nHost: a\r\nOrigin: http://a"),
    "a length that is none": instead(b"host", b"Host: a\r\nContent-Length: x"),
    "not HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 \r\n\r\n",
    "empty lines": b"\r\n\r\n",
    "a websocket frame": wire(TEXT, b"hello\r\n\r\n", masked=True),
}


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_handshake_costs_nobody_else_anything(request_: bytes) -> None:
    diary = Diary()
    with serve(diary=diary) as server, connect(server) as neighbour:
        diary.next()
        with Peer.to(server.address) as peer:
            peer.sock.sendall(request_)
            if request_ is MALFORMED["a websocket frame"] and HEAD_END not in request_:
                peer.finish()
            answer = until_closed(peer)
        if answer:
            assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505 ")), answer
            assert b"connection: close" in answer.lower()
        neighbour.send("unharmed")
        assert take(neighbour).text == "unharmed"
        assert len(server.clients) == 1
        assert diary.entries.empty()


def test_a_head_without_an_end_is_refused_at_64_kib() -> None:
    with serve() as server, connect(server) as neighbour, Peer.to(server.address) as peer:
        peer.sock.sendall(GOOD[:-2] + b"X: " + b"x" * 70_000)
        assert until_closed(peer).startswith(b"HTTP/1.1 431 ")
        neighbour.send("unharmed")
        assert take(neighbour).text == "unharmed"
        assert len(server.clients) == 1


@pytest.mark.parametrize(
    "smuggled",
    [
        GOOD[:-2] + b"Content-Length: 5\r\n\r\nhello",
        GOOD[:-2] + b"Content-Length: 20\r\n\r\n" + wire(TEXT, b"smuggled", masked=True).ljust(20, b"\0"),
        GOOD[:-2] + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        GOOD + b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n",
        GOOD + GOOD,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + GOOD + wire(TEXT, b"smuggled", masked=True),
        instead(b"get", b"POST / HTTP/1.1")[:-2] + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD,
    ],
    ids=["a body", "frames as a body", "chunks", "a second request", "twice", "behind a page", "in a POST"],
)
def test_nothing_is_smuggled_in_behind_a_handshake(smuggled: bytes) -> None:
    seen: list[bytes] = []
    with serve(lambda message, client: seen.append(message.data)) as server, Peer.to(server.address) as peer:
        peer.sock.sendall(smuggled)
        answer = until_closed(peer)
        assert answer.count(b"HTTP/1.1 ") <= 1
        until(lambda: not server.clients)
    assert seen == []


def test_one_byte_at_a_time_is_a_handshake_too() -> None:
    with serve() as server, WebPeer.to(server.address) as peer:
        peer.masked = True
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GOOD:
            peer.sock.sendall(bytes([byte]))
        assert b" 101 " in peer.head()
        for byte in wire(TEXT, b"slow", masked=True):
            peer.sock.sendall(bytes([byte]))
        assert peer.get() == (0x81, b"slow")


@pytest.mark.parametrize("begin", [b"", GOOD[:30], b"\r\n"])
def test_who_trickles_is_sent_away_at_the_deadline(begin: bytes) -> None:
    diary = Diary()
    with serve(diary=diary, handshake_timeout=0.2) as server, connect(server) as neighbour, Peer.to(server.address) as peer:
        diary.next()
        peer.sock.sendall(begin)
        peer.sock.settimeout(0.02)
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            try:
                if not peer.sock.recv(1000):
                    break
            except TimeoutError:
                try:
                    peer.sock.sendall(b"X")
                except ConnectionError:
                    break
            except ConnectionError:
                break
        else:
            pytest.fail("it may trickle on for ever")
        neighbour.send("unharmed")
        assert take(neighbour).text == "unharmed"
        assert diary.entries.empty()


def test_those_who_only_come_to_the_door_count_against_the_limit_and_make_room_again() -> None:
    with serve(max_clients=3, handshake_timeout=0.3) as server:
        visitors = [Peer.to(server.address) for _ in range(3)]
        until(lambda: server.stats().accepted == 3)
        assert server.clients == []
        with pytest.raises(bus.ConnectFailed):
            connect(server)
        for visitor in visitors:
            until_closed(visitor)
            visitor.close()

        def gets_in() -> bool:
            try:
                with connect(server) as conn:
                    conn.send("in")
                    return take(conn).text == "in"
            except bus.ConnectFailed:
                return False

        until(gets_in, "there is room again")


def test_a_crowd_at_the_door_that_leaves_nothing(all_returns: object) -> None:
    chance = random.Random(11)
    with serve(handshake_timeout=0.3) as server, neighbours(server):
        for _ in range(60):
            peer = Peer.to(server.address)
            size = chance.choice([0, 1, 20, len(GOOD) - 1, len(GOOD)])
            peer.sock.sendall(GOOD[:size])
            chance.choice([peer.close, peer.reset, peer.finish])()
            peer.close()
        until(lambda: len(server.clients) == 2)


# --- bad frames ---

BAD_FRAMES = {
    "not masked": (wire(TEXT, b"hello"), 1002),
    "a reserved bit": (wire(TEXT, b"hello", masked=True, reserved=2), 1002),
    "compressed, and that was not agreed": (wire(TEXT, b"hello", masked=True, reserved=4), 1002),
    "an unknown opcode": (wire(5, b"hello", masked=True), 1002),
    "a continuation of nothing": (wire(CONTINUED, b"hello", masked=True), 1002),
    "two beginnings": (wire(TEXT, b"a", masked=True, fin=False) + wire(TEXT, b"b", masked=True), 1002),
    "a long ping": (wire(PING, b"x" * 126, masked=True), 1002),
    "a ping in pieces": (wire(PING, b"x", masked=True, fin=False), 1002),
    "a close of one byte": (wire(CLOSE, b"x", masked=True), 1002),
    "a close with a forbidden code": (wire(CLOSE, b"\x03\xee", masked=True), 1002),
    "a close whose reason is no text": (wire(CLOSE, b"\x03\xe8\xff", masked=True), 1007),
    "text that is none": (wire(TEXT, b"\xff", masked=True), 1007),
    "text in pieces that is none": (wire(TEXT, b"\xc3", masked=True, fin=False) + wire(CONTINUED, b"a", masked=True), 1007),
    "over max_size": (wire(BINARY, b"x" * 1001, masked=True), 1009),
    "over max_size in pieces": (wire(BINARY, b"x" * 600, masked=True, fin=False) + wire(CONTINUED, b"x" * 401, masked=True), 1009),
    "eight exabytes": (b"\x82\xff\x7f" + b"\xff" * 7 + b"mask", 1009),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", 1002),
}


@pytest.mark.parametrize("path", ["/", "/session"])
@pytest.mark.parametrize(("frames", "code"), BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_a_bad_frame_ends_its_sender_only(frames: bytes, code: int, path: str) -> None:
    diary = Diary()
    with serve(echo, diary, routes={"/session": serve_sessions}, max_size=1000) as server, connect(server, path) as neighbour:
        diary.next()
        with WebPeer.visiting(server, path) as peer:
            peer.put(TEXT, b"good")
            assert peer.get() == (0x81, b"good")
            peer.sock.sendall(frames)
            assert peer.the_close()[0] == code
            assert peer.get() is None
        reason = diary.reason()
        assert isinstance(reason, bus.Broken)
        assert "WebSocket" in str(reason)
        neighbour.send("unharmed")
        assert take(neighbour).text == "unharmed"


@pytest.mark.parametrize(
    ("frames", "code"), [(wire(TEXT, b"x", masked=True), 1002), (wire(TEXT, b"\xff"), 1007), (wire(BINARY, b"x" * 101), 1009)]
)
def test_a_server_that_breaks_the_rules_is_broken(frames: bytes, code: int) -> None:
    with web_pair(max_size=100) as (conn, peer):
        peer.put(TEXT, b"good")
        peer.sock.sendall(frames)
        assert take(conn).text == "good"
        with pytest.raises(bus.Broken, match="violated"):
            take(conn)
        assert peer.the_close()[0] == code
        assert conn.close_code == code


def test_a_session_learns_that_its_peer_broke_the_rules() -> None:
    learnt: list[BaseException] = []
    over = threading.Event()

    def handler(client: bus.Session) -> None:
        try:
            for _ in client:
                pass
        except bus.Broken as exc:
            learnt.append(exc)
        over.set()

    with serve(None, routes={"/": handler}) as server, WebPeer.visiting(server) as peer:
        peer.sock.sendall(wire(3, b"", masked=True))
        assert over.wait(WAIT)
    assert "violated" in str(learnt[0])


# --- the byte input ---


def noise(chance: random.Random) -> bytes:
    """What a server may be sent: nonsense, nearly a handshake, or a good one and then nearly frames."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(chance.randrange(200)) + chance.choice([b"", HEAD_END])
    frames = b""
    for _ in range(chance.randrange(6)):
        opcode = chance.choice([0, 1, 2, 2, 1, 8, 9, 10, chance.randrange(16)])
        payload = chance.choice([b"", b"text", b"\x03\xe8", chance.randbytes(chance.randrange(300))])
        masked, fin = chance.random() < 0.95, chance.random() < 0.8
        frames += wire(opcode, payload, masked=masked, fin=fin, reserved=chance.choice([0, 0, 0, 0, 0, chance.randrange(8)]))
    data = bytearray(GOOD + frames)
    if kind > 1:
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(GOOD) if kind == 2 else len(data))] = chance.randrange(256)
    return bytes(data[: chance.randrange(len(data))] if chance.random() < 0.2 else data)


@pytest.mark.parametrize("path", ["/", "/session"])
@pytest.mark.parametrize("seed", [1, 2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)])
def test_no_bytes_harm_the_server(seed: int, path: str, all_returns: object) -> None:
    chance = random.Random(seed)
    ended: list[bus.BusError] = []
    visits = 400 if seed > 2 else 60
    routes: dict[str, Any] = {"/": serve_sessions} if path == "/session" else {"/": echo}
    on_disconnect = lambda client, reason: ended.append(reason)  # noqa: E731
    with serve(None, routes=routes, max_size=1000, handshake_timeout=1, on_disconnect=on_disconnect, compression=True) as server:
        with neighbours(server):
            for _ in range(visits):
                with Peer.to(server.address) as peer:
                    data = noise(chance)
                    cut = chance.randrange(len(data) + 1)
                    try:
                        peer.sock.sendall(data[:cut])
                        peer.sock.sendall(data[cut:])
                        if chance.random() < 0.7:
                            peer.finish()
                            until_closed(peer)
                    except OSError:
                        pass  # it was sent away before it had said all
            until(lambda: len(server.clients) == 2, "the visitors go")
    assert all(isinstance(reason, bus.BusError) for reason in ended)


@pytest.mark.parametrize("seed", range(3))
def test_no_bytes_harm_a_client(seed: int, all_returns: object) -> None:
    chance = random.Random(seed)
    for _ in range(15):
        with web_pair(compression=chance.random() < 0.5, max_size=1000) as (conn, peer):
            with suppress(OSError):  # it was sent away before it had said all
                for _ in range(5):
                    opcode = chance.choice([0, 1, 2, 8, 9, 10, chance.randrange(16)])
                    peer.put(opcode, chance.randbytes(chance.randrange(200)), fin=chance.random() < 0.8)
                peer.sock.sendall(chance.randbytes(20))
                peer.finish()
            try:
                while conn.receive(timeout=WAIT) is not None:
                    pass
            except (bus.Broken, bus.PeerClosed):
                pass
            conn.close(linger=0.1)


# --- a peer that shakes hands and never reads ---


def test_sending_to_one_that_never_reads_is_bounded() -> None:
    with web_pair(receive_buffer=SMALL_BUFFER, outbox_bytes=100_000) as (conn, _):
        fill_up(conn)
        with pytest.raises(bus.NotSent):
            conn.send("x" * 65_536, timeout=0)
        assert InThread(lambda: conn.close(linger=0.1)).result() is False


def test_the_stall_watchdog_ends_one_that_never_reads() -> None:
    with web_pair(receive_buffer=SMALL_BUFFER, outbox_bytes=100_000, stall_timeout=0.3) as (conn, _):
        fill_up(conn)
        with pytest.raises(bus.Broken, match="not read"):
            take(conn)


def test_the_keepalive_does_not_wait_for_one_that_never_reads() -> None:
    with web_pair(receive_buffer=SMALL_BUFFER, outbox_bytes=100_000, ping_interval=0.02, ping_timeout=0.05) as (conn, _):
        with suppress(bus.Broken):  # the verdict may come before it is full
            fill_up(conn)
        assert conn.close(linger=0) is False
    diary = Diary()
    options: dict[str, Any] = {"outbox_bytes": 100_000, "ping_interval": 0.05, "ping_timeout": 0.2, "stall_timeout": 0.5}
    with serve(echo, diary, **options) as server, WebPeer.visiting(server, receive_buffer=SMALL_BUFFER):
        _, client, _ = diary.next()
        with neighbours(server):
            fill_up(client)
            assert isinstance(diary.reason(), bus.Broken)


def test_a_broadcast_skips_one_that_never_reads() -> None:
    total = 300
    with serve(outbox_bytes=200_000) as server, WebPeer.visiting(server, receive_buffer=SMALL_BUFFER), connect(server) as good:
        until(lambda: len(server.clients) == 2)
        stuck, healthy = server.clients if server.clients[1].remote_address == good.local_address else server.clients[::-1]
        assert fill_up(stuck) > 0
        for number in range(total):
            report = server.send_to_all(f"to all {number} " + "x" * 1000)
            assert healthy in report.taken + report.queued
            if number == total - 1:
                assert report.skipped == (stuck,)
            assert take(good).text.startswith(f"to all {number} ")
        assert server.stats().skipped > 0
        assert InThread(lambda: stuck.close(linger=0.1)).result() is False
        until(lambda: server.clients == [healthy])


def test_overflow_may_end_one_that_never_reads() -> None:
    diary = Diary()
    with serve(echo, diary, outbox_bytes=200_000, overflow="disconnect") as server:
        with WebPeer.visiting(server, receive_buffer=SMALL_BUFFER):
            _, client, _ = diary.next()
            fill_up(client)
            until(lambda: server.send_to_all("x" * 60_000) and not server.clients)
            assert isinstance(diary.reason(), bus.Broken)


def test_stopping_does_not_wait_for_one_that_never_reads(all_returns: object) -> None:
    with serve(outbox_bytes=200_000) as server, WebPeer.visiting(server, receive_buffer=SMALL_BUFFER):
        until(lambda: server.clients)
        fill_up(server.clients[0])
        assert not InThread(lambda: server.stop(linger=0.2)).result()


def test_a_session_handler_that_sends_to_one_that_never_reads_ends() -> None:
    outcome: list[BaseException] = []
    over = threading.Event()

    def handler(client: bus.Session) -> None:
        try:
            while True:
                client.send(b"x" * 60_000, timeout=0.05)
        except bus.NotSent as exc:
            outcome.append(exc)
            client.close(linger=0.1)
        finally:
            over.set()

    with serve(None, routes={"/": handler}, outbox_bytes=100_000) as server, WebPeer.visiting(server, receive_buffer=SMALL_BUFFER):
        assert over.wait(WAIT)
        assert isinstance(outcome[0], bus.NotSent)
        until(lambda: not server.clients)


def test_one_that_pings_and_never_reads_gets_no_pongs_without_end() -> None:
    with serve(outbox_bytes=50_000, stall_timeout=None) as server, WebPeer.visiting(server, receive_buffer=SMALL_BUFFER) as peer:
        until(lambda: server.clients)
        (client,) = server.clients
        flood = wire(PING, b"x" * 125, masked=True) * 500
        for _ in range(8):
            peer.sock.sendall(flood)
        assert client.stats().waiting_out <= 50_000 + 65_536
        with connect(server) as neighbour:
            neighbour.send("unharmed")
            assert take(neighbour).text == "unharmed"
        InThread(lambda: server.stop(linger=0.1)).result()


# --- a peer that comes and goes ---


@pytest.mark.parametrize("path", ["/", "/session"])
@pytest.mark.parametrize("way", ["finish", "reset", "close", "half a frame", "half a message"])
def test_who_leaves_without_a_word_is_a_break(way: str, path: str) -> None:
    diary = Diary()
    with serve(echo, diary, routes={"/session": serve_sessions}) as server, WebPeer.visiting(server, path) as peer:
        peer.put(TEXT, b"hello")
        assert peer.get() == (0x81, b"hello")
        if way == "half a frame":
            peer.sock.sendall(wire(TEXT, b"hello", masked=True)[:8])
        elif way == "half a message":
            peer.put(TEXT, b"half", fin=False)
        {"reset": peer.reset, "close": peer.close}.get(way, peer.finish)()
        assert isinstance(diary.reason(), bus.Broken)
        until(lambda: not server.clients)


def test_a_storm_of_short_and_broken_visits(all_returns: object) -> None:
    diary = Diary()
    chance = random.Random(7)
    leave: list[Callable[[WebPeer], None]] = [WebPeer.close, WebPeer.reset, WebPeer.say_close, lambda peer: peer.put(TEXT, b"", fin=False)]
    with serve(echo, diary, routes={"/session": serve_sessions}) as server:
        with neighbours(server):
            for _ in range(50):
                with WebPeer.visiting(server, chance.choice(["/", "/session"])) as peer:
                    if chance.random() < 0.5:
                        peer.put(TEXT, b"hello")
                    chance.choice(leave)(peer)
            for _ in range(50):
                assert isinstance(diary.reason(), bus.PeerClosed | bus.Broken)
            until(lambda: len(server.clients) == 2)


@pytest.mark.slow
def test_many_clients_come_talk_and_go(all_returns: object) -> None:
    with serve(routes={"/session": serve_sessions}) as server:

        def visit(number: int) -> None:
            for turn in range(10):
                with connect(server, "/session" if (number + turn) % 2 else "/") as conn:
                    for count in range(10):
                        conn.send(str(count))
                        assert take(conn).text == str(count)

        visits = [InThread(lambda number=number: visit(number)) for number in range(20)]  # type: ignore[misc]
        for each in visits:
            each.result()
        until(lambda: not server.clients)

"""Connection: what a script sees of one peer, in order, at once or late, and at the end."""

from __future__ import annotations

import dataclasses
import gc
import math
import select
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import bus
from actors.wakeup import PORTABLE
from tests.bus.peers import WAIT, InThread, Peer, fill_up, frame, pair, run_script, until

# --- what goes out and what comes in ---


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        ("hello", b"hello"),
        ("für 5 €", "für 5 €".encode()),
        ("", b""),
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abcdef")[::2], b"ace"),
        ({"action": "ping", "ä": [1, None]}, '{"action":"ping","ä":[1,null]}'.encode()),
        (bus.Message(b"forwarded", "elsewhere"), b"forwarded"),
    ],
)
def test_a_message_goes_out_as_its_bytes_in_one_frame(message: Any, wire: bytes) -> None:
    with pair() as (conn, peer):
        conn.send(message)
        assert peer.receive() == wire


@pytest.mark.parametrize("nothing", [None, 1, 1.5, True, ["a"], ("a",), {1, 2}, object()])
def test_what_is_no_message_is_a_type_error_that_names_the_type(nothing: Any) -> None:
    with pair() as (conn, peer):
        with pytest.raises(TypeError, match=type(nothing).__name__):
            conn.send(nothing)
        with pytest.raises(TypeError, match=type(nothing).__name__):
            conn.send_many(["good", nothing])
        conn.send("still in step")
        assert peer.receive() == b"still in step"


@pytest.mark.parametrize("message", ["\ud800", {"a": "\udfff"}, {"a": math.nan}, {"a": [math.inf]}])
def test_what_no_wire_can_carry_is_a_value_error(message: Any) -> None:
    with pair() as (conn, peer):
        with pytest.raises(ValueError):
            conn.send(message)
        conn.send("still in step")
        assert peer.receive() == b"still in step"


def test_keys_that_json_would_rename_are_refused() -> None:
    with pair() as (conn, _), pytest.raises(TypeError, match="int"):
        conn.send({"a": [{1: "one"}]})


def test_a_received_message_is_true_and_tells_what_it_is() -> None:
    with pair() as (conn, peer):
        peer.send(b"", '{"n": 1, "t": "ü"}'.encode(), b"\xff")
        empty, document, binary = conn.receive(), conn.receive(), conn.receive()
        assert empty
        assert (empty.data, empty.text) == (b"", "")
        assert document.json() == {"n": 1, "t": "ü"}
        assert document.source == conn.remote_address
        with pytest.raises(UnicodeDecodeError):
            _ = binary.text
        with pytest.raises(ValueError):
            binary.json()


def test_both_ends_agree_on_their_addresses() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener, bus.connect(f"tcp://{listener.address}") as near:
        with listener.accept() as far:
            assert near.remote_address == far.local_address == listener.address
            assert near.local_address == far.remote_address


def test_messages_keep_their_order_through_every_way_of_sending() -> None:
    with pair() as (conn, peer):
        conn.send("0")
        conn.send_many(str(n) for n in range(1, 500))
        conn.send("500")
        assert [peer.receive() for _ in range(501)] == [str(n).encode() for n in range(501)]


def test_send_many_of_nothing_is_nothing() -> None:
    with pair() as (conn, peer):
        conn.send_many([])
        conn.send("after")
        assert peer.receive() == b"after"


@pytest.mark.parametrize("size", [1, 65_531, 65_532, 65_533, 262_144, 5 * 2**20])
def test_a_message_of_any_size_makes_the_round_trip(size: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    payload = payload[:size]
    with bus.listen("tcp://127.0.0.1:0") as listener, bus.connect(f"tcp://{listener.address}") as near:
        with listener.accept() as far:
            sending = InThread(lambda: near.send(payload))
            received = far.receive(timeout=WAIT)
            sending.result()
            assert received is not None
            assert received.data == payload


def test_frames_of_many_threads_never_interleave() -> None:
    threads, each = 4, 400
    with pair() as (conn, peer):

        def send(sender: int) -> None:
            for number in range(each):
                conn.send(f"{sender} {number} ".encode() + b"." * (number * 7 % 3000))

        sending = [InThread(lambda sender=sender: send(sender)) for sender in range(threads)]  # type: ignore[misc]
        last = dict.fromkeys(range(threads), -1)
        for _ in range(threads * each):
            message = peer.receive()
            assert message is not None
            sender, number, dots = message.split(b" ")
            assert int(number) == last[int(sender)] + 1
            assert dots == b"." * (int(number) * 7 % 3000)
            last[int(sender)] += 1
        for each_sending in sending:
            each_sending.result()


def test_threads_that_receive_together_share_the_messages() -> None:
    total = 2000
    with pair() as (conn, peer):

        def receive() -> list[int]:
            return [int(message.text) for message in conn]

        receiving = [InThread(receive) for _ in range(3)]
        for number in range(total):
            peer.send(b"%d" % number)
        peer.finish()
        shares = [each.result() for each in receiving]
        assert sorted(number for share in shares for number in share) == list(range(total))
        for share in shares:
            assert share == sorted(share)


@pytest.mark.parametrize("framing", ["etx", "lines", "raw"])
def test_the_other_framings(framing: Any) -> None:
    ends = {"etx": b"\x03", "lines": b"\n", "raw": b""}[framing]
    with pair(framing=framing) as (conn, peer):
        conn.send("hello")
        assert peer.read(5 + len(ends)) == b"hello" + ends
        peer.sock.sendall(b"one" + ends)
        assert conn.receive().data == b"one"
        peer.sock.sendall(b"two" + ends + (b"three" + ends if ends else b""))
        assert conn.receive().data == b"two"
        if ends:
            assert conn.receive().data == b"three"
            with pytest.raises(ValueError, match=framing):
                conn.send(b"a" + ends + b"b")


def test_lines_may_end_as_windows_ends_them() -> None:
    with pair(framing="lines") as (conn, peer):
        peer.sock.sendall(b"one\r\ntwo\n\r\n")
        assert [conn.receive().data for _ in range(3)] == [b"one", b"two", b""]


def test_an_unknown_framing_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'xml'"):
        bus.connect("tcp://127.0.0.1:1", framing="xml")  # type: ignore[arg-type]


# --- timeouts ---


def test_no_message_within_the_timeout_is_none() -> None:
    with pair() as (conn, peer):
        assert conn.receive(timeout=0) is None
        assert conn.receive(timeout=0.01) is None
        assert conn.receive(timeout=1e-9) is None
        peer.send(b"late")
        message = conn.receive(timeout=WAIT)
        assert message is not None
        assert message.data == b"late"


def test_polling_finds_what_has_arrived() -> None:
    with pair() as (conn, peer):
        for number in range(50):
            peer.send(b"%d" % number)
            # Where a script reads its socket itself, what is in the kernel is there; else what the reader thread has read.
            until(lambda: conn.stats().waiting_in or (not PORTABLE and select.select([conn._actor.reader.sock], [], [], 0)[0]))
            message = conn.receive(timeout=0)
            assert message is not None, "a poll passes over a message that is there"
            assert message.data == b"%d" % number


@pytest.mark.parametrize("timeout", [-1, -0.001, -math.inf, math.nan])
def test_a_timeout_of_less_than_nothing_is_a_value_error(timeout: float) -> None:
    with pair() as (conn, peer):
        peer.send(b"still here")
        for call in (
            lambda: conn.receive(timeout),
            lambda: conn.send("x", timeout),
            lambda: conn.send_many(["x"], timeout),
            lambda: conn.close(timeout),
            lambda: bus.receive_any([conn], timeout),
            lambda: bus.connect(f"tcp://{conn.remote_address}", timeout=timeout),
            lambda: bus.connect(f"tcp://{conn.remote_address}", stall_timeout=timeout),
            lambda: bus.shutdown(timeout),
        ):
            with pytest.raises(ValueError):
                call()
        assert conn.receive().data == b"still here"


@pytest.mark.parametrize("timeout", [True, False, "1", b"1", [1], 1j])
def test_a_timeout_that_is_no_number_is_a_type_error(timeout: Any) -> None:
    with pair() as (conn, peer):
        peer.send(b"still here")
        for call in (
            lambda: conn.receive(timeout),
            lambda: conn.send("x", timeout),
            lambda: conn.send_many(["x"], timeout),
            lambda: conn.close(timeout),
            lambda: bus.receive_any([conn], timeout),
            lambda: bus.connect(f"tcp://{conn.remote_address}", timeout=timeout),
            lambda: bus.connect(f"tcp://{conn.remote_address}", stall_timeout=timeout),
            lambda: bus.shutdown(timeout),
        ):
            with pytest.raises(TypeError):
                call()
        assert conn.receive().data == b"still here"


@pytest.mark.parametrize("timeout", [1e9, 1e300, math.inf, pytest.param(10**400, id="10**400")])
def test_a_huge_timeout_is_as_good_as_any(timeout: float) -> None:
    with pair(stall_timeout=timeout, timeout=timeout) as (conn, peer):
        receiving = InThread(lambda: conn.receive(timeout)).until_blocked()
        peer.send(b"there")
        message = receiving.result()
        assert message is not None
        assert message.data == b"there"
        conn.send("hi", timeout)
        assert peer.receive() == b"hi"
        peer.close()
        assert conn.close(timeout)


def test_connecting_takes_more_than_no_time() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener, pytest.raises(ValueError, match="over 0"):
        bus.connect(f"tcp://{listener.address}", timeout=0)


def test_a_timeout_inside_a_frame_loses_nothing() -> None:
    payload = bytes(range(256)) * 40
    wire = frame(payload)
    with pair() as (conn, peer):
        for start in range(0, len(wire), 1000):
            assert conn.receive(timeout=0.001) is None
            peer.sock.sendall(wire[start : start + 1000])
        message = conn.receive(timeout=WAIT)
        assert message is not None
        assert message.data == payload


# --- how it ends ---


def test_everything_comes_before_the_peers_goodbye() -> None:
    with pair() as (conn, peer):
        peer.send(*(b"%d" % number for number in range(3000)))
        peer.close()
        for number in range(3000):
            assert conn.connected()
            assert conn.receive().data == b"%d" % number
        for _ in range(3):
            with pytest.raises(bus.PeerClosed) as caught:
                conn.receive(timeout=WAIT)
        assert caught.value.address == conn.remote_address
        assert isinstance(caught.value, ConnectionError)
        assert not conn.connected()


def test_connected_until_the_last_message_is_taken() -> None:
    with pair() as (conn, peer):
        assert conn.connected()
        peer.send(b"last")
        peer.close()
        until(lambda: conn.stats().waiting_in)
        assert conn.connected()
        assert conn.receive().data == b"last"
        until(lambda: not conn.connected())
        with pytest.raises(bus.PeerClosed):
            conn.send("too late")


def test_connected_notices_the_end_without_a_receive() -> None:
    with pair() as (conn, peer):
        peer.close()
        until(lambda: not conn.connected())


def test_iteration_ends_when_the_peer_closes_in_order() -> None:
    with pair() as (conn, peer):
        peer.send(b"a", b"b", b"c")
        peer.close()
        assert [message.data for message in conn] == [b"a", b"b", b"c"]
        assert list(conn) == []


def test_iteration_over_a_broken_connection_says_so() -> None:
    with pair() as (conn, peer):
        peer.reset()
        with pytest.raises(bus.Broken, match="reset"):
            list(conn)


def test_iteration_after_ones_own_close_says_so() -> None:
    with pair() as (conn, peer):
        peer.send(b"a")
        conn.close(0.05)
        with pytest.raises(bus.Closed):
            list(conn)


def test_a_reset_is_broken_and_keeps_its_cause() -> None:
    with pair() as (conn, peer):
        peer.send(b"before")
        until(lambda: conn.stats().waiting_in)
        peer.reset()
        assert conn.receive().data == b"before"
        with pytest.raises(bus.Broken, match="reset") as caught:
            conn.receive()
        assert isinstance(caught.value, ConnectionError)
        assert isinstance(caught.value.__cause__, ConnectionResetError)
        assert caught.value.errno == caught.value.__cause__.errno
        assert not conn.connected()
        with pytest.raises(bus.Broken, match="reset"):
            conn.send("anyone?")


@pytest.mark.parametrize("wire", [b"\x00", b"\x00\x00\x00", b"\x00\x00\x00\x05", b"\x00\x00\x00\x05four"])
def test_an_end_inside_a_message_is_broken_and_counted(wire: bytes) -> None:
    with pair() as (conn, peer):
        peer.sock.sendall(frame(b"whole") + wire)
        peer.close()
        assert conn.receive().data == b"whole"
        with pytest.raises(bus.Broken, match=f"{len(wire)} bytes"):
            conn.receive()
        assert conn.stats().dropped == len(wire)


@pytest.mark.parametrize("framing", ["etx", "lines"])
def test_a_last_line_without_its_end_is_no_message(framing: Any) -> None:
    with pair(framing=framing) as (conn, peer):
        peer.sock.sendall(b"half a li")
        peer.close()
        with pytest.raises(bus.Broken, match="9 bytes"):
            conn.receive()


def test_what_came_before_the_peers_fin_can_still_be_answered() -> None:
    with pair() as (conn, peer):
        peer.send(b"question")
        peer.finish()
        assert conn.receive().data == b"question"
        conn.send("answer")
        assert peer.receive() == b"answer"
        with pytest.raises(bus.PeerClosed):
            conn.receive()
        assert peer.receive() is None
        with pytest.raises(bus.PeerClosed):
            conn.send("nobody asked")


def test_sending_to_a_peer_that_is_gone_comes_to_an_error() -> None:
    with pair() as (conn, peer):
        peer.close()

        def refused() -> bool:
            try:
                conn.send("are you there?")
            except (bus.PeerClosed, bus.Broken):
                return True
            return False

        until(refused)
        assert refused(), "once it has failed it fails for good"


def test_each_failure_has_a_traceback_of_its_own() -> None:
    with pair() as (conn, peer):
        peer.close()
        with pytest.raises(bus.PeerClosed) as first:
            conn.receive()
        with pytest.raises(bus.PeerClosed) as second:
            conn.receive()
        assert first.value is not second.value


# --- a peer that does not read ---


def test_over_the_outbox_send_fails_with_nothing_taken_and_recovers() -> None:
    payload = b"x" * 10_000
    with pair(outbox_bytes=200_000) as (conn, peer):
        taken = fill_up(conn, payload)
        with pytest.raises(bus.NotSent) as caught:
            conn.send(payload, timeout=0.01)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.address == conn.remote_address
        assert conn.stats().waiting_out
        assert conn.stats().messages_out == taken
        assert conn.connected(), "a slow peer is no dead one"

        sending = InThread(lambda: conn.send(payload, timeout=WAIT)).until_blocked()
        for _ in range(taken + 1):
            assert peer.receive() == payload
        sending.result()
        conn.send("as ever")
        assert peer.receive() == b"as ever"
        assert conn.stats().waiting_out == 0


def test_send_many_tells_how_many_were_taken() -> None:
    with pair(outbox_bytes=100_000) as (conn, peer):
        messages = [b"%06d" % number * 1000 for number in range(5000)]
        with pytest.raises(bus.NotSent) as caught:
            conn.send_many(messages, timeout=0.05)
        accepted = caught.value.accepted
        assert 0 < accepted < len(messages)
        assert conn.stats().messages_out == accepted
        rest = InThread(lambda: conn.send_many(messages[accepted:], timeout=None))
        for message in messages:
            assert peer.receive() == message
        rest.result()


def test_a_message_larger_than_the_outbox_fits_when_it_is_empty() -> None:
    with pair(outbox_bytes=1000, receive_buffer=8192) as (conn, peer):
        conn.send(b"x" * 12_000_000, timeout=0)
        with pytest.raises(bus.NotSent):
            conn.send(b"y", timeout=0)
        assert peer.receive() == b"x" * 12_000_000
        conn.send(b"y", timeout=WAIT)
        assert peer.receive() == b"y"


def test_bytes_that_wait_are_copies() -> None:
    with pair(outbox_bytes=8_000_000) as (conn, peer):
        buffer = bytearray(b"a" * 6_000_000)
        conn.send(buffer)
        assert conn.stats().waiting_out
        buffer[:] = b"b" * len(buffer)
        assert peer.receive() == b"a" * len(buffer)


def test_a_peer_that_takes_nothing_is_given_up_after_stall_timeout() -> None:
    with pair(stall_timeout=0.2) as (conn, _):
        with suppress(bus.Broken):  # on a busy machine it is given up before it is full
            fill_up(conn)
        with pytest.raises(bus.Broken, match="has not read for 0.2 s"):
            conn.receive(timeout=WAIT)
        with pytest.raises(bus.Broken, match=r"has not read for 0\.2 s"):
            conn.send("x", timeout=WAIT)
        assert conn.stats().unsent > 0


def test_a_send_that_waits_learns_that_the_peer_is_given_up() -> None:
    with pair(stall_timeout=0.3) as (conn, _):
        with pytest.raises(bus.Broken, match="has not read"):
            fill_up(conn)
            conn.send(b"x" * 65_536, timeout=None)


def test_without_stall_timeout_nobody_is_given_up() -> None:
    with pair(stall_timeout=None) as (conn, peer):
        taken = fill_up(conn)
        assert conn.receive(timeout=0.1) is None
        assert len([peer.receive() for _ in range(taken)]) == taken


def test_a_slow_reader_is_no_stalled_one() -> None:
    with pair(stall_timeout=0.3, receive_buffer=8192) as (conn, peer):
        conn.send(b"x" * 3_000_000)
        done = threading.Event()

        def trickle() -> None:
            # 2 KiB in every tenth of the stall time: far from fast, and alive.
            while len(peer.sock.recv(2048)) and not done.wait(0.03):
                pass

        trickling = InThread(trickle)
        assert conn.receive(timeout=1.2) is None
        assert conn.connected()
        done.set()
        trickling.result()
        peer.reset()


# --- limits ---


def test_a_message_over_max_size_is_not_sent_and_ends_nothing() -> None:
    with pair(max_size=1000) as (conn, peer):
        with pytest.raises(bus.TooLarge, match="1001 bytes.*max_size=1000") as caught:
            conn.send(b"x" * 1001)
        assert isinstance(caught.value, ValueError)
        with pytest.raises(bus.TooLarge):
            conn.send_many([b"x" * 10, b"x" * 1001])
        conn.send(b"y" * 1000)
        assert peer.receive() == b"y" * 1000


def test_a_frame_over_max_size_ends_the_connection_after_what_was_good() -> None:
    with pair(max_size=1000) as (conn, peer):
        peer.sock.sendall(frame(b"good") + frame(b"x" * 1000) + frame(b"x" * 1001))
        assert conn.receive().data == b"good"
        assert conn.receive().data == b"x" * 1000
        with pytest.raises(bus.Broken, match="1001 bytes is over max_size=1000"):
            conn.receive()


def test_a_mailbox_that_is_full_stops_the_sender_and_loses_nothing() -> None:
    total = 5000
    with pair(mailbox_messages=10, mailbox_bytes=20_000) as (conn, peer):
        def send_all() -> None:
            for number in range(total):
                peer.send(b"%06d" % number * 500)

        sending = InThread(send_all)
        until(lambda: conn.stats().waiting_in >= 6)
        for number in range(total):
            assert conn.receive().data == b"%06d" % number * 500
        sending.result()


@pytest.mark.parametrize("name", ["max_size", "mailbox_messages", "mailbox_bytes", "outbox_bytes"])
def test_a_limit_is_a_positive_whole_number(name: str) -> None:
    for value, error in ((0, ValueError), (-1, ValueError), (True, TypeError), (1.5, TypeError), ("1", TypeError), (None, TypeError)):
        verbs: tuple[Callable[..., object], ...] = (bus.connect, bus.listen)
        for verb in verbs:
            with pytest.raises(error, match=name):
                verb("tcp://127.0.0.1:1", **{name: value})


# --- close ---


def test_close_tells_whether_the_peers_tcp_took_everything() -> None:
    with pair() as (conn, peer):
        conn.send(b"x" * 100_000)
        assert peer.receive() == b"x" * 100_000
        peer.close()
        assert conn.close()
        assert conn.close(), "closing twice is nothing"


def test_close_returns_once_the_peers_tcp_has_all_although_its_script_is_asleep() -> None:
    with pair() as (conn, peer):
        conn.send("hello")
        assert conn.close()
        assert peer.receive_all() == [b"hello"]


def test_close_admits_what_did_not_get_out() -> None:
    with pair() as (conn, _):
        fill_up(conn)
        assert not conn.close(linger=0.1)
        assert conn.stats().unsent > 0
        assert not conn.close()


def test_what_was_sent_right_before_close_arrives_whole_at_a_slow_reader() -> None:
    megabyte = bytes(range(256)) * 4096
    with pair(receive_buffer=8192, mailbox_messages=1, mailbox_bytes=1) as (conn, peer):
        # Input that nobody reads: a plain close would answer it with a reset, which destroys what is on its way to the peer.
        peer.send(*[b"unread" * 1000] * 20)
        until(lambda: conn.stats().waiting_in)
        conn.send(megabyte)
        closing = InThread(lambda: conn.close(linger=WAIT))
        received = bytearray()
        while chunk := peer.sock.recv(5000):
            received += chunk
        assert received == frame(megabyte)
        peer.close()
        assert closing.result()


def test_after_close_everything_says_that_it_was_closed_here() -> None:
    with pair() as (conn, peer):
        peer.send(b"unread")
        until(lambda: conn.stats().waiting_in)
        conn.close(linger=0)
        for call in (
            lambda: conn.send("x"),
            lambda: conn.send_many(["x"]),
            conn.receive,
            lambda: conn.receive(timeout=0),
            lambda: next(conn),
            lambda: bus.receive_any([conn], timeout=0),
        ):
            with pytest.raises(bus.Closed, match="closed by this program"):
                call()
        assert not conn.connected()


def test_the_context_manager_closes() -> None:
    with pair() as (conn, peer):
        with conn as same:
            assert same is conn
            conn.send("bye")
        assert peer.receive_all() == [b"bye"]


def test_a_dropped_connection_closes_with_a_warning() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener:
        conn = bus.connect(f"tcp://{listener.address}")
        with listener.accept() as far:
            conn.send("bye")
            with pytest.warns(ResourceWarning, match="was not closed"):
                del conn
                gc.collect()
            assert [message.text for message in far] == ["bye"]


def test_a_closed_connection_is_dropped_without_a_warning() -> None:
    with pair() as (conn, _):
        conn.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del conn
        gc.collect()


# --- what can be asked ---


def test_stats_count_messages_and_bytes_and_can_not_be_changed() -> None:
    with pair() as (conn, peer):
        assert conn.stats() == bus.Stats()
        conn.send("four")
        conn.send_many(["a", "b"])
        peer.send(b"12345", b"678")
        until(lambda: conn.stats().waiting_in == 2)
        conn.receive()
        stats = conn.stats()
        assert (stats.messages_out, stats.bytes_out) == (3, 4 + 2 + 3 * 4)
        assert (stats.messages_in, stats.bytes_in, stats.waiting_in) == (2, 8, 1)
        with pytest.raises(dataclasses.FrozenInstanceError):
            stats.lost = 5  # type: ignore[misc]


def test_the_repr_says_what_to_whom_in_which_state() -> None:
    with pair() as (conn, peer):
        assert repr(conn) == f"<Connection {conn.local_address} to {conn.remote_address} connected, 0 waiting>"
        peer.send(b"x")
        until(lambda: "1 waiting" in repr(conn))
        peer.close()
        until(lambda: "ended" in repr(conn))
        assert "closed the connection" in repr(conn)
        conn.close()
        assert "closed, 0 waiting" in repr(conn)


def test_fileno_is_readable_exactly_while_receive_would_not_wait() -> None:
    def readable() -> bool:
        return bool(select.select([conn], [], [], 0)[0])

    with pair() as (conn, peer):
        assert not readable()
        peer.send(b"a", b"b")
        assert select.select([conn], [], [], WAIT)[0] == [conn]
        until(lambda: conn.stats().waiting_in == 2)
        conn.receive()
        assert readable()
        conn.receive()
        assert not readable()
        peer.close()
        assert select.select([conn], [], [], WAIT)[0] == [conn]
        with pytest.raises(bus.PeerClosed):
            conn.receive()
        assert readable(), "the end can be received again and again"


def test_fileno_serves_after_direct_reads_too() -> None:
    with pair() as (conn, peer):
        for number in range(20):
            peer.send(b"%d" % number)
            assert conn.receive().data == b"%d" % number
        conn.fileno()
        peer.send(b"selected")
        assert select.select([conn], [], [], WAIT)[0] == [conn]
        assert conn.receive(timeout=0) is not None


# --- addresses and connecting ---


@pytest.mark.parametrize("threads", [None, "own"])
def test_a_reader_thread_of_its_own_changes_nothing_else(threads: Any) -> None:
    with pair(threads=threads) as (conn, peer):
        for number in range(100):
            conn.send(b"%d" % number)
            peer.send(peer.receive() or b"")
            assert conn.receive().data == b"%d" % number


def test_nobody_there_is_connect_failed() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener:
        address = listener.address
    with pytest.raises(bus.ConnectFailed, match=f"{address}.*refused") as caught:
        bus.connect(f"tcp://{address}")
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize(
    ("verb", "url", "said"),
    [
        ("connect", "127.0.0.1:80", "no scheme"),
        ("connect", "tcp://127.0.0.1", "host and a port"),
        ("connect", "tcp://127.0.0.1:0", "port 0"),
        ("connect", "tcp://127.0.0.1:99999", "0 to 65535"),
        ("connect", "tcp://:80", "no host"),
        ("connect", "tcp://::1:80", "brackets"),
        ("connect", "gopher://x:1", "unknown scheme 'gopher'"),
        ("connect", "unix://", "no path"),
        ("listen", "udp://127.0.0.1:0", "bind"),
        ("serve", "udp://127.0.0.1:0", "bind"),
        ("bind", "tcp://127.0.0.1:0", "listen"),
        ("join", "tcp://127.0.0.1:0", "listen"),
        ("bind", "unix:///tmp/x", "listen"),
    ],
)
def test_an_address_that_can_not_mean_this_is_told_what_would(verb: str, url: str, said: str) -> None:
    arguments = [print] if verb == "serve" else []
    with pytest.raises(bus.BadAddress, match=said) as caught:
        getattr(bus, verb)(url, *arguments)
    assert isinstance(caught.value, ValueError)


def test_a_password_is_never_repeated() -> None:
    with pytest.raises(bus.BadAddress) as caught:
        bus.connect("tcp://anna:s3cret@127.0.0.1:80")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(caught.value)


@pytest.mark.parametrize("address", [None, 8080, b"tcp://127.0.0.1:1", ("127.0.0.1", 80)])
def test_an_address_is_a_str(address: Any) -> None:
    for verb in (bus.connect, bus.listen, bus.bind, bus.join):
        with pytest.raises(TypeError, match=type(address).__name__):
            verb(address)


def test_a_name_that_nobody_knows_fails_within_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not by asking a name server: what a machine answers for an unknown name is its own affair.
    import socket

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(bus.ConnectFailed, match="no address for the name 'nowhere.example'"):
        bus.connect("tcp://nowhere.example:80", timeout=WAIT)


def test_a_name_server_that_never_answers_costs_no_more_than_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    release = threading.Event()

    def hangs(host: str, port: int, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0) -> None:
        if not flags & socket.AI_NUMERICHOST:
            release.wait(WAIT)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    try:
        with pytest.raises(bus.ConnectTimeout, match=r"slow\.example"):
            bus.connect("tcp://slow.example:80", timeout=0.1)
    finally:
        release.set()


def test_localhost_has_a_name() -> None:
    with bus.listen("tcp://localhost:0") as listener:
        port = listener.address.rpartition(":")[2]
        with bus.connect(f"tcp://localhost:{port}") as conn, listener.accept() as far:
            conn.send("hi")
            assert far.receive().text == "hi"


def test_a_connection_can_be_used_without_ever_closing_it_in_a_script() -> None:
    printed = run_script(
        """
import bus, sys, warnings
warnings.simplefilter("ignore")
listener = bus.listen("tcp://127.0.0.1:0")
conn = bus.connect("tcp://" + listener.address)
peer = listener.accept()
conn.send("hello")
print(peer.receive().text)
"""
    )
    assert printed == "hello\n"


def test_a_plain_peer_over_ipv6() -> None:
    try:
        listener = bus.listen("tcp://[::1]:0")
    except OSError as exc:
        pytest.skip(f"this machine has no IPv6 on loopback: {exc}")
    with listener, Peer.to(listener.address) as peer, listener.accept() as conn:
        assert listener.address.startswith("[::1]:")
        assert conn.local_address == listener.address
        peer.send(b"six")
        assert conn.receive().data == b"six"

"""Closing from elsewhere: whatever blocks ends at once, whoever closes; and an interpreter that exits sends what it accepted."""

from __future__ import annotations

import gc
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import bus
from tests.bus.peers import ROOT, WAIT, InThread, Peer, fill_up, pair, python, run_script, until
from tests.bus.test_group import fresh_group, join

BIG = b"x" * 65_536

# --- what blocks: the object, and the call ---

Blocked = tuple[Any, Callable[[], object]]


@contextmanager
def connection(**options: Any) -> Iterator[bus.Connection]:
    with pair(receive_buffer=8192, **options) as (conn, _):
        yield conn


@contextmanager
def receive() -> Iterator[Blocked]:
    with connection() as conn:
        yield conn, conn.receive


@contextmanager
def receive_with_a_timeout() -> Iterator[Blocked]:
    with connection() as conn:
        yield conn, lambda: conn.receive(timeout=10 * WAIT)


@contextmanager
def receive_after_some_messages() -> Iterator[Blocked]:
    with pair() as (conn, peer):
        for _ in range(3):
            peer.send(b"x")
            conn.receive()
        yield conn, conn.receive


@contextmanager
def receive_after_fileno() -> Iterator[Blocked]:
    with connection() as conn:
        conn.fileno()
        yield conn, conn.receive


@contextmanager
def receive_inside_a_frame() -> Iterator[Blocked]:
    with pair() as (conn, peer):
        peer.sock.sendall(b"\x00\x00\x00\x09half")
        yield conn, conn.receive


@contextmanager
def iteration() -> Iterator[Blocked]:
    with connection() as conn:
        yield conn, lambda: list(conn)


@contextmanager
def receive_on_its_own_thread() -> Iterator[Blocked]:
    with connection(threads="own") as conn:
        yield conn, conn.receive


@contextmanager
def send() -> Iterator[Blocked]:
    with connection() as conn:
        fill_up(conn, BIG)
        yield conn, lambda: conn.send(BIG, timeout=None)


@contextmanager
def send_many() -> Iterator[Blocked]:
    with connection() as conn:
        yield conn, lambda: conn.send_many([BIG] * 1000, timeout=None)


@contextmanager
def accept() -> Iterator[Blocked]:
    with bus.listen("tcp://127.0.0.1:0") as listener:
        yield listener, listener.accept


@contextmanager
def accept_in_a_loop() -> Iterator[Blocked]:
    with bus.listen("tcp://127.0.0.1:0") as listener:
        yield listener, lambda: list(listener)


@contextmanager
def datagram() -> Iterator[Blocked]:
    with bus.bind("udp://127.0.0.1:0") as sock:
        yield sock, sock.receive


@contextmanager
def connected_datagram() -> Iterator[Blocked]:
    with bus.bind("udp://127.0.0.1:0") as sock, bus.connect(f"udp://{sock.address}") as conn:
        yield conn, conn.receive


@contextmanager
def group() -> Iterator[Blocked]:
    with join(fresh_group()) as member:
        yield member, member.receive


@contextmanager
def any_of_connections() -> Iterator[Blocked]:
    with connection() as first, connection() as second:
        yield second, lambda: bus.receive_any([first, second])


@contextmanager
def any_of_all_kinds() -> Iterator[Blocked]:
    with connection() as conn, bus.bind("udp://127.0.0.1:0") as sock, join(fresh_group()) as member:
        yield sock, lambda: bus.receive_any([conn, sock, member])


@contextmanager
def send_to_a_client() -> Iterator[Blocked]:
    with bus.serve("tcp://127.0.0.1:0", print) as server, Peer.to(server.address, receive_buffer=8192):
        until(lambda: server.clients)
        (client,) = server.clients
        fill_up(client, BIG)
        yield client, lambda: client.send(BIG, timeout=None)


every_blocking_call = pytest.mark.parametrize(
    "blocking",
    [
        receive,
        receive_with_a_timeout,
        receive_after_some_messages,
        receive_after_fileno,
        receive_inside_a_frame,
        iteration,
        receive_on_its_own_thread,
        send,
        send_many,
        accept,
        accept_in_a_loop,
        datagram,
        connected_datagram,
        group,
        any_of_connections,
        any_of_all_kinds,
        send_to_a_client,
    ],
    ids=lambda blocking: blocking.__name__,
)


@every_blocking_call
def test_a_close_from_another_thread_ends_it(blocking: Callable[[], Any]) -> None:
    with blocking() as (thing, call):
        waiting = InThread(call).until_blocked()
        thing.close(0.1)
        with pytest.raises(bus.Closed):
            waiting.result()


@every_blocking_call
def test_it_never_starts_to_wait_for_what_is_closed(blocking: Callable[[], Any]) -> None:
    with blocking() as (thing, call):
        thing.close(0.1)
        with pytest.raises(bus.Closed):
            InThread(call).result()


@every_blocking_call
def test_a_close_ends_every_thread_that_waits(blocking: Callable[[], Any]) -> None:
    with blocking() as (thing, call):
        waiting = [InThread(call) for _ in range(4)]
        for each in waiting:
            each.until_blocked()
        thing.close(0.1)
        for each in waiting:
            with pytest.raises(bus.Closed):
                each.result()


@pytest.mark.parametrize("blocking", [receive, receive_after_some_messages, any_of_connections, accept, datagram], ids=lambda b: b.__name__)
def test_a_close_at_any_moment_ends_it(blocking: Callable[[], Any]) -> None:
    # Not blocked yet, just blocking, about to borrow the socket: no round waits for the thread to come to rest.
    for _ in range(25):
        with blocking() as (thing, call):
            waiting = InThread(call)
            thing.close(0)
            with pytest.raises(bus.Closed):
                waiting.result()


def test_stopping_a_server_ends_who_waits_for_it() -> None:
    with bus.serve("tcp://127.0.0.1:0", print) as server:
        waiting = [InThread(server.wait), InThread(lambda: server.wait(timeout=10 * WAIT))]
        for each in waiting:
            each.until_blocked()
        server.stop()
        assert [each.result() for each in waiting] == [True, True]


def test_two_threads_may_close_at_once() -> None:
    for _ in range(20):
        with pair() as (conn, peer):
            conn.send("bye")
            closing = [InThread(conn.close) for _ in range(3)]
            assert peer.receive_all() == [b"bye"]
            peer.close()
            assert [each.result() for each in closing] == [True] * 3


def test_a_receiver_never_gets_the_next_sockets_bytes() -> None:
    # The number of a closed descriptor is given out again at once. Whoever polled the old one must not read the new one.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = "tcp://{}:{}".format(*listening.getsockname())
        for number in range(60):
            with ExitStack() as stack:
                old = stack.enter_context(bus.connect(url))
                old_peer = stack.enter_context(Peer(listening.accept()[0]))
                waiting = InThread(old.receive)
                if number % 2:
                    waiting.until_blocked()
                old_peer.close()
                old.close(0)
                new = stack.enter_context(bus.connect(url))
                new_peer = stack.enter_context(Peer(listening.accept()[0]))
                stack.callback(new_peer.close)
                new_peer.send(b"for the new one")
                with pytest.raises((bus.Closed, bus.PeerClosed)):
                    waiting.result()
                message = new.receive(timeout=WAIT)
                assert message is not None
                assert message.data == b"for the new one"


def test_closing_a_connection_that_nobody_reads_returns_within_linger(all_returns: object) -> None:
    with connection() as conn:
        fill_up(conn)
        assert conn.close(linger=0.05) is False


def test_a_peer_that_goes_while_we_close_ends_the_waiting() -> None:
    with connection() as conn, pair(receive_buffer=8192) as (other, peer):
        fill_up(other)
        closing = InThread(lambda: other.close(linger=10 * WAIT)).until_blocked()
        peer.reset()
        assert closing.result() is False
        conn.close(0)


def test_a_peer_that_resets_what_was_sent_last_ends_the_waiting() -> None:
    # All is written, the peer's program is gone, and its kernel answers the last bytes with a reset: nobody will ever acknowledge them.
    for _ in range(20):
        with pair() as (conn, peer):
            peer.close()
            try:
                conn.send("to nobody")
            except (bus.PeerClosed, bus.Broken):
                continue
            InThread(lambda: conn.close(linger=10 * WAIT)).result()


# --- the library's own end ---


def test_shutdown_ends_whatever_blocks_and_the_library_goes_on_afterwards() -> None:
    printed = run_script(
        """
import bus, threading
from tests.bus.peers import InThread
listener = bus.listen("tcp://127.0.0.1:0")
server = bus.serve("tcp://127.0.0.1:0", lambda msg, client: msg)
conn = bus.connect("tcp://" + server.address)
sock = bus.bind("udp://127.0.0.1:0")
calls = [InThread(call).until_blocked() for call in (listener.accept, conn.receive, sock.receive, server.wait)]
print(bus.shutdown(timeout=20))
for call in calls:
    try:
        print(call.result())
    except bus.BusError as exc:
        print(type(exc).__name__)
print([thread.name for thread in threading.enumerate() if "actorbus" in thread.name])
with bus.serve("tcp://127.0.0.1:0", lambda msg, client: msg) as again, bus.connect("tcp://" + again.address) as conn:
    conn.send("alive")
    print(conn.receive(timeout=20).text)
"""
    )
    ended, accepted, received, heard, *rest = printed.split()
    assert (ended, accepted, heard) == ("True", "Closed", "Closed")
    assert received in ("Closed", "PeerClosed")  # both its ends are closed here, the server's first
    assert rest == ["True", "[]", "alive"]


END = {
    "falls off its end": "",
    "exits": "sys.exit()",
    "raises": "raise SystemExit(0) from ValueError('x')",
    "exits from a function": "(lambda: sys.exit(0))()",
}


@pytest.mark.parametrize("end", END.values(), ids=list(END))
@pytest.mark.parametrize("size", [5, 6_000_000])
def test_a_script_that_ends_without_closing_sends_what_it_accepted(end: str, size: int) -> None:
    code = f"""
import bus, sys, warnings
warnings.simplefilter("ignore", ResourceWarning)
conn = bus.connect("tcp://" + sys.argv[1])
conn.send(b"x" * {size})
conn.send("last words")
{end}
"""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        address = "{}:{}".format(*listening.getsockname())
        with subprocess.Popen(python(code, address), cwd=ROOT, stderr=subprocess.PIPE) as script:
            listening.settimeout(WAIT)
            with Peer(listening.accept()[0]) as peer:
                assert peer.receive() == b"x" * size
                assert peer.receive() == b"last words"
                assert peer.receive() is None
            _, stderr = script.communicate(timeout=WAIT)
        assert (script.returncode, stderr) == (0, b"")


def test_a_server_that_ends_without_stopping_sends_what_it_accepted() -> None:
    code = """
import bus, sys, threading, warnings
warnings.simplefilter("ignore", ResourceWarning)
heard = threading.Event()
def answer(msg, client):
    client.send(b"x" * 900_000)
    heard.set()
    return "last words"
server = bus.serve("tcp://127.0.0.1:0", answer)
print(server.address, flush=True)
heard.wait(30)
while server.clients[0].stats().messages_out < 2:
    pass
"""
    with subprocess.Popen(python(code), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as script:
        assert script.stdout is not None
        with Peer.to(script.stdout.readline().strip(), receive_buffer=8192) as peer:
            peer.send(b"?")
            assert peer.receive() == b"x" * 900_000
            assert peer.receive() == b"last words"
            assert peer.receive() is None
        _, stderr = script.communicate(timeout=WAIT)
        assert (script.returncode, stderr) == (0, "")


def test_a_script_ends_although_a_peer_never_reads_and_a_callback_never_returns() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        code = """
import bus, logging, sys, threading, warnings
warnings.simplefilter("ignore", ResourceWarning)
logging.disable()
entered = threading.Event()
def never(msg, client):
    entered.set()
    threading.Event().wait()
server = bus.serve("tcp://127.0.0.1:0", never)
conn = bus.connect("tcp://" + server.address)
conn.send("x")
entered.wait(30)
deaf = bus.connect("tcp://" + sys.argv[1])
deaf.send(b"x" * 12_000_000)
print("end of the script")
"""
        printed = run_script(code, "{}:{}".format(*deaf.getsockname()))
    assert printed == "end of the script\n"


def test_a_thread_that_still_waits_does_not_keep_a_script_from_ending() -> None:
    printed = run_script(
        """
import bus, threading, warnings
from tests.bus.peers import until_blocked
warnings.simplefilter("ignore", ResourceWarning)
sock = bus.bind("udp://127.0.0.1:0")
def wait():
    try:
        sock.receive()
    except bus.Closed:
        pass
thread = threading.Thread(target=wait, daemon=True)
thread.start()
until_blocked(thread)
print("done")
"""
    )
    assert printed == "done\n"


def test_nothing_is_left_behind_by_any_way_of_closing(all_returns: object) -> None:
    for linger in (0, 0.05, 5):
        with pair() as (conn, peer):
            peer.close()
            conn.close(linger)
        with pair() as (conn, peer):
            peer.reset()
            conn.close(linger)
        with pair(threads="own") as (conn, peer):
            InThread(lambda conn=conn: conn.receive(timeout=0.01)).result()  # type: ignore[misc]
            peer.close()
            conn.close(linger)
    with bus.serve("tcp://127.0.0.1:0", print, threads="own") as server, Peer.to(server.address):
        until(lambda: server.clients)
        server.clients[0].close(0)


def test_what_select_was_given_goes_with_its_object(all_returns: object) -> None:
    with pair() as (conn, _), bus.bind("udp://127.0.0.1:0") as sock, bus.listen("tcp://127.0.0.1:0") as listener:
        assert len({conn.fileno(), sock.fileno(), listener.fileno()}) == 3
    # Not with `close`: another thread may still have the number in its select.
    del conn, sock, listener
    gc.collect()

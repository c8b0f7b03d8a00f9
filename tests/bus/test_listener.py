"""Listener: connections that come in, one accept at a time, over TCP and Unix sockets."""

from __future__ import annotations

import gc
import math
import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import bus
from tests.bus.peers import WAIT, InThread, Peer, frame, inet, run_script, until


def test_an_accepted_connection_is_a_connection() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener, Peer.to(listener.address) as peer, listener.accept() as conn:
        assert isinstance(conn, bus.Connection)
        assert conn.remote_address == peer.address
        peer.send(b"hello")
        assert conn.receive().data == b"hello"
        conn.send("hello back")
        assert peer.receive() == b"hello back"


def test_port_zero_picks_one_and_address_tells_it() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener:
        host, port = inet(listener.address)
        assert host == "127.0.0.1"
        assert port > 0


def test_nobody_within_the_timeout_is_none() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener:
        assert listener.accept(timeout=0) is None
        assert listener.accept(timeout=0.01) is None
        with Peer.to(listener.address):
            conn = listener.accept(timeout=WAIT)
            assert conn is not None
            conn.close(0)


@pytest.mark.parametrize("timeout", [1e12, math.inf])
def test_a_huge_timeout_is_as_good_as_any(timeout: float) -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener:
        accepting = InThread(lambda: listener.accept(timeout)).until_blocked()
        with Peer.to(listener.address):
            conn = accepting.result()
            assert conn is not None
            conn.close(0)


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), (math.nan, ValueError), (True, TypeError), ("1", TypeError)])
def test_what_is_no_timeout_is_refused(timeout: Any, error: type[Exception]) -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener, pytest.raises(error):
        listener.accept(timeout)


def test_everybody_who_came_is_accepted_in_order_with_what_they_sent() -> None:
    # More than are kept accepted: the others wait in the kernel's queue.
    count = 300
    with bus.listen("tcp://127.0.0.1:0") as listener, ExitStack() as stack:
        peers = []
        for number in range(count):
            peer = stack.enter_context(Peer.to(listener.address))
            peer.send(b"%d" % number)
            peers.append(peer)
        for number, peer in enumerate(peers):
            conn = stack.enter_context(listener.accept())
            assert conn.remote_address == peer.address
            assert conn.receive().data == b"%d" % number
            peer.close()


def test_iteration_accepts() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener:
        with Peer.to(listener.address) as first, Peer.to(listener.address) as second:
            for number, conn in enumerate(listener):
                with conn:
                    conn.send(str(number))
                    assert (first, second)[number].receive() == b"%d" % number
                if number == 1:
                    break


def test_connections_outlive_their_listener() -> None:
    listener = bus.listen("tcp://127.0.0.1:0")
    with Peer.to(listener.address) as peer, listener.accept() as conn:
        assert listener.close()
        peer.send(b"still here")
        assert conn.receive().data == b"still here"


def test_who_was_not_accepted_yet_is_closed_with_the_listener() -> None:
    listener = bus.listen("tcp://127.0.0.1:0")
    with Peer.to(listener.address) as peer:
        assert select.select([listener], [], [], WAIT)[0]
        assert "1 waiting" in repr(listener)
        listener.close()
        assert peer.sock.recv(1) == b""


def test_a_closed_listener_says_so_and_frees_its_port() -> None:
    listener = bus.listen("tcp://127.0.0.1:0")
    address = listener.address
    with Peer.to(address), listener.accept():
        assert listener.close()
        assert listener.close(), "closing twice is nothing"
        calls: list[Callable[[], object]] = [listener.accept, lambda: listener.accept(timeout=0), lambda: next(listener)]
        for call in calls:
            with pytest.raises(bus.Closed, match="closed by this program"):
                call()
        with pytest.raises(ConnectionRefusedError):
            Peer.to(address)
        # At once, although a connection of the old listener still uses the port's number.
        with bus.listen(f"tcp://{address}") as again, Peer.to(address), again.accept():
            pass


def test_a_port_is_never_shared() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener:
        with pytest.raises(OSError, match=listener.address) as caught:
            bus.listen(f"tcp://{listener.address}")
        assert "in use" in str(caught.value)
        with Peer.to(listener.address), listener.accept():
            pass


def test_a_foreign_address_is_refused_by_name() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.99:0"):
        bus.listen("tcp://192.0.2.99:0")


def test_a_dropped_listener_closes_with_a_warning() -> None:
    listener = bus.listen("tcp://127.0.0.1:0")
    address = listener.address
    with pytest.warns(ResourceWarning, match=f"Listener {address}.*was not closed"):
        del listener
        gc.collect()

    def refused() -> bool:
        try:
            Peer.to(address).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass  # the kernel had taken it, and the listener closed under it
        return False

    until(refused)


def test_the_repr_tells_the_state() -> None:
    listener = bus.listen("tcp://127.0.0.1:0")
    assert repr(listener) == f"<Listener {listener.address} listening, 0 waiting>"
    listener.close()
    assert repr(listener) == f"<Listener {listener.address} closed, 0 waiting>"


def test_fileno_is_readable_while_somebody_waits() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener:
        assert not select.select([listener], [], [], 0)[0]
        with Peer.to(listener.address):
            assert select.select([listener], [], [], WAIT)[0] == [listener]
            listener.accept().close(0)
        assert not select.select([listener], [], [], 0)[0]


def test_options_of_listen_hold_for_every_connection() -> None:
    with bus.listen("tcp://127.0.0.1:0", framing="lines", max_size=10) as listener:
        for _ in range(2):
            with Peer.to(listener.address) as peer, listener.accept() as conn:
                peer.sock.sendall(b"short\nmuch too long a line\n")
                assert conn.receive().data == b"short"
                with pytest.raises(bus.Broken, match="max_size=10"):
                    conn.receive()


def test_a_listener_with_a_reader_thread_of_its_own() -> None:
    with bus.listen("tcp://127.0.0.1:0", threads="own") as listener:
        with Peer.to(listener.address) as peer, listener.accept() as conn:
            peer.send(b"hello")
            assert conn.receive().data == b"hello"
            assert conn.receive(timeout=0) is None


def test_a_connection_outlives_a_listener_with_its_own_thread() -> None:
    with bus.listen("tcp://127.0.0.1:0", threads="own") as listener:
        peer = Peer.to(listener.address)
        conn = listener.accept()
    with peer, conn:
        peer.send(b"one")
        assert conn.receive(timeout=WAIT) == bus.Message(b"one", peer.address)
        conn.fileno()  # from here on the reader thread has to read
        peer.send(b"two")
        assert conn.receive(timeout=WAIT) == bus.Message(b"two", peer.address)


def test_a_visitor_that_is_gone_before_accept_has_left_its_words() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener:
        with Peer.to(listener.address) as peer:
            peer.send(b"I was here")
        with listener.accept() as conn:
            assert [message.data for message in conn] == [b"I was here"]


def test_accepting_survives_running_out_of_descriptors() -> None:
    printed = run_script(
        """
import bus, logging, os, pykka, resource, socket
from tests.bus.peers import Peer, frame, inet, until

warnings = []
class Keep(logging.Handler):
    def emit(self, record): warnings.append(record.getMessage())
logging.getLogger("actorbus.listener").addHandler(Keep())

def fill():
    kept = []
    try:
        while True:
            kept.append(os.dup(0))
    except OSError:
        return kept

with bus.listen("tcp://127.0.0.1:0") as listener, bus.serve("tcp://127.0.0.1:0", lambda msg, client: msg) as server:
    with Peer.to(listener.address), listener.accept():  # what loads late is loaded
        pass
    until(lambda: len(pykka.ActorRegistry.get_all()) == 2)  # and its descriptor closed
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    kept = fill()
    for each in range(4):
        os.close(kept.pop())
    clients = [socket.socket() for _ in range(4)]
    for index, sock in enumerate(clients):
        sock.connect(inet(listener.address if index < 2 else server.address))
    until(lambda: any(listener.address in warning for warning in warnings))
    until(lambda: any(server.address in warning for warning in warnings))
    assert listener.accept(timeout=0.3) is None
    for number in kept:
        os.close(number)
    a, b = listener.accept(timeout=30), listener.accept(timeout=30)
    for sock in clients:
        sock.sendall(frame(b"hi"))
    print(a.receive(timeout=30).text, b.receive(timeout=30).text, Peer(clients[2]).receive(), Peer(clients[3]).receive())
    for each in (*clients, a, b):
        each.close()
    print("trying again" in warnings[0], len(warnings))
"""
    )
    assert printed == "hi hi b'hi' b'hi'\nTrue 2\n"


# --- Unix sockets ---


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


def test_a_unix_socket_carries_messages_both_ways(path: Path) -> None:
    with bus.listen(f"unix://{path}") as listener:
        assert listener.address == str(path)
        assert stat.S_ISSOCK(path.stat().st_mode)
        with bus.connect(f"unix://{path}") as near, listener.accept() as far:
            assert near.remote_address == far.local_address == str(path)
            near.send("there")
            assert far.receive().text == "there"
            far.send("and back")
            message = near.receive()
            assert message.text == "and back"
            assert message.source == str(path)
            assert near.close()


def test_a_plain_peer_on_a_unix_socket(path: Path) -> None:
    with bus.listen(f"unix://{path}") as listener, Peer.to(str(path)) as peer, listener.accept() as conn:
        peer.send(b"plain")
        assert conn.receive().data == b"plain"
        conn.send(b"x" * 1_000_000)
        conn_closing = InThread(conn.close)
        assert peer.receive_all() == [b"x" * 1_000_000]
        peer.close()
        assert conn_closing.result()


def test_the_file_goes_with_the_listener(path: Path) -> None:
    with bus.listen(f"unix://{path}"):
        assert path.exists()
    assert not path.exists()


def test_the_file_that_a_dead_process_left_behind_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    with bus.listen(f"unix://{path}") as listener, Peer.to(str(path)), listener.accept(timeout=WAIT) as conn:  # type: ignore[union-attr]
        assert conn is not None
    assert not path.exists()


def test_a_socket_in_use_is_left_alone(path: Path) -> None:
    with bus.listen(f"unix://{path}") as listener:
        with pytest.raises(OSError, match=str(path)) as caught:
            bus.listen(f"unix://{path}")
        assert "in use" in str(caught.value)
        with Peer.to(str(path)), listener.accept(timeout=WAIT) as conn:  # type: ignore[union-attr]
            assert conn is not None


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("important")
    with pytest.raises(OSError, match=str(path)):
        bus.listen(f"unix://{path}")
    assert path.read_text() == "important"


def test_a_socket_file_that_another_listener_made_meanwhile_is_not_removed(path: Path) -> None:
    with bus.listen(f"unix://{path}"):
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            other.listen()
            inode = path.stat().st_ino
    assert path.exists()
    assert path.stat().st_ino == inode


def test_nobody_at_the_path_is_connect_failed(path: Path) -> None:
    with pytest.raises(bus.ConnectFailed, match=str(path)):
        bus.connect(f"unix://{path}")


def test_a_path_with_spaces_and_percent_signs(tmp_path: Path) -> None:
    with bus.listen(f"unix://{tmp_path}/a%20b") as listener:
        assert listener.address == f"{tmp_path}/a b"
        assert (tmp_path / "a b").exists()
        with bus.connect(f"unix://{tmp_path}/a%20b") as conn, listener.accept() as far:
            conn.send("x")
            assert far.receive().text == "x"


def test_a_path_that_is_too_long_says_so(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 200)
    with pytest.raises((OSError, bus.BadAddress)):
        bus.listen(f"unix://{long}")
    with pytest.raises((bus.ConnectFailed, bus.BadAddress)):
        bus.connect(f"unix://{long}")


def test_frames_cut_anywhere_on_the_way(path: Path) -> None:
    wire = b"".join(frame(b"%d" % number * number) for number in range(40))
    with bus.listen(f"unix://{path}") as listener, Peer.to(str(path)) as peer, listener.accept() as conn:
        for start in range(0, len(wire), 7):
            peer.sock.sendall(wire[start : start + 7])
        peer.close()
        assert [message.data for message in conn] == [b"%d" % number * number for number in range(40)]

"""Which reader threads there are; how all of it ends, and begins again; what a forked child has of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Literal

import pykka
import pytest

import bus
from actors import crew, hosting, waiting, wakeup
from tests.actors.engine import BOUND, Notebook, on_loop
from tests.conftest import LeakWatch

ROOT = Path(__file__).resolve().parent.parent.parent


def no_thread(work: Callable[[], object]) -> bool:
    return False


@pytest.fixture
def nobody_yet() -> Iterator[None]:
    """No reader threads at the beginning, and none at the end."""
    assert hosting.shutdown(BOUND) in (True, False)
    yield
    hosting.shutdown(BOUND)


# --- reader threads ---


def test_one_reader_thread_serves_whoever_asks_for_no_other() -> None:
    loop = hosting.shared()
    assert hosting.shared() is loop
    assert hosting.is_shared(loop)
    assert on_loop(loop, threading.current_thread) in crew.threads()


def test_threads_that_ask_together_get_the_same(nobody_yet: None) -> None:
    got = []
    gate = threading.Barrier(6)

    def ask() -> None:
        gate.wait(BOUND)
        got.append(hosting.shared())

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    assert len(got) == 6
    assert len(set(got)) == 1


def test_a_dedicated_one_is_ones_own_until_it_is_given_back() -> None:
    first, second = hosting.dedicated(), hosting.dedicated()
    assert len({first, second, hosting.shared()}) == 3
    hosting.release(first)
    assert first.stopped.wait(BOUND)
    assert not second.stopped.is_set()
    hosting.release(first)
    hosting.release(second)
    assert second.stopped.wait(BOUND)


def test_a_dedicated_one_that_still_hosts_somebody_ends_with_the_last() -> None:
    loop = hosting.dedicated()
    refs = [Notebook.start(loop) for _ in range(2)]
    hosting.release(loop)
    for ref in refs:
        assert ref.ask("alive", timeout=BOUND) == "alive"
        assert not loop.stopped.is_set()
        ref.stop(timeout=BOUND)
    assert loop.stopped.wait(BOUND)


def test_the_shared_one_is_not_given_back() -> None:
    loop = hosting.shared()
    hosting.release(loop)
    assert hosting.shared() is loop
    assert on_loop(loop, lambda: "alive") == "alive"


def test_without_a_thread_a_dedicated_one_is_the_shared_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = hosting.shared()
    watch = LeakWatch()
    monkeypatch.setattr(crew, "run", no_thread)
    assert hosting.dedicated() is shared
    assert watch.leftovers() == []


def test_without_any_thread_it_says_so_and_leaves_nothing_open(nobody_yet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "run", no_thread)
    watch = LeakWatch()
    for call in (
        hosting.shared,
        hosting.dedicated,
        lambda: bus.bind("udp://127.0.0.1:0"),
        lambda: bus.listen("tcp://127.0.0.1:0"),
        lambda: bus.listen("tcp://127.0.0.1:0", threads="own"),
        lambda: bus.serve("tcp://127.0.0.1:0", lambda message, client: None),
    ):
        with pytest.raises(RuntimeError, match="gives no more threads"):
            call()
    assert watch.leftovers() == []
    monkeypatch.undo()
    with bus.bind("udp://127.0.0.1:0"):
        pass


def test_live_actors_are_those_that_have_not_ended(nobody_yet: None) -> None:
    assert hosting.live_actors() == []
    with ExitStack() as stack:
        threads: list[Literal["own"] | None] = [None, "own", None, None, "own", "own", None, None]
        sockets = [stack.enter_context(bus.bind("udp://127.0.0.1:0", threads=each)) for each in threads]
        assert hosting.live_actors() == [sock._actor for sock in sockets], "the oldest first"
    assert hosting.live_actors() == [], "a UDP socket does not linger"


# --- shutdown ---


def test_shutdown_closes_everything_ends_every_thread_and_can_be_followed_by_more(nobody_yet: None) -> None:
    waiting.current().equip()  # what this thread waits with is its own
    watch = LeakWatch()
    for _ in range(2):
        with ExitStack() as stack:
            server = stack.enter_context(bus.serve("tcp://127.0.0.1:0", lambda message, client: message, threads=2))
            conn = stack.enter_context(bus.connect(f"tcp://{server.address}", timeout=BOUND, threads="own"))
            listener = stack.enter_context(bus.listen("tcp://127.0.0.1:0"))
            udp = stack.enter_context(bus.bind("udp://127.0.0.1:0"))
            conn.send("a")
            assert conn.receive(timeout=BOUND) is not None
            assert bus.shutdown(BOUND) is True
            assert hosting.live_actors() == []
            assert pykka.ActorRegistry.get_all() == []
            assert crew.threads() == []
            for call in (conn.receive, listener.accept, udp.receive, partial(conn.send, "late"), partial(server.send_to_all, "late")):
                with pytest.raises(bus.Closed):
                    call()
            assert server.wait(timeout=0) is True
            assert watch.leftovers() == []


def test_shutdown_ends_every_call_that_waits(nobody_yet: None) -> None:
    outcomes: list[BaseException | None] = []

    def wait_for(call: Callable[[], object]) -> threading.Thread:
        def work() -> None:
            try:
                call()
                outcomes.append(None)
            except BaseException as exc:
                outcomes.append(exc)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    with bus.listen("tcp://127.0.0.1:0") as listener, bus.bind("udp://127.0.0.1:0") as udp:
        with bus.connect(f"tcp://{listener.address}", timeout=BOUND) as conn, listener.accept():
            threads = [wait_for(call) for call in (listener.accept, udp.receive, conn.receive, lambda: bus.receive_any([udp, conn]))]
            bus.shutdown(BOUND)
            for thread in threads:
                thread.join(BOUND)
    assert len(outcomes) == 4
    # The other end of `conn` closes, too: it may hear of that first.
    assert {type(outcome) for outcome in outcomes} <= {bus.Closed, bus.PeerClosed, type(None)}
    assert [type(outcome) for outcome in outcomes].count(bus.Closed) >= 2


def test_shutdown_flushes_what_was_accepted(nobody_yet: None) -> None:
    size = 8 * 1024 * 1024
    with socket.create_server(("127.0.0.1", 0)) as plain:
        host, port = plain.getsockname()
        conn = bus.connect(f"tcp://{host}:{port}", timeout=BOUND, framing="raw")
        peer, _ = plain.accept()
    got = bytearray()

    def read() -> None:
        with peer:
            while chunk := peer.recv(1 << 16):
                got.extend(chunk)

    conn.send(b"x" * size)
    assert conn.stats().waiting_out > 0, "the kernel alone would not have shown anything"
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert bus.shutdown(BOUND) is True
    reader.join(BOUND)
    assert len(got) == size


def test_shutdown_does_not_wait_for_who_does_not_read(nobody_yet: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        host, port = plain.getsockname()
        with bus.connect(f"tcp://{host}:{port}", timeout=BOUND) as conn, bus.bind("udp://127.0.0.1:0"):
            conn.send(b"x" * 16_000_000)
            before = monotonic()
            assert bus.shutdown(0.1) is False
            assert monotonic() - before < BOUND
            assert conn.stats().unsent > 0
    assert hosting.live_actors() == []
    assert crew.threads() == []


def test_shutdown_in_a_callback_comes_back(nobody_yet: None) -> None:
    returned = threading.Event()

    def on_message(message: bus.Message, client: bus.Client) -> None:
        bus.shutdown(0.2)
        returned.set()

    server = bus.serve("tcp://127.0.0.1:0", on_message)
    with bus.connect(f"tcp://{server.address}", timeout=BOUND) as conn:
        conn.send("end it")
        assert returned.wait(BOUND)
    server.close(linger=0)


def test_shutdown_of_nothing_is_nothing(nobody_yet: None) -> None:
    assert bus.shutdown() is True
    assert bus.shutdown(0) is True
    assert bus.shutdown(None) is True


def test_shutdown_from_many_threads_at_once(nobody_yet: None) -> None:
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: message) as server:
        conns = [bus.connect(f"tcp://{server.address}", timeout=BOUND) for _ in range(5)]
        threads = [threading.Thread(target=bus.shutdown, args=(BOUND,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND * 2)
        assert not any(thread.is_alive() for thread in threads)
        for conn in conns:
            conn.close()
    assert hosting.live_actors() == []


# --- in a process of its own: the exit, and forks ---


def run(script: str, timeout: float = BOUND * 2) -> str:
    """Run a script to its end; what it printed. Python 3.12 warns of any fork beside threads, which is what is tested here."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-W", "ignore:.*fork.*:DeprecationWarning", "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout


def test_the_exit_closes_what_a_script_left_open() -> None:
    script = """
        import bus
        server = bus.serve("tcp://127.0.0.1:0", lambda message, client: message)
        conn = bus.connect(f"tcp://{server.address}")
        conn.send("a")
        print(conn.receive(timeout=30).text)
        udp = bus.bind("udp://127.0.0.1:0", threads="own")
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)
    """
    assert run(script) == "a\n"


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")

PRELUDE = """
    import os, signal, sys, threading, traceback
    import bus
    from actors import hosting

    def in_child(work):
        signal.alarm(0)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(30)  # a child that hangs is ended, and its status says so
                work()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        signal.alarm(60)
        _, status = os.waitpid(pid, 0)
        signal.alarm(0)
        assert status == 0, f"the child ended with {status}"

    def round_trip(conn, text):
        conn.send(text)
        assert conn.receive(timeout=20).text == text

    def broken(call):
        try:
            got = call()
        except bus.Broken as error:
            assert "before a fork" in str(error), error
        else:
            raise AssertionError(f"no error, but {got!r}")

    server = bus.serve("tcp://127.0.0.1:0", lambda message, client: message)
    conn = bus.connect(f"tcp://{server.address}", timeout=20)
    round_trip(conn, "before")
"""


def run_forking(script: str) -> str:
    return run(textwrap.dedent(PRELUDE) + textwrap.dedent(script))


EPILOGUE = """
for thing in (conn, server):
    thing.close()
print("done")
"""


@forks
def test_what_was_opened_before_a_fork_says_so_in_the_child_and_works_on_in_the_parent() -> None:
    script = """
        listener = bus.listen("tcp://127.0.0.1:0")
        udp = bus.bind("udp://127.0.0.1:0")
        waiting = bus.connect(f"tcp://{server.address}", timeout=20)
        waiting.send("undelivered")
        while not waiting.stats().messages_in:
            assert waiting.connected()
        client = server.clients[0]

        def child():
            for call in (
                lambda: conn.send("x"), lambda: conn.send_many(["x"]), conn.receive, lambda: conn.receive(timeout=0), lambda: next(conn),
                waiting.receive, listener.accept, lambda: listener.accept(timeout=0),
                udp.receive, lambda: udp.send_to("127.0.0.1:9", "x"), lambda: udp.set_broadcast(True),
                lambda: bus.receive_any([conn, udp], timeout=0),
                lambda: client.send("x"), lambda: server.send("x", client), lambda: server.send_to_all("x"),
            ):
                broken(call)
            assert not conn.connected() and not client.connected() and server.clients == []
            for thing in (conn, waiting, listener, udp, server, client):
                repr(thing), thing.stats() if hasattr(thing, "stats") else None
                assert thing.close() in (True, False)
            conn.fileno()

        in_child(child)
        round_trip(conn, "after")
        assert waiting.receive(timeout=20).text == "undelivered"
        round_trip(waiting, "after, too")
        late = bus.connect(f"tcp://{listener.address}", timeout=20)
        accepted = listener.accept(timeout=20)
        udp.send_to(udp.address, "to itself")
        assert udp.receive(timeout=20).text == "to itself"
        for thing in (late, accepted, waiting, listener, udp):
            thing.close()
    """
    assert run_forking(textwrap.dedent(script) + EPILOGUE) == "done\n"


@forks
def test_what_is_opened_in_the_child_works_there() -> None:
    script = """
        def child():
            with bus.connect(f"tcp://{server.address}", timeout=20) as to_parent:
                round_trip(to_parent, "to the parent")
            with bus.serve("tcp://127.0.0.1:0", lambda message, client: message, threads=2, serial=True) as own:
                with bus.connect(f"tcp://{own.address}", timeout=20, threads="own") as inside:
                    round_trip(inside, "inside")
            with bus.bind("udp://127.0.0.1:0") as udp:
                udp.send_to(udp.address, "x")
                assert udp.receive(timeout=20).text == "x"
            assert bus.shutdown(20)
            assert hosting.live_actors() == []

        in_child(child)
        round_trip(conn, "after")
    """
    assert run_forking(textwrap.dedent(script) + EPILOGUE) == "done\n"


@forks
def test_the_childs_copies_keep_nothing_open() -> None:
    script = """
        import socket

        listener = bus.listen("tcp://127.0.0.1:0")
        held = bus.connect(f"tcp://{listener.address}", timeout=20)
        accepted = listener.accept(timeout=20)
        here, there = socket.socketpair()

        def descriptors():
            found = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
            links = [os.readlink(path) for path in found if os.path.lexists(path)]
            return [link for link in links if link.startswith("socket") or "eventpoll" in link]

        standard = [link for link in (os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)) if link.startswith("socket")]

        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(30)
                there.close()
                assert len(descriptors()) == 1 + len(standard), descriptors()
                here.send(b"!")
                here.recv(1)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        here.close()
        there.settimeout(20)
        assert there.recv(1) == b"!"
        # The child lives. The peer hears of the end all the same, and the port is free.
        address = listener.address
        held.close()
        try:
            accepted.receive(timeout=20)
        except bus.PeerClosed:
            pass
        accepted.close()
        listener.close()
        bus.listen(f"tcp://{address}").close()
        there.send(b"!")
        there.close()
        assert os.waitpid(pid, 0)[1] == 0
    """
    if not Path("/proc/self/fd").is_dir() or wakeup.PORTABLE:
        pytest.skip("descriptors are seen through /proc; and the places of the parent's other threads are socket pairs without eventfd")
    assert run_forking(textwrap.dedent(script) + EPILOGUE) == "done\n"


@forks
def test_a_fork_amid_traffic_finds_no_lock_held() -> None:
    script = """
        over = threading.Event()
        trouble = []

        def talk():
            try:
                with bus.connect(f"tcp://{server.address}", timeout=20) as own:
                    while not over.is_set():
                        round_trip(own, "x" * 100)
                        bus.bind("udp://127.0.0.1:0").close()
            except BaseException as error:
                trouble.append(error)

        threads = [threading.Thread(target=talk) for _ in range(3)]
        for thread in threads:
            thread.start()

        def child():
            broken(lambda: conn.send("x"))
            broken(conn.receive)
            conn.close()
            with bus.connect(f"tcp://{server.address}", timeout=20) as own:
                round_trip(own, "to the parent")

        for _ in range(15):
            in_child(child)
            round_trip(conn, "after")
        over.set()
        for thread in threads:
            thread.join(20)
        assert not trouble, trouble
    """
    assert run_forking(textwrap.dedent(script) + EPILOGUE) == "done\n"


@forks
def test_a_callback_may_fork() -> None:
    script = """
        statuses = []

        def on_message(message, client):
            def child():
                broken(lambda: client.send("x"))
                with bus.connect(f"tcp://{server.address}", timeout=20) as own:
                    round_trip(own, "to the parent")
            in_child(child)
            return "forked"

        with bus.serve("tcp://127.0.0.1:0", on_message) as forking, bus.connect(f"tcp://{forking.address}", timeout=20) as asking:
            for _ in range(3):
                asking.send("fork")
                assert asking.receive(timeout=60).text == "forked"
    """
    assert run_forking(textwrap.dedent(script) + EPILOGUE) == "done\n"


@forks
def test_multiprocessing_by_fork_has_the_same_rules() -> None:
    script = """
        import multiprocessing

        def work(queue):
            broken(lambda: conn.send("x"))
            with bus.connect(f"tcp://{server.address}", timeout=20) as own:
                round_trip(own, "to the parent")
            queue.put("fine")

        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        process = context.Process(target=work, args=(queue,))
        process.start()
        assert queue.get() == "fine"
        process.join(30)
        assert process.exitcode == 0
        round_trip(conn, "after")
    """
    assert run_forking(textwrap.dedent(script) + EPILOGUE) == "done\n"


@forks
def test_a_program_that_is_started_costs_nothing() -> None:
    script = """
        import subprocess
        assert subprocess.run(["true"]).returncode == 0
        round_trip(conn, "after")
    """
    assert run_forking(textwrap.dedent(script) + EPILOGUE) == "done\n"


def test_an_interrupted_shutdown_can_be_repeated(nobody_yet: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        host, port = plain.getsockname()
        with bus.connect(f"tcp://{host}:{port}", timeout=BOUND) as conn:
            conn.send(b"x" * 16_000_000)
            waiting.current().interrupt()
            with pytest.raises(KeyboardInterrupt):
                bus.shutdown(BOUND)
            assert bus.shutdown(0.1) is False
    assert hosting.live_actors() == []

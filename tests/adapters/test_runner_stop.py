"""Ctrl-C and SIGTERM under the runner: each script's `finally` runs, and no script can keep the process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from actors.scope import Scope
from adapters.routes import Routes
from adapters.script import Script
from adapters.threads import Threads
from tests.adapters.command import LIMIT, Command, Ended, write

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")

# How scripts may stand when the signal comes. Each says "here" first.
WAYS_TO_WAIT = {
    "receive": """
        with socket.create_server(("127.0.0.1", 0)) as silent, bus.connect(
            "tcp://127.0.0.1:%d" % silent.getsockname()[1]
        ) as conn:
            say("here")
            conn.receive()
        """,
    "accept": """
        with bus.listen("tcp://127.0.0.1:0") as listener:
            say("here")
            listener.accept(timeout=600)
        """,
    "server": """
        with bus.serve("tcp://127.0.0.1:0", on_message=print) as server:
            say("here")
            server.wait()
        """,
    "sleep": """
        say("here")
        time.sleep(600)
        """,
    "naps": """
        say("here")
        while True:
            time.sleep(0.001)
        """,
    "compute": """
        def compute():
            for n in range(10**12):
                abs(n)
        say("here")
        compute()
        """,
}

WAIT = """
import bus, socket, sys, threading, time
def say(*words):
    print(*words, flush=True)
def way():
{way}
try:
    way()
except KeyboardInterrupt:
    say("asked to stop")
    raise
finally:
    time.sleep(0.02)  # cleaning up may wait
    say("cleaned up")
"""


def waiting(directory: Path, way: str, name: str = "") -> str:
    body = "\n".join(f"    {line.removeprefix('        ')}" for line in WAYS_TO_WAIT[way].splitlines())
    return write(directory, f"{name or way}.py", WAIT.format(way=body))


def stopped(command: Command, *, times: int = 1, by: signal.Signals = signal.SIGINT) -> Ended:
    for _ in range(times):
        command.signal(by)
    return command.end()


@pytest.mark.parametrize("way", WAYS_TO_WAIT)
def test_a_script_alone_is_stopped_wherever_it_stands(tmp_path: Path, way: str) -> None:
    with Command("run", waiting(tmp_path, way)) as command:
        command.read_until("here")
        ended = stopped(command)
    assert ended.lines == ["here", "asked to stop", "cleaned up"]
    assert (ended.status, ended.stderr) == (130, "")


@pytest.mark.parametrize(("by", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_several_scripts_are_stopped_wherever_they_stand(tmp_path: Path, by: signal.Signals, status: int) -> None:
    with Command("run", *(waiting(tmp_path, way) for way in WAYS_TO_WAIT)) as command:
        command.read_until(*(f"{way} | here" for way in WAYS_TO_WAIT))
        ended = stopped(command, by=by)
    for way in WAYS_TO_WAIT:
        assert ended.lines_of(way) == ["here", "asked to stop", "cleaned up"]
    assert (ended.status, ended.stderr) == (status, "")


def test_sigterm_stops_a_script_alone_as_ctrl_c_does(tmp_path: Path) -> None:
    with Command("run", waiting(tmp_path, "receive")) as command:
        command.read_until("here")
        ended = stopped(command, by=signal.SIGTERM)
    assert ended.lines == ["here", "asked to stop", "cleaned up"]
    assert (ended.status, ended.stderr) == (143, "")


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_a_script_whose_code_has_returned_is_stopped_too(tmp_path: Path, names: list[str]) -> None:
    source = """
        import bus
        server = bus.serve("tcp://127.0.0.1:0", on_message=print)
        print("serving")
        """
    with Command("run", *(write(tmp_path, f"{name}.py", source) for name in names)) as command:
        command.read_until(*(["serving"] if len(names) == 1 else [f"{name} | serving" for name in names]))
        ended = stopped(command)
    assert (ended.status, ended.stderr) == (130, "")


@pytest.mark.parametrize("company", [False, True])
def test_the_threads_of_a_script_are_stopped_too(tmp_path: Path, company: bool) -> None:
    script = write(
        tmp_path,
        "script.py",
        """
        import bus, threading
        def take():
            try:
                listener.accept()
            finally:
                print("thread ends")
        listener = bus.listen("tcp://127.0.0.1:0")
        threads = [threading.Thread(target=take) for _ in range(3)]
        for thread in threads:
            thread.start()
        print("here")
        listener.accept()
        """,
    )
    with Command("run", script, *([waiting(tmp_path, "sleep")] if company else [])) as command:
        prefix = "script | " if company else ""
        command.read_until(f"{prefix}here", *(["sleep | here"] if company else []))
        ended = stopped(command)
    assert ended.stdout.count("thread ends") == 3
    assert (ended.status, ended.stderr) == (130, "")


@pytest.mark.parametrize("company", [False, True])
def test_a_script_that_takes_it_well_ends_well(tmp_path: Path, company: bool) -> None:
    script = write(
        tmp_path,
        "script.py",
        """
        import time
        try:
            print("here")
            time.sleep(600)
        except KeyboardInterrupt:
            print("bye")
        """,
    )
    with Command("run", *([script] if not company else [script, script])) as command:
        command.read_until(*(["script#1 | here", "script#2 | here"] if company else ["here"]))
        ended = stopped(command)
    assert ended.stdout.count("bye\n") == 1 + company
    assert (ended.status, ended.stderr) == (0, "")


STUBBORN = """
import sys, threading
def loop():
    while True:
        try:
            while True:
                abs(0)
        except:
            pass
def lock():  # on a thread, waiting for a lock is a C call that nothing interrupts
    held = threading.Lock()
    held.acquire()
    held.acquire()
def hash():  # a C call wherever it runs
    import hashlib
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
print("here")
{how}()
"""


@pytest.mark.parametrize(("names", "how"), [("a", "loop"), ("a", "hash"), ("ab", "loop"), ("ab", "lock")])
def test_who_does_not_stop_is_left_behind(tmp_path: Path, names: str, how: str) -> None:
    paths = [write(tmp_path, f"{name}.py", STUBBORN.format(how=how)) for name in names]
    with Command("run", *paths) as command:
        command.read_until(*(["here"] if len(names) == 1 else [f"{name} | here" for name in names]))
        assert stopped(command).status == 130


@pytest.mark.parametrize("names", ["a", "ab"])
def test_a_pool_that_nobody_shut_down_is_left_behind(tmp_path: Path, names: str) -> None:
    source = """
        import concurrent.futures, threading, time
        held = threading.Lock()
        held.acquire()
        pool = concurrent.futures.ThreadPoolExecutor(1)
        pool.submit(held.acquire)
        print("here")
        time.sleep(600)
        """
    paths = [write(tmp_path, f"{name}.py", source) for name in names]
    with Command("run", *paths) as command:
        command.read_until(*(["here"] if len(names) == 1 else [f"{name} | here" for name in names]))
        assert stopped(command).status == 130


def test_a_script_that_is_stopped_before_it_begins_does_not_begin(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    path = write(tmp_path, "script.py", f"open({str(ran)!r}, 'w').close()")
    for stop in (Script.interrupt, lambda script: script.scope.stop()):
        owner = Scope("script")
        script = Script(path, owner, [], Threads(), Routes("127.0.0.1:0", [owner], print))
        stop(script)
        script.run()
        assert script.status == 130
    assert not ran.exists()


SENDING = """
import bus, sys
conn = bus.connect("tcp://" + sys.argv[1], framing="raw", outbox_bytes=64 * 1024 * 1024)
conn.send(b"x" * 16_000_000)
"""


def test_what_was_accepted_is_sent_even_for_a_script_that_is_left_behind(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        "script.py",
        SENDING + STUBBORN.format(how="loop"),
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        with Command("run", script, "--", f"127.0.0.1:{listener.getsockname()[1]}") as command:
            peer, _ = listener.accept()
            with peer:
                command.read_until("here")
                command.signal(signal.SIGTERM)
                received = 0
                while piece := peer.recv(1 << 20):
                    received += len(piece)
            assert received == 16_000_000
            assert command.end().status == 143


@pytest.mark.parametrize("names", ["a", "ab"])
def test_the_second_ctrl_c_ends_it_at_once(tmp_path: Path, names: str) -> None:
    source = """
        import threading, time
        try:
            print("here")
            time.sleep(600)
        finally:
            print("cleaning up")
            time.sleep(1.5)
            print("cleaned up")
        """
    paths = [write(tmp_path, f"{name}.py", source) for name in names]
    prefixes = [""] if len(names) == 1 else [f"{name} | " for name in names]
    with Command("run", *paths) as command:
        command.read_until(*(f"{prefix}here" for prefix in prefixes))
        command.signal(signal.SIGINT)
        command.read_until(*(f"{prefix}cleaning up" for prefix in prefixes))
        # One that follows within a blink counts as the same, so this is said until it is heard.
        while command.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                command.signal(signal.SIGINT)
        ended = command.end()
    assert ended.status == 130
    assert "cleaned up" not in ended.stdout


def test_a_signal_that_comes_in_two_copies_counts_once(tmp_path: Path) -> None:
    # `timeout` sends one to the process and one to its group.
    with Command("run", waiting(tmp_path, "sleep")) as command:
        command.read_until("here")
        ended = stopped(command, times=2, by=signal.SIGTERM)
    assert ended.lines == ["here", "asked to stop", "cleaned up"]
    assert ended.status == 143


def test_a_script_alone_may_handle_signals_itself(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        "script.py",
        """
        import signal, sys, time
        heard = 0
        def hear(number, frame):
            global heard
            heard += 1
            print("heard", heard, flush=True)
        signal.signal(signal.SIGINT, hear)
        print("here")
        while heard < 3:
            time.sleep(0.01)
        sys.exit(9)
        """,
    )
    with Command("run", script) as command:
        command.read_until("here")
        for n in (1, 2, 3):
            command.signal(signal.SIGINT)
            command.read_until(f"heard {n}")
        assert command.end().status == 9


@pytest.mark.parametrize("names", ["a", "ab"])
def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path, names: str) -> None:
    source = """
        import signal
        print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN, signal.getsignal(signal.SIGTERM) == signal.SIG_IGN)
        """
    paths = [write(tmp_path, f"{name}.py", source) for name in names]
    with Command("run", *paths, before="trap '' INT") as command:
        ended = command.end()
    assert ended.stdout.count("True False\n") == len(names)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore")
def test_what_a_forked_child_is_told_does_not_stop_its_parent(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        "script.py",
        """
        import os, signal, sys, warnings
        warnings.simplefilter("ignore")  # later versions warn of fork beside threads
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(tell, b"!")
            while True:
                signal.pause()
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        print(os.WTERMSIG(status) == signal.SIGTERM)
        print(input())
        """,
    )
    with Command("run", script) as command:
        command.read_until("True")
        command.tell("still here")
        ended = command.end()
    assert ended.lines == ["True", "still here"]
    assert ended.status == 0


def test_sleep_is_as_particular_as_pythons(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        "script.py",
        """
        import time
        from time import sleep
        for seconds in (0, 0.0, False, 0.02, 1e-5):
            sleep(seconds)
        for wrong in (-1, -0.5, "1", None, float("nan")):
            try:
                time.sleep(wrong)
            except (TypeError, ValueError) as error:
                print(type(error).__name__)
        """,
    )
    with Command("run", script) as command:
        ended = command.end()
    assert ended.lines == ["ValueError", "ValueError", "TypeError", "TypeError", "ValueError"], ended
    assert sys.version_info >= (3, 11)

"""`actorbus cat` as a process: signals, pipes, terminals, and other people's programs at the other end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import pytest

import bus
from tests.adapters.command import environment, heeding_ctrl_c
from tests.bus.peers import WAIT, InThread, Peer, inet, until

CAT = [sys.executable, "-m", "adapters.cli", "cat"]
PIPE = subprocess.PIPE
LIMIT = 90.0  # where forty processes share a core, one takes half a minute to begin
BIG = os.urandom(1_000_000)
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals, pipes and terminals as POSIX has them")


@contextmanager
def running(*words: str, stdin: int = PIPE, stdout: int = PIPE, stderr: int = PIPE) -> Iterator[subprocess.Popen[bytes]]:
    """The command, which ends with the block whatever happens."""
    with heeding_ctrl_c():
        process = subprocess.Popen([*CAT, *words], stdin=stdin, stdout=stdout, stderr=stderr, env=environment())
    overdue = threading.Timer(LIMIT, process.kill)
    overdue.start()
    try:
        with process:
            yield process
            if process.stdin is not None:
                process.stdin.close()
    finally:
        process.kill()
        overdue.cancel()
        overdue.join()


def listening(process: subprocess.Popen[bytes]) -> str:
    """Where it listens: "ip:port"."""
    assert process.stderr is not None
    line = process.stderr.readline().decode()
    assert line.startswith("actorbus: listening on tcp://"), line
    return line.strip().rpartition("/")[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_what_was_accepted_still_goes_out(number: signal.Signals) -> None:
    with running("--listen", "tcp://127.0.0.1:0") as process, Peer.to(listening(process)) as peer:
        assert process.stdin is not None
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert peer.receive() == b"hello"
        process.send_signal(number)
        assert peer.receive() is None  # in order, not cut off
        peer.close()
        assert process.wait(LIMIT) == 128 + number
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


def test_when_nobody_reads_stdout_it_ends_without_a_word() -> None:
    with bus.listen("tcp://127.0.0.1:0") as listener, running("--no-stdin", f"tcp://{listener.address}") as process:
        with listener.accept(timeout=LIMIT) or pytest.fail("nobody came") as conn:
            assert process.stdout is not None
            process.stdout.close()
            conn.send("hello")
            assert process.wait(LIMIT) == 141
            assert process.stderr is not None
            assert process.stderr.read() == b""


def test_what_is_not_needed_is_not_loaded() -> None:
    # asyncio and ssl cost as much time as all the rest.
    code = (
        "import sys; from adapters import cli; status = cli.main(sys.argv[1:]); "
        "late = {'asyncio', 'ssl', 'websockets', 'tqdm', 'adapters.runner', 'adapters.pubsub'}; "
        "print(status, sorted(late & set(sys.modules)))"
    )
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: message.text.upper()) as server:
        words = [sys.executable, "-c", code, "cat", f"tcp://{server.address}"]
        done = subprocess.run(words, input=b"one\n", capture_output=True, timeout=LIMIT, env=environment(), check=False)
    assert (done.stdout, done.stderr) == (b"ONE\n0 []\n", b"")


# --- with other people's programs ---


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def theirs(program: str, address: str, *, server: bool) -> list[str]:
    """netcat or socat that sends its stdin, says its end, and prints what comes until the other end."""
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    host, port = inet(address)
    if program == "socat":
        return ["socat", "-t", str(int(WAIT)), "STDIO", f"TCP-LISTEN:{port},bind={host},reuseaddr" if server else f"TCP:{host}:{port}"]
    return ["nc", "-N", *(["-l"] if server else []), host, str(port)]


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        host, port = sock.getsockname()
    return f"{host}:{port}"


@pytest.mark.slow
@pytest.mark.parametrize("program", ["nc", "socat"])
def test_a_million_bytes_both_ways_with_a_client_of_theirs(program: str) -> None:
    with running("--listen", "--framing", "raw", "tcp://127.0.0.1:0") as process:
        words = theirs(program, listening(process), server=False)
        other = InThread(lambda: subprocess.run(words, input=BIG[::-1], capture_output=True, timeout=LIMIT, check=True).stdout)
        printed, _ = process.communicate(BIG, timeout=LIMIT)
        assert digest(other.result()) == digest(BIG)
    assert digest(printed) == digest(BIG[::-1])
    assert process.returncode == 0


def type_into(stdin: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # it was refused
        stdin.write(data)
        stdin.flush()


@pytest.mark.slow
@pytest.mark.parametrize("program", ["nc", "socat"])
def test_a_million_bytes_both_ways_with_a_server_of_theirs(program: str) -> None:
    address = free_address()
    words = theirs(program, address, server=True)
    other = InThread(lambda: subprocess.run(words, input=BIG[::-1], capture_output=True, timeout=LIMIT, check=True).stdout)
    printed = b""
    while other.thread.is_alive() and not printed:  # until it listens
        with running("--framing", "raw", f"tcp://{address}") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            typing = InThread(partial(type_into, process.stdin, BIG))
            printed = process.stdout.read(len(BIG))  # before our end: behind that a listening nc sends no more of its own stdin
            typing.result()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            printed += process.stdout.read()
            assert process.wait(LIMIT) == (0 if printed else 1)
    assert digest(other.result()) == digest(BIG)
    assert digest(printed) == digest(BIG[::-1])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_a_million_bytes_both_ways_between_two_of_ours(scheme: str, tmp_path: Path) -> None:
    url = "tcp://127.0.0.1:0" if scheme == "tcp" else f"unix://{tmp_path}/s"
    with running("--listen", "--framing", "raw", url) as server:
        assert server.stderr is not None
        where = server.stderr.readline().decode().split()[-1]
        with running("--framing", "raw", where) as client:
            serving = InThread(lambda: server.communicate(BIG, timeout=LIMIT)[0])
            printed, _ = client.communicate(BIG[::-1], timeout=LIMIT)
            assert digest(serving.result()) == digest(BIG[::-1])
    assert digest(printed) == digest(BIG)
    assert (client.returncode, server.returncode) == (0, 0)


@pytest.mark.slow
def test_many_lines_through_a_server_of_ours_all_come_back() -> None:
    lines = b"".join(b"%d\n" % number for number in range(20_000))
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: message) as server, running(f"tcp://{server.address}") as process:
        printed, said = process.communicate(lines, timeout=LIMIT)
    assert digest(printed) == digest(lines)
    assert (process.returncode, said) == (0, b"")


# --- with a person ---


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Our end and theirs."""
    import termios

    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))  # tqdm draws nothing where there is no room
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.slow
def test_at_a_terminal_a_conversation_ends_with_the_peer() -> None:
    with terminal() as (ours, theirs), bus.listen("tcp://127.0.0.1:0") as listener:
        with running(f"tcp://{listener.address}", stdin=theirs, stdout=theirs) as process:
            with listener.accept(timeout=LIMIT) or pytest.fail("nobody came") as conn:
                os.write(ours, b"hello\n")
                message = conn.receive(timeout=WAIT)
                assert message is not None
                assert message.data == b"hello"
                conn.send("bye")
            assert process.wait(LIMIT) == 0
            assert b"bye" in os.read(ours, 1000)


@pytest.mark.slow
def test_who_watches_a_long_transfer_sees_how_far_it_is(tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    (tmp_path / "big").write_bytes(BIG * 4)
    with terminal() as (ours, theirs), bus.listen("tcp://127.0.0.1:0", framing="raw", half_open=True) as listener:
        seen = bytearray()

        def watch() -> None:
            while b"received" not in seen:
                seen.extend(os.read(ours, 1000))

        watching = threading.Thread(target=watch, daemon=True)
        with open(tmp_path / "big", "rb") as big, running(
            "--framing", "raw", f"tcp://{listener.address}", stdin=big.fileno(), stderr=theirs
        ) as process:
            with listener.accept(timeout=LIMIT) or pytest.fail("nobody came") as conn:
                watching.start()
                until(lambda: b"sent" in seen, "the display comes")
                received = sum(len(message.data) for message in conn)
                conn.send("thanks")
            process.communicate(timeout=LIMIT)
        watching.join(WAIT)
    assert received == 4_000_000
    assert b"received" in seen

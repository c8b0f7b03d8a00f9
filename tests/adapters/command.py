"""The real `actorbus run` in a process of its own, talked to through its pipes, and ended whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60.0  # a hang ends here; nothing waits for it


def write(directory: Path, name: str, source: str) -> str:
    """Write a script (or a module beside it) and give its path."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source).lstrip("\n"), encoding="utf-8")
    return str(path)


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "utf-8",
        **(changes or {}),
    }


@contextmanager
def heeding_ctrl_c() -> Iterator[None]:
    """A child inherits that Ctrl-C is ignored, as it is for jobs in a shell's background. This one shall not."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class Command:
    """A running command. `said` is every line of stdout that was read so far."""

    def __init__(self, *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, before: str = "") -> None:
        words = [sys.executable, "-m", "adapters.cli", *arguments]
        if before:
            words = ["sh", "-c", f'{before}; exec "$@"', "sh", *words]
        with heeding_ctrl_c():
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                cwd=cwd,
                env=environment(env),
            )
        self.said: list[str] = []
        self._overdue = threading.Timer(LIMIT, self.process.kill)
        self._overdue.daemon = True
        self._overdue.start()

    def __enter__(self) -> Command:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._overdue.cancel()
        self._overdue.join()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass

    def read_until(self, *wanted: str) -> None:
        """Read stdout until each of these lines has come, in any order."""
        assert self.process.stdout is not None
        missing = set(wanted) - set(self.said)
        while missing:
            line = self.process.stdout.readline()
            if not line:
                _, stderr = self.process.communicate(timeout=LIMIT + 10)
                raise AssertionError(f"ended without {missing}: {self.said}\n{stderr}")
            self.said.append(line.rstrip("\n"))
            missing.discard(self.said[-1])

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> Ended:
        """Wait for the end; everything that was printed."""
        stdout, stderr = self.process.communicate(timeout=LIMIT + 10)
        return Ended(self.process.returncode, "\n".join([*self.said, stdout]) if self.said else stdout, stderr)


class Ended:
    def __init__(self, status: int, stdout: str, stderr: str) -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    def __repr__(self) -> str:
        return f"<exit status {self.status}>\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    def lines_of(self, name: str) -> list[str]:
        """What one of several scripts printed, without its prefix."""
        prefix = f"{name} | "
        return [line.removeprefix(prefix) for line in self.lines if line.startswith(prefix)]


def run(*arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, before: str = "") -> Ended:
    """`actorbus run` with these arguments, to its end."""
    with Command("run", *arguments, cwd=cwd, env=env, before=before) as command:
        return command.end()

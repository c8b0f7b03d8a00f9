"""A child process that is bounded in time, spoken to by lines, and gone when its block is left."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from .cell import Cell

ROOT = Path(__file__).resolve().parents[2]
GRACE = 5.0


class EndFailed(Exception):
    """A child ended, or kept silent, before it said what it was started for."""


class End:
    """Runs the function `where` ("module:name") of this package: a client's if it gets an `address`, else a server's. See `end`."""

    def __init__(self, where: str, cell: Cell, *, core: int | None = None, address: str | None = None) -> None:
        self.where = where
        self._deadline = time.monotonic() + cell.limit
        self._unread = b""
        # The child's own watchdog fires a little later than ours: it is there for a parent that was killed.
        line = json.dumps({"where": where, "limit": cell.limit + GRACE, "core": core, "address": address, "cell": cell.as_dict()})
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.end", line],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def hear(self) -> dict[str, Any]:
        return self.hear_until(self._deadline)

    def hear_until(self, deadline: float) -> dict[str, Any]:
        """As `hear`, up to a time of the monotonic clock."""
        assert self._process.stdout is not None
        stdout = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if not select.select([stdout], [], [], max(0.0, left))[0]:
                raise EndFailed(f"{self.where} kept silent beyond its time limit")
            data = os.read(stdout, 65536)
            if not data:
                raise EndFailed(f"{self.where} ended early, its traceback is above")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        fact: dict[str, Any] = json.loads(line)
        return fact

    def kill(self) -> None:
        """With -9, in the middle of what it does."""
        self._process.kill()

    def nudge(self) -> None:
        assert self._process.stdin is not None
        # A child that is already gone is reported by the next `hear`, with a better reason than a broken pipe.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"\n")

    def ask(self) -> dict[str, Any]:
        self.nudge()
        return self.hear()

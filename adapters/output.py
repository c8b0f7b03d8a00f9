"""What several scripts print, told apart: whole lines, each with its script's name in front.

Guarantees
- A line holds the text of one thread of one script. Text without a newline waits for the rest of its line, for
  `flush()`, for the end of its script or until there is a lot of it. When somebody else has something to say after a
  `flush()`, the unfinished line is ended for it.
- What was completed is in the system's hands when `write` returns, so a reader of a pipe sees it at once and an
  abrupt end loses none.
- Nothing that can be printed raises UnicodeEncodeError.

Every field belongs to the `_Page` lock, which one script's thread holds while the system takes what it prints: a
terminal on hold stops the scripts that print, as it would stop them alone. It is re-entrant, because a finalizer may
print inside a print.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import threading
from collections.abc import Iterator
from typing import TextIO, TypeAlias, cast

from actors import scope
from actors.scope import Scope

__all__ = ["finish", "is_broken", "legible", "prefixed"]

LONGEST_PENDING = 64 * 1024  # characters kept while a line is not complete


# A thread writes its lines in pieces, as `print` does, and other threads of the script theirs at the same time.
_Writer: TypeAlias = tuple[Scope | None, int]


def _writer() -> _Writer:
    return scope.current(), threading.get_ident()


class _Page:
    """Where output goes, be it a terminal that stdout and stderr share: whose line is unfinished there."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.unfinished: tuple[_Prefixed, _Writer] | None = None


class _Prefixed(io.TextIOBase):
    """Stands in for `sys.stdout` or `sys.stderr`."""

    def __init__(self, target: TextIO, page: _Page) -> None:
        self._target = target
        self._page = page
        self._pending: dict[_Writer, str] = {}
        self._bytes = _Bytes(self)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        who = _writer()
        with self._page.lock:
            complete, newline, rest = (self._pending.pop(who, "") + text).rpartition("\n")
            if len(rest) > LONGEST_PENDING:
                complete, newline, rest = complete + newline + rest, "", ""
            if rest:
                self._pending[who] = rest
            if complete or newline:
                self._emit(who, complete + newline)
        return len(text)

    def flush(self) -> None:
        who = _writer()
        with self._page.lock:
            if text := self._pending.pop(who, ""):
                self._emit(who, text)
            self._target.flush()

    def finish(self, owner: Scope) -> None:
        """End the lines of a script that prints no more."""
        with self._page.lock:
            self._end_lines(owner)
            if self._page.unfinished is not None and self._page.unfinished[1][0] is owner:
                stream, who = self._page.unfinished
                stream._emit(who, "\n")

    def _end_lines(self, owner: Scope) -> None:
        for who in [who for who in self._pending if who[0] is owner]:
            self._emit(who, self._pending.pop(who) + "\n")

    def _emit(self, who: _Writer, text: str) -> None:
        owner = who[0]
        prefix = f"{owner.name} | " if owner is not None else ""
        unfinished = self._page.unfinished
        begun = unfinished == (self, who)
        if unfinished is not None and not begun:
            unfinished[0]._target.write("\n")
            unfinished[0]._target.flush()
        lines = text.split("\n")
        # The last piece is what follows the last newline: nothing, or an unfinished line.
        marked = [prefix + line for line in lines[:-1]] + ([prefix + lines[-1]] if lines[-1] else [""])
        if begun:
            marked[0] = lines[0]
        self._page.unfinished = (self, who) if lines[-1] else None
        self._target.write("\n".join(marked))
        self._target.flush()

    # What scripts ask of the real one.

    @property
    def buffer(self) -> _Bytes:
        return self._bytes

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._target.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._target.errors

    @property
    def name(self) -> str:
        return self._target.name

    @property
    def line_buffering(self) -> bool:
        return True

    def reconfigure(self, **_: object) -> None:
        """Accepted and left alone: the stream serves several scripts, prints every character and holds no line back."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._target.fileno()

    def isatty(self) -> bool:
        return self._target.isatty()

    def close(self) -> None:
        """Not one script's to close."""


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer` of scripts that print bytes: they are text like everything else here, and go the same way."""

    def __init__(self, text: _Prefixed) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        self._text.write(bytes(view).decode("utf-8", "surrogateescape"))
        return view.nbytes

    def flush(self) -> None:
        self._text.flush()

    def fileno(self) -> int:
        return self._text.fileno()

    def close(self) -> None:
        """Not one script's to close."""


def _same_place(one: TextIO, other: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))
    except (OSError, ValueError):
        return False


def legible() -> None:
    """Print what the terminal cannot show as escapes, and every line when it is complete, also into a pipe."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)


@contextlib.contextmanager
def prefixed() -> Iterator[None]:
    """Within: `sys.stdout` and `sys.stderr` put a script's name before its lines. A stream that is closed stays so."""
    real_out, real_err = sys.stdout, sys.stderr
    page = _Page()
    if real_out is not None:
        sys.stdout = cast(TextIO, _Prefixed(real_out, page))
    if real_err is not None:
        shared = real_out is not None and _same_place(real_out, real_err)
        sys.stderr = cast(TextIO, _Prefixed(real_err, page if shared else _Page()))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = real_out, real_err


def finish(owner: Scope) -> None:
    """A script has ended: so does the line it was printing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _Prefixed):
            with contextlib.suppress(OSError, ValueError):
                stream.finish(owner)


def is_broken(stream: TextIO | None) -> bool:
    """Whether nobody reads `stream` any more. The system is asked: a failed write leaves nothing in the stream to tell."""
    if stream is None or not hasattr(select, "poll"):
        return False
    try:
        poller = select.poll()
        poller.register(stream.fileno(), 0)  # a reader who left is reported unasked
        return bool(poller.poll(0))
    except (OSError, ValueError):
        return False

"""One script's life: its code runs, what it opened keeps it alive, the rest is closed, and there is an exit status.

A script is over when its code has returned and its scope holds nothing that keeps it alive. `sys.exit` and an
uncaught exception end it at once, as they end a program. In each case its non-daemon threads are waited for, which
what they wait for being closed usually ends.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from types import CodeType

from actors import scope, waiting
from actors.scope import Scope
from adapters import output
from adapters.mains import Main
from adapters.routes import Routes
from adapters.threads import Threads

__all__ = ["Script"]

FAILED = 1
STOPPED = 130  # by KeyboardInterrupt, as shells count it: 128 + SIGINT
TURN = 0.5  # seconds for the threads of a stopped script to hear of it before what they use is closed
NO_READER = 141  # 128 + SIGPIPE: what `script | head` gives elsewhere

HERE = os.path.dirname(os.path.abspath(__file__))
# Between the script's frames and the interpreter's these are of no interest to who reads a traceback.
OUR_FRAMES = frozenset(os.path.join(HERE, name) for name in ("output.py", "script.py", "siblings.py", "threads.py"))


class Script:
    """`run` is called once, on the thread that is to be the script's. `status` is there when it has returned."""

    def __init__(self, path: str, scope: Scope, arguments: list[str], threads: Threads, routes: Routes) -> None:
        self.path = os.path.abspath(path)
        # Python too follows a link to the script, and not the one to its directory, to find the modules beside it.
        self.directory = os.path.dirname(os.path.realpath(path))
        self.scope = scope
        self.main = Main(self.path, [path, *arguments])
        self.status = 0
        self.thread_id: int | None = None
        # Both for `interrupt`: it was called, and the code runs or what it opened keeps it alive.
        self._asked = False
        self._lives = False
        self._threads = threads
        self._routes = routes

    def run(self) -> None:
        self.thread_id = threading.get_ident()
        waiting.current().equip()  # now: an interrupt in the middle of it, at the first wait, would leave half of it to the collector
        previous = scope.enter(self.scope)
        try:
            try:
                self.status = self._live()
                if self.status == STOPPED:
                    self._threads.join(self.scope, TURN)
            finally:
                self._routes.ended(self.scope)
                self.scope.close()
            self._threads.join(self.scope)
        except KeyboardInterrupt:  # came while the threads were waited for, or before the code had begun
            self.status = self.status or STOPPED
        finally:
            self._lives = False
            output.finish(self.scope)
            scope.enter(previous)

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt here, on the script's thread, if it is still about the script; and only once.

        What the script then does in `finally` is not to be disturbed, nor is what we do after it.
        """
        if not self._asked:
            self._asked = True
            if self._lives:
                raise KeyboardInterrupt

    def thread_ids(self) -> list[int]:
        """The script's own thread and those it started, as far as they are there."""
        own = [self.thread_id] if self.thread_id is not None else []
        return own + [thread.ident for thread in self._threads.of(self.scope) if thread.ident is not None]

    def _live(self) -> int:
        self._lives = True
        try:
            if self._asked or self.scope.stopping:  # before it had begun
                raise KeyboardInterrupt
            exec(self._compiled(), vars(self.main.module))
            self._routes.returned(self.scope)
            self.scope.wait()
        except SystemExit as leaving:
            return _exit_status(leaving.code)
        except KeyboardInterrupt:
            return STOPPED
        except BrokenPipeError as error:
            if output.is_broken(sys.stdout) or output.is_broken(sys.stderr):
                return NO_READER
            _report(error)
            return FAILED
        except BaseException as error:
            _report(error)
            return FAILED
        return 0

    def _compiled(self) -> CodeType:
        with open(self.path, "rb") as file:
            source = file.read()  # bytes, so that the compiler heeds a coding line
        return compile(source, self.path, "exec", dont_inherit=True)


def _exit_status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    _say(f"{code}\n")
    return FAILED


def _report(error: BaseException) -> None:
    """Print the traceback as Python would, without the frames of the runner."""
    if sys.excepthook is not sys.__excepthook__:
        # The script, or whoever set up the process, wants it told another way.
        sys.excepthook(type(error), error, error.__traceback__)
        return
    told = traceback.TracebackException.from_exception(error, compact=True)
    _leave_out_our_frames(told)
    # Code that does not compile has no frames: Python then says only where it stopped.
    _say("".join(told.format() if told.stack else told.format_exception_only()))


def _leave_out_our_frames(told: traceback.TracebackException) -> None:
    told.stack[:] = [frame for frame in told.stack if frame.filename not in OUR_FRAMES]
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            _leave_out_our_frames(other)


def _say(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it, or the script closed it
            sys.stderr.write(text)
            sys.stderr.flush()

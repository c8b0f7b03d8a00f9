"""Ctrl-C and SIGTERM: every script hears of it where it stands, and none can keep the process.

What happens, in order
1. At SIGTERM, and not at Ctrl-C, the servers drain first, and then the responders, DRAIN seconds at most: they accept
   nothing more and finish what they have begun. Scripts hear nothing of it, and callbacks run on.
2. A script on the main thread gets KeyboardInterrupt as under plain Python. For every other thread of a script the
   blocking call that runs, or else the next one, raises it; `time.sleep` is such a call while scripts run.
3. URGE seconds later it is raised asynchronously in threads that did not block since: loops that compute.
4. GRACE seconds after 2 what still runs is left behind (a C call, a bare `except:`): outboxes are flushed,
   and the process ends with 128 + the signal's number, 130 or 143.
A second signal ends the process at once. A script that handles a signal itself (`signal.signal`, which Python allows
on the main thread only) is left to it, and a signal that was ignored when we began (`nohup`, a shell's background
job) stays ignored.

Python runs signal handlers on the main thread between bytecodes, so a main thread inside a C call would keep
everybody waiting. The interpreter writes the signal's number to a wake-up descriptor at once, though, and a thread of
ours reads it there. After a drain it sends that signal once more, to the main thread alone: nothing else ends what that
thread waits for, whatever it is.
"""

from __future__ import annotations

import _thread
import contextlib
import operator
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, SupportsIndex

from actors import hosting, waiting
from adapters.script import Script

__all__ = ["Stopping", "interruptible_sleep"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
END = b"\0"  # no signal's number
ECHO = 0.05  # `timeout` signals a process and then its group; one meant twice comes later than this
URGE = 0.5
GRACE = 2.0
FLUSH = 5.0  # as a close lingers
DRAIN = 5.0  # less than the 10 s and 90 s after which `docker stop` and systemd kill

# Below this a sleep ends soon enough by itself, and the system's keeps to microseconds where a poll counts
# milliseconds.
SHORT_SLEEP = 0.01


class Stopping:
    """Watches for signals from `__enter__` to `__exit__`, both on the main thread.

    `on_main` is the script that runs on the main thread, if one does. `signal` is the one that stopped us, 0 so far.
    """

    def __init__(self, scripts: Sequence[Script], on_main: Script | None) -> None:
        self.signal = 0
        self._scripts = scripts
        self._on_main = on_main
        self._over = threading.Event()  # every script has ended
        self._drained = False  # or it was a signal that drains nothing
        self._repeated = False  # the signal that we sent ourselves is not heard yet
        self._repeating = threading.Lock()  # held while we send it, which we do not any more once every script has ended
        self._before: dict[signal.Signals, object] = {}
        self._heard, self._told = socket.socketpair()
        self._wakeup_before = -1
        self._watch = threading.Thread(target=self._listen, name="actorbus-signals", daemon=True)

    def __enter__(self) -> Stopping:
        global _watching
        self._told.setblocking(False)
        self._watch.start()
        _watching = self
        self._wakeup_before = signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        global _watching
        _watching = None
        self._let_go()
        self._told.send(END)
        self._watch.join()
        self._told.close()
        self._heard.close()

    def _let_go(self) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]

    def over(self) -> None:
        """Every script has ended. What is left takes bounded time, so a first signal changes nothing any more."""
        with self._repeating:
            self._over.set()

    def leave(self, status: int) -> None:
        """After a signal: end the process without the threads for which only the interpreter waits, as a pool's workers."""
        if not self.signal:
            return
        deadline = time.monotonic() + URGE
        others = [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
        for thread in others:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in others):
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError, ValueError):
                        stream.flush()
            os._exit(status)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number  # a script may end before the thread that listens gets its turn
        if self._on_main is not None and (self._drained or self.signal != signal.SIGTERM):
            self._on_main.interrupt()

    def _listen(self) -> None:
        first = 0.0
        while (told := self._heard.recv(1)) != END:
            number, now = told[0], time.monotonic()
            if signal.getsignal(number) != self._handle:
                continue
            if first:
                if self._repeated:
                    self._repeated = False
                    continue
                if now - first < ECHO:
                    continue
                os._exit(128 + number)
            self.signal, first = number, now
            threading.Thread(target=self._end, name="actorbus-stop", daemon=True).start()

    def _end(self) -> None:
        if self.signal == signal.SIGTERM:
            _drain()
            self._drained = True
            self._repeat()
        began = time.monotonic()
        asked = self._interrupt()  # all of them, before the end of one closes what another one is connected to
        for script in self._scripts:
            script.scope.stop()
        if self._over.wait(URGE):
            return
        for ident in waiting.withdraw(asked):  # so that nobody gets two
            _raise_asynchronously(ident)
        if self._over.wait(max(0.0, began + GRACE - time.monotonic())):
            return
        hosting.shutdown(FLUSH)
        os._exit(128 + self.signal)

    def _repeat(self) -> None:
        main = threading.main_thread().ident
        with self._repeating:
            if self._on_main is None or self._over.is_set() or main is None:
                return
            self._repeated = True
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(main, self.signal)
            else:
                _thread.interrupt_main(signal.Signals(self.signal))

    def _interrupt(self) -> list[int]:
        main = threading.main_thread().ident
        threads = [ident for script in self._scripts for ident in script.thread_ids() if ident != main]
        waiting.interrupt(threads)
        return threads


def _drain() -> None:
    """Have who serves or answers finish what he has begun, and leave him open: his script closes him, or its end does.

    Responders come last, because what a server has begun may ask them. Those of the engine's own topics are servers' ears.
    """
    from actors.subjects import is_reserved

    deadline = time.monotonic() + DRAIN
    servers: list[Any] = [actor for actor in hosting.live_actors() if hosting.is_a(actor, "ServerActor")]
    for over in [server.drain(DRAIN, None) for server in servers]:
        over.wait(deadline)
    answering: list[Any] = [actor for actor in hosting.live_actors() if hosting.is_a(actor, "ResponderActor")]
    responders = [responder for responder in answering if not is_reserved(responder.mailbox.topic)]
    for responder in responders:
        responder.drain(deadline)
    for responder in responders:
        responder.through.wait(deadline)


_watching: Stopping | None = None


def _after_fork() -> None:
    # What a child is told must not be heard by its parent, with whom it shares the wake-up descriptor.
    global _watching
    if _watching is not None:
        _watching._let_go()
        _watching = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _raise_asynchronously(thread: int) -> None:
    import ctypes

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))


@contextlib.contextmanager
def interruptible_sleep() -> Iterator[None]:
    """Within: `time.sleep` is a blocking call of ours."""
    plain_sleep = time.sleep

    def sleep(seconds: float | SupportsIndex, /) -> None:
        if not isinstance(seconds, float):
            seconds = int(operator.index(seconds))  # as the plain one does: no decimals, no strings
        if seconds >= SHORT_SLEEP:
            waiting.sleep(seconds)
        else:
            plain_sleep(seconds)

    time.sleep = sleep
    try:
        yield
    finally:
        time.sleep = plain_sleep

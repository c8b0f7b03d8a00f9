"""How a script's thread waits: one place to park per thread, one deadline that travels along.

Every blocking call of the library ends up in `Waiter.wait`, so that there is one thing to wake for a message, a close, an
interrupt and a deadline. Guarantees: `unpark` before `wait` makes the next `wait` return at once (nothing is lost); `wait` may return
early, so callers look again; Ctrl-C in the main thread and `interrupt()` for any thread end it with KeyboardInterrupt.

A timeout is what a user gives (seconds from now; None waits for ever, 0 polls); a deadline is a time of `time.monotonic`.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol
from weakref import WeakValueDictionary

from actors.errors import DeadlinePassed
from actors.wakeup import Nap, Wakeup

__all__ = [
    "READ",
    "WRITE",
    "Waiter",
    "check_timeout",
    "current",
    "deadline",
    "deadline_after",
    "interrupt",
    "remaining",
    "sleep",
    "waiters",
    "withdraw",
]

READ = 1  # select.POLLIN, which Windows does not have
WRITE = 4  # select.POLLOUT
# The kernel gives a signal of the process to any of its threads, and CPython then runs the handler on the main thread: at its next
# bytecode, which a poll without an end would never reach.
LONGEST_IN_MAIN = 1.0
LONGEST = 86_400.0  # one poll at most a day: its argument is a C int of milliseconds
NUMBERS = frozenset((float, int))
TIMEOUT_MAX = threading.TIMEOUT_MAX

_usual: float | None = 5.0  # what was checked last: a script gives the same object again and again


def check_timeout(timeout: float | None, name: str = "timeout") -> float | None:
    """The timeout as given if it is one: None, or seconds >= 0 as int or float. Else TypeError or ValueError, naming it."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(timeout).__name__}")
    if not timeout >= 0:  # also catches NaN
        raise ValueError(f"{name} must be 0 or more seconds, not {timeout!r}")
    return min(timeout, TIMEOUT_MAX)


def deadline_after(timeout: float | None, name: str = "timeout") -> float | None:
    """The time of `time.monotonic` at which a checked timeout ends; None for never."""
    global _usual
    if timeout is not _usual:
        checked = check_timeout(timeout, name)
        if checked is None:
            return None
        if checked is timeout and type(timeout) in NUMBERS:  # a subclass could change its value
            _usual = timeout
        timeout = checked
    return monotonic() + timeout  # type: ignore[operator]


def remaining(deadline: float | None) -> float | None:
    """Seconds left until the deadline, never negative; None for no deadline."""
    return None if deadline is None else max(0.0, deadline - monotonic())


class Host(Protocol):
    """What a callback runs on: it wants to hear before the callback blocks."""

    def about_to_block(self) -> None: ...


class _Notice:
    """What `unpark` sets before the first wait. So a thread that never waits, as most of the engine's own, needs no descriptor; callbacks
    run when there is none left.
    """

    __slots__ = ("given", "wakeup")

    def __init__(self) -> None:
        self.given = False
        self.wakeup: Wakeup | None = None

    def set(self) -> None:
        self.given = True
        if self.wakeup is not None:  # made meanwhile, by one who looks at `given` after that
            self.wakeup.set()


class Waiter:
    """The parking place of one thread. Only that thread calls `wait`; any thread calls `unpark` and `interrupt`.

    `host` is set while the thread runs a user's callback: such a thread is on loan from the engine. `limit` is the end of the thread's
    `deadline` scope, and how many seconds that was: no wait goes beyond it. `on` is what the thread waits for this moment, for `explain`.
    `nap` is what `doze` waits with; `unpark` does not reach that.
    """

    __slots__ = (
        "__weakref__",
        "_alone",
        "_equipped",
        "_events",
        "_fd",
        "_interrupted",
        "_longest",
        "_notice",
        "_owner",
        "_poll",
        "_poller",
        "_wakeup",
        "host",
        "limit",
        "nap",
        "on",
        "unpark",
    )

    _poll: Callable[[float], list[tuple[int, int]]]
    _wakeup: Wakeup

    def __init__(self) -> None:
        self._owner = weakref.ref(threading.current_thread())
        self._equipped = False
        self._notice = _Notice()
        self.unpark = self._notice.set
        self.nap = Nap()
        self.host: Host | None = None
        self.limit: tuple[float, float] | None = None
        self.on: object = None
        self._interrupted = False
        self._longest = LONGEST_IN_MAIN if threading.current_thread() is threading.main_thread() else LONGEST
        self._fd = -1
        self._events = 0
        self._alone = [(-1, 0)]  # what the poll says of them and nothing else
        self._poller: object = None

    def wait(self, deadline: float | None, fd: int = -1, events: int = READ, on: object = None) -> bool:
        """Wait until `fd` is ready (True), or until unparked, the deadline, or no reason at all (False). `on`: whose news it is about.

        Raises KeyboardInterrupt when the thread was interrupted, DeadlinePassed when its scope's time is over.
        """
        if self.limit is not None or self.host is not None:
            timeout = self._begin(deadline)
        elif deadline is None:
            timeout = self._longest
        else:
            timeout = deadline - monotonic()
            if timeout > self._longest:
                timeout = self._longest
            elif timeout < 0.0:
                timeout = 0.0
        if fd != self._fd or events != self._events:
            if not self.equip():
                self.on = on
                return self._select(timeout, fd, events)
            self._watch(fd, events)
        self.on = on
        ready = self._poll(timeout * 1000.0)
        self.on = None
        if ready == self._alone:
            return True
        if not ready:
            return False
        if len(ready) == 1 and ready[0][0] == fd:  # with an error, or its end
            return True
        self._wakeup.clear()
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt
        return len(ready) == 2

    def _begin(self, deadline: float | None) -> float:
        """For how many seconds to wait now; the long way of it, for who does not just wait until a deadline of its own."""
        if self.limit is not None and (deadline is None or deadline > self.limit[0]):
            deadline, seconds = self.limit
            if monotonic() >= deadline:
                raise DeadlinePassed("bus.deadline", f"{seconds:g} s")
        if self.host is not None:
            self.host.about_to_block()
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt
        timeout = self._longest
        if deadline is not None:
            timeout = deadline - monotonic()
            if timeout < 0.0:
                timeout = 0.0
            elif timeout > self._longest:
                timeout = self._longest
        return timeout

    def doze(self, deadline: float | None, on: object) -> None:
        """Wait until `nap` is unparked, the deadline, or no reason at all: for what other threads of this process do, and no descriptor.

        It costs both sides a fraction of `wait`: the kernel is asked once, and who unparks keeps the interpreter. Raises as `wait` does.
        """
        timeout = self._begin(deadline)
        self.on = on
        self.nap.wait(timeout)
        self.on = None
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def equip(self) -> bool:
        """Make what it waits with, the first time. Returns whether that is a poller. Raises OSError when there is no descriptor left."""
        if not self._equipped:
            notice = self._notice
            wakeup = notice.wakeup or Wakeup()  # an interrupt may have cut this off before
            notice.wakeup = wakeup  # from here on `set` of the notice, which others may be calling, sets it; and before that it was given
            if notice.given:
                wakeup.set()
            if hasattr(select, "poll"):
                poller = select.poll()
                poller.register(wakeup.fd, READ)
                self._poll = poller.poll
                self._poller = poller
            self._wakeup = wakeup
            self.unpark = wakeup.set
            self._equipped = True
        return self._poller is not None

    def _watch(self, fd: int, events: int) -> None:
        # A new one each time: changing the old one takes two calls, and Ctrl-C between them would leave it watching something else than
        # `_fd` says.
        poller = select.poll()
        poller.register(self._wakeup.fd, READ)
        if fd >= 0:
            poller.register(fd, events)
        poll = poller.poll
        alone = [(fd, events)]
        # Stores only from here on.
        self._poll = poll
        self._alone = alone
        self._fd = fd
        self._events = events

    def _select(self, timeout: float, fd: int, events: int) -> bool:
        wake = self._wakeup.fd
        reads = [wake, fd] if fd >= 0 and events & READ else [wake]
        writes = [fd] if fd >= 0 and events & WRITE else []
        # Windows reports a failed connect as an exceptional condition.
        readable, writable, failed = select.select(reads, writes, writes, timeout)
        self.on = None
        if wake in readable:
            self._wakeup.clear()
            if self._interrupted:
                self._interrupted = False
                raise KeyboardInterrupt
        return fd in readable or fd in writable or fd in failed

    def interrupt(self) -> None:
        """Make the blocking call that runs now, or else the next one, raise KeyboardInterrupt."""
        self._interrupted = True
        self.unpark()
        self.nap.unpark()

    @property
    def thread(self) -> threading.Thread | None:
        """Whose it is."""
        return self._owner()

    @property
    def orphaned(self) -> bool:
        """Whether its thread has ended. A traceback may hold it beyond that, while another thread has the number already."""
        owner = self._owner()
        return owner is None or not owner.is_alive()

    def withdraw(self) -> bool:
        """Undo `interrupt`, unless it was raised already. Returns whether there was one to undo."""
        pending, self._interrupted = self._interrupted, False
        return pending


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.waiter = Waiter()
        with _lock:
            ident = threading.get_ident()
            _waiters[ident] = self.waiter
            if ident in _to_interrupt:
                _to_interrupt.discard(ident)
                self.waiter.interrupt()


_lock = threading.Lock()
_waiters: WeakValueDictionary[int, Waiter] = WeakValueDictionary()
_to_interrupt: set[int] = set()  # threads that were interrupted before they waited for the first time
_per_thread = _PerThread()


def current() -> Waiter:
    """The calling thread's waiter."""
    return _per_thread.waiter


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """A scope whose blocking calls, all together, wait at most `seconds` (int or float). For the calling thread alone.

    A call that would have to wait beyond that raises DeadlinePassed (a TimeoutError); one whose own timeout ends before gives what it
    always gives. An inner scope cannot wait longer than the outer one. What does not wait goes on as ever, and `close` asks, but does not
    wait: objects are closed in order also when the time is over.

    >>> import bus
    >>> with bus.bind("udp://127.0.0.1:0") as sock:
    ...     try:
    ...         with bus.deadline(0.01):
    ...             sock.receive()
    ...     except TimeoutError as exc:
    ...         print(exc)
    the time of bus.deadline is over: 0.01 s
    """
    end = deadline_after(seconds, "seconds")
    if end is None:
        raise TypeError("seconds must be a number, not None")
    waiter = current()
    outer = waiter.limit
    try:
        waiter.limit = (end, seconds) if outer is None or end < outer[0] else outer
        yield
    finally:
        waiter.limit = outer


def waiters() -> list[Waiter]:
    """Those of all threads that live now and ever waited."""
    # Without the lock, so that a signal handler may ask.
    return [waiter for ref in _waiters.valuerefs() if (waiter := ref()) is not None and not waiter.orphaned]


def interrupt(thread_ids: Iterable[int]) -> None:
    """Make the running or else the next blocking call of each of these threads (`Thread.ident`) raise KeyboardInterrupt."""
    for ident in thread_ids:
        with _lock:
            waiter = _waiters.get(ident)
            if waiter is None or waiter.orphaned:
                _to_interrupt.add(ident)
            else:
                waiter.interrupt()


def withdraw(thread_ids: Iterable[int]) -> list[int]:
    """Take back the interrupts that no blocking call has raised so far; returns whose those were."""
    taken_back = []
    for ident in thread_ids:
        with _lock:
            waiter = _waiters.get(ident)
            if waiter is not None and not waiter.orphaned and waiter.withdraw():
                taken_back.append(ident)
            elif ident in _to_interrupt:
                _to_interrupt.discard(ident)
                taken_back.append(ident)
    return taken_back


def sleep(seconds: float) -> None:
    """`time.sleep` that `interrupt` ends as Ctrl-C does."""
    deadline = deadline_after(seconds, "seconds")
    waiter = current()
    while deadline is not None and monotonic() < deadline:
        waiter.wait(deadline)


def _after_fork() -> None:
    # The child would share each eventfd with its parent, and wake the wrong process.
    global _lock, _per_thread
    _lock = threading.Lock()
    _waiters.clear()
    _to_interrupt.clear()
    _per_thread = _PerThread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""A reader thread: one poller, one heap of timers, the inboxes of the actors it hosts, many readers, and a baton.

Guarantees
- Exactly one thread runs the loop: the one whose token is `_token`. It may change (*takeover*); timers, tasks and pending events live in
  the object, not in the thread, so nothing is lost with the change.
- An exception of any kind costs the reader, the task or the timer that it strikes, never the loop.
- A reader gets one turn of bounded size per poll, so that nobody starves.
- While a callback runs here, the keeper watches the clock; if it has not come back after 20 ms (sooner, where many do not), or is about to
  block in one of our own calls, a spare thread takes the baton and goes on with the same poller. The busy client stays with the old thread,
  its socket unpolled, until the callback returns. So a callback that is quick costs no change of threads, and one that is slow delays its
  neighbours once, briefly.

`call_soon` and `call_later_threadsafe` may be called from any thread; everything else that is public runs on the thread with the baton,
except `register` and `modify`, which are called with the reader's mutex. `_lock` owns `_token` and `_lane`'s end; the thread with the baton
owns the rest.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import count
from threading import Event, Lock, get_ident
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from actors import crew, keeper, waiting
from actors.poller import make_poller
from actors.reader import ENDED
from actors.wakeup import Wakeup

if TYPE_CHECKING:
    from actors.actor import SocketActor
    from actors.reader import Reader

__all__ = ["SWEEP_SECONDS", "Lane", "ReaderThread", "Timer"]

log = logging.getLogger("actorbus.engine")

SWEEP_SECONDS = 0.05  # each look takes the interpreter lock from a script in its round trips


class Lane(Protocol):
    """What runs one client's callbacks, one after the other."""

    def drain(self) -> None:
        """Run callbacks until nothing is pending."""
        ...

    def detach(self) -> None:
        """The thread that drains no longer has the baton. Called under the loop's lock, while `drain` is inside a callback."""
        ...

    def about_to_block(self) -> None: ...


class Timer:
    """A call at a time to come. `cancel` from the reader thread."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class ReaderThread:
    """See the module."""

    def __init__(self) -> None:
        self._poller = make_poller()
        self._wakeup = Wakeup()
        self._poller.register(self._wakeup.fd, 1)
        self._readers: dict[int, Reader] = {}
        self._ready: deque[tuple[int, int]] = deque()
        self._tasks: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = count()
        self._sleeping = False
        self.lent: set[Reader] = set()
        self.hosted: set[SocketActor] = set()
        self._sweep_at = 0.0
        self._lock = Lock()
        self._token = 0
        self._ident = 0
        self._lane: Lane | None = None
        self._since = 0.0
        self.patience = 1.0  # what of the keeper's is left
        self._serves = 0
        self._serves_seen = 0
        self.stopped = Event()

    def start(self) -> bool:
        """Give the loop its first thread. False when there is none to be had."""
        return crew.run(partial(self._run, 0))

    # -- for any thread -----------------------------------------------------------------------------------------------

    def is_current(self) -> bool:
        """Whether the calling thread has the baton."""
        return self._ident == get_ident()

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have `call()` run on the reader thread, after what was asked for earlier."""
        self._tasks.append(call)
        if self._sleeping:  # only the loop clears it: an interrupt between clearing and setting would leave it asleep for good
            self._wakeup.set()

    def call_later_threadsafe(self, seconds: float, call: Callable[[], object]) -> Timer:
        """`call_later` for any thread: the heap of timers is the loop's own. The time counts from now."""
        timer = Timer(call)
        when = monotonic() + seconds
        self.call_soon(lambda: heappush(self._timers, (when, next(self._numbers), timer)))
        return timer

    def register(self, reader: Reader, mask: int) -> None:
        self._readers[reader.fd] = reader
        if self._poller.thread_safe:
            self._poller.register(reader.fd, mask)
        else:
            self.call_soon(partial(self._apply, reader))

    def modify(self, reader: Reader, mask: int) -> None:
        if self._poller.thread_safe:
            try:
                self._poller.modify(reader.fd, mask)
            except OSError as exc:  # somebody else in this process has closed the number: a stray os.close, as a rule
                self.call_soon(partial(self._lost, reader, exc))
        else:
            self.call_soon(partial(self._apply, reader))

    def _lost(self, reader: Reader, exc: OSError) -> None:
        if not reader.closing and not reader.gates & ENDED:
            log.error("descriptor %d of %r is not ours any more: %s", reader.fd, reader.sock, exc)
            reader.crashed(exc)

    def _apply(self, reader: Reader) -> None:
        with reader.mutex:
            if self._readers.get(reader.fd) is reader:
                reader.mask = reader.wanted()
                self._poller.modify(reader.fd, reader.mask)

    # -- for the thread with the baton --------------------------------------------------------------------------------

    def unregister(self, reader: Reader) -> None:
        if self._readers.pop(reader.fd, None) is not None:
            try:
                self._poller.unregister(reader.fd)
            except OSError:
                pass  # see `modify`
        self.lent.discard(reader)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        timer = Timer(call)
        heappush(self._timers, (monotonic() + seconds, next(self._numbers), timer))
        return timer

    def _run(self, token: int) -> None:
        """Run the loop for as long as the token is this one. Whatever is thrown into this thread, the loop goes on."""
        while self._token == token:
            try:
                self._loop(token)
            except GeneratorExit:  # the one order to unwind and end
                raise
            except BaseException:
                log.critical("the loop of a reader thread was ended by force; it goes on", exc_info=True)

    def _loop(self, token: int) -> None:
        self._ident = get_ident()
        ready = self._ready
        readers = self._readers
        poll = self._poller.poll
        wake_fd = self._wakeup.fd
        while self._token == token:
            if not ready:
                self._sleeping = True
                timeout = 0.0 if self._tasks else self._timeout()
                ready.extend(poll(timeout))
                self._sleeping = False
            while ready:
                fd, mask = ready.popleft()
                reader = readers.get(fd)
                if reader is not None:
                    try:
                        reader.on_ready(mask)
                    except GeneratorExit:
                        raise
                    except BaseException as exc:
                        log.exception("reading %r failed", reader.sock)
                        reader.crashed(exc)
                    if self._token != token:
                        return
                elif fd == wake_fd:
                    self._wakeup.clear()
            reader = None  # it may be closed by now, and its mailbox is not ours to keep
            if self._tasks and not self._run_tasks(token):
                return
            if (self._timers or self.lent) and not self._run_timers(token):
                return

    def _timeout(self) -> float | None:
        timers = self._timers
        while timers and timers[0][2].call is None:
            heappop(timers)
        when = timers[0][0] if timers else None
        if self.lent:
            when = self._sweep_at if when is None else min(when, self._sweep_at)
        return None if when is None else min(waiting.LONGEST, max(0.0, when - monotonic()))

    def _run_tasks(self, token: int) -> bool:
        tasks = self._tasks
        for _ in range(len(tasks)):
            task = tasks.popleft()
            try:
                task()
            except GeneratorExit:
                raise
            except BaseException:
                log.exception("a task on the reader thread failed")
            if self._token != token:
                return False
        return True

    def _run_timers(self, token: int) -> bool:
        now = monotonic()
        timers = self._timers
        while timers and timers[0][0] <= now:
            call = heappop(timers)[2].call
            if call is not None:
                try:
                    call()
                except GeneratorExit:
                    raise
                except BaseException:
                    log.exception("a timer on the reader thread failed")
                if self._token != token:
                    return False
        if self.lent and now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            for reader in list(self.lent):
                if not reader.sweep():
                    self.lent.discard(reader)
        return True

    # -- takeover -----------------------------------------------------------------------------------------------------

    def serve(self, lane: Lane) -> bool:
        """Drain a lane on this thread. False when the baton was taken meanwhile: then touch nothing of the loop any more."""
        token = self._token
        self._since = monotonic()
        self._serves += 1
        self._lane = lane
        if keeper.asleep:
            keeper.watch(self)
        waiter = waiting.current()
        waiter.host = lane
        try:
            lane.drain()
        finally:
            waiter.host = None
            with self._lock:
                kept = self._token == token
                if kept:
                    self._lane = None
        return kept

    def serves(self, lane: Lane) -> bool:
        """Whether the thread with the baton drains it this moment. From any thread."""
        return self._lane is lane

    def check(self, now: float) -> bool:
        """For the keeper: whether callbacks run here. Takes the baton from one that has not come back in time."""
        lane, since = self._lane, self._since
        if lane is not None and now - since >= keeper.PATIENCE * self.patience:
            self.patience = keeper.less(self.patience)
            self.take_over(lane)
        else:
            self.patience = keeper.more(self.patience)
        busy = lane is not None or self._serves != self._serves_seen
        self._serves_seen = self._serves
        return busy

    def take_over(self, lane: Lane) -> None:
        """Have a spare thread go on with the loop if `lane` is still being drained on the thread with the baton."""
        if self._lane is lane:
            crew.run(partial(self._adopt, lane, self._since))

    def _adopt(self, lane: Lane, since: float) -> None:
        with self._lock:
            if self._lane is not lane or self._since != since:
                return
            lane.detach()
            self._lane = None
            self._token += 1
            token = self._token
        self._run(token)

    # -- the end ------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the loop once its readers are closed; from any thread. `stopped` is set when its descriptors are closed."""
        self.call_soon(self._end)

    def _end(self) -> None:
        for actor in list(self.hosted):
            actor.abandon()
        for reader in list(self._readers.values()):
            reader.release()
        if self._readers:  # somebody is reading this moment
            self.call_later(SWEEP_SECONDS, self._end)
            return
        with self._lock:
            self._token += 1
        keeper.forget(self)
        self.discard()

    def discard(self) -> None:
        """Close what it polls with; for a loop that has no thread."""
        self._poller.close()
        self._wakeup.close()
        self.stopped.set()

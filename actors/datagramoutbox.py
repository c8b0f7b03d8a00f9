"""Datagrams that leave later: posted without waiting, sent in the order they were posted, each with an answer.

Guarantees
- `post` never waits. What can go at once goes in the caller's thread; what waits for a name, or for room in the kernel's buffer, and all
  that was posted behind it, is sent by the reader thread.
- `tell(error)` is called for each, in order, one at a time and with no lock held: None when the kernel took the datagram, else why it did
  not. On the caller's thread or the reader thread, so it must not block.
- One that fails costs nothing but itself. After the end all that is left is told the reason.
- Bounded: `post` raises NotSent while `MAX_POSTED` datagrams or `MAX_BYTES` wait, and takes nothing of that one.

The lock, which is the socket's write lock, owns every field but `_finished`; that is emptied by whoever holds `_telling`.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections import deque
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from actors.errors import BusError, NotSent, TooLarge
from actors.resolving import Resolved, look_up, numeric

if TYPE_CHECKING:
    from actors.readerthread import ReaderThread

__all__ = ["FULL_NET", "MAX_BYTES", "MAX_POSTED", "REFUSED", "Choose", "DatagramOutbox", "Posted", "Tell", "Way"]

log = logging.getLogger("actorbus.datagram")

MAX_POSTED = 10_000
MAX_BYTES = 4 * 1024 * 1024
FULL_NET = (errno.ENOBUFS, errno.ENOMEM)
REFUSED = (errno.ECONNREFUSED, errno.ECONNRESET)
RETRY_FULL_NET = 0.001  # such a buffer does not tell when it has room
TRIES = 3  # an error about an earlier datagram takes the place of a send; so many of them may wait

Tell = Callable[[Exception | None], object]
Choose = Callable[[tuple[Resolved, ...]], Any]
# What sends: a socket's `send` with the arguments, and the order to poll that socket for room (or not to).
Way = tuple[Callable[..., int], tuple[Any, ...], Callable[[bool], None]]


class Counts(Protocol):
    """What is counted of the sent, where the actor keeps it."""

    messages_out: int
    bytes_out: int
    refused: int


class Posted:
    """A datagram, or with `data` None the order to connect. `addresses` is None while the name is looked up."""

    __slots__ = ("addresses", "choose", "data", "due", "error", "sent", "tell", "timeout", "where")

    def __init__(self, data: bytes | None, where: str, choose: Choose, timeout: float | None, tell: Tell) -> None:
        self.data = data
        self.where = where
        self.choose = choose
        self.timeout = timeout
        self.tell = tell
        self.addresses: tuple[Resolved, ...] | None = None
        self.error: Exception | None = None
        self.due: float | None = None  # from when it was found that the kernel has no room
        self.sent: list[int] = []  # filled by the call that sends, so that Ctrl-C behind it sends nothing twice


class DatagramOutbox:
    """See the module. `way(sockaddr)` and `connect(sockaddr)` are the actor's, called with the lock; `reason()` gives the end's, if there
    is one.
    """

    __slots__ = ("_connect", "_counts", "_finished", "_left", "_lock", "_loop", "_queue", "_reason", "_telling", "_way", "unsent")

    def __init__(
        self,
        lock: Lock,
        loop: ReaderThread,
        counts: Counts,
        *,
        way: Callable[[Any], Way],
        connect: Callable[[Any], object],
        reason: Callable[[], BusError | None],
    ) -> None:
        self._lock = lock
        self._loop = loop
        self._counts = counts
        self._way = way
        self._connect = connect
        self._reason = reason
        self._queue: deque[Posted] = deque()
        self._left = 0  # bytes in the queue
        self._finished: deque[tuple[Posted, Exception | None]] = deque()
        self._telling = Lock()
        self.unsent = 0  # bytes that were posted and never taken by the kernel

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def weight(self) -> int:
        return self._left if self._queue else 0

    def post(self, posted: Posted, target: tuple[str, int] | None, family: int) -> None:
        """Queue it for a host and port, or for the connected peer, and send it if nothing is in its way.

        `family` restricts the addresses of the host; 0 does not. Raises the reason of the end, and NotSent when too much waits already.
        """
        if target is None:
            posted.addresses = (Resolved(0, None),)
        else:
            posted.addresses = numeric(*target, socket.SOCK_DGRAM, family) or None
        weight = len(posted.data or b"")
        with self._lock:
            reason = self._reason()
            if reason is not None:
                raise reason.again()
            if len(self._queue) >= MAX_POSTED or (self._queue and self._left + weight > MAX_BYTES):
                raise NotSent(posted.where, f"{len(self._queue)} datagrams wait to be sent already")
            first = not self._queue
            if first:
                self._left = 0  # an interrupt may have left it otherwise
            self._queue.append(posted)
            self._left += weight
        if posted.addresses is None and target is not None:
            self._look_up(posted, target, family)
        elif first:
            self.push()

    def _look_up(self, posted: Posted, target: tuple[str, int], family: int) -> None:
        def found(outcome: tuple[Resolved, ...] | BusError) -> None:
            if isinstance(outcome, BusError):
                posted.error = outcome
            else:
                posted.addresses = outcome
            self._loop.call_soon(self.push)

        look_up(*target, socket.SOCK_DGRAM, family, found)

    def push(self) -> None:
        """Send what can be sent now, and tell who waits for it. From any thread."""
        try:
            with self._lock:
                self._send_on()
            self._tell()
        except BaseException:
            self._loop.call_soon(self.push)  # Ctrl-C: the reader thread goes on
            raise

    def _send_on(self) -> None:
        while self._queue and self._reason() is None:
            posted = self._queue[0]
            if posted.addresses is None and posted.error is None:
                return
            try:
                if not self._went(posted):
                    return
                error = None
            except Exception as exc:
                error = exc
            self._done(posted, error)

    def _went(self, posted: Posted) -> bool:
        """Send it. False when the kernel has no room now. Raises why it can't be sent."""
        if posted.error is not None:
            raise posted.error
        if posted.sent:
            return True
        assert posted.addresses is not None
        sockaddr = posted.choose(posted.addresses)
        if posted.data is None:
            self._connect(sockaddr)
            return True
        send, target, poll = self._way(sockaddr)
        for tries in range(TRIES):
            try:
                posted.sent.extend(map(send, (posted.data,), *((part,) for part in target)))
                break
            except (BlockingIOError, InterruptedError):
                return self._wait_for_room(posted, poll)
            except OSError as exc:
                if exc.errno in FULL_NET:
                    return self._wait_for_room(posted, None)
                if exc.errno == errno.EMSGSIZE:
                    raise TooLarge(posted.where, f"{len(posted.data)} bytes do not fit a datagram").because(exc) from exc
                if exc.errno not in REFUSED or tries == TRIES - 1:
                    raise
                self._counts.refused += 1
        if posted.due is not None:
            poll(False)
        self._counts.messages_out += 1
        self._counts.bytes_out += len(posted.data)
        return True

    def _wait_for_room(self, posted: Posted, poll: Callable[[bool], None] | None) -> bool:
        now = monotonic()
        first = posted.due is None
        if posted.due is None:
            posted.due = float("inf") if posted.timeout is None else now + posted.timeout
        if now >= posted.due:
            if poll is not None:
                poll(False)
            raise NotSent(posted.where, "the kernel's buffer stayed full until the deadline")
        if first and posted.timeout is not None:
            self._loop.call_later_threadsafe(posted.timeout, self.push)
        if poll is not None:
            poll(True)
        else:
            self._loop.call_later_threadsafe(RETRY_FULL_NET, self.push)
        return False

    def _done(self, posted: Posted, error: Exception | None) -> None:
        weight = len(posted.data or b"")
        if error is not None:
            self.unsent += weight
        # With the first of these it is no longer ours to send.
        del self._queue[0]
        self._left -= weight
        self._finished.append((posted, error))

    def _tell(self) -> None:
        while self._finished:
            turn: list[bool] = []
            try:
                turn.extend(map(self._telling.acquire, (False,)))  # one call: Ctrl-C behind it finds in the list what is to be given back
                if turn != [True]:
                    return
                self._tell_each()
            finally:
                if turn == [True]:
                    self._telling.release()

    def _tell_each(self) -> None:
        while self._finished:
            posted, error = self._finished.popleft()
            try:
                posted.tell(error)
            except Exception:
                log.exception("what was to be told of a datagram to %s failed", posted.where)

    def end(self, reason: BusError) -> None:
        """The socket has ended: nothing more is sent. On the reader thread."""
        with self._lock:
            self._give_up(reason)
        self._tell()

    def _give_up(self, reason: BusError) -> None:
        while self._queue:
            self._done(self._queue[0], reason.again())

    def after_fork(self, lock: Lock) -> None:
        self._lock = lock
        self._telling = Lock()
        self._queue.clear()
        self._finished.clear()


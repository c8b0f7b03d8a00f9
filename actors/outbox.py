"""The outbox: what was accepted for a peer and is not yet with the kernel.

Guarantees
- A message is taken whole or not at all, and frames never interleave, whoever sends from however many threads.
- It is bounded in bytes and in messages; one larger message fits when it is empty. Over the bound `send` waits until its deadline, and then
  nothing of that message was taken; `offer` never waits.
- The lock is only ever held across a non-blocking write. So nobody who needs it waits for a peer that stopped reading.
- Ctrl-C at any bytecode neither tears a frame nor sends a byte twice: what the kernel took is recorded in the C call that gave it to the
  kernel.

A write is first tried in the caller's own thread. What the kernel does not take is queued, and `backlog(True)` asks the reader thread to
write it on when it can. `_lock` owns every field. `drained` is called, on whichever thread wrote last, when the outbox falls below low
water after it was congested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from time import monotonic
from typing import Any, Literal, Protocol

from actors.errors import Broken, BusError, NotSent
from actors.waiting import Waiter, current

__all__ = ["MAX_BYTES", "MAX_MESSAGES", "Outbox"]

MAX_BYTES = 4 * 1024 * 1024
MAX_MESSAGES = 100_000  # of one byte each, these take as much memory as the bytes may
LOW_WATER = 4  # congestion is over below a quarter of the bound
MARK = 0.1
JOIN_BYTES = 128 * 1024  # small frames that wait together are written together, up to this much at a time


class Sender(Protocol):
    """A non-blocking socket, as far as an outbox needs it."""

    def send(self, data: bytes | memoryview, /) -> int: ...


class Outbox:
    """The outgoing buffer of one stream connection. `address` is for error texts."""

    __slots__ = (
        "_address",
        "_backlog",
        "_behind",
        "_current",
        "_drained",
        "_failed",
        "_flushing",
        "_lock",
        "_marks",
        "_max_bytes",
        "_max_messages",
        "_queue",
        "_send",
        "_size",
        "_waiters",
        "bytes",
        "congested",
        "ended",
        "messages",
        "unsent",
    )

    def __init__(
        self,
        sock: Sender,
        *,
        address: str,
        backlog: Callable[[bool], None],
        failed: Callable[[OSError], BusError],
        drained: Callable[[], None],
        max_bytes: int = MAX_BYTES,
        max_messages: int = MAX_MESSAGES,
    ) -> None:
        self._lock = Lock()
        self._send = sock.send
        self._address = address
        self._backlog = backlog
        self._failed = failed
        self._drained = drained
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        # The frame being written, and behind it how much of it the kernel took: [], [frame] or [frame, taken]. `_queue` waits behind.
        self._current: list[Any] = []
        self._queue: list[bytes] = []
        self._size = 0  # bytes of both that the kernel has not taken
        # For `oldest`: how many bytes had been accepted when, so far as the kernel has not taken them; a mark every MARK seconds at most.
        self._marks: list[tuple[int, float]] = []
        self._behind = False  # whether the reader thread was asked to write on
        self._waiters: list[Waiter] = []
        self.congested = False
        self.ended: BusError | None = None
        self.messages = 0
        self.bytes = 0  # accepted, framing included
        self.unsent = 0  # accepted, and dropped when the connection ended
        self._flushing = True  # until `drop`

    def __len__(self) -> int:
        """Bytes accepted and not yet with the kernel."""
        return self._size

    @property
    def written(self) -> int:
        """Bytes given to the kernel."""
        return self.bytes - self._size - self.unsent

    @property
    def lock(self) -> Lock:
        """Held while the socket is written to. Whoever closes the descriptor holds it, too."""
        return self._lock

    def try_send(self, frame: bytes) -> Literal["taken", "queued"] | None:
        """Take the frame if the outbox is empty: the short way of nearly every `send`, and of a broadcast. "taken": the kernel has all of
        it; None: nothing was done, take the long way. Raises the reason of the end if that came meanwhile, and the frame is lost.
        """
        size = len(frame)
        with self._lock:
            if self._size or self.ended is not None:
                return None
            current = self._current
            # Stores, one call that writes and keeps the account, stores: as in `_push`.
            current[:] = (frame,)
            self._size = size
            self.messages += 1
            self.bytes += size
            try:
                current.extend(map(self._send, (frame,)))
                if current[1] == size:
                    del current[:]
                    self._size = 0
                    return "taken"
            except OSError:
                pass  # full or broken: `_push` meets it again, and knows what to do
            except BaseException:
                self._ask()
                raise
            try:
                self._push()
            except BaseException:
                self._ask()
                raise
            if not self._size:
                return "taken"
            if self._full():
                self.congested = True
        self._taken()
        return "queued"

    def send(self, frame: bytes, deadline: float | None) -> None:
        """Take the frame, waiting for room until the deadline. Raises NotSent, or the reason of the end."""
        size = len(frame)
        while True:
            with self._lock:
                if self.ended is not None:
                    raise self.ended.again()
                if not self._size or self._fits(size):
                    self._take(frame, size, 1)
                    break
                waiter = self._queue_up()
            self._await_room(waiter, deadline)
        self._taken()

    def _taken(self) -> None:
        """The message was taken. If all is lost already, its sender had better know."""
        if self.ended is not None and not self._flushing:
            raise self.ended.again()

    def send_many(self, frames: Sequence[bytes], deadline: float | None) -> None:
        """Take the frames in order, many in one write. The NotSent that may come of it tells in `accepted` how many were taken."""
        accepted = 0
        while accepted < len(frames):
            with self._lock:
                if self.ended is not None:
                    raise self.ended.again()
                end = self._room_until(frames, accepted)
                if end > accepted:
                    joined = b"".join(frames[accepted:end])
                    self._take(joined, len(joined), end - accepted)
                    accepted = end
                    continue
                waiter = self._queue_up()
            try:
                self._await_room(waiter, deadline)
            except NotSent as exc:
                exc.accepted = accepted
                raise

    def _room_until(self, frames: Sequence[bytes], start: int) -> int:
        """From `start` on the frames before that one fit together."""
        room = self._max_bytes - self._size if self._fits(0) else -1
        end = start
        while end < len(frames) and len(frames[end]) <= room:
            room -= len(frames[end])
            end += 1
        return end if end > start or self._size else start + 1

    def offer(self, frame: bytes) -> Literal["taken", "queued", "skipped"]:
        """Take the frame if there is room now. "taken": the kernel has all of it; "skipped": nothing of it was taken."""
        size = len(frame)
        with self._lock:
            if self.ended is not None or (self._size and not self._fits(size)):
                return "skipped"
            self._take(frame, size, 1)
            return "queued" if self._size else "taken"

    def force(self, frame: bytes) -> None:
        """Take the frame whatever the size: for a callback's reply, whose client is not read while `congested`. Raises the end's reason."""
        size = len(frame)
        with self._lock:
            if self.ended is not None:
                raise self.ended.again()
            if self._size:
                self._take(frame, size, 1)
                return
            # No signal reaches a callback's thread, so the short way may do in two steps what `_push` does in one.
            try:
                taken = self._send(frame)
            except OSError:
                taken = 0
            self.messages += 1
            self.bytes += size
            if taken < size:
                self._current[:] = (memoryview(frame)[taken:],)
                self._size = size - taken
                self._push()
                if self._full():
                    self.congested = True

    def append(self, frame: bytes) -> None:
        """Take the frame although nothing more is taken, unless nothing is written any more: a protocol's last word."""
        with self._lock:
            if self._flushing and frame:
                self._take(frame, len(frame), 0)

    def _fits(self, size: int) -> bool:
        """Whether a frame of that size may wait behind the others."""
        return self._size + size <= self._max_bytes and len(self._queue) < self._max_messages

    def _full(self) -> bool:
        return self._size >= self._max_bytes or len(self._queue) >= self._max_messages

    def _take(self, frame: bytes, size: int, messages: int) -> None:
        # Stores without a call between them: an interrupt finds the frame taken or not.
        if self._size:
            self._queue += (frame,)
        else:
            self._current[:] = (frame,)
        self._size += size
        self.messages += messages
        self.bytes += size
        if not self._behind:
            try:
                self._push()
            except BaseException:
                self._ask()
                raise
        else:
            self._mark(self.bytes - size)
        if self._full():
            self.congested = True

    def _mark(self, offset: int) -> None:
        marks = self._marks
        now = monotonic()
        if not marks or now - marks[-1][1] >= MARK:
            written = self.written
            while len(marks) > 1 and marks[1][0] <= written:
                del marks[0]
            marks.append((offset, now))

    def oldest(self) -> float | None:
        """When (`time.monotonic`, to MARK seconds) the oldest byte was accepted that the kernel has not taken; None when it has all."""
        written = self.written
        since = None
        for offset, when in list(self._marks):
            if since is None or offset <= written:
                since = when
        return since if self._size else None

    def _ask(self) -> None:
        """Have the reader thread write the rest. After an interrupt between taking and writing, too."""
        self._backlog(True)
        self._behind = True
        self._marks.clear()
        self._mark(self.written)

    def _push(self) -> None:
        """Write until all is written or the kernel takes no more. Called with the lock."""
        current = self._current
        try:
            while self._size:
                if not current:
                    self._join_next()
                if len(current) == 1:
                    current.extend(map(self._send, current[:]))
                frame, taken = current
                rest = memoryview(frame)[taken:] if taken < len(frame) else None
                # Stores only from here on: the account of what the kernel took is settled at once.
                if rest is None:
                    del current[:]
                else:
                    current[:] = (rest,)
                self._size -= taken
                if rest is not None:
                    break
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as exc:
            self.ended = self._failed(exc)
        if self._size and not self._behind:
            self._ask()
        elif self._behind and not self._size:
            self._behind = False  # before it is so: the other way round, an interrupt would leave it True and nobody writing
            self._backlog(False)
        if self.congested and self._size <= self._max_bytes // LOW_WATER and len(self._queue) <= self._max_messages // LOW_WATER:
            self.congested = False
            self._wake()
            self._drained()

    def _join_next(self) -> None:
        queue = self._queue
        count = 1
        size = len(queue[0])
        while count < len(queue) and size + len(queue[count]) <= JOIN_BYTES:
            size += len(queue[count])
            count += 1
        frame = queue[0] if count == 1 else b"".join(queue[:count])
        self._current[:] = (frame,)
        del queue[:count]

    def flush(self) -> None:
        """Write on; for the reader thread, when the socket is writable."""
        with self._lock:
            if self._flushing:
                self._behind = True  # or nobody would call; an interrupt may have kept it from being noted
                self._push()

    def hurry(self) -> None:
        """Make sure that somebody writes what waits: before a close, after which no send will find that an interrupt cut it off."""
        with self._lock:
            if self._size and not self._behind:
                self._ask()

    def _queue_up(self) -> Waiter:
        if not self._behind:
            self._ask()  # a second interrupt may have cut off the asking that the first one had called for
        waiter = current()
        self.congested = True
        if waiter not in self._waiters:
            self._waiters.append(waiter)
        return waiter

    def _await_room(self, waiter: Waiter, deadline: float | None) -> None:
        if waiter.host is not None:
            raise NotSent(self._address, f"{self._size} bytes are still waiting for the peer to read, and a callback never waits")
        if deadline is not None and monotonic() >= deadline:
            raise NotSent(
                self._address,
                f"{self._size} bytes are still waiting for the peer to read, and the deadline passed; nothing of this message was taken",
            )
        waiter.wait(deadline, on=self)

    def _wake(self) -> None:
        for waiter in self._waiters:
            waiter.unpark()
        self._waiters.clear()

    def refuse(self, reason: BusError) -> None:
        """Take nothing more; what was taken is still written."""
        with self._lock:
            if self.ended is None:
                self.ended = reason
            self._wake()

    def drop(self, reason: BusError) -> int:
        """Take and write nothing more. Returns how many bytes will never be written."""
        with self._lock:
            if self.ended is None or (self._flushing and not isinstance(self.ended, Broken)):
                self.ended = reason  # a break weighs more than a close, and the first break is the cause of others
            self._flushing = False
            unsent = self._size
            self._current.clear()
            self._queue.clear()
            self._size = 0
            self.unsent += unsent
            self._wake()
            return unsent

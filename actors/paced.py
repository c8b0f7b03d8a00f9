"""The lane of a client that may send only so much in a second.

With `over_rate="delay"` what it may not send yet stays in the kernel's buffers, so that TCP slows the peer and nothing is lost. A read may
bring more messages than may go on; the rest of them wait here, a read's worth at most. As long as anything waits, the gate DELAYED is
shut, and a timer opens it. With "disconnect" the first message or byte too many is the end; but what came in while we did not
read it, because its callback ran, is not held against it.

A server without such limits has plain lanes, whose way from socket to callback is shorter. Everything here belongs to the reader thread:
no script borrows the socket.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from actors.errors import Broken, BusError
from actors.framing import Unparsed
from actors.lane import Lane
from actors.message import Message
from actors.rate import TokenBucket
from actors.reader import DELAYED
from actors.streamreader import READ_SIZE, StreamReader

if TYPE_CHECKING:
    from actors.readerthread import Timer
    from actors.waiting import Waiter

__all__ = ["PacedLane"]

SMALL_READ = 4096  # bytes; how many messages may wait here follows from it


class PacedLane(Lane):
    """See the module. A rate of None is no limit. Bytes are counted as they come from the socket (from TLS: decrypted), messages as they
    are complete.
    """

    __slots__ = ("_bytes", "_held", "_last_word", "_messages", "_shut_at", "_strict", "_timer", "_unread")

    def __init__(
        self,
        *actor_and_reader: Any,
        max_messages_per_second: float | None,
        max_bytes_per_second: float | None,
        over_rate: Literal["delay", "disconnect"],
        **options: Any,
    ) -> None:
        super().__init__(*actor_and_reader, **options)
        now = monotonic()
        self._messages = None if max_messages_per_second is None else TokenBucket(max_messages_per_second, now)
        self._bytes = None if max_bytes_per_second is None else TokenBucket(max_bytes_per_second, now)
        self._strict = over_rate == "disconnect"
        self._held: deque[Message] = deque()  # read, and not to go on yet
        self._last_word: BusError | None = None  # the end of the input, behind what is held
        self._timer: Timer | None = None
        self._shut_at = 0.0  # since when it is not read; 0: it is
        self._unread = 0.0  # seconds without reading that its buckets do not know of yet

    @property
    def waiting(self) -> int:
        return super().waiting + len(self._held)

    @property
    def unhandled(self) -> int:
        return super().unhandled + len(self._held)

    def on_ready(self, mask: int) -> None:
        StreamReader.on_ready(self, mask)
        self.settle()

    def direct(self, waiter: Waiter, deadline: float | None) -> bool:
        return False

    # -- what comes in ------------------------------------------------------------------------------------------------

    def _read(self) -> bool:
        try:
            data = self.sock.recv(self._read_size())
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as exc:
            self._read_failed(exc)
            return False
        bucket = self._bytes
        if bucket is not None and self.ended is None:
            now = monotonic()
            if self._strict and len(data) > bucket.available(now):
                self._expel(f"{bucket.rate:g} bytes per second (max_bytes_per_second)")
                return False
            bucket.take(len(data), now)
        if self._unparsed is None:
            self._unparsed = Unparsed([])
        self._unparsed.chunks.append(data)
        self.dirty = True
        return True

    def _read_size(self) -> int:
        unread, self._unread = self._unread, 0.0
        for bucket in (self._messages, self._bytes):
            if bucket is not None and unread:
                bucket.add(unread)
        if self._strict or self.actor.encrypted or self.ended is not None:  # a TlsSocket gives all that it has decrypted, anyway
            return READ_SIZE
        size = READ_SIZE if self._messages is None else SMALL_READ
        return size if self._bytes is None else max(1, min(size, self._bytes.available(monotonic())))

    def _hand_on(self) -> None:
        parsed = self._parsed
        if parsed is not None:
            self._held.extend(parsed[0])
            self._parsed = None
        self._let_through()

    def _let_through(self) -> None:
        """Hand on what may go. Read on when there may be more."""
        now = monotonic()
        held = self._held
        messages = self._messages
        if self.ended is not None:
            self._drop_held()
        elif held:
            count = len(held) if messages is None else messages.take(min(len(held), messages.available(now)), now)
            if count:
                batch = [held.popleft() for _ in range(count)]
                self.input.put(batch, sum(len(message.data) for message in batch))
            if held and messages is not None and self._strict:
                self._drop_held()
                self._expel(f"{messages.rate:g} messages per second (max_messages_per_second)")
                return
        wait = 0.0
        if not self._strict and self.ended is None:
            wait = max(0.0 if bucket is None else bucket.wait(now) for bucket in (messages, self._bytes))
        if wait:
            self.shut(DELAYED)
            if self._timer is None:
                self._timer = self.thread.call_later(wait, self._go_on)
            return
        if self.gates & DELAYED:
            self.open(DELAYED)
        reason, self._last_word = self._last_word, None
        if reason is not None:
            super()._end_input(reason)

    def _drop_held(self) -> None:
        self._unseen += len(self._held)
        self._held.clear()

    def _go_on(self) -> None:
        self._timer = None
        self._let_through()
        self.settle()

    def _expel(self, limit: str) -> None:
        self.shut(DELAYED)  # until it is read to throw away
        self.thread.call_soon(partial(self.actor.expel, Broken(self._source, f"it sent more than {limit}")))

    # -- while it is not read -----------------------------------------------------------------------------------------

    def shut(self, gate: int) -> None:
        if self._strict and not self.gates:
            self._shut_at = monotonic()
        super().shut(gate)

    def open(self, gate: int) -> None:
        super().open(gate)
        if self._shut_at and not self.gates:
            self._unread += monotonic() - self._shut_at
            self._shut_at = 0.0

    # -- the end ------------------------------------------------------------------------------------------------------

    def _end_input(self, reason: BusError) -> None:
        if self._held:
            self._last_word = reason  # nothing more is read before that: what is held keeps the gate shut
        else:
            super()._end_input(reason)

    def when_handled(self, reason: BusError, call: Callable[[], object]) -> None:
        # Nothing more is read: there is no rate to keep to any more.
        batch = list(self._held)
        self._held.clear()
        self.input.put(batch, sum(len(message.data) for message in batch))
        super().when_handled(reason, call)

    def discard(self) -> None:
        self._drop_held()
        self._last_word = None
        super().discard()

    def release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().release()

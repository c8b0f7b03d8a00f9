"""The input of a stream connection: bytes from the socket, messages for the mailbox or the callbacks.

It can be interrupted at any bytecode (a script in a direct read, Ctrl-C) and goes on where it was:

- Reading and keeping what was read is one C call, `extend(map(recv, ...))`.
- Parsing changes nothing. Its result is committed by stores with no call between them.
- The batch is an iterator; moving it into the mailbox empties it in the same C call, so moving it again moves nothing twice.

`dirty` is set from before the first until after the last of these; whoever reads next finishes them first. All fields belong to the
read lock.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from actors import sockets
from actors.errors import Broken, BusError, PeerClosed
from actors.framing import TEXT_MARK, FrameTooLarge, Framing, Unparsed, tls_hint
from actors.mailbox import Mailbox
from actors.message import Message
from actors.reader import ENDED, LENT, RETRY, SPECIAL, Reader
from actors.waiting import READ, current

if TYPE_CHECKING:
    from actors.readerthread import ReaderThread

__all__ = ["READ_SIZE", "Input", "StreamReader"]

log = logging.getLogger("actorbus.stream")

READ_SIZE = 64 * 1024
READS_PER_TURN = 4  # 256 KiB, then the next socket has its turn
READ_ONCE = (READ_SIZE,)


class Input(Protocol):
    """Where messages go: a mailbox, or the callbacks of a lane."""

    def put(self, batch: Iterable[Message], weight: int) -> None: ...
    def end(self, reason: BusError) -> bool: ...
    def close(self, reason: BusError) -> bool: ...


class StreamReader(Reader):
    """See the module. `over(reason)` is called when no input will come any more, on the thread that found out; `discarded` when, after
    `discard`, the peer has nothing more to say (True: because the link is dead).
    """

    __slots__ = (
        "_discarded",
        "_fresh",
        "_framing",
        "_over",
        "_parsed",
        "_source",
        "_unparsed",
        "bytes_in",
        "dropped",
        "input",
        "max_size",
        "messages_in",
        "output_over",
    )

    def __init__(
        self,
        sock: socket.socket,
        thread: ReaderThread,
        *,
        source: str,
        framing: Framing,
        max_size: int,
        flush: Callable[[], None],
        hung_up: Callable[[], None],
        write_lock: Lock,
        over: Callable[[BusError], None],
        discarded: Callable[[bool], None],
        mailbox: Mailbox[Message] | None = None,
    ) -> None:
        super().__init__(sock, thread, fill=self._fill, flush=flush, hung_up=hung_up, write_lock=write_lock, mailbox=mailbox)
        self.max_size = max_size
        self.messages_in = 0
        self.bytes_in = 0
        self.dropped = 0  # bytes of an unfinished message at the end
        self.output_over = False  # our FIN is sent, or about to be
        if mailbox is not None:
            self.input: Input = mailbox
        self._source = source
        self._framing = framing
        self._over = over
        self._discarded = discarded
        self._unparsed: Unparsed | None = None  # None: no bytes but those of delivered messages
        self._fresh: list[bytes] = []  # with `dirty`: what `get` has read, while there is nothing unparsed
        self._parsed: tuple[Iterator[Message], int] | None = None

    def _fill(self) -> None:
        """One turn: read, parse, deliver."""
        for _ in range(READS_PER_TURN):
            if not self.dirty and not self._read():
                return
            full = self._deliver()
            self.dirty = False
            if not full or self.gates & ~LENT:
                return

    def get(self, deadline: float | None) -> Any:
        """`Mailbox.get`, in one piece for what nearly every read of a script is: the loan is in force, nothing waits or is left over, and
        what comes is one whole message, which goes to the script and not through the mailbox.
        """
        mailbox: Any = self._mailbox
        if mailbox.items:
            item = mailbox.take()
            if item is not None:
                return item
        waiter = current()
        loan = self.loan
        if loan is None or loan.borrower is not waiter or loan.reading or self._unparsed is not None or self.dirty:
            return mailbox.get(deadline)
        fresh = self._fresh
        item = None
        try:
            # While this loan is in force nobody else reads. Who closes or pauses takes the borrower's name off the loan and unparks it, so
            # these are not looked at again.
            if self.loan is loan and not (mailbox.ended or mailbox.returned):
                loan.reading = loan.used = True  # no call stands between that look and this
                if waiter.wait(deadline, self.fd, READ, mailbox):
                    self.dirty = True
                    try:
                        fresh.extend(map(loan.recv, READ_ONCE))
                    except OSError as exc:
                        self._nothing_read(exc)
                    else:
                        data = fresh[0]
                        framing = self._framing
                        sole = framing.sole(data, self.max_size) if data else None
                        if sole is None:
                            self._fill()
                        else:
                            message = Message(sole, self._source, data[0] == TEXT_MARK if framing.marks_text else None)
                            size = self.bytes_in + len(sole)
                            # One commit: stores and no call between them.
                            item = message
                            del fresh[:]
                            self.dirty = False
                            self.messages_in += 1
                            self.bytes_in = size
                loan.reading = False
            if loan.unswept or mailbox.awaited:
                self._leave(loan)
            if item is not None or (deadline is not None and mailbox.idle and monotonic() >= deadline):
                return item  # no call may stand between here and the caller's store
        except BaseException:
            loan.reading = False
            if item is not None:
                mailbox.keep(item)
                mailbox.put_back()
            self._leave(loan)
            raise
        return mailbox.get(deadline)

    def _read(self) -> bool:
        """Read once into `_unparsed`. False when there was nothing, or the input is over."""
        unparsed = self._unparsed
        if unparsed is None:
            unparsed = self._unparsed = Unparsed([])
        self.dirty = True
        try:
            unparsed.chunks.extend(map(self.sock.recv, READ_ONCE))
            return True
        except OSError as exc:
            if not unparsed.chunks:
                self._unparsed = None
            self._nothing_read(exc)
        return False

    def _nothing_read(self, exc: OSError) -> None:
        self.dirty = False
        if not isinstance(exc, (BlockingIOError, InterruptedError)):
            self._read_failed(exc)

    def _deliver(self) -> bool:
        """Parse what is read and hand it on. Returns whether the last read was a full one, so that there may be more."""
        if self._parsed is not None:
            self._hand_on()
        if self._fresh:
            read = Unparsed(self._fresh[:])
            self._unparsed = read
            del self._fresh[:]
        unparsed = self._unparsed
        if unparsed is None or not unparsed.chunks:
            return False
        last = len(unparsed.chunks[-1])
        if not last:
            self._end_of_stream()
            return False
        try:
            messages, rest, texts = self._framing.parse(unparsed, self.max_size)
        except FrameTooLarge as exc:
            self._commit(exc.messages, Unparsed([]))
            self._end_input(Broken(self._source, str(exc)))
            return False
        self._commit(messages, rest, texts)
        if rest.special:
            if not self.thread.is_current():
                self._hand_over()
                return False
            (messages, rest, texts), reason = self._framing.feed(rest)
            self._commit(messages, rest, texts)
            if reason is not None:
                self._end_input(reason)
                return False
        return last == READ_SIZE

    def change_framing(self, framing: Framing) -> None:
        """From now on the bytes mean something else. On the reader thread, while `SPECIAL` is shut or nothing is polled."""
        self._framing = framing

    def resume_with(self, rest: bytes) -> None:
        """Deliver what was read by others, as if it had come now. On the reader thread."""
        self._unparsed = Unparsed([rest]) if rest else None
        self._take_special()

    @property
    def unparsed_bytes(self) -> int:
        unparsed = self._unparsed
        return sum(map(len, self._fresh)) + (0 if unparsed is None else sum(map(len, unparsed.chunks)))

    @property
    def signs_of_life(self) -> tuple[int, ...]:
        """Changes with every byte that is read."""
        return self.messages_in, self.unparsed_bytes, self._framing.judged

    def _hand_over(self) -> None:
        """What comes next is for the reader thread, which no interrupt reaches. With the right to read."""
        self.thread.call_soon(self._take_special)
        with self.mutex:
            self.gates = self.gates & ~LENT | SPECIAL
            self.loan = None
            self._apply()

    def _take_special(self) -> None:
        """On the reader thread, as soon as nobody else reads."""
        loan = self.loan
        if loan is not None:
            loan.waiter.unpark()
        if not self.revoke() or not self.read_lock.acquire(False):
            self.thread.call_later(RETRY, self._take_special)
            return
        try:
            if self.fd >= 0 and not self.gates & ENDED:
                self._deliver()
        finally:
            self.read_lock.release()
        self.open(SPECIAL)

    def _commit(self, payloads: list[bytes], rest: Unparsed, texts: list[bool] | None = None) -> None:
        source = self._source
        if texts is None:
            batch = iter([Message(data, source) for data in payloads])
        else:
            batch = iter([Message(data, source, text) for data, text in zip(payloads, texts, strict=True)])
        count = len(payloads)
        weight = sum(map(len, payloads))
        size = self.bytes_in + weight
        parsed = (batch, weight) if payloads else None
        left = rest if rest.chunks else None
        # One commit: stores and no call between them.
        self._unparsed, self._parsed = left, parsed
        self.messages_in += count
        self.bytes_in = size
        self._hand_on()

    def _hand_on(self) -> None:
        parsed = self._parsed
        if parsed is not None:
            self.input.put(*parsed)
            self._parsed = None

    def crashed(self, exc: BaseException) -> None:
        self._end_input(Broken(self._source, f"reading it failed: {exc!r}"))

    def _read_failed(self, exc: OSError) -> None:
        self._end_input(Broken(self._source, sockets.broken_phrase(exc)).because(exc))

    def _end_of_stream(self) -> None:
        if not self.output_over and sockets.is_dead(self.sock):
            # Reset, and a write met the error before us: the kernel tells it once, and after that the end looks like an orderly one. Behind
            # our own FIN no write does that, and the kernel is through with the connection after an orderly end, too.
            self._read_failed(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
            return
        left = self.unparsed_bytes
        reason = self._framing.cut_off(left)
        if reason is None and not self._framing.delimited and getattr(self.sock, "truncated", False):
            # Where messages show where they end, many peers leave TLS's own end out; here nothing else tells that this is all.
            reason = Broken(self._source, "the stream ended without TLS's close_notify: its end may be cut off")
        if reason is not None:
            self._end_input(reason)
        elif left:
            hint = tls_hint(self._unparsed.chunks[0]) if self._unparsed is not None and not self.messages_in else ""
            self.dropped = left
            log.warning("%s left in the middle of a message: %d bytes of it are dropped", self._source, left)
            self._end_input(Broken(self._source, f"the peer closed it inside a message; {left} bytes of that were dropped{hint}"))
        else:
            self._end_input(PeerClosed(self._source))

    def _end_input(self, reason: BusError) -> None:
        self._unparsed = None
        self.shut(ENDED)
        self.input.end(reason)
        self._over(reason)

    def discard(self) -> None:
        """From now on, read only to throw away. With the read lock."""
        self.fill = self._discard
        self.dirty = False
        self._unparsed = None
        self._fresh.clear()

    def _discard(self) -> None:
        dead = False
        try:
            for _ in range(READS_PER_TURN):
                if not self.sock.recv(READ_SIZE):
                    break
            else:
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            dead = True
        self._discarded(dead)

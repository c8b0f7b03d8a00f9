"""The input of a UDP socket: one datagram is one message for the mailbox.

An actor has a reader for each of its sockets, and one `Intake` for all of them: how much may be read, from whom, and what was.

It can be interrupted at any bytecode (a script in a direct read, Ctrl-C) and goes on where it was, as `streamreader` says: reading and
keeping is one C call, the result is committed by stores with no call between them, the batch is emptied by the call that moves it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from itertools import repeat
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from actors import sockets
from actors.mailbox import Mailbox
from actors.message import Message, after_loss
from actors.reader import PAUSED, Reader

if TYPE_CHECKING:
    from actors.readerthread import ReaderThread

__all__ = ["BUFFER", "DatagramReader", "Intake"]

BUFFER = 65_536  # holds the largest datagram there is
BURSTS = (1, 4, 16, 64)  # datagrams a turn: as many as the last turn found worth it
FULL_TURNS = 16
KNOWN_SOURCES = 1024


def _bursts(size: int) -> tuple[tuple[int, ...], ...]:
    return tuple((size,) * count for count in BURSTS)


WHOLE = _bursts(BUFFER)
SPACE = repeat(sockets.DROPS_SPACE)


class Intake:
    """What the readers of one actor have in common.

    `limit` is the number of messages after which no more is read; None: no such number. `only` is the socket address of the one peer to
    hear. The counters belong to whoever has the right to read; `limit` and the gates that follow from it belong to `_lock`. A reader looks
    at `limit` before it reads, so a gate that an interrupt left open is shut by the next turn.
    """

    __slots__ = ("_lock", "bytes_in", "heard_at", "limit", "mailbox", "messages_in", "only", "readers", "refused", "strangers")

    def __init__(self, mailbox: Mailbox[Message], paused: bool) -> None:
        self.mailbox = mailbox
        self.readers: tuple[DatagramReader, ...] = ()
        self.limit: int | None = 0 if paused else None
        self.only: Any = None
        self.messages_in = 0
        self.bytes_in = 0
        self.heard_at = 0.0
        self.strangers = 0  # datagrams from somebody else than `only`
        self.refused = 0
        self._lock = Lock()

    def pause(self) -> None:
        with self._lock:
            self.limit = self.messages_in
            self._each(lambda reader: reader.pause())

    def resume(self, count: int | None) -> None:
        with self._lock:
            self.limit = None if count is None else self.messages_in + count
            self._each(lambda reader: reader.open(PAUSED))

    def look(self) -> None:
        """Stop reading if enough was read."""
        with self._lock:
            if self.limit is not None and self.messages_in >= self.limit:
                self._each(lambda reader: reader.shut(PAUSED))

    def _each(self, change: Callable[[DatagramReader], object]) -> None:
        for reader in self.readers:
            change(reader)

    def after_fork(self) -> None:
        self._lock = Lock()


class DatagramReader(Reader):
    """One UDP socket. `describe(sockaddr)` writes a sender; `over(error)` is called when the socket has failed, where it was found out."""

    __slots__ = (
        "_burst",
        "_bursts",
        "_describe",
        "_drops",
        "_dropped",
        "_full_turns",
        "_intake",
        "_over",
        "_parsed",
        "_read",
        "_receive",
        "_sources",
    )

    def __init__(
        self,
        sock: socket.socket,
        thread: ReaderThread,
        intake: Intake,
        *,
        flush: Callable[[], None],
        write_lock: Lock,
        describe: Callable[[Any], str],
        over: Callable[[OSError], None],
    ) -> None:
        super().__init__(sock, thread, fill=self._fill, flush=flush, write_lock=write_lock, mailbox=intake.mailbox)
        if intake.limit is not None:
            self.gates = PAUSED
        self._receive = sockets.receive_datagram(sock)
        self._intake = intake
        self._describe = describe
        self._over = over
        self._bursts = WHOLE
        self._burst = 0
        self._full_turns = 0
        self._read: list[tuple[bytes, list[Any], int, Any]] = []
        self._dropped = 0  # the kernel's count at the last datagram that told it
        self._parsed: tuple[Iterator[Message], int] | None = None
        self._sources: dict[Any, str] = {}
        self._drops = 0

    def set_size(self, size: int) -> None:
        """Read at most that many bytes of each datagram; the system discards the rest of it."""
        self._bursts = WHOLE if size >= BUFFER else _bursts(size)

    def kernel_drops(self) -> int:
        """How many datagrams the kernel dropped for want of room; once the socket is closed, the last count."""
        if self.fd >= 0:
            self._drops = sockets.kernel_drops(self.sock)
        return self._drops

    def release(self) -> None:
        self.kernel_drops()
        super().release()

    def _fill(self) -> None:
        intake = self._intake
        if not self.dirty:
            burst = self._bursts[self._burst]
            if intake.limit is not None:
                left = intake.limit - intake.messages_in
                if left <= 0:
                    intake.look()
                    return
                burst = burst[:left]
            self.dirty = True
            try:
                self._read.extend(map(self._receive, burst, SPACE))
            except (BlockingIOError, InterruptedError):
                self._burst = max(0, self._burst - 1)
                self._full_turns = 0
            except OSError as exc:
                self._read_failed(exc)
            else:
                # One read more than there are datagrams costs an exception; so a turn grows only after several full ones.
                self._full_turns += 1
                if self._full_turns >= FULL_TURNS:
                    self._burst = min(len(BURSTS) - 1, self._burst + 1)
                    self._full_turns = 0
        self._deliver()
        self.dirty = False
        if intake.limit is not None:
            intake.look()

    def _deliver(self) -> None:
        if self._parsed is not None:
            self._hand_on()
        read = self._read
        if not read:
            return
        intake = self._intake
        sources = self._sources
        only = intake.only
        dropped = self._dropped
        batch = []
        weight = 0
        for data, told, _, sockaddr in read:
            if only is not None and sockaddr != only:
                continue
            source = sources.get(sockaddr)
            if source is None:
                if len(sources) >= KNOWN_SOURCES:
                    sources.clear()
                source = sources[sockaddr] = self._describe(sockaddr)
            message = Message(data, source)
            if told:
                count = sockets.drops_told(told, dropped)
                if count != dropped:
                    message = after_loss(message, count - dropped & 0xFFFF_FFFF)
                    dropped = count
            batch.append(message)
            weight += len(data)
        count = len(batch)
        strangers = len(read) - count
        parsed = (iter(batch), weight)
        intake.heard_at = monotonic()
        # One commit: stores and no call between them.
        self._read, self._parsed, self._dropped = [], parsed, dropped
        intake.messages_in += count
        intake.bytes_in += weight
        intake.strangers += strangers
        self._hand_on()

    def _hand_on(self) -> None:
        parsed = self._parsed
        if parsed is not None:
            self._intake.mailbox.put(*parsed)
            self._parsed = None

    def _read_failed(self, exc: OSError) -> None:
        if exc.errno in (errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EMSGSIZE):
            self._intake.refused += 1  # ICMP about something sent earlier
            return
        self._over(exc)

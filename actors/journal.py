"""What a peer has not confirmed: an outbox that keeps a copy of every message until the peer's TCP has acknowledged it.

TCP tells how many bytes are acknowledged (SIOCOUTQ, which survives a reset), and the outbox how many it gave to the kernel; so the end of a
connection divides the messages sent over it into those that the other machine has and those of which nobody can know. Confirmed means that
its TCP has the bytes, not that its program has read them.

Where the system does not tell what was acknowledged, only what the kernel did not take counts as unconfirmed.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from actors import sockets
from actors.errors import BusError
from actors.message import Message
from actors.outbox import Outbox

__all__ = ["Journal", "JournalOutbox", "Kept"]

SLACK = 64 * 1024  # bytes noted before it is worth asking the kernel


class Kept(bytes):
    """A frame that knows which message it carries."""

    message: Message


class Journal:
    """Messages by the offset at which each ends in the stream. Pure: offsets in, messages out.

    >>> journal = Journal()
    >>> journal.note(10, Message(b"a")); journal.note(20, Message(b"b"))
    >>> journal.confirm(15)
    >>> [message.data for message in journal.rest()]
    [b'b']
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: deque[tuple[int, Message]] = deque()

    def note(self, end: int, message: Message) -> None:
        """A message was taken whose frame ends there."""
        self._entries.append((end, message))

    def confirm(self, offset: int) -> None:
        """All bytes before the offset have arrived."""
        entries = self._entries
        while entries and entries[0][0] <= offset:
            entries.popleft()

    def rest(self) -> list[Message]:
        return [message for _, message in self._entries]


class JournalOutbox(Outbox):
    """See the module. What is sent with `send` has to be `Kept`. After `drop`, `unconfirmed` has the messages that may not have arrived."""

    __slots__ = ("_journal", "_look_at", "_socket", "unconfirmed")

    def __init__(self, sock: Any, **options: Any) -> None:
        super().__init__(sock, **options)
        self._socket = sock
        self._journal = Journal()
        self._look_at = SLACK  # when `bytes` is beyond it, the kernel is asked
        self.unconfirmed: list[Message] = []

    def _take(self, frame: bytes, size: int, messages: int) -> None:
        if isinstance(frame, Kept):
            self._journal.note(self.bytes + size, frame.message)
        super()._take(frame, size, messages)
        if self.bytes >= self._look_at:
            arrived = self._arrived()
            self._journal.confirm(arrived)
            self._look_at = self.bytes + (self.bytes - arrived) + SLACK  # so that asking costs little for each message

    def _arrived(self) -> int:
        """How many bytes of this stream the peer's TCP has for sure."""
        # Over TLS the kernel counts what is encrypted, which is more: then a few that have arrived count as unconfirmed.
        return self.written - max(0, sockets.unacknowledged(self._socket)) - getattr(self._socket, "waiting", 0)

    def _taken(self) -> None:
        """What happens to it now is for `unconfirmed` to tell."""

    def drop(self, reason: BusError) -> int:
        with self._lock:
            if self._flushing:
                self._journal.confirm(self._arrived())
                self.unconfirmed = self._journal.rest()
        return super().drop(reason)

"""An optional sign of life for framed streams: an empty message, which no script sees.

Both ends have to ask for it, because one that does not would take each beat for a message. TCP's own keepalive notices a machine that is
gone; this notices a program that hangs while its machine answers, and keeps a path open on which silence is cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.errors import Broken, BusError
from actors.framing import FrameTooLarge, Parsed, Unparsed
from actors.reader import LENT
from actors.states import State

if TYPE_CHECKING:
    from actors.framing import Framing
    from actors.stream import StreamActor

__all__ = ["MISSES", "Heartbeat"]

MISSES = 3  # intervals without a byte after which the peer is given up


class Heartbeat:
    """The framing of one connection, without its empty messages; `interval` in seconds. `heard` changes with every read."""

    delimited = True
    marks_text = False

    def __init__(self, framing: Framing, interval: float) -> None:
        self.name = framing.name
        self.cut_off = framing.cut_off
        self.heard = 0
        self._framing = framing
        self._interval = interval
        self._beat_frame = framing.frame(b"")
        self._last_heard = 0
        self._last_sent = 0
        self._misses = 0

    # -- the framing --------------------------------------------------------------------------------------------------

    @property
    def judged(self) -> int:
        return self.heard

    def frame(self, payload: bytes) -> bytes:
        if not payload:
            raise ValueError("an empty message is a heartbeat here (heartbeat=): it would not arrive")
        return self._framing.frame(payload)

    def sole(self, data: bytes, max_size: int) -> bytes | None:
        self.heard += 1
        return self._framing.sole(data, max_size) or None

    def parse(self, unparsed: Unparsed, max_size: int) -> Parsed:
        self.heard += 1
        try:
            messages, rest, texts = self._framing.parse(unparsed, max_size)
        except FrameTooLarge as exc:
            exc.messages = [message for message in exc.messages if message]
            raise
        return Parsed([message for message in messages if message], rest, texts)

    def feed(self, unparsed: Unparsed) -> tuple[Parsed, BusError | None]:
        return self._framing.feed(unparsed)

    # -- the beat, on the reader thread -------------------------------------------------------------------------------

    def begin(self, stream: StreamActor) -> None:
        """From now on it beats. From any thread."""
        stream.loop.call_later_threadsafe(self._interval, lambda: self._beat(stream))

    def _beat(self, stream: StreamActor) -> None:
        if stream.state is not State.OPEN:
            return
        reason = self._verdict(paused=bool(stream.reader.gates & ~LENT))
        if reason is not None:
            stream.break_off(Broken(stream.remote_address, reason))
            return
        outbox = stream.outbox
        # What waits there is one, too, and its stall has a watchdog. Behind our end there is none: the peer, who has heard it, awaits none.
        if outbox.bytes == self._last_sent and not len(outbox) and not stream.halves.asked:
            outbox.append(self._beat_frame)
        self._last_sent = outbox.bytes
        stream.loop.call_later(self._interval, lambda: self._beat(stream))

    def _verdict(self, paused: bool) -> str | None:
        """Why to give the peer up, if that is due. While we do not read, its silence is our own doing."""
        if paused or self.heard != self._last_heard:
            self._misses = 0
        else:
            self._misses += 1
        self._last_heard = self.heard
        return f"it sent nothing for {MISSES * self._interval:g} s, not even a heartbeat" if self._misses >= MISSES else None

"""The threads of `actorbus cat`: one for each peer receives, one for stdin sends, and all that happens comes to one loop as an event.

`Talk._changed` guards `peers` and `_over`. What was sent so far belongs to the thread that reads stdin; the loop looks at it. The queue of
events is short, and who wants to add to a full one waits: so a slow reader of stdout slows the peer, and a slow peer who writes to stdin.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from time import monotonic
from typing import NamedTuple, TypeAlias

import bus
from adapters.lines import Splitter
from adapters.wires import Wire

__all__ = ["READ_SIZE", "Came", "Event", "Got", "InputOver", "Left", "Talk", "start"]

READ_SIZE = 64 * 1024
WAITING = 16  # events; what a peer sends meanwhile waits in its mailbox, and then with the peer
LOOK = 1.0  # seconds after which who waits for room looks whether anybody makes any


class Came(NamedTuple):
    """There is somebody to talk to."""

    wire: Wire


class Got(NamedTuple):
    """Messages, and when they came (seconds since the epoch)."""

    messages: list[bus.Message]
    when: float


class Left(NamedTuple):
    """A peer's last message has come."""

    wire: Wire
    reason: bus.BusError


class InputOver(NamedTuple):
    """All of stdin was sent, or could not be."""

    failure: Exception | None


Event: TypeAlias = Came | Got | Left | InputOver


class Talk:
    """See the module. `source` is the descriptor to read from. With `many`, each message goes to everybody, and who leaves is let go."""

    def __init__(self, splitter: Splitter, source: int | None, *, many: bool = False) -> None:
        self.events: queue.Queue[Event] = queue.Queue(WAITING)
        self.sent_bytes = 0
        self.sent_at = monotonic()
        self.sending = False  # a message is on its way to somebody
        self.peers: list[Wire] = []
        self._changed = threading.Condition()
        self._over = False
        self._splitter = splitter
        self._source = source
        self._many = many

    def tell(self, event: Event) -> None:
        """Hand it to the loop, unless that has ended."""
        while not self._over:
            try:
                self.events.put(event, timeout=LOOK)
                return
            except queue.Full:
                continue

    # -- the thread of a peer -----------------------------------------------------------------------------------------

    def listen_to(self, wire: Wire) -> None:
        """Receive until this peer's end."""
        self.tell(Came(wire))
        if not self._welcome(wire):
            wire.close(0)
            return
        try:
            while True:
                self.tell(Got(wire.receive(), time.time()))
        except bus.BusError as reason:
            if self._many:
                with self._changed:
                    self.peers.remove(wire)
                wire.close(0)
            self.tell(Left(wire, reason))

    def _welcome(self, wire: Wire) -> bool:
        with self._changed:
            self.peers.append(wire)
            self._changed.notify_all()
            return not self._over

    # -- the thread of stdin ------------------------------------------------------------------------------------------

    def read_input(self) -> None:
        """Send what stdin has, and wait for somebody to send it to while nobody is there."""
        assert self._source is not None
        try:
            while data := os.read(self._source, READ_SIZE):
                self._send(self._splitter.feed(data))
            self._send(self._splitter.end())
        except (bus.BusError, OSError, ValueError) as exc:
            self.tell(InputOver(exc))
        else:
            self.tell(InputOver(None))

    def _send(self, messages: Iterable[bytes]) -> None:
        batch: list[bytes] = []
        try:
            for message in messages:
                batch.append(message)  # noqa: PERF402  # extend would drop those before one that is too long
        finally:
            if batch:
                self._send_batch(batch)

    def _send_batch(self, batch: list[bytes]) -> None:
        peers = self._somebody()
        self.sending = True
        for wire in peers:
            self._send_to(wire, batch)
        self.sending = False
        self.sent_at = monotonic()
        self.sent_bytes += sum(map(len, batch))

    def _somebody(self) -> list[Wire]:
        with self._changed:
            self._changed.wait_for(lambda: self.peers or self._over)
            return list(self.peers)

    def _send_to(self, wire: Wire, batch: list[bytes]) -> None:
        try:
            wire.send_many(batch)
        except bus.NotSent:  # one that does not read is not to hold up the others for ever
            wire.close(0)
        except (bus.PeerClosed, bus.Broken, bus.Closed):
            if not self._many:
                raise

    # -- the loop's thread --------------------------------------------------------------------------------------------

    def end(self) -> list[Wire]:
        """Nobody looks at events any more. Who is still there."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
            return list(self.peers)


def start(work: Callable[[], None]) -> None:
    """On a thread of its own, for which the end of the process does not wait: nothing ends a read of a terminal."""
    threading.Thread(target=work, name="actorbus-cat", daemon=True).start()

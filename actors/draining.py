"""How a server is emptied before it closes: nothing new comes in, what has come is handled and answered, outboxes flush.

The server stops accepting, and each client, on its own reader thread: is read a last time, so that what its kernel had when it was asked
counts as having come, and not after that; then its callbacks run on, to the last message; then its outbox empties. Connections stay open
meanwhile, and whoever works for a client may send. Who is still shaking hands goes no further. When all are through, or the deadline has
passed, the server closes as it always does.

A session handler is told by its `receive`, which gives what is in the mailbox and then ends: one that loops over it would never return
otherwise. Everything else it goes on with undisturbed, until the deadline closes its client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actors.ackwatch import in_kernel
from actors.actor import Control
from actors.answer import Answer
from actors.errors import BusError
from actors.states import State

if TYPE_CHECKING:
    from actors.readerthread import Timer
    from actors.reports import Cut
    from actors.stream import StreamActor

__all__ = ["ClientDrain", "Drain", "cut_of"]

RETRY = 0.001  # as often as a reader thread asks for a socket that a script reads


class Drain(Control):
    """Tell a server to drain, for `seconds` at most (None: however long it takes). Then it closes with that `linger`; None: it does not,
    because somebody will close it. `over` gets the clients whose callbacks were still at work at that time.
    """

    __slots__ = ("linger", "over", "seconds", "timer")

    def __init__(self, seconds: float | None, linger: float | None) -> None:
        self.seconds = seconds
        self.linger = linger
        self.over: Answer[frozenset[StreamActor]] = Answer()
        self.timer: Timer | None = None


class ClientDrain:
    """The drain of one client; `quiet()` is called once it is through with it. All of it on the client's reader thread."""

    __slots__ = ("_actor", "_handled", "_quiet", "_reason")

    def __init__(self, actor: StreamActor, reason: BusError, quiet: Callable[[], object]) -> None:
        self._actor = actor
        self._reason = reason
        self._quiet = quiet
        self._handled = False

    def begin(self) -> None:
        actor = self._actor
        actor.draining = self
        if actor.state is not State.OPEN:
            self.through()  # it is closing already
            return
        actor.reader.pause()
        self._read_a_last_time()

    def _read_a_last_time(self) -> None:
        actor = self._actor
        if not actor.reader.last_turn():
            actor.loop.call_later(RETRY, self._read_a_last_time)
            return
        assert actor.lane is not None
        if not actor.being_answered:  # or who answers will say that it is through
            actor.lane.when_handled(self._reason, self._all_handled)

    def _all_handled(self) -> None:
        self._handled = True
        self.look()

    def look(self) -> None:
        """The outbox may have emptied."""
        if self._handled and not len(self._actor.outbox):
            self.through()

    def through(self) -> None:
        """Nothing more is to be done for this client."""
        self._quiet()


def cut_of(actor: StreamActor, client: Any, running: bool) -> Cut | None:
    """What was cut off for a client that was closed; None if nothing was. From any thread."""
    outbox = actor.outbox
    unsent = 0
    if not actor.acknowledged:
        unsent = len(outbox) + outbox.unsent + (actor.left_in_kernel if actor.state is State.GONE else in_kernel(actor))
    unhandled = 0 if actor.lane is None else actor.lane.unhandled
    if not (unsent or unhandled or running):
        return None
    from actors.reports import Cut

    return Cut(client, unsent, unhandled, running)

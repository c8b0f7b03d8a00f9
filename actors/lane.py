"""A lane: one client's input, and its callbacks, one after the other, in the order things happened to it.

Connected, messages, disconnected: they queue in `pending` and `drain` runs them. Where it runs is decided by `settle`, on the reader
thread:

- on the reader thread itself, while the callbacks are quick (no change of threads; the keeper watches the time);
- on a spare thread, for a client whose callback was slow lately, until it has been quick for a while;
- on the server's own thread, one client after the other, with `serial=True`.

Guarantees: callbacks of one client never overlap; `connected` comes first and once, `disconnected` last and once; a client is not read
while its callback runs elsewhere or while its replies wait for it to read, so that what waits is bounded by one read. `running` belongs to
the reader thread; `pending` is appended to by it and emptied by the one thread that drains.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from actors import crew, scope, waiting
from actors.callbacks import NOBODY, Callbacks
from actors.errors import Broken, BusError
from actors.framing import TEXT_MARK, Unparsed
from actors.mailbox import Mailbox
from actors.message import Message
from actors.poller import IN
from actors.reader import SERVING
from actors.serialline import SerialLine
from actors.streamreader import READ_SIZE, StreamReader

if TYPE_CHECKING:
    from actors.stream import StreamActor

__all__ = ["STARTING", "Lane"]

log = logging.getLogger("actorbus.server")

QUICK = 0.005  # seconds; a client is slow no longer after QUICK_STREAK turns this quick
QUICK_STREAK = 5  # doubled each time that it was slow again soon after
LONGEST_STREAK = 160
STARTING = 0  # what a lane's `handling` is until the thread is known


class _Delivery:
    """The input of a lane whose messages somebody receives, on whichever thread reads; the lane hears of the end only."""

    __slots__ = ("_lane", "_mailbox", "put")

    def __init__(self, lane: Lane, mailbox: Mailbox[Message]) -> None:
        self._lane = lane
        self._mailbox = mailbox
        self.put = mailbox.put

    def end(self, reason: BusError) -> bool:
        self._lane.thread.call_soon(lambda: self._lane.end(reason))
        return self._mailbox.end(reason)

    def close(self, reason: BusError) -> bool:
        self._lane.close(reason)
        return self._mailbox.close(reason)


class Lane(StreamReader):
    """See the module. Until `admit`, `callbacks` are those of a visitor whom the server's do not hear of. `client` is handed to the
    callbacks; `entered()` is called when it is admitted, `left()` before its last callback, `finished()` after it.
    """

    __slots__ = (
        "_apart",
        "_callbacks",
        "_entered",
        "_finished",
        "_handled",
        "_inside",
        "_left",
        "_met",
        "_muted",
        "_next",
        "_on_message",
        "_outbox",
        "_quick",
        "_scope",
        "_serial",
        "_streak",
        "_trusted",
        "_unseen",
        "_when_finished",
        "actor",
        "admitted",
        "client",
        "ended",
        "handling",
        "pending",
        "receiving",
        "running",
        "slow",
    )

    def __init__(
        self,
        actor: StreamActor,
        *reader: Any,
        callbacks: Callbacks = NOBODY,
        client: Any,
        entered: Callable[[], object],
        left: Callable[[], object],
        finished: Callable[[], object],
        serial: SerialLine | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*reader, **options)
        self.input = self
        self.actor = actor
        self.client = client
        self.pending: deque[Message | Callable[[], None]] | tuple[()] = ()
        self.running = False
        self.slow = False
        self.ended: BusError | None = None
        self._scope = actor.scope
        self._outbox = actor.outbox
        self._callbacks = callbacks
        self._on_message = callbacks.message
        self._next: Message | None = None  # goes before `pending`; only from a turn to its drain
        self.admitted = False
        self._entered = entered
        self._left = left
        self._when_finished = finished
        self._serial = serial
        self._apart = False  # drained on a thread that does not have the baton
        self._quick = 0
        self._streak = QUICK_STREAK
        self._trusted = -LONGEST_STREAK * 2  # messages that had come when it was slow no longer
        self._met = False  # so that `disconnected` is not told of one that `connected` never saw
        self._muted = False  # a callback raised, or we closed: no message is handed out any more
        self._finished = False  # the last callback has run
        self._inside = False  # drained on another thread than the one with the baton, this moment
        self._unseen = 0  # messages that came out of `pending` when no callback was to see them any more
        self._handled: Callable[[], object] | None = None
        # Of a session handler, and written by its thread: which thread that is while it is under way, and whether it waits for a message.
        self.handling: int | None = None
        self.receiving = False

    def admit(self, callbacks: Callbacks, client: Any) -> None:
        """From now on there is a client, with these callbacks. Before any message but one that a visitor's own callback has judged: on the
        reader thread, before that reads it, or on the thread that drains.
        """
        self._callbacks = callbacks
        self._on_message = callbacks.message
        self._met = callbacks.connected is None
        self.client = client
        self.admitted = True
        self._entered()
        if callbacks.connected is not None:
            self._queue().appendleft(self._connected)

    def _queue(self) -> deque[Message | Callable[[], None]]:
        """`pending`, made when it is first needed: most clients are idle or quick, and an empty deque takes 760 bytes."""
        with self.mutex:  # `admit` may come from another thread
            if not isinstance(self.pending, deque):
                self.pending = deque()
            return self.pending

    @property
    def waiting(self) -> int:
        """Messages and callbacks that nobody has seen yet."""
        return len(self.pending) + (0 if self._mailbox is None else len(self._mailbox))

    @property
    def unhandled(self) -> int:
        """Messages that have come and that nobody has seen, or will: exact once it is closed and its callback has returned."""
        left = self._unseen + sum(type(item) is Message for item in list(self.pending))
        return left if self._mailbox is None else left + len(self._mailbox) + self._mailbox.discarded

    @property
    def at_work(self) -> bool:
        """Whether a callback of its runs, or its session handler, this moment. From any thread."""
        return self._inside or self.thread.serves(self) or (self.handling is not None and not self.receiving)

    def deliver_to(self, mailbox: Mailbox[Message]) -> None:
        """From now on messages go there and not to the callback: somebody receives them. On the reader thread, before any message."""
        self._mailbox = mailbox
        self.input = _Delivery(self, mailbox)

    # -- input, on the reader thread ----------------------------------------------------------------------------------

    def on_ready(self, mask: int) -> None:
        """A turn. Most often it is one read that gives one message: that way is short. No script borrows a lane, so no lock is needed."""
        if mask == IN and not self.gates and self._unparsed is None and self.ended is None and self._mailbox is None:
            try:
                data = self.sock.recv(READ_SIZE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self._read_failed(exc)
                return
            sole = self._framing.sole(data, self.max_size) if data else None
            if sole is not None:
                self.messages_in += 1
                self.bytes_in += len(sole)
                message = Message(sole, self._source, data[0] == TEXT_MARK if self._framing.marks_text else None)
                if self.pending or self.running or self.slow or self._serial is not None:
                    self._queue().append(message)
                    self.settle()
                    return
                self.running = True
                self._next = message
                if self.thread.serve(self):
                    self.running = False
                    if self.pending or self._outbox.congested:
                        self.settle()
                else:
                    self.thread.call_soon(self._finish)
                return
            self._unparsed = Unparsed([data])
            self.dirty = True
        super().on_ready(mask)
        self.settle()

    def put(self, batch: Iterable[Message], weight: int) -> None:
        if self.ended is None:
            self._queue().extend(batch)

    def end(self, reason: BusError) -> bool:
        if self.ended is not None:
            return False
        self.ended = reason
        self._queue().append(self._disconnected)
        self.thread.call_soon(self.settle)
        return True

    def when_handled(self, reason: BusError, call: Callable[[], object]) -> None:
        """Have `call()` run once all that has come was handled; a session handler, which is told that no more comes, has to return first.
        On the reader thread, when the client is read no more.
        """
        self._handled = call
        if self._mailbox is not None:
            self._mailbox.end(reason)
        self._queue().append(lambda: self.thread.call_soon(self._maybe_handled))
        self.thread.call_soon(self.settle)

    def _maybe_handled(self) -> None:
        if self.handling is None and self._handled is not None:
            self._handled()

    def handler_returned(self) -> None:
        """The session handler is through; on its thread."""
        self.handling = None
        self.thread.call_soon(self._maybe_handled)

    def close(self, reason: BusError) -> bool:
        """Closed here, from any thread: what waits is not handed out any more. The end follows on the reader thread, see `StreamActor`."""
        if self.ended is not None:
            return False
        self._muted = True
        return True

    def crashed(self, exc: BaseException) -> None:
        if not self._apart:
            self.running = False
        self._next = None
        super().crashed(exc)

    # -- where to run, on the reader thread ---------------------------------------------------------------------------

    def settle(self) -> None:
        """Start what can be started, and poll the client exactly if nothing waits."""
        while not self.running:
            if not self.pending or (self._outbox.congested and self.ended is None):
                if self.pending or self._outbox.congested:
                    self.shut(SERVING)
                elif self.gates & SERVING:
                    self.open(SERVING)
                return
            self.running = True
            if self._serial is not None:
                self._apart = True
                self.shut(SERVING)
                self._serial.add(self)
            elif self.slow and self._start_apart():
                pass
            elif self.thread.serve(self):
                self.running = False
                if self._finished:
                    self.actor.served(self.ended)
            else:
                self.thread.call_soon(self._finish)
                return

    def _start_apart(self) -> bool:
        self._apart = True
        self.shut(SERVING)
        if crew.run(self.drain_apart):
            return True
        self._apart = False
        return False

    def _finish(self) -> None:
        self.running = self._apart = self._inside = False
        if self._finished:
            self.actor.served(self.ended)
        self.settle()

    def drain_apart(self) -> None:
        waiter = waiting.current()
        waiter.host = self
        began = monotonic()
        self._inside = True
        try:
            self.drain()
        except BaseException as exc:  # thrown in from outside, since what callbacks raise ends in there
            self._fail(exc)
        finally:
            self._inside = False
            waiter.host = None
        if monotonic() - began > QUICK:
            self._quick = 0
        else:
            self._quick += 1
            if self._quick >= self._streak:
                self.slow = False
                self._trusted = self.messages_in
        self.thread.call_soon(self._finish)

    def detach(self) -> None:
        self._apart = self._inside = True
        again = self.messages_in - self._trusted < 2 * self._streak
        self._streak = min(LONGEST_STREAK, 2 * self._streak) if again else QUICK_STREAK
        self.slow = True
        self._quick = 0
        self.shut(SERVING)

    def about_to_block(self) -> None:
        if not self._apart:
            self.thread.take_over(self)

    # -- the callbacks, on the thread that drains ---------------------------------------------------------------------

    def drain(self) -> None:
        previous = scope.enter(self._scope) if self._scope is not None else None
        outbox = self._outbox
        item: Message | Callable[[], None] | None
        item, self._next = self._next, None
        while True:
            if item is None:
                if not self.pending or (outbox.congested and self.ended is None):
                    break
                try:
                    item = self.pending.popleft()
                except IndexError:
                    break  # closed meanwhile, from another thread
            try:
                if type(item) is Message:
                    if self._muted:
                        self._unseen += 1
                    else:
                        answer = self._on_message(item, self.client)
                        if answer is not None:
                            outbox.force(self.actor.frame(answer))
                else:
                    item()  # type: ignore[operator]
            except BusError as exc:
                if outbox.ended is None:
                    self._fail(exc)
                elif type(item) is Message and not self._muted:
                    log.info("replies to %s not sent: %s", self._source, exc)
                    self._muted = True  # nobody is there to hear; once in the log is enough
            except BaseException as exc:
                self._fail(exc)
            item = None
        if self._scope is not None:
            scope.enter(previous)

    def _fail(self, exc: BaseException) -> None:
        """A callback raised: its connection ends with that reason, and nothing else does."""
        what = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        log.error("a callback for %s raised %s", self.actor.remote_address, what, exc_info=exc)
        reason = Broken(self.actor.remote_address, f"its callback raised {what}").because(exc)
        self._muted = True
        if self.ended is None:
            self.thread.call_soon(lambda: self.actor.fail(reason))

    def _connected(self) -> None:
        if self._callbacks.connected is not None and not self._muted:
            self._met = True
            self._callbacks.connected(self.client)

    def _disconnected(self) -> None:
        reason = self.ended
        assert reason is not None
        self._left()
        try:
            if self._callbacks.disconnected is not None and self._met:
                self._callbacks.disconnected(self.client, reason)
        finally:
            self._finished = True
            self._when_finished()

"""The actor of a link: connections to one address, one after the other, behind one mailbox. When one ends, the next is made.

Guarantees
- Messages come out in the order in which they came in, over the gap too; a message that the end of a connection cut off is dropped whole.
- A message is sent over one connection only: never twice. Those of which the peer's TCP did not confirm every byte when their connection
  ended are in `unconfirmed`, oldest first: whether to send them again is for the script, which knows whether twice is worse than never.
- While there is no connection `send` waits, up to its deadline, and then nothing was taken.
- `close` ends an attempt that is under way at once.

A connection of a link is read on the reader thread alone. `_lock` owns `_waiters`, `_dialler` and `unconfirmed`; the rest is changed on the
reader thread, `closed` set by whoever closes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from random import random
from threading import Lock, get_ident
from time import monotonic
from typing import Any

from actors import crew, scope, waiting
from actors.actor import Close, SocketActor, post
from actors.connecting import BACKOFF, Dialled
from actors.errors import Broken, BusError, Closed, NotSent, PeerClosed
from actors.journal import JournalOutbox, Kept
from actors.mailbox import Mailbox
from actors.message import Message, Sendable, encode, weigh
from actors.outbox import MAX_BYTES
from actors.reader import ENDED, FULL
from actors.readerthread import ReaderThread
from actors.stats import Stats
from actors.stream import LINGER, State, StreamActor
from actors.telling import OnState, Teller
from actors.waiting import Waiter, current, deadline_after

__all__ = ["LinkActor", "pause_before"]

log = logging.getLogger("actorbus.link")

MAX_KEPT = 2 * MAX_BYTES  # of unconfirmed messages that nobody took
PROVEN = 5.0  # a connection that lasted so long, or brought a message, was one: the next pause is the first one again


def pause_before(attempt: int, backoff: tuple[float, float], chance: float) -> float:
    """Seconds to wait before attempt 0, 1, 2 … after a loss: doubled each time up to the longest, less up to a half by `chance` (0 to 1),
    so that the clients of a server that comes back do not all come at once.

    >>> [pause_before(attempt, (0.1, 1.0), 0.0) for attempt in range(5)]
    [0.1, 0.2, 0.4, 0.8, 1.0]
    """
    first, longest = backoff
    return min(longest, first * 2.0 ** min(attempt, 1000)) * (1.0 - chance / 2.0)


class _Inlet:
    """Where a connection's messages go. The end of its input is not the mailbox's; its being closed here is."""

    __slots__ = ("close", "put")

    def __init__(self, link: LinkActor) -> None:
        self.put = link.mailbox.put
        self.close = link.finish

    def end(self, reason: BusError) -> bool:
        return True


class LinkActor(SocketActor):
    """See the module. `sock` is the first connection's, `dial(deadline)` makes another. `on_state`: see `actors.telling`."""

    make_outbox = JournalOutbox  # for each connection

    def __init__(
        self,
        sock: Any,
        loop: ReaderThread,
        *,
        first: Dialled,
        dial: Callable[[float | None], Dialled],
        timeout: float | None,
        backoff: tuple[float, float] = BACKOFF,
        on_state: OnState | None = None,
        mailbox_messages: int,
        mailbox_bytes: int,
        dedicated: bool = False,
    ) -> None:
        super().__init__(loop, dedicated=dedicated)
        self.closed: BusError | None = None
        self.unconfirmed: deque[Message] = deque()
        self._dial = dial
        self._timeout = timeout
        self._backoff = backoff
        self._lock = Lock()
        self._waiters: list[Waiter] = []
        self._dialler: int | None = None
        self._attempts = 0
        self._links = 0
        self._since = 0.0
        self.why: BusError | None = None  # there is no connection
        self._past = Stats()
        self.mailbox: Mailbox[Message] = Mailbox(
            weigh=weigh,
            max_items=mailbox_messages,
            max_bytes=mailbox_bytes,
            pause=lambda: self.stream.reader.shut(FULL),
            resume=lambda: self.stream.reader.open(FULL),
        )
        self.inlet = _Inlet(self)
        self.stream: StreamActor
        self._first = first
        self.teller = Teller(on_state, self.scope, lambda: self.remote_address, log)

    def on_start(self) -> None:
        self._install(self._first)

    # -- what a proxy asks for ----------------------------------------------------------------------------------------

    @property
    def remote_address(self) -> str:
        return self.stream.remote_address

    @property
    def local_address(self) -> str:
        return self.stream.local_address

    @property
    def reader(self) -> Any:
        return self.stream.reader

    @property
    def framing(self) -> Any:
        return self.stream.framing

    @property
    def latency(self) -> float | None:
        latency: float | None = getattr(self.stream, "latency", None)
        return latency

    @property
    def up(self) -> bool:  # type: ignore[override]
        """Whether there is a connection now, as far as anybody knows."""
        stream = self.stream
        return stream.outbox.ended is None and not stream.reader.gates & ENDED

    def told(self) -> None:
        """Nobody is told of an end that is none."""

    def stats(self) -> Stats:
        stream = self.stream
        now = Stats(waiting_in=len(self.mailbox)) if stream.state is State.GONE else stream.stats()
        return self._past.plus(now, Stats(reconnects=self._links - 1))

    def take_unconfirmed(self) -> list[Message]:
        with self._lock:
            taken = list(self.unconfirmed)
            self.unconfirmed.clear()
            return taken

    # -- output, in the caller's thread -------------------------------------------------------------------------------

    def send(self, message: Sendable, timeout: float | None) -> None:
        self._send(message, deadline_after(timeout))

    def send_many(self, messages: Iterable[Sendable], deadline: float | None) -> None:
        for count, message in enumerate(list(messages)):
            try:
                self._send(message, deadline)
            except NotSent as exc:
                exc.accepted = count
                raise

    def _send(self, message: Sendable, deadline: float | None) -> None:
        copy: Message | None = None
        while True:
            stream = self.stream
            frame = Kept(stream.frame(message))
            if copy is None:
                copy = Message(encode(message), "", message.is_text if isinstance(message, Message) else isinstance(message, (str, dict)))
            frame.message = copy
            try:
                stream.outbox.send(frame, deadline)
                return
            except (PeerClosed, Broken):  # nothing of it was taken
                self._await_next(stream, deadline)

    def _await_next(self, last: StreamActor, deadline: float | None) -> None:
        waiter = current()
        while True:
            with self._lock:
                if self.closed is not None:
                    raise self.closed.again()
                if self.stream is not last:
                    return
                if waiter not in self._waiters:
                    self._waiters.append(waiter)
            if waiter.host is not None or (deadline is not None and monotonic() >= deadline):
                why = self.why or last.reason or last.outbox.ended
                raise NotSent(self.remote_address, f"there is no connection at present ({why}); nothing of this message was taken")
            waiter.wait(deadline, on=self)

    def _wake(self) -> None:
        """With the lock."""
        for waiter in self._waiters:
            waiter.unpark()
        self._waiters.clear()

    # -- connections, on the reader thread ----------------------------------------------------------------------------

    def _install(self, dialled: Dialled) -> None:
        if self.closed is not None:
            dialled.sock.close()
            return
        previous = scope.enter(self.scope)
        try:
            stream = dialled.kind.open(dialled.sock, self.loop, link=self, on_gone=self._lost, **dialled.options)
        finally:
            scope.enter(previous)
        self._links += 1
        self._since = monotonic()
        with self._lock:
            self.stream = stream
            self.why = None
            self._wake()
        self.mailbox.repeat_pause()  # by now it is about the new connection's reader
        if self.closed is not None:  # just now, by a thread that saw the one before
            stream.close_from_outside(0.0)
        if self._links > 1:
            self.teller.tell("connected", None)

    def _lost(self, stream: StreamActor, reason: BusError) -> None:
        """Its descriptor goes, and with it the connection."""
        self._past = self._past.plus(replace(stream.stats(), waiting_in=0, waiting_out=0))
        self._keep(stream)
        if self.closed is not None:
            self._over()
            return
        if stream.reader.messages_in or monotonic() - self._since >= PROVEN:
            self._attempts = 0
        self._try_later(reason)

    def _keep(self, stream: StreamActor) -> None:
        assert isinstance(stream.outbox, JournalOutbox)
        rest = stream.outbox.unconfirmed
        self._past = self._past.plus(Stats(unconfirmed=len(rest)))
        with self._lock:
            self.unconfirmed.extend(rest)
            forgotten = self._forget()
        if forgotten:
            log.warning("nobody took the unconfirmed messages for %s: the oldest %d are forgotten", self.remote_address, forgotten)

    def _forget(self) -> int:
        """The oldest, if all weigh too much. Returns how many. With the lock."""
        weight = sum(map(weigh, self.unconfirmed))
        forgotten = 0
        while weight > MAX_KEPT and len(self.unconfirmed) > 1:
            weight -= weigh(self.unconfirmed.popleft())
            forgotten += 1
        return forgotten

    def _try_later(self, reason: BusError) -> None:
        self.why = reason
        log.info("no connection with %s: %s; trying again", self.remote_address, reason)
        self.teller.tell("reconnecting", reason)
        pause = pause_before(self._attempts, self._backoff, random())
        self._attempts += 1
        self.loop.call_later(pause, self._dial_apart)

    def _dial_apart(self) -> None:
        if self.closed is None and not crew.run(self._redial):
            self._try_later(Broken(self.remote_address, "the system gives no thread to connect with"))

    def _redial(self) -> None:
        """On a spare thread."""
        with self._lock:
            if self.closed is not None:
                return
            self._dialler = get_ident()
        dialled: Dialled | None = None
        failed: BusError | None = None
        try:
            dialled = self._dial(deadline_after(self._timeout))
        except BusError as exc:
            failed = exc.with_traceback(None)  # it is told and kept: not with the frames it came through, and what they hold
            if exc.__cause__ is not None:
                exc.__cause__.__traceback__ = None
        except KeyboardInterrupt:
            pass  # our own: `finish` ends the attempt
        except Exception as exc:
            failed = Broken(self.remote_address, f"connecting failed: {exc!r}").because(exc)
        finally:
            with self._lock:
                ident, self._dialler = self._dialler, None
                if ident is not None:
                    waiting.withdraw([ident])
        if dialled is not None:
            self.loop.call_soon(lambda: self._install(dialled))
        elif failed is not None:
            reason = failed
            self.loop.call_soon(lambda: None if self.closed is not None else self._try_later(reason))

    # -- the end ------------------------------------------------------------------------------------------------------

    def finish(self, reason: BusError) -> bool:
        """No connection after this one. From any thread."""
        with self._lock:
            first = self.closed is None
            if first:
                self.closed = reason
            if self._dialler is not None:
                waiting.interrupt([self._dialler])
            self._wake()
        self.mailbox.close(reason)
        if first:
            self.teller.tell("closed", reason)
        return first

    def close(self, linger: float = LINGER) -> bool:
        """As a connection's: True if the peer's TCP took everything, over every connection there was."""
        wait = self.close_from_outside(linger)
        return wait(deadline_after(0.0 if current().host is not None else linger + 1.0))

    def close_from_outside(self, linger: float, reason: BusError | None = None) -> Callable[[float | None], bool]:
        reason = reason or Closed(self.remote_address)
        self.finish(reason)
        wait = self.stream.close_from_outside(linger, reason)
        post(self.actor_ref, Close(reason, linger))
        self.closing = True
        return lambda deadline: wait(deadline) and not self.unconfirmed

    def say_goodbye_with(self, code: Any, reason: str) -> None:
        choose = getattr(self.stream, "say_goodbye_with", None)
        if choose is not None:
            choose(code, reason)

    def stop_requested(self, stopped: Callable[[], object]) -> None:
        self.finish(Closed(self.remote_address))
        self.stream.close_soon()
        self._over()
        stopped()

    def on_receive(self, message: Any) -> None:
        if isinstance(message, Close):
            self._over()
        else:
            super().on_receive(message)

    def abandon(self) -> None:
        self.finish(Closed(self.remote_address))
        self.ended()

    def _over(self) -> None:
        if self.stream.state is State.GONE:
            self.ended()

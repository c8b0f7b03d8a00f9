"""SocketActor: a Pykka actor type whose loop is a reader thread that it shares with others.

It keeps Pykka's outside (`ActorRef`, `tell`, `ask`, `stop`, the registry, proxies) and repairs what Pykka 4.5 leaves open:

- Closing the inbox and putting into it share one lock: no message is lost, and an `ask` to a stopped actor fails at once.
- Control (`Control` messages and stop) overtakes data.
- An exception in a handler goes to who asked, or else ends this actor and nothing else; SystemExit, too, which stock Pykka takes as the
  order to stop every actor.
- `post(ref, message) -> bool` tells without raising, so that one dead client never hurts a broadcast.

Ask down, tell up: an actor never blocks on an actor above it.

Of Pykka's insides it needs what `REQUIRED_INSIDES` lists, beyond the hooks documented for implementors of actor types
(`_create_actor_inbox`,
`_create_future`, `_start_actor_loop`). A test asserts that they exist, and the version is bounded in pyproject.toml.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from functools import partial
from itertools import count
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import pykka
from pykka import messages
from pykka._envelope import Envelope

from actors import hosting, scope
from actors.answer import Answer, Tally
from actors.errors import BusError
from actors.readerthread import ReaderThread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["REQUIRED_INSIDES", "Closable", "Close", "CloseServer", "Control", "SocketActor", "post"]

A = TypeVar("A")
K = TypeVar("K")

log = logging.getLogger("actorbus.engine")

REQUIRED_INSIDES = {
    "pykka.Actor": ("_handle_receive", "_stop", "_actor_ref", "actor_stopped"),
    "pykka.ActorRef": ("actor_inbox", "actor_stopped", "_actor_weakref"),
    "pykka.ActorRegistry": ("_actor_refs_lock",),
    "pykka.messages": ("_ActorStop",),
    "pykka._envelope.Envelope": ("message", "reply_to"),
}

_births = count()

INBOX_TURN = 256  # messages per turn, so that a flooded actor shares its thread


class Closable(Protocol):
    """A socket, or several that belong together."""

    def close(self) -> None: ...


class Control:
    """A message that overtakes data in the inbox."""

    __slots__ = ()


class Close(Control):
    """Tell a socket actor to end in order. `answer` gets True if the peer's TCP took everything."""

    __slots__ = ("answer", "linger", "reason")

    def __init__(self, reason: BusError, linger: float, answer: Answer[bool] | None = None) -> None:
        self.reason = reason
        self.linger = linger
        self.answer = answer


class CloseServer(Close):
    """Tell a server to close its clients and itself. The answer is that of `clients`, too: a guest at the door is not waited for."""

    __slots__ = ("clients",)

    def __init__(self, reason: BusError, linger: float, answer: Tally, clients: dict[Any, Any]) -> None:
        super().__init__(reason, linger, answer)
        self.clients = clients


class Inbox:
    """What Pykka calls an actor's inbox. The actor is registered before its loop starts, so messages wait here until `bind`.

    `_lock` owns every field. `wake` asks the reader thread for a turn; it is called with the lock, once per batch.
    """

    __slots__ = ("_closed", "_control", "_data", "_lock", "_wake", "_woken")

    def __init__(self) -> None:
        self._lock = Lock()
        self._control: list[Envelope[Any]] = []  # never many
        self._data: deque[Envelope[Any]] | None = None  # until the first: of idle connections there are many, and it takes 760 bytes
        self._wake: Callable[[], None] | None = None
        self._woken = False
        self._closed = False

    def bind(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wake = wake
            self._ring()

    def offer(self, envelope: Envelope[Any]) -> bool:
        """Put it in. False when the actor has stopped: then nobody will ever see it."""
        with self._lock:
            if self._closed:
                return False
            if isinstance(envelope.message, (Control, messages._ActorStop)):
                self._control.append(envelope)
            elif self._data is None:
                self._data = deque((envelope,))
            else:
                self._data.append(envelope)
            self._ring()
            return True

    def _ring(self) -> None:
        if self._wake is not None and not self._woken and (self._control or self._data):
            self._wake()
            self._woken = True  # after it: Ctrl-C between the two costs a turn without work, the other way round all turns to come

    def put(self, envelope: Envelope[Any], /) -> None:
        """Pykka's entrance. An `ask` that comes too late gets its ActorDeadError through the future, a `tell` raises it."""
        if not self.offer(envelope):
            _refuse(envelope)
            if envelope.reply_to is None:
                raise pykka.ActorDeadError("the actor has stopped")

    def get(self) -> Envelope[Any]:
        """The next message, control first. Raises IndexError when there is none."""
        with self._lock:
            if self._control or self._data is None:
                return self._control.pop(0)
            return self._data.popleft()

    def empty(self) -> bool:
        return not (self._control or self._data)

    def rest(self) -> None:
        """A turn is over: the next message, or one left over, rings again."""
        with self._lock:
            self._woken = False
            self._ring()

    def close(self) -> list[Envelope[Any]]:
        """Take nothing more; returns what is left."""
        with self._lock:
            self._closed = True
            self._wake = None  # it leads to the actor, which an ActorRef is not to hold
            left = [*self._control, *(self._data or ())]
            self._control.clear()
            self._data = None
            return left


def _refuse(envelope: Envelope[Any]) -> None:
    if envelope.reply_to is None:
        return
    if isinstance(envelope.message, messages._ActorStop):
        envelope.reply_to.set(None)
    else:
        error = pykka.ActorDeadError("the actor stopped before it handled the message")
        envelope.reply_to.set_exception((pykka.ActorDeadError, error, None))


def post(ref: pykka.ActorRef[Any], message: Any) -> bool:
    """Tell an actor of ours without raising. False when it has stopped."""
    inbox = ref.actor_inbox
    assert isinstance(inbox, Inbox)
    return inbox.offer(Envelope(message))


def _itself(actor: A) -> A:
    return actor


def _abandon(actor: SocketActor, sock: Closable) -> None:
    # One task: a loop of the actor's own ends with the actor, and would not come to a second one.
    try:
        actor.abandon()
    finally:
        sock.close()


class SocketActor(pykka.Actor):
    """An actor hosted by a reader thread. Its handlers run there, one at a time; they must not block.

    `keeps_alive` tells the runner whether a script that has returned is still at work through this actor.
    """

    # Slots here and in streams: what Pykka keeps is left in a dict, and that of thirty names and more would take 1.8 KB.
    __slots__ = ("_dedicated", "born", "closing", "loop", "scope", "since")

    keeps_alive = False
    up = True  # whether a mailbox that has not ended has somebody who fills it
    acknowledged = True  # after the end: whether the peer's TCP took everything; where there is none, nothing is missing

    def __init__(self, loop: ReaderThread, *, dedicated: bool = False) -> None:
        super().__init__()
        self.loop = loop
        self.scope = scope.current()
        self.since = monotonic()  # it is in its present state
        self.born = next(_births)  # the older has the lower number
        self.closing = False  # somebody has asked for the end, and the actor will hear it
        self._dedicated = dedicated  # the loop is this actor's own, and ends with it

    @classmethod
    def open(cls, sock: Closable, loop: ReaderThread, **options: Any) -> Self:
        """Start an actor that owns `sock`, and return the actor itself. If that fails, or is interrupted, the socket is closed."""
        return cls.open_for(_itself, sock, loop, **options)

    @classmethod
    def open_for(cls, make: Callable[[Self], K], sock: Closable, loop: ReaderThread, /, **options: Any) -> K:
        """The same for a proxy: returns `make(actor)`, and an interrupt before that is made leaves nothing open either."""
        actor: Self | None = None
        try:
            actor = cls(sock, loop, **options)  # type: ignore[call-arg, arg-type]
            pykka.ActorRegistry.register(actor.actor_ref)
            actor._start_actor_loop()
            return make(actor)
        except BaseException:
            if actor is None:
                sock.close()
                if options.get("dedicated"):
                    hosting.release(loop)
            else:
                # On the reader thread, because its reader may be registered already: no descriptor is closed under a poller.
                loop.call_soon(partial(_abandon, actor, sock))
            raise

    @staticmethod
    def _create_actor_inbox() -> Inbox:
        return Inbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return pykka.ThreadingFuture()

    def _start_actor_loop(self) -> None:
        self.loop.hosted.add(self)  # an ActorRef is weak: somebody has to hold the actor
        if self.scope is not None:
            self.scope.add(self)
        self.on_start()
        inbox = self.actor_inbox
        assert isinstance(inbox, Inbox)
        inbox.bind(self._ask_for_turn)

    def _ask_for_turn(self) -> None:
        self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        inbox = self.actor_inbox
        assert isinstance(inbox, Inbox)
        try:
            for _ in range(INBOX_TURN):
                if inbox.empty():
                    break
                self._handle(inbox.get())
        finally:
            inbox.rest()  # also when even ending it failed: what comes next still rings

    def take(self, message: Control) -> bool:
        """`post` to an actor that may be on the calling reader thread, and then handles it at once. False when it has stopped."""
        if not self.loop.is_current():
            return post(self.actor_ref, message)
        self._handle(Envelope(message))
        return True

    def _handle(self, envelope: Envelope[Any]) -> None:
        message, reply_to = envelope.message, envelope.reply_to
        if isinstance(message, messages._ActorStop):
            self.stop_requested(lambda: None if reply_to is None else reply_to.set(None))
            return
        try:
            # Ours are not among what Pykka looks for first.
            response = self.on_receive(message) if isinstance(message, Control) else self._handle_receive(message)
        except BaseException:
            if reply_to is not None:
                reply_to.set_exception()
            else:
                log.exception("%s failed on %r", self, message)
                self.failed(sys.exc_info()[1])
        else:
            if reply_to is not None:
                reply_to.set(response)

    def close_from_outside(self, linger: float, reason: BusError | None = None) -> Callable[[float | None], bool]:
        """Ask for a close in order; from any thread. Returns what waits for it until a deadline, and tells whether all was taken."""
        raise NotImplementedError

    def ask_to_close(self, reason: BusError, linger: float) -> Answer[bool]:
        """Have it told to close, for `close_from_outside`. The answer is there already if it has ended."""
        answer: Answer[bool] = Answer()
        if not post(self.actor_ref, Close(reason, linger, answer)):
            answer.set(self.acknowledged)
        self.closing = True  # asked only now: Ctrl-C before this leaves it to the next close, or to dropping the proxy
        return answer

    def on_receive(self, message: Any) -> Any:
        if not isinstance(message, Close):
            return super().on_receive(message)
        self._end(message.reason)
        if message.answer is not None:
            message.answer.set(True)
        return None

    def _end(self, reason: BusError) -> None:
        """It was told to close, and has nothing to wait for."""
        self.ended()

    def stop_requested(self, stopped: Callable[[], object]) -> None:
        """Pykka's stop: begin to end, and call `stopped` once it is done."""
        self.ended()
        stopped()

    def failed(self, exc: BaseException | None) -> None:
        """A handler raised, and nobody asked."""
        self.ended()

    def abandon(self) -> None:
        """End now, whatever is still under way: its reader thread ends. On the reader thread."""
        self.ended()

    def close_soon(self) -> None:
        """Ask it to end, without waiting. From any thread."""
        post(self.actor_ref, messages._ActorStop())

    def ended(self) -> None:
        """The actor has ended: out of the registry and the loop, and whoever still asks gets an answer. Doing it twice is nothing."""
        if self.actor_stopped.is_set():
            return
        inbox = self.actor_inbox
        assert isinstance(inbox, Inbox)
        self._stop()
        for envelope in inbox.close():
            if isinstance(envelope.message, Control):
                self.on_receive(envelope.message)  # it has ended: whoever waits for a close hears so now
            else:
                _refuse(envelope)
        self.loop.hosted.discard(self)
        if self.scope is not None:
            self.scope.discard(self)
        if self._dedicated:
            hosting.release(self.loop)
        else:
            hosting.vacated(self.loop)

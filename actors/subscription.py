"""The actors of who listens to a topic: a subscription that a script receives from, and a responder whose callback answers.

They own no socket: the engine's table holds their mailbox until `_leave`. Closing takes effect in the caller's own thread; the reader
thread only takes the actor off the books.

A responder's callbacks run on a thread of the engine's crew, one after the other, in the scope of the script that asked. It keeps that
script alive.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import TYPE_CHECKING

from actors import crew, hosting, scope
from actors.actor import SocketActor
from actors.answer import Answer
from actors.engine import Engine
from actors.errors import BusError, Closed
from actors.message import Sendable
from actors.readerthread import ReaderThread
from actors.topicbox import TopicBox
from actors.topics import ERROR, TopicMessage, one_line
from actors.waiting import current, deadline_after

if TYPE_CHECKING:
    from actors.stats import Stats

__all__ = ["Durable", "ResponderActor", "TopicActor", "in_use"]

log = logging.getLogger("actorbus.topics")


class NoSocket:
    def close(self) -> None:
        pass


class _NoReader:
    """What `receive_any` says to a reader, said to nobody: engines fill the mailbox by themselves."""

    def look(self) -> None:
        pass

    def give_back(self) -> None:
        pass


class Durable:
    """What a durable subscription is called, and where it begins: "all", "new", or seconds since the epoch."""

    __slots__ = ("name", "replay")

    def __init__(self, name: str, replay: str | float) -> None:
        self.name = name
        self.replay = replay


class TopicActor(SocketActor):
    """A subscription. See the module."""

    reader = _NoReader()

    def __init__(self, sock: NoSocket, loop: ReaderThread, *, engine: Engine, box: TopicBox, durable: Durable | None = None) -> None:
        super().__init__(loop)
        self.engine = engine
        self.mailbox = box
        self.durable = durable

    def on_start(self) -> None:
        box = self.mailbox
        try:
            if self.durable is None:
                self.engine.subscribe(box.topic, box.queue, box)
            else:
                self.engine.subscribe_durable(box.topic, self.durable.name, self.durable.replay, box)
        except BaseException:
            box.close(Closed(self.address))  # it uses no engine, though it is on the books a moment longer
            raise

    @property
    def address(self) -> str:
        """For texts."""
        return f"topic {self.mailbox.topic}"

    @property
    def up(self) -> bool:  # type: ignore[override]  # another's is a plain attribute
        return self.engine.up

    def told(self) -> None:
        """Nobody leaves a topic."""

    def stats(self) -> Stats:
        from actors.stats import Stats

        box = self.mailbox
        return Stats(messages_in=box.messages_in, bytes_in=box.bytes_in, waiting_in=len(box), lost=box.lost)

    def close(self, linger: float) -> bool:
        self.close_from_outside(linger)
        return True

    def close_from_outside(self, linger: float, reason: BusError | None = None) -> Callable[[float | None], bool]:
        self._leave(reason or Closed(self.address))
        answer = self.ask_to_close(reason or Closed(self.address), linger)
        return lambda deadline: current().host is not None or bool(answer.wait(deadline))

    def _leave(self, reason: BusError) -> None:
        box = self.mailbox
        self.engine.unsubscribe(box.topic, box.queue, box)
        box.close(reason)

    def ended(self) -> None:
        if not self.actor_stopped.is_set():
            self._leave(Closed(self.address))
        super().ended()


class ResponderActor(TopicActor):
    """A responder. See the module. What is in its mailbox when it is closed is answered with an error."""

    keeps_alive = True

    def __init__(
        self, sock: NoSocket, loop: ReaderThread, *, engine: Engine, box: TopicBox, callback: Callable[[TopicMessage], Sendable | None]
    ) -> None:
        super().__init__(sock, loop, engine=engine, box=box)
        self._callback = callback
        self.answered = 0
        self.failures = 0
        self.answering = False  # a callback runs
        self.thread = 0  # that answers, while it runs
        self.through: Answer[bool] = Answer()  # that thread has left

    def on_start(self) -> None:
        if not crew.run(self._answer_all):
            raise RuntimeError("actorbus cannot start a thread for a responder: the system gives no more")
        super().on_start()

    def close(self, linger: float) -> bool:
        """Whether the callback that runs now ended in time; in that callback it is not waited for."""
        super().close(linger)
        waits = current().host is None and self.thread != get_ident()
        return waits and bool(self.through.wait(deadline_after(linger)))

    def drain(self, deadline: float | None) -> None:
        """Take no further request, and answer those that have come; then it is `through`."""
        box = self.mailbox
        self.engine.drain(box.topic, box.queue, box, deadline)
        box.end(Closed(self.address))

    def stats(self) -> Stats:
        from actors.stats import Stats

        stats = super().stats()
        return Stats(
            messages_in=stats.messages_in, messages_out=self.answered, bytes_in=stats.bytes_in, waiting_in=stats.waiting_in, lost=stats.lost
        )

    def _leave(self, reason: BusError) -> None:
        box = self.mailbox
        self.engine.unsubscribe(box.topic, box.queue, box)
        left = box.drain()
        box.close(reason)
        self._refuse_all(left)

    def _refuse_all(self, left: Iterable[TopicMessage]) -> None:
        for message in left:
            if message.reply_to is not None:
                self._refuse(message, "it was closed")

    def _refuse(self, message: TopicMessage, why: str) -> None:
        try:
            message.respond(b"", headers={ERROR: one_line(why)})
        except Exception:
            log.exception("a request on %s could not even be told that its responder failed", message.topic)

    def _answer_all(self) -> None:
        """On a thread of the crew, until it is closed."""
        self.thread = get_ident()
        previous = scope.enter(self.scope)
        try:
            while True:
                try:
                    message = self.mailbox.get(None)
                except BusError:
                    return
                if message is not None:
                    self._answer(message)
                message = None
        finally:
            scope.enter(previous)
            self.thread = 0
            self.through.set(True)

    def _answer(self, message: TopicMessage) -> None:
        self.answering = True
        try:
            reply = self._callback(message)
            if reply is not None and message.reply_to is not None:
                message.respond(reply)
                self.answered += 1
        except BaseException as exc:
            self.failures += 1
            log.exception("the responder on %s failed", message.topic)
            if message.reply_to is not None:
                self._refuse(message, f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__)
        finally:
            self.answering = False


def in_use(engine: Engine) -> str:
    """Who is on this engine, as a reason against changing it; empty if nobody."""
    # One that is closed is on the books a moment longer.
    actors = [actor for actor in hosting.live_actors() if isinstance(actor, TopicActor) and actor.mailbox.ended is None]
    topics = {actor.mailbox.topic for actor in actors if actor.engine is engine}
    if not topics:
        return ""
    names = ", ".join(sorted(topics)[:3])
    return f"there are subscriptions, responders or servers of a cluster already ({names}); open it before the first one"

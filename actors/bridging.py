"""The actor of a bridge: a thread of the engine's crew that receives from one object and sends to another.

It takes one message at a time and waits until the target has taken that. So a source that can be slowed (a stream, a subscription that
publishers wait for) is slowed to what the target takes, and of another the mailbox drops and counts. What the target refuses for good is
counted in `lost` and logged, and the bridge goes on; it ends, with that reason, when one of the two ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

from actors import crew, scope, waiting
from actors.actor import SocketActor
from actors.answer import Answer
from actors.errors import Broken, BusError, Closed, PeerClosed
from actors.message import Message
from actors.readerthread import ReaderThread
from actors.waiting import current

if TYPE_CHECKING:
    from actors.stats import Stats

__all__ = ["BridgeActor"]

log = logging.getLogger("actorbus.bridge")


class BridgeActor(SocketActor):
    """See the module. `send(message)` returns how many receivers it had to pass over; `finish()` is called when it has ended.

    `_lock` owns `_thread`: an interrupt is for the thread only while that works here.
    """

    keeps_alive = True

    def __init__(
        self,
        sock: Any,
        loop: ReaderThread,
        *,
        name: str,
        receive: Callable[[], Message],
        send: Callable[[Message], int],
        finish: Callable[[], object],
    ) -> None:
        super().__init__(loop)
        self.name = name
        self.reason: BusError | None = None
        self.over: Answer[bool] = Answer()
        self.messages_in = 0
        self.messages_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.lost = 0
        self._receive = receive
        self._send = send
        self._finish = finish
        self._lock = Lock()
        self._thread: int | None = None

    def on_start(self) -> None:
        if not crew.run(self._work):
            raise RuntimeError("actorbus cannot start a thread for a bridge: the system gives no more")

    def stats(self) -> Stats:
        from actors.stats import Stats

        return Stats(
            messages_in=self.messages_in,
            messages_out=self.messages_out,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            lost=self.lost,
        )

    # -- on a thread of the crew ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        previous = scope.enter(self.scope)
        with self._lock:
            self._thread = get_ident()
        try:
            while not self.closing:
                self._forward(self._receive())
        except KeyboardInterrupt:
            self._end(Closed(self.name))
        except BusError as reason:
            self._end(reason)
        except BaseException as exc:
            log.exception("%s failed", self.name)
            self._end(Broken(self.name, f"{type(exc).__name__}: {exc}").because(exc))
        finally:
            self._leave()
            scope.enter(previous)

    def _forward(self, message: Message) -> None:
        size = len(message.data)
        self.messages_in += 1
        self.bytes_in += size
        try:
            passed_over = self._send(message)
        except (Closed, PeerClosed, Broken, KeyboardInterrupt):
            self.lost += 1
            raise
        except (ValueError, TypeError, OSError) as exc:
            self.lost += 1
            log.warning("%s: a message of %d bytes is lost: %s", self.name, size, exc)
        else:
            self.lost += passed_over
            self.messages_out += 1
            self.bytes_out += size

    def _end(self, reason: BusError) -> None:
        self.reason = reason
        level = logging.INFO if isinstance(reason, Closed | PeerClosed) else logging.WARNING
        log.log(level, "%s has ended: %s", self.name, reason)

    def _leave(self) -> None:
        with self._lock:
            self._thread = None
        waiting.withdraw([get_ident()])  # or the next to work on this thread would hear it
        if self.reason is None:
            self.reason = Closed(self.name)
        self._finish()
        self.over.set(True)
        self.loop.call_soon(self.ended)

    # -- the end ----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Have the thread leave; from any thread."""
        self.closing = True
        with self._lock:
            if self._thread is not None and self._thread != get_ident():
                waiting.interrupt([self._thread])

    def close_soon(self) -> None:
        self.close()

    def close_from_outside(self, linger: float, reason: BusError | None = None) -> Callable[[float | None], bool]:
        self.close()
        return lambda deadline: current().host is not None or bool(self.over.wait(deadline))

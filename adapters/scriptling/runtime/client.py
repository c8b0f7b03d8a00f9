"""What a route's handler gets: `WebSocketClient`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from threading import get_ident

import bus
from actors import scope, waiting
from actors.scope import Scope
from adapters.dialect import Link, Payload
from adapters.scriptling.runtime.http import Function
from adapters.scriptling.websocket import Connection

__all__ = ["WebSocketClient", "session_handler"]

log = logging.getLogger("actorbus.scriptling")


class WebSocketClient(Connection):
    """A server's client, as its handler sees it: the methods of a connection, and `remote_addr`.

    When its server stops, or another thread closes it, `receive` gives None as for a client that has left, and Closed after that.
    A handler that sends to another handler's client does not wait for it: one that is too far behind with reading is disconnected.
    """

    __slots__ = ()

    def __init__(self, session: bus.Session) -> None:
        super().__init__(_ServerLink(session))

    def serve(self, function: Function) -> None:
        """Run its handler, on this thread."""
        before = _handled.link
        _handled.link = self._link
        try:
            function(self)
        finally:
            _handled.link = before


class _Handled(threading.local):
    """Whose handler the thread runs."""

    link: Link | None = None


_handled = _Handled()


class _ServerLink(Link):
    """One among many: the handlers of the others hold it, too, and anybody may close it. `_closer` is the thread that did, by `close`."""

    __slots__ = ("_closer",)

    def __init__(self, session: bus.Session) -> None:
        super().__init__(session)
        self._closer: int | None = None

    def deliver(self, payload: Payload) -> None:
        try:
            if _handled.link is None or _handled.link is self:
                self.connection.send(payload)
            else:
                self._deliver_without_waiting(payload)
        except bus.Closed as exc:
            if get_ident() not in self._trusting:
                raise
            # Not this thread's doing, which believes it connected: to it that is as if the client had left.
            raise bus.PeerClosed(self.connection.remote_address).because(exc) from exc

    def _deliver_without_waiting(self, payload: Payload) -> None:
        try:
            self.connection.send(payload, timeout=0)
        except bus.NotSent as exc:
            self.drop(exc)
            log.warning("%s reads too slowly for what the handlers of others send to it, and is closed", self.connection.remote_address)
            self.connection.close(0)

    def keep_pace(self, reason: bus.BusError, timeout: float | None) -> None:
        if isinstance(reason, bus.Closed):
            if self._closer == get_ident() or self._due:
                raise reason
            reason = bus.PeerClosed(self.connection.remote_address)
        super().keep_pace(reason, timeout)

    def close(self) -> None:
        self._closer = get_ident()
        self._trusting.discard(self._closer)
        super().close()


class _Running:
    """A handler's thread as its script's scope holds it: when the script ends, the thread's blocking call does, with KeyboardInterrupt."""

    keeps_alive = False

    def __init__(self) -> None:
        self.interrupted = False
        self._thread = get_ident()
        self._lock = threading.Lock()
        self._over = False

    def close_soon(self) -> None:
        with self._lock:
            if not self._over:
                self.interrupted = True
                waiting.interrupt([self._thread])

    def end(self) -> None:
        """The thread goes on to other work."""
        with self._lock:
            self._over = True
            waiting.withdraw([self._thread])


def session_handler(function: Function, owner: Scope | None) -> Callable[[bus.Session], object]:
    """The function as `bus.serve` takes it; what it opens belongs to `owner`."""

    def handle(session: bus.Session) -> None:
        if owner is None:
            WebSocketClient(session).serve(function)
            return
        running = _Running()
        previous = scope.enter(owner)
        owner.add(running)
        try:
            WebSocketClient(session).serve(function)
        except KeyboardInterrupt:
            if not running.interrupted:
                raise
        finally:
            running.end()
            owner.discard(running)
            scope.enter(previous)
        if running.interrupted or owner.stopping:
            session.close(linger=1, code=1001)  # the program goes away, which is no error of the handler's (RFC 6455, section 7.4.1)

    return handle

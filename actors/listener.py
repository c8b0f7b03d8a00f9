"""The actor of a listening socket: accepts, and hands each connection on. It survives running out of descriptors."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from actors import scope, sockets
from actors.actor import Close, SocketActor
from actors.answer import Call
from actors.errors import BusError, Closed
from actors.mailbox import Mailbox
from actors.reader import DELAYED, FULL, Reader
from actors.readerthread import ReaderThread
from actors.resolving import format_address
from actors.stream import LINGER, StreamActor
from actors.waiting import current, deadline_after

if TYPE_CHECKING:
    from actors.certificates import Credentials

__all__ = ["MAX_WAITING", "ListenerActor"]

log = logging.getLogger("actorbus.listener")

MAX_WAITING = 128  # connections accepted and not yet taken; more wait in the kernel's queue
ACCEPTS_PER_TURN = 64
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
BACK_OFF = 0.1  # seconds without accepting when the system is out of descriptors; some must be closed first
EPISODE = 10.0  # seconds without running out of them after which that is news again


class ListenerActor(SocketActor):
    """Accepts on `sock`, which listens. `admit(sock, remote, local)` makes the connection's actor, or None to refuse it.

    With `keep`, what that makes of an actor waits in `mailbox`; made here, so that taking it out is one step that Ctrl-C cannot divide.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: ReaderThread,
        *,
        admit: Callable[[socket.socket, str, str], StreamActor | None],
        keep: Callable[[StreamActor], Any] | None = None,
        path: str | None = None,
        tls: Credentials | None = None,
        dedicated: bool = False,
    ) -> None:
        super().__init__(loop, dedicated=dedicated)
        self.tls = tls
        sock.setblocking(False)
        self.local_address = format_address(sock.getsockname())
        self.accepted = 0
        self._sock = sock
        self._admit = admit
        self._keep = keep
        self._exhausted_at = -EPISODE
        # A Unix socket's file: we remove the one that we made, not one that somebody has put in its place.
        self._path = path
        self._file = os.stat(path) if path is not None else None
        self.mailbox: Mailbox[Any] = Mailbox(
            weigh=lambda kept: 0,
            max_items=MAX_WAITING,
            pause=lambda: self.reader.shut(FULL),
            resume=lambda: self.reader.open(FULL),
        )
        self.reader = Reader(sock, loop, fill=self._fill)

    def on_start(self) -> None:
        self.reader.start()

    def _fill(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno not in EXHAUSTED:
                    log.error("accepting on %s failed: %s", self.local_address, exc)
                    self._end(Closed(self.local_address, f" ({exc})").because(exc))
                    return
                self._back_off(exc)
                return
            self._take(sock, peer)
            if self.reader.gates:
                return

    def _back_off(self, exc: OSError) -> None:
        now = monotonic()
        if now - self._exhausted_at >= EPISODE:
            log.warning("cannot accept on %s: %s; trying again every %g s", self.local_address, exc, BACK_OFF)
        self._exhausted_at = now
        self.reader.shut(DELAYED)
        self.loop.call_later(BACK_OFF, lambda: self.reader.open(DELAYED))

    def _take(self, sock: socket.socket, peer: Any) -> None:
        actor: StreamActor | None = None
        self.accepted += 1  # now: on another reader thread its callbacks may run before `_admit` returns
        try:
            sockets.stream_options(sock)
            local = format_address(sock.getsockname())
            remote = format_address(peer) if peer else f"{local} (client)"
            previous = scope.enter(self.scope)  # a connection belongs to the script that listens
            try:
                actor = self._admit(sock, remote, local)
            finally:
                scope.enter(previous)
        except OSError as exc:  # it has left again
            log.info("a connection to %s ended before it began: %s", self.local_address, exc)
        finally:
            if actor is None:
                self.accepted -= 1
                sock.close()
        if actor is not None and self._keep is not None:
            actor.when_ready(self._keep_it)

    def _keep_it(self, actor: StreamActor) -> None:
        assert self._keep is not None
        self.mailbox.put((self._keep(actor),), 0)

    def reload_certificates(self) -> None:
        """From any thread. Raises what `Credentials.reload` raises, the reason of the end, and TypeError without TLS."""
        if self.mailbox.ended is not None:
            raise self.mailbox.ended.again()
        if self.tls is None:
            raise TypeError("it speaks no TLS: tls:// and wss:// have certificates")
        self.tls.reload()

    def close(self, linger: float = LINGER) -> bool:
        """Stop listening; from any thread. Connections that nobody took are closed. The port is free on return."""
        wait = self.close_from_outside(linger)
        return True if current().host is not None else wait(deadline_after(linger + 1.0))

    def close_from_outside(self, linger: float, reason: BusError | None = None) -> Callable[[float | None], bool]:
        reason = reason or Closed(self.local_address)
        answer = self.ask_to_close(reason, linger)
        return lambda deadline: bool(answer.wait(deadline))

    def stop_requested(self, stopped: Callable[[], object]) -> None:
        self.on_receive(Close(Closed(self.local_address), LINGER, Call(stopped)))

    def _end(self, reason: BusError) -> None:
        self.end_listening(reason)
        super().ended()

    def end_listening(self, reason: BusError) -> None:
        left = self.mailbox.drain()
        self.mailbox.close(reason)
        for kept in left:
            kept._actor.close_from_outside(LINGER)
        self.stop_accepting()

    def stop_accepting(self) -> None:
        """Free the port. On the reader thread."""
        if self.reader.closing:
            return
        self.reader.release()
        if self._path is not None and self._file is not None:
            try:
                if os.path.samestat(os.stat(self._path), self._file):
                    os.unlink(self._path)
            except OSError:
                pass

    def ended(self) -> None:
        self.end_listening(Closed(self.local_address))
        super().ended()

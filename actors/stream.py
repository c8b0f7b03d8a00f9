"""The actor of one stream connection, TCP or Unix: socket, framing, mailbox or callbacks, outbox, and an orderly end.

How it ends: see `actors.states`. `_move` is the only way from state to state, and runs on the reader thread. Threads: `fill` runs where
the read lock is held (reader thread or a borrowing script), the outbox locks itself, everything else belongs to the reader thread.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from actors import sockets
from actors.ackwatch import AckWatch, in_kernel
from actors.actor import Close, SocketActor, post
from actors.answer import Answer, Call
from actors.errors import Broken, BusError, Closed, PeerClosed, TooLarge
from actors.framing import LENGTH, Framing
from actors.halves import Halves
from actors.mailbox import MAX_BYTES as MAILBOX_BYTES
from actors.mailbox import MAX_MESSAGES, Mailbox
from actors.message import Message, Sendable, encode, weigh
from actors.outbox import MAX_BYTES as OUTBOX_BYTES
from actors.outbox import MAX_MESSAGES as OUTBOX_MESSAGES
from actors.outbox import Outbox
from actors.poller import IN
from actors.reader import DELAYED, ENDED, FULL, PAUSED, READ_ON, SERVING
from actors.readerthread import ReaderThread, Timer
from actors.silence import SilenceWatch
from actors.stall import STALL_TIMEOUT, StallWatch
from actors.states import MOVES, State
from actors.streamreader import StreamReader
from actors.waiting import current, deadline_after

if TYPE_CHECKING:
    from actors.draining import ClientDrain
    from actors.lane import Lane
    from actors.link import LinkActor
    from actors.stats import Stats

__all__ = ["LINGER", "MAX_SIZE", "STALL_TIMEOUT", "State", "StreamActor"]

log = logging.getLogger("actorbus.stream")

MAX_SIZE = 16 * 1024 * 1024
LINGER = 5.0
OPEN, FLUSHING, LINGERING, GONE = State  # under Python 3.11, `State.GONE` takes three times as long, and a close asks twenty times


class StreamActor(SocketActor):
    """See the module. Without `lane`, messages go to `mailbox`, which may be that of a `link`. `ready(actor)` is called before a message is
    read, `on_gone(actor, reason)` on the reader thread when the descriptor goes; a `dedicated` loop is this actor's own and ends with it.

    The socket is the actor's from here on. `remote_address` and `local_address` are texts.
    """

    __slots__ = (
        "_answers", "_dead", "_input_over", "_linger_timer", "_link", "_on_gone", "_ready", "_stall",
        "acknowledged", "draining", "encrypted", "framing", "halves", "lane", "left_in_kernel", "local_address",
        "mailbox", "max_size", "outbox", "reader", "reason", "remote_address", "silence", "state",
    )

    being_answered = False  # a request from before it is a client

    def __init__(
        self,
        sock: socket.socket,
        loop: ReaderThread,
        *,
        remote_address: str,
        local_address: str,
        framing: Framing = LENGTH,
        max_size: int = MAX_SIZE,
        mailbox_messages: int = MAX_MESSAGES,
        mailbox_bytes: int = MAILBOX_BYTES,
        outbox_bytes: int = OUTBOX_BYTES,
        outbox_messages: int = OUTBOX_MESSAGES,
        stall_timeout: float | None = STALL_TIMEOUT,
        make_lane: Callable[..., Lane] | None = None,
        ready: Callable[[StreamActor], object] | None = None,
        on_gone: Callable[[StreamActor, BusError], None] | None = None,
        handshake_timeout: float | None = None,
        idle_timeout: float | None = None,
        link: LinkActor | None = None,
        half_open: bool = False,
        dedicated: bool = False,
    ) -> None:
        super().__init__(loop, dedicated=dedicated)
        sock.setblocking(False)
        self.encrypted = hasattr(sock, "peer_certificate")  # a TlsSocket
        if self.encrypted:
            sock.loop, sock.read_on = loop, lambda: loop.call_soon(self.reader.read_on)  # type: ignore[attr-defined]
        self.remote_address, self.local_address = remote_address, local_address
        self.framing, self.max_size = framing, max_size
        self.state = OPEN
        self.reason: BusError | None = None  # why it ended, once it has
        self.acknowledged = False  # after the end: the peer's TCP took everything
        self.draining: ClientDrain | None = None
        self.left_in_kernel = 0  # when it went: bytes written that nobody acknowledged
        self._input_over = False
        self._dead = False  # a reset came while lingering: no acknowledgement will
        self._linger_timer: Timer | None = None
        self._answers: list[Answer[bool]] = []
        self._ready, self._on_gone, self._link = ready, on_gone, link
        self.halves = Halves(self, half_open)
        self.silence = SilenceWatch(self, handshake_timeout, idle_timeout)
        self.outbox = (Outbox if link is None else link.make_outbox)(
            sock, address=remote_address, backlog=self._backlog, failed=self._write_failed, drained=self._drained,
            max_bytes=outbox_bytes, max_messages=outbox_messages,
        )
        self._stall = StallWatch(self.outbox, loop, stall_timeout, lambda phrase: self.break_off(Broken(remote_address, phrase)))
        options: dict[str, Any] = {"source": remote_address, "framing": framing, "max_size": max_size, "over": self._input_over_with}
        options |= {"flush": self.outbox.flush, "hung_up": self._hung_up, "write_lock": self.outbox.lock, "discarded": self._discarded}
        self.lane: Lane | None = None
        self.reader: StreamReader
        self.mailbox: Mailbox[Message]  # only without a lane
        if make_lane is not None:
            self.reader = self.lane = make_lane(self, sock, loop, **options)
        elif link is not None:
            self.mailbox = link.mailbox
            self.reader = StreamReader(sock, loop, **options)
            self.reader.input = link.inlet
        else:
            self.mailbox = Mailbox(
                weigh=weigh, max_items=mailbox_messages, max_bytes=mailbox_bytes,
                pause=lambda: self.reader.shut(FULL), resume=lambda: self.reader.open(FULL),
            )
            self.reader = StreamReader(sock, loop, mailbox=self.mailbox, **options)
            if not self.encrypted:
                self.mailbox.use_direct(self.reader.direct)

    def on_start(self) -> None:
        self._enter()
        self.reader.start()
        self.framing.begin(self)
        if self.encrypted:
            self.loop.call_soon(self.reader.read_on)

    def when_ready(self, call: Callable[[StreamActor], object]) -> None:
        """Call it once messages can come. On the reader thread, where it was opened."""
        call(self)

    def _enter(self) -> None:
        """Nothing stands between the peer and its first message."""
        if self._ready is not None:
            self._ready(self)

    # -- output, in the caller's thread -------------------------------------------------------------------------------

    def frame(self, message: Sendable) -> bytes:
        """The message on the wire. Raises TooLarge over `max_size`, TypeError, ValueError when the framing cannot carry it."""
        payload = message if type(message) is bytes else message.data if type(message) is Message else encode(message)
        if len(payload) > self.max_size:
            raise TooLarge(self.remote_address, f"{len(payload)} bytes are over max_size={self.max_size}")
        return self.framing.frame(payload)

    def send(self, message: Sendable, timeout: float | None) -> None:
        frame = self.framing.frame(message) if type(message) is bytes and len(message) <= self.max_size else self.frame(message)
        if not self.outbox.try_send(frame):
            self.outbox.send(frame, deadline_after(timeout))

    def send_many(self, messages: Iterable[Sendable], deadline: float | None) -> None:
        self.outbox.send_many([self.frame(message) for message in messages], deadline)

    def stats(self) -> Stats:
        from actors.stats import Stats

        outbox, reader = self.outbox, self.reader
        return Stats(
            messages_in=reader.messages_in, bytes_in=reader.bytes_in, dropped=reader.dropped,
            messages_out=outbox.messages, bytes_out=outbox.bytes, unsent=outbox.unsent,
            waiting_in=self.lane.waiting if self.lane is not None else len(self.mailbox), waiting_out=len(outbox),
        )

    # -- called by the outbox, with its lock held, and by the reader --------------------------------------------------

    def _backlog(self, waiting: bool) -> None:
        self.reader.set_writing(waiting)
        self.loop.call_soon(self._stall.begin if waiting else self._advance)

    def _drained(self) -> None:
        if self.lane is not None:
            self.loop.call_soon(self.lane.settle)

    def _write_failed(self, exc: OSError) -> BusError:
        reason = Broken(self.remote_address, sockets.broken_phrase(exc)).because(exc)
        self.loop.call_soon(lambda: self.break_off(reason))
        return reason

    def _input_over_with(self, reason: BusError) -> None:
        self._input_over = True
        if isinstance(reason, Broken) and not self.reader.dropped:
            self.outbox.refuse(reason)  # now: the script that hears of it first may send next
        self.loop.call_soon(lambda: self._input_ended(reason))

    def _discarded(self, dead: bool) -> None:
        self._dead = self._dead or dead
        self._input_over = True
        self.loop.call_soon(self._all_discarded)

    # -- on the reader thread -----------------------------------------------------------------------------------------

    def _input_ended(self, reason: BusError) -> None:
        if self.state is OPEN:
            if isinstance(reason, Broken) and not self.reader.dropped:
                self.break_off(reason)
            elif self.lane is not None:
                self.lane.settle()
            elif self.halves.sent or self._link is not None or not (self.reader.messages_in or self.halves.half_open):
                self._close(Close(reason, LINGER))  # nothing that could still be answered, or a next connection to answer on
        else:
            if isinstance(reason, Broken) and not self.reader.dropped:
                # A reset is the end of it; but with our FIN out, an orderly end looks the same unless something is unacknowledged.
                self._dead = self.state is FLUSHING or sockets.unacknowledged(self.reader.sock) > 0
            self._advance()

    def _all_discarded(self) -> None:
        self._advance()
        if self.state is not GONE:  # most often it is: then the poller need not be told
            self.reader.shut(ENDED)

    def _hung_up(self) -> None:
        # Asking for the error clears it: not while a read may still find it.
        if self._input_over and self.state is OPEN and not self.halves.sent:
            exc = OSError(self.reader.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.EPIPE, "hung up")
            self.break_off(Broken(self.remote_address, sockets.broken_phrase(exc)).because(exc))

    def break_off(self, reason: BusError) -> None:
        """The link is dead, or is to be: nothing more in or out."""
        if self.state is GONE:
            return
        self._input_over = True
        if unsent := self.outbox.drop(reason):
            log.warning("%d bytes that were accepted for %s are lost: %s", unsent, self.remote_address, reason)
        self.reader.input.end(reason)
        self._gone(reason)

    def expel(self, reason: BusError) -> None:
        """End it for what the peer does or fails to do: in order, so that what was sent before still reaches it. On the reader thread."""
        self._close(Close(reason, LINGER))

    def served(self, reason: BusError | None) -> None:
        """The lane has run its last callback."""
        if self.state is not OPEN:
            return  # it is being closed in order: what is taken is still written, and a reset has its own way to be heard
        if isinstance(reason, Broken) and not self.reader.dropped:
            self.break_off(reason)
        else:
            self._close(Close(reason or PeerClosed(self.remote_address), LINGER))

    # -- the end ------------------------------------------------------------------------------------------------------

    def close(self, linger: float = LINGER, reason: BusError | None = None) -> bool:
        """Close in order; from any thread. True if the peer's TCP took everything within `linger` seconds. In a callback it only asks."""
        wait = self.close_from_outside(linger, reason)
        return self.acknowledged if current().host is not None else wait(deadline_after(linger + 1.0))

    def told(self) -> None:
        """The script knows that the peer has left; it answers nothing more, unless it said so. From any thread."""
        if self.halves.output_stays:
            return
        reason = self.mailbox.ended or PeerClosed(self.remote_address)
        self.outbox.refuse(reason)
        post(self.actor_ref, Close(reason, LINGER))

    def close_from_outside(self, linger: float, reason: BusError | None = None) -> Callable[[float | None], bool]:
        """Ask for a close; returns what waits for it, until a deadline."""
        reason = reason or Closed(self.remote_address)
        self.outbox.refuse(reason)
        self.reader.input.close(reason)
        answer = self.ask_to_close(reason, linger)
        return lambda deadline: bool(answer.wait(deadline))

    def on_receive(self, message: Any) -> None:
        if isinstance(message, Close):
            self.reader.input.close(message.reason)
            self._close(message)
        else:
            super().on_receive(message)

    def _close(self, message: Close) -> None:
        if message.answer is not None:
            if self.state is GONE or self.acknowledged:
                message.answer.set(self.acknowledged)
            else:
                self._answers.append(message.answer)
        if self.state is OPEN:
            self.reason = message.reason
            self.outbox.refuse(message.reason)
            self.reader.input.end(message.reason)
            self._move(FLUSHING)
            self.outbox.hurry()
            self._take_over_input()
        self._advance()
        if self.state is not GONE:
            if self._linger_timer is not None:
                self._linger_timer.cancel()
            self._linger_timer = self.loop.call_later(message.linger, self._give_up)

    def _take_over_input(self) -> None:
        """Read from now on only to throw away. Waits, without blocking, for a borrower to leave."""
        reader = self.reader
        if self.state is GONE:
            return
        if reader.loan is not None:
            reader.loan.waiter.unpark()
        if not reader.revoke():
            self.loop.call_later(0.001, self._take_over_input)
            return
        self._throw_away_input()
        if reader.gates or reader.mask != IN:  # else it is polled for that already, as most are
            reader.open(FULL | SERVING | PAUSED | DELAYED)

    def _throw_away_input(self) -> None:
        self.reader.discard()

    def _move(self, state: State) -> None:
        assert state in MOVES[self.state], (self.state, state)
        self.state, self.since = state, monotonic()

    def _advance(self) -> None:
        """Go on with closing as far as it goes now."""
        state = self.state
        if state is OPEN:
            (self.draining or self.halves).look()
        elif self._dead and state is not GONE:
            self._give_up()
        elif state is FLUSHING and not len(self.outbox) and self._parted():
            try:
                self.reader.sock.shutdown(socket.SHUT_WR)
            except BlockingIOError:  # TLS's own end comes first, and has to wait
                self.loop.call_later(READ_ON, self._advance)
                return
            except OSError:
                pass  # not connected any more: the read side says so, or has said
            self._move(LINGERING)
            AckWatch(self.reader.sock, self.loop, lambda: self.state is LINGERING, self._acknowledged).look()
        elif state is LINGERING and self._input_over and self.acknowledged:
            self._gone(self.reason or Closed(self.remote_address))

    def _parted(self) -> bool:
        """Whether both have said all that comes before a FIN."""
        return True

    def _acknowledged(self, taken: bool) -> None:
        if taken:
            self.acknowledged = True
            self._answer(True)
        else:
            self._dead = True
        self._advance()

    def _give_up(self) -> None:
        """The linger time is over."""
        if unsent := self.outbox.drop(self.reason or Closed(self.remote_address)):
            log.warning("%s did not take %d bytes before the deadline of the close; they are lost", self.remote_address, unsent)
        self._gone(self.reason or Closed(self.remote_address))

    def _gone(self, reason: BusError) -> None:
        if self.state is GONE:
            return
        self.reason = reason
        self.left_in_kernel = 0 if self.acknowledged else in_kernel(self)
        self._move(GONE)
        self._stall.cancel()
        self.silence.cancel()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self.reader.release()
        self._answer(self.acknowledged)
        if self.lane is not None:
            self.lane.settle()
        if self._on_gone is not None:
            self._on_gone(self, reason)
        self.ended()

    def _answer(self, value: bool) -> None:
        for answer in self._answers:
            answer.set(value)
        self._answers.clear()

    def stop_requested(self, stopped: Callable[[], object]) -> None:
        self.on_receive(Close(Closed(self.remote_address), LINGER, Call(stopped)))

    def abandon(self) -> None:
        self._give_up()

    def fail(self, reason: BusError) -> None:
        """End it for what happened here, a callback's exception. On the reader thread."""
        self.break_off(reason)

    def failed(self, exc: BaseException | None) -> None:
        self.break_off(Broken(self.remote_address, f"its actor failed: {exc!r}").because(exc))

"""The actor of one WebSocket connection (RFC 6455), at either end: a stream whose framing has something to say itself.

To the stream it adds the closing handshake, the keepalive, and at a server the opening handshake before the first message. How it ends:
our close frame goes out behind what was accepted, and the peer's is awaited before the FIN, as long as `linger` allows; the peer's close
frame is answered at once, and ends both directions.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from actors import sockets
from actors.actor import Close
from actors.errors import Broken, BusError, TooLarge
from actors.message import Message, Sendable, encode
from actors.reader import DELAYED, ENDED, FULL, PAUSED, SERVING, SPECIAL
from actors.readerthread import ReaderThread, Timer
from actors.silence import PING_INTERVAL, PING_TIMEOUT
from actors.stream import LINGER, State, StreamActor
from actors.wsframes import BINARY_FRAME, TEXT_FRAME, WebSocketFraming, is_utf8

if TYPE_CHECKING:
    from websockets.protocol import Protocol as SansIO

__all__ = ["WebSocketActor", "first_byte"]

log = logging.getLogger("actorbus.websocket")

GRACE = 1.0  # what a read that has just been resumed gets before the verdict

NORMAL, GOING_AWAY, POLICY_VIOLATION, INTERNAL_ERROR = 1000, 1001, 1008, 1011  # RFC 6455, section 7.4.1
SENDABLE = (*range(1000, 1004), *range(1007, 1015))


def first_byte(message: Sendable, payload: bytes) -> int:
    """Of its frame. Text is a str, a dict, and a Message that came as text. Raises ValueError for text that is not UTF-8."""
    if isinstance(message, Message):
        if message.is_text and not is_utf8(payload):
            raise ValueError("a text message must be UTF-8")
        return TEXT_FRAME if message.is_text else BINARY_FRAME
    return TEXT_FRAME if isinstance(message, (str, dict)) else BINARY_FRAME


class WebSocketActor(StreamActor):
    """See the module. `protocol` is the state after the handshake, `rest` what came behind it; without it, `begin` follows later.

    `ping_interval` None: no keepalive. `ping_timeout` None: only the latency is measured.
    """

    framing: Any

    def __init__(
        self,
        sock: socket.socket,
        loop: ReaderThread,
        *,
        remote_address: str,
        protocol: SansIO | None = None,
        rest: bytes = b"",
        ping_interval: float | None = PING_INTERVAL,
        ping_timeout: float | None = PING_TIMEOUT,
        **options: Any,
    ) -> None:
        self._farewell: tuple[int, str] | None = None  # the first choice stays
        self.latency: float | None = None
        self._rest = rest
        self._interval = ping_interval
        self._verdict_after = ping_timeout
        self._timers: list[Timer] = []
        self._pinged: tuple[bytes, float] | None = None
        self._pings = 0
        if protocol is not None:
            options["framing"] = WebSocketFraming(protocol, remote_address, self, options["max_size"])
        super().__init__(sock, loop, remote_address=remote_address, **options)

    def on_start(self) -> None:
        shaken = isinstance(self.framing, WebSocketFraming)
        if shaken:
            self.reader.gates |= SPECIAL  # nobody reads before `_begin` has delivered what came with the handshake's answer
        super().on_start()
        if shaken:
            self.loop.call_soon(self._begin)

    def begin(self, protocol: SansIO, rest: bytes) -> None:
        """The opening handshake is over. On the reader thread."""
        self.framing = WebSocketFraming(protocol, self.remote_address, self, self.max_size)
        self.reader.change_framing(self.framing)
        self._rest = rest
        self._begin()

    def _begin(self) -> None:
        self.reader.resume_with(self._rest)
        self._rest = b""
        if self._interval is not None:
            self._timers = [self.loop.call_later(self._interval, self._ping)]

    # -- output -------------------------------------------------------------------------------------------------------

    def frame(self, message: Sendable) -> bytes:
        if type(message) is bytes:
            first, payload = BINARY_FRAME, message
        else:
            payload = encode(message)
            first = first_byte(message, payload)
        if len(payload) > self.max_size:
            raise TooLarge(self.remote_address, f"{len(payload)} bytes are over max_size={self.max_size}")
        frame: bytes = self.framing.build(first, payload)
        return frame

    # -- what the framing has to say, on the reader thread ------------------------------------------------------------

    def answer(self, frame: bytes) -> None:
        self.outbox.offer(frame)  # to one who pings and does not read, no pong is owed

    def farewell(self, frame: bytes, reason: BusError) -> None:
        self.outbox.append(frame)
        self.outbox.refuse(reason)

    def ponged(self, payload: bytes) -> None:
        if self._pinged is not None and payload == self._pinged[0]:
            self.latency = monotonic() - self._pinged[1]
            self._pinged = None

    # -- keepalive, on the reader thread ------------------------------------------------------------------------------

    def _ping(self) -> None:
        if self.state is not State.OPEN or self._interval is None:
            return
        self._timers = [self.loop.call_later(self._interval, self._ping)]
        self._pings += 1
        payload = self._pings.to_bytes(4, "big")
        if self.outbox.offer(self.framing.ping(payload)) == "skipped":
            return  # the stall watchdog deals with a peer that does not read
        self._pinged = (payload, monotonic())
        if self._verdict_after is not None:
            self._timers.append(self.loop.call_later(self._verdict_after, partial(self._judge, self.reader.signs_of_life, False)))

    def _judge(self, before: tuple[int, ...], again: bool) -> None:
        """Any byte since the ping is a sign of life. While we do not read, silence is our own doing."""
        if self.state is not State.OPEN or self.reader.signs_of_life != before or self._verdict_after is None:
            return
        paused = bool(self.reader.gates & (FULL | SERVING | PAUSED | DELAYED))
        if paused or not again:
            delay = self._verdict_after if paused else min(GRACE, self._verdict_after)
            self._timers.append(self.loop.call_later(delay, partial(self._judge, before, not paused)))
            return
        self.outbox.append(self.framing.goodbye(INTERNAL_ERROR, "no answer to a ping"))
        self.break_off(Broken(self.remote_address, f"it sent nothing for {self._verdict_after:g} s after a ping"))

    # -- the end ------------------------------------------------------------------------------------------------------

    def say_goodbye_with(self, code: Any, reason: str) -> None:
        """Choose what our close frame says, if nobody has. Raises ValueError for what may not be sent (RFC 6455, section 7.4)."""
        if not isinstance(code, int) or not (code in SENDABLE or 3000 <= code < 5000):
            raise ValueError(f"close code {code!r} may not be sent; 1000 is the normal one, 3000 to 4999 are free (RFC 6455, section 7.4)")
        if len(reason.encode()) > 123:
            raise ValueError("the reason of a close is at most 123 bytes of UTF-8")
        self._farewell = self._farewell or (code, reason)

    def stop_requested(self, stopped: Callable[[], object]) -> None:
        self.say_goodbye_with(GOING_AWAY, "")  # its script or the process ends, or nobody holds it any more
        super().stop_requested(stopped)

    def _input_ended(self, reason: BusError) -> None:
        if not self.framing.parted:
            super()._input_ended(reason)
        elif self.state is not State.OPEN:
            self._take_over_input()
            self._advance()
        elif self.lane is not None:
            self.lane.settle()
        else:
            self._close(Close(reason, LINGER))

    def served(self, reason: BusError | None) -> None:
        if reason is not None and self.framing.parted and self.state is State.OPEN:
            self._close(Close(reason, LINGER))
        else:
            super().served(reason)

    def expel(self, reason: BusError) -> None:
        self.say_goodbye_with(POLICY_VIOLATION, reason.reason)
        super().expel(reason)

    def fail(self, reason: BusError) -> None:
        self.say_goodbye_with(INTERNAL_ERROR, "internal error")
        self._close(Close(reason, LINGER))

    def _close(self, message: Close) -> None:
        if self.state is State.OPEN:
            usual = NORMAL if self.draining is None else GOING_AWAY
            self.outbox.append(self.framing.goodbye(*(self._farewell or (usual, ""))))
        super()._close(message)

    def _throw_away_input(self) -> None:
        """First it is read on for the peer's close frame; messages go nowhere, since their input has ended. Behind that frame comes the end
        of TLS and of TCP, which must find a reader: a reset would destroy what is still on its way to the peer."""
        if self.framing.parted:
            self._input_over = False
            self.reader.discard()
            self.reader.open(ENDED | SPECIAL)

    def _parted(self) -> bool:
        return self._input_over or self.framing.parted

    def _give_up(self) -> None:
        if self.state is State.FLUSHING and not len(self.outbox) and sockets.unacknowledged(self.reader.sock) == 0:
            self.acknowledged = True  # only the peer's close frame is missing
        super()._give_up()

    def _gone(self, reason: BusError) -> None:
        for timer in self._timers:
            timer.cancel()
        super()._gone(reason)

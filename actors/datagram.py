"""The actor of a UDP socket: bound, connected to a peer, or a member of a multicast group.

One datagram is one message. Nobody can slow a sender down, so when the mailbox is full the oldest datagrams go; they and the kernel's own
drops are counted in `lost`. An ICMP "refused" says that nobody listened to an earlier datagram: it is counted in `refused` and ends
nothing.

`fill` runs where the read lock is held; `send` in the caller's thread, under `_send_lock`.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from time import monotonic
from typing import Any

from actors import sockets
from actors.actor import Close, SocketActor, post
from actors.errors import Broken, BusError, Closed, NotSent, TooLarge
from actors.mailbox import MAX_BYTES, MAX_MESSAGES, Mailbox
from actors.message import Message, Sendable, encode
from actors.reader import Reader
from actors.readerthread import ReaderThread
from actors.resolving import format_address
from actors.stats import Stats
from actors.stream import LINGER, weigh
from actors.waiting import WRITE, Answer, current, deadline_after

__all__ = ["MAX_DATAGRAM", "DatagramActor"]

log = logging.getLogger("actorbus.datagram")

MAX_DATAGRAM = 65_507  # RFC 768 and 791: 65,535 less the headers of IPv4 and UDP
BUFFER = 65_536
BURSTS = tuple((BUFFER,) * 4**n for n in range(4))  # 1, 4, 16, 64 datagrams a turn: as many as the last turn found worth it
FULL_TURNS = 16
FULL_NET = (errno.ENOBUFS, errno.ENOMEM)


class DatagramActor(SocketActor):
    """See the module. `peer` is the connected peer's address as text, or None: then `send` needs a target. `group` is
    the socket address of a multicast group."""

    def __init__(
        self,
        sock: socket.socket,
        loop: ReaderThread,
        *,
        peer: str | None = None,
        local_address: str | None = None,
        group: Any = None,
        mailbox_messages: int = MAX_MESSAGES,
        mailbox_bytes: int = MAX_BYTES,
        dedicated: bool = False,
    ) -> None:
        super().__init__(loop, dedicated=dedicated)
        sock.setblocking(False)
        self.remote_address = peer or ""
        self.family = sock.family
        self.group = group
        self.local_address = local_address or format_address(sock.getsockname())
        self.messages_in = 0
        self.bytes_in = 0
        self.messages_out = 0
        self.bytes_out = 0
        self.refused = 0
        self.ended_reason: BusError | None = None
        self._sock = sock
        self._recvfrom = sock.recvfrom
        self._send_lock = Lock()
        self._burst = 0
        self._full_turns = 0
        self._read: list[tuple[bytes, Any]] = []
        self._parsed: tuple[Iterator[Message], int] | None = None
        self._kernel_drops = 0  # the last count, once the socket is closed
        self._sources: dict[Any, str] = {}
        self.mailbox: Mailbox[Message] = Mailbox(
            weigh=weigh, max_items=mailbox_messages, max_bytes=mailbox_bytes, lossy=True
        )
        self.reader = Reader(sock, loop, fill=self._fill, write_lock=self._send_lock, mailbox=self.mailbox)
        self.mailbox.use_direct(self.reader.direct)

    def on_start(self) -> None:
        self.reader.start()

    @property
    def lost(self) -> int:
        """Datagrams that arrived at this machine and were dropped: by us because the mailbox was full, or by the kernel."""
        return self.mailbox.lost + self.kernel_drops()

    def kernel_drops(self) -> int:
        if self.reader.fd >= 0:
            self._kernel_drops = sockets.kernel_drops(self._sock)
        return self._kernel_drops

    # -- input, where the read lock is held ---------------------------------------------------------------------------

    def _fill(self) -> None:
        reader = self.reader
        if not reader.dirty:
            reader.dirty = True
            burst = BURSTS[self._burst]
            try:
                self._read.extend(map(self._recvfrom, burst))
            except (BlockingIOError, InterruptedError):
                self._burst = max(0, self._burst - 1)
                self._full_turns = 0
            except OSError as exc:
                self._read_failed(exc)
            else:
                # One read more than there are datagrams costs an exception; so a turn grows only after several full ones.
                self._full_turns += 1
                if self._full_turns >= FULL_TURNS:
                    self._burst = min(len(BURSTS) - 1, self._burst + 1)
                    self._full_turns = 0
        self._deliver()
        reader.dirty = False

    def _deliver(self) -> None:
        if self._parsed is not None:
            self._hand_on()
        read = self._read
        if not read:
            return
        sources = self._sources
        batch = []
        weight = 0
        for data, sockaddr in read:
            source = sources.get(sockaddr)
            if source is None:
                if len(sources) >= 1024:
                    sources.clear()
                source = sources[sockaddr] = format_address(sockaddr)
            batch.append(Message(data, source))
            weight += len(data)
        count = len(batch)
        parsed = (iter(batch), weight)
        # One commit: stores and no call between them.
        self._read, self._parsed = [], parsed
        self.messages_in += count
        self.bytes_in += weight
        self._hand_on()

    def _hand_on(self) -> None:
        parsed = self._parsed
        if parsed is not None:
            self.mailbox.put(*parsed)
            self._parsed = None

    def _read_failed(self, exc: OSError) -> None:
        if exc.errno in (errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EMSGSIZE):
            self.refused += 1  # ICMP about something sent earlier
            return
        reason = Broken(self.remote_address or self.local_address, os.strerror(exc.errno or 0)).because(exc)
        self.mailbox.end(reason)
        self.loop.call_soon(lambda: self._end(reason))

    # -- output, in the caller's thread -------------------------------------------------------------------------------

    def send_many(self, messages: Iterable[Sendable], deadline: float | None) -> None:
        """Send several to the connected peer. The NotSent that may come of it tells in `accepted` how many went."""
        for count, payload in enumerate([encode(message) for message in messages]):
            try:
                self.send_to(payload, None, deadline)
            except NotSent as exc:
                exc.accepted = count
                raise

    def send(self, message: Sendable, timeout: float | None) -> None:
        """Send one datagram to the connected peer."""
        self.send_to(encode(message), None, deadline_after(timeout))

    def send_to(self, data: bytes, target: Any, deadline: float | None) -> None:
        """Send one datagram to a socket address, or to the connected peer when that is None.

        Raises TooLarge, NotSent (the deadline passed while the kernel's buffer was full), the reason of the end, and OSError as the system
        gives it (no route, broadcast not enabled).
        """
        where = self.remote_address if target is None else format_address(target)
        tries = 2
        while True:
            try:
                with self._send_lock:
                    if self.ended_reason is not None:
                        raise self.ended_reason.again()
                    if target is None:
                        self._sock.send(data)
                    else:
                        self._sock.sendto(data, target)
                    self.messages_out += 1
                    self.bytes_out += len(data)
                    return
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as exc:
                if isinstance(exc, BusError):
                    raise
                if exc.errno == errno.EMSGSIZE:
                    raise TooLarge(where or "", f"{len(data)} bytes do not fit a datagram") from exc
                if exc.errno in (errno.ECONNREFUSED, errno.ECONNRESET) and tries:
                    self.refused += 1  # about an earlier datagram; reporting it has cleared it
                    tries -= 1
                    continue
                if exc.errno not in FULL_NET:
                    exc.filename = where
                    raise
            if deadline is not None and monotonic() >= deadline:
                raise NotSent(where or "", "the kernel's buffer stayed full until the deadline")
            current().wait(deadline, self.reader.fd, WRITE)

    def set_broadcast(self, allowed: bool) -> None:
        with self._send_lock:
            if self.ended_reason is not None:
                raise self.ended_reason.again()
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, int(allowed))

    def told(self) -> None:
        """A UDP peer never leaves."""

    def stats(self) -> Stats:
        return Stats(
            messages_in=self.messages_in,
            messages_out=self.messages_out,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            waiting_in=len(self.mailbox),
            lost=self.lost,
            refused=self.refused,
        )

    # -- the end ------------------------------------------------------------------------------------------------------

    def close(self, linger: float = LINGER) -> bool:
        """Close the socket; from any thread. Datagrams that nobody received are dropped."""
        wait = self.close_from_outside(linger)
        return True if current().host is not None else wait(deadline_after(linger + 1.0))

    def close_from_outside(self, linger: float, reason: BusError | None = None) -> Callable[[float | None], bool]:
        reason = reason or Closed(self.local_address)
        self.mailbox.close(reason)
        answer: Answer[bool] = Answer()
        if not post(self.actor_ref, Close(reason, linger, answer)):
            answer.set(True)
        self.closing = True  # asked only now: Ctrl-C before this leaves it to the next close, or to dropping the proxy
        return lambda deadline: bool(answer.wait(deadline))

    def on_receive(self, message: Any) -> None:
        if isinstance(message, Close):
            self._end(message.reason)
            if message.answer is not None:
                message.answer.set(True)
        else:
            super().on_receive(message)

    def _end(self, reason: BusError) -> None:
        if self.ended_reason is None:
            self.ended_reason = reason
            self.mailbox.end(reason)
            self.kernel_drops()
            self.reader.release()
            super().ended()

    def ended(self) -> None:
        self._end(Closed(self.local_address))
        super().ended()

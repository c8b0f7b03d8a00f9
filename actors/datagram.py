"""The actor of UDP sockets: bound, connected to a peer, or a member of a multicast group.

One datagram is one message. Nobody can slow a sender down, so when the mailbox is full the oldest datagrams go; they and the kernel's own
drops are counted in `lost`. An ICMP "refused" says that nobody listened to an earlier datagram: it is counted in `refused` and ends
nothing.

It has one socket, or a pair for IPv4 and IPv6 with one port, one mailbox and one order of what is posted; connecting keeps the one of the
pair that reaches the peer. `send` runs in the caller's thread under `_send_lock`, which owns the fields that tell which socket sends.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from actors.actor import SocketActor
from actors.binding import Pair
from actors.datagramoutbox import FULL_NET, REFUSED, Choose, DatagramOutbox, Posted, Tell, Way
from actors.datagramreader import DatagramReader, Intake
from actors.errors import Broken, BusError, Closed, NotSent, TooLarge
from actors.mailbox import MAX_BYTES, MAX_MESSAGES, Mailbox
from actors.message import Message, Sendable, after_loss, encode, weigh
from actors.readerthread import ReaderThread
from actors.resolving import Resolved, format_address
from actors.sockets import set_reuse_port
from actors.stream import LINGER
from actors.waiting import WRITE, current, deadline_after

if TYPE_CHECKING:
    from actors.stats import Stats

__all__ = ["MAX_DATAGRAM", "DatagramActor"]

log = logging.getLogger("actorbus.datagram")

MAX_DATAGRAM = 65_507  # RFC 768 and 791: 65,535 less the headers of IPv4 and UDP


class DatagramActor(SocketActor):
    """See the module. `peer` is the connected peer's address as text, or None: then `send` needs a target. `group` is the socket address
    of a multicast group. With `paused` nothing is read until `resume`. `mapped` goes to `format_address` for those who send to us.
    """

    def __init__(
        self,
        sock: socket.socket | Pair,
        loop: ReaderThread,
        *,
        peer: str | None = None,
        local_address: str | None = None,
        group: Any = None,
        mailbox_messages: int = MAX_MESSAGES,
        mailbox_bytes: int = MAX_BYTES,
        paused: bool = False,
        mapped: bool = False,
        dedicated: bool = False,
    ) -> None:
        super().__init__(loop, dedicated=dedicated)
        sockets = list(sock) if isinstance(sock, Pair) else [sock]
        for each in sockets:
            each.setblocking(False)
        self.remote_address = peer or ""
        self.group = group
        own = sockets[0].getsockname()
        self.local_address = local_address or (f"*:{own[1]}" if len(sockets) > 1 else format_address(own))
        self.messages_out = 0
        self.bytes_out = 0
        self.said_at = 0.0
        self.refused = 0  # as sends report it; the intake counts the others
        self.ended_reason: BusError | None = None
        self._send_lock = Lock()
        self.mailbox: Mailbox[Message] = Mailbox(
            weigh=weigh, max_items=mailbox_messages, max_bytes=mailbox_bytes, lossy=True, after_loss=after_loss
        )
        self.outbox = DatagramOutbox(
            self._send_lock, loop, self, way=self._way, connect=self._connect, reason=lambda: self.ended_reason
        )
        self.intake = Intake(self.mailbox, paused)
        self._describe = describe = partial(format_address, mapped=mapped)
        self.readers = self.intake.readers = tuple(
            DatagramReader(
                each, loop, self.intake, flush=self.outbox.push, write_lock=self._send_lock, describe=describe, over=self._failed
            )
            for each in sockets
        )
        self.reader = self.readers[0]
        self._use(self.readers)
        if len(sockets) == 1:
            self.mailbox.use_direct(self.reader.direct)  # one thread can't read two sockets directly

    def _use(self, readers: tuple[DatagramReader, ...]) -> None:
        self._open = readers
        self._sock = readers[0].sock
        self._six = readers[1] if len(readers) > 1 else None
        self.family = self._sock.family if self._six is None else socket.AF_UNSPEC  # of the addresses that it can send to; 0 for both

    def on_start(self) -> None:
        for reader in self.readers:
            reader.start()

    @property
    def lost(self) -> int:
        """Datagrams that arrived at this machine and were dropped: by us because the mailbox was full or they were not the connected
        peer's, or by the kernel.
        """
        return self.mailbox.lost + self.intake.strangers + self.kernel_drops()

    def kernel_drops(self) -> int:
        return sum(reader.kernel_drops() for reader in self.readers)

    def _failed(self, exc: OSError) -> None:
        """A socket can't be read any more. Where it was found out."""
        reason = Broken(self.remote_address or self.local_address, os.strerror(exc.errno or 0)).because(exc)
        self.mailbox.end(reason)
        self.loop.call_soon(lambda: self._end(reason))

    def local_addresses(self) -> tuple[str, ...]:
        """Where the sockets are bound now; an IPv4 address comes first. Raises the reason of the end."""
        with self._send_lock:
            self.check()
            return tuple(self._describe(reader.sock.getsockname()) for reader in self._open)

    def check(self) -> None:
        """Raises the reason of the end, if there is one."""
        if self.ended_reason is not None:
            raise self.ended_reason.again()

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
            sock = self._sock
            try:
                with self._send_lock:
                    self.check()
                    if self._six is not None and target is not None:
                        sock = self._reader_for(target).sock
                    if target is None:
                        sock.send(data)
                    else:
                        sock.sendto(data, target)
                    self.messages_out += 1
                    self.bytes_out += len(data)
                    self.said_at = monotonic()
                    return
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as exc:
                if isinstance(exc, BusError):
                    raise
                if exc.errno == errno.EMSGSIZE:
                    raise TooLarge(where or "", f"{len(data)} bytes do not fit a datagram") from exc
                if exc.errno in REFUSED and tries:
                    self.refused += 1  # about an earlier datagram; reporting it has cleared it
                    tries -= 1
                    continue
                if exc.errno not in FULL_NET:
                    exc.filename = where
                    raise
            if deadline is not None and monotonic() >= deadline:
                raise NotSent(where or "", "the kernel's buffer stayed full until the deadline")
            current().wait(deadline, max(-1, sock.fileno()), WRITE, self.outbox)

    def post(
        self,
        data: bytes | None,
        target: tuple[str, int] | None,
        where: str,
        *,
        choose: Choose | None = None,
        timeout: float | None = None,
        tell: Tell,
    ) -> None:
        """Send a datagram to a host and port, or to the connected peer, behind what was posted before; with `data` None, connect there.

        See `datagramoutbox`. `choose` takes one of all the addresses of the host; else it is the first that can be reached from here.
        """
        family = self.family if choose is None else socket.AF_UNSPEC
        self.outbox.post(Posted(data, where, choose or _first, timeout, tell), target, family)

    def _reader_for(self, sockaddr: Any) -> DatagramReader:
        six = self._six
        return six if six is not None and len(sockaddr) == 4 else self._open[0]

    def _way(self, sockaddr: Any) -> Way:
        if sockaddr is None:
            reader = self._open[0]
            return reader.sock.send, (), reader.set_writing
        if self.intake.only is not None:
            raise OSError(errno.EISCONN, "connected by now: it sends to its peer only")  # Linux would send it
        reader = self._reader_for(sockaddr)
        return reader.sock.sendto, (sockaddr,), reader.set_writing

    def _connect(self, sockaddr: Any) -> None:
        if not sockaddr[1]:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))  # Linux would take it, and connect to nobody
        reader = self._reader_for(sockaddr)
        reader.sock.connect(sockaddr)
        others = [each for each in self._open if each is not reader]
        self.intake.only = reader.sock.getpeername()  # what strangers sent before is still in the kernel
        self.remote_address = self._describe(self.intake.only)
        self._use((reader,))
        for each in others:
            self.loop.call_soon(each.release)

    def set_buffer_size(self, size: int, version: int | None) -> None:
        self.check()
        for reader in self.readers:
            if version is None or (version == 6) == (reader.sock.family == socket.AF_INET6):
                reader.set_size(size)

    def set_broadcast(self, allowed: bool) -> None:
        self._each(lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, int(allowed)))

    def set_reuse_port(self, allowed: bool) -> None:
        self._each(lambda sock: set_reuse_port(sock, allowed))

    def _each(self, change: Callable[[socket.socket], object]) -> None:
        with self._send_lock:
            self.check()
            self._change(change)

    def _change(self, change: Callable[[socket.socket], object]) -> None:
        for reader in self._open:
            change(reader.sock)

    def told(self) -> None:
        """A UDP peer never leaves."""

    def stats(self) -> Stats:
        from actors.stats import Stats

        return Stats(
            messages_in=self.intake.messages_in,
            messages_out=self.messages_out,
            bytes_in=self.intake.bytes_in,
            bytes_out=self.bytes_out,
            waiting_in=len(self.mailbox),
            waiting_out=self.outbox.weight,
            lost=self.lost,
            unsent=self.outbox.unsent,
            refused=self.refused + self.intake.refused,
        )

    # -- the end ------------------------------------------------------------------------------------------------------

    def close(self, linger: float = LINGER) -> bool:
        """Close the socket; from any thread. Datagrams that nobody received are dropped."""
        wait = self.close_from_outside(linger)
        return True if current().host is not None else wait(deadline_after(linger + 1.0))

    def close_from_outside(self, linger: float, reason: BusError | None = None) -> Callable[[float | None], bool]:
        reason = reason or Closed(self.local_address)
        self.mailbox.close(reason)
        answer = self.ask_to_close(reason, linger)
        return lambda deadline: bool(answer.wait(deadline))

    def _end(self, reason: BusError) -> None:
        if self.ended_reason is None:
            self.ended_reason = reason
            self.mailbox.end(reason)
            self.outbox.end(reason)
            for reader in self.readers:
                reader.release()
            super().ended()

    def ended(self) -> None:
        self._end(Closed(self.local_address))
        super().ended()


def _first(addresses: tuple[Resolved, ...]) -> Any:
    return addresses[0].sockaddr

"""UdpSocket and Group: datagrams from anybody, and to many."""

from __future__ import annotations

import socket
from typing import overload

from actors.datagram import MAX_DATAGRAM, DatagramActor
from actors.errors import TooLarge
from actors.message import Message, Sendable, encode
from actors.resolving import resolve
from actors.stats import Stats
from actors.waiting import deadline_after
from bus.connection import SEND_TIMEOUT
from bus.endpoints import split_address
from bus.proxies import Proxy

__all__ = ["Group", "UdpSocket"]


class _Datagrams(Proxy):
    __slots__ = ("_mailbox",)

    _actor: DatagramActor
    _told = False

    def _tell(self) -> None:
        """Nobody leaves a UDP socket."""

    def __init__(self, actor: DatagramActor) -> None:
        self._actor = actor
        self._mailbox = actor.mailbox

    @overload
    def receive(self, timeout: None = None) -> Message: ...
    @overload
    def receive(self, timeout: float) -> Message | None: ...
    def receive(self, timeout: float | None = None) -> Message | None:
        """The next datagram; None after `timeout` seconds without one (0 polls, None waits for ever). Raises Closed after `close()`.

        `source` of the message is the sender's "ip:port".
        """
        return self._mailbox.get(None if timeout is None else deadline_after(timeout))

    def __iter__(self) -> _Datagrams:
        return self

    def __next__(self) -> Message:
        return self.receive()

    def stats(self) -> Stats:
        """A snapshot of the counters; `lost` counts the datagrams that were dropped on this machine."""
        return self._actor.stats()

    def fileno(self) -> int:
        """A descriptor that is readable when `receive` would not wait, for `select` and its kin. Not the socket's: do not read from it."""
        fd = self._mailbox.bell()
        self._actor.reader.give_back()
        return fd

    def _state(self) -> str:
        return "open" if self._mailbox.ended is None else "closed"


class UdpSocket(_Datagrams):
    """A bound UDP socket: what `bind` gives. Safe to use from several threads.

    >>> import bus
    >>> with bus.bind("udp://127.0.0.1:0") as a, bus.bind("udp://127.0.0.1:0") as b:
    ...     a.send_to(b.address, "hi")
    ...     print(b.receive(timeout=5).text)
    hi
    """

    __slots__ = ()

    @property
    def address(self) -> str:
        """Where it is bound: "ip:port"."""
        return self._actor.local_address

    def send_to(self, address: str, message: Sendable, timeout: float | None = SEND_TIMEOUT) -> None:
        """Send one datagram to "host:port".

        Raises BadAddress, TooLarge (over 65,507 bytes), ConnectFailed (no such name), PermissionError for a broadcast address without
        `broadcast=True`, OSError when the system refuses, NotSent after `timeout` seconds of a full kernel buffer, Closed after `close()`.
        """
        deadline = deadline_after(timeout)
        data = encode(message)
        host, port = split_address(address)
        if len(data) > MAX_DATAGRAM:
            raise TooLarge(address, f"{len(data)} bytes do not fit a datagram of at most {MAX_DATAGRAM}")
        target = resolve(host, port, socket.SOCK_DGRAM, deadline, self._actor.family)[0].sockaddr
        self._actor.send_to(data, target, deadline)

    def set_broadcast(self, allowed: bool) -> None:
        """Allow sending to broadcast addresses, or forbid it again (SO_BROADCAST)."""
        self._actor.set_broadcast(allowed)

    def _text(self) -> str:
        return f"{self.address} {self._state()}, {len(self._mailbox)} waiting"


class Group(_Datagrams):
    """Membership of a multicast group: what `join` gives. Safe to use from several threads.

    `address` is the group's "ip:port", `local_address` the address that it sends from.
    """

    __slots__ = ("address",)

    def __init__(self, actor: DatagramActor, address: str) -> None:
        super().__init__(actor)
        self.address = address

    @property
    def local_address(self) -> str:
        """The address that it sends from: "ip:port"."""
        return self._actor.local_address

    def send(self, message: Sendable, timeout: float | None = SEND_TIMEOUT) -> None:
        """Send one datagram to every member of the group. Raises as `UdpSocket.send_to` does."""
        deadline = deadline_after(timeout)
        data = encode(message)
        if len(data) > MAX_DATAGRAM:
            raise TooLarge(self.address, f"{len(data)} bytes do not fit a datagram of at most {MAX_DATAGRAM}")
        self._actor.send_to(data, self._actor.group, deadline)

    def _text(self) -> str:
        return f"{self.address} from {self.local_address} {self._state()}, {len(self._mailbox)} waiting"

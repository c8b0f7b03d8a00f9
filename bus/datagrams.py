"""UdpSocket and Group: datagrams from anybody, and to many."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

from actors.datagram import MAX_DATAGRAM, DatagramActor
from actors.datagramoutbox import Choose, Tell
from actors.errors import TooLarge
from actors.message import Message, Sendable, encode
from actors.resolving import resolve
from actors.waiting import check_timeout, deadline_after
from bus.arguments import check_callable
from bus.connection import SEND_TIMEOUT
from bus.endpoints import split_address
from bus.proxies import Proxy

if TYPE_CHECKING:
    from actors.stats import Stats

__all__ = ["Done", "Group", "UdpSocket"]

Done: TypeAlias = Callable[[int, Exception | None], object]


def _nothing(error: Exception | None) -> None:
    pass


def _telling(done: Done | None, tag: int, choose: Choose | None) -> Tell:
    check_callable(done, "done")
    check_callable(choose, "choose")
    return _nothing if done is None else partial(done, tag)


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
        """Where it is bound: "ip:port", or "*:port" for a socket of both families."""
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

    def post(
        self,
        address: str | None,
        message: Sendable,
        *,
        timeout: float | None = None,
        tag: int = 0,
        done: Done | None = None,
        choose: Choose | None = None,
    ) -> None:
        """Send one datagram to "host:port", or with None to the connected peer, without waiting for anything. They leave in the order in
        which they were posted, one that waits for its name to be looked up before those behind it.

        `done(tag, error)` is called once for each, in that order: None when the system took it, else the exception. It is called on this
        thread or one of the engine's, and must not block. `timeout`: seconds that the system's buffer may stay full (None: no limit; 0: not
        at all). `choose` is given all the addresses of the host and returns the socket address of one.

        Raises NotSent while 10,000 datagrams or 4 MiB wait already; BadAddress, TooLarge, TypeError, ValueError; Closed.

        >>> import bus, queue
        >>> outcome = queue.SimpleQueue()
        >>> with bus.bind("udp://*:0") as sock:
        ...     sock.post("127.0.0.1:9", "hi", tag=7, done=lambda tag, error: outcome.put((tag, error)))
        ...     print(outcome.get(timeout=5))
        (7, None)
        """
        seconds = check_timeout(timeout)
        tell = _telling(done, tag, choose)
        data = encode(message)
        target = None if address is None else split_address(address)
        if len(data) > MAX_DATAGRAM:
            raise TooLarge(address or "", f"{len(data)} bytes do not fit a datagram of at most {MAX_DATAGRAM}")
        self._actor.post(data, target, address or self._actor.remote_address, choose=choose, timeout=seconds, tell=tell)

    def post_connect(self, address: str, *, tag: int = 0, done: Done | None = None, choose: Choose | None = None) -> None:
        """Have one peer, "host:port", from the moment on when all that was posted before has left. The other arguments are those of `post`.

        From then on only its datagrams are received, `post(None, …)` sends to it, and other addresses are told OSError (EISCONN). A socket
        for both families keeps the one of the peer.
        """
        tell = _telling(done, tag, choose)
        self._actor.post(None, split_address(address), address, choose=choose, tell=tell)

    @property
    def closed(self) -> bool:
        """Whether it has ended: you closed it, the library was shut down, or the system broke it."""
        return self._mailbox.ended is not None

    @property
    def remote_address(self) -> str:
        """The connected peer, "ip:port"; empty without one."""
        return self._actor.remote_address

    @property
    def local_addresses(self) -> tuple[str, ...]:
        """Where it is bound: "ip:port" for each family, IPv4 first."""
        return self._actor.local_addresses()

    def pause(self) -> None:
        """Read no more for now: what arrives stays in the system's buffer, and what was read already can be received."""
        self._actor.check()
        self._actor.intake.pause()

    def resume(self, count: int | None = None) -> None:
        """Read on; with `count`, that many datagrams from now, and then pause again.

        >>> import bus
        >>> with bus.bind("udp://127.0.0.1:0", paused=True) as a, bus.bind("udp://127.0.0.1:0") as b:
        ...     b.send_to(a.address, "one")
        ...     b.send_to(a.address, "two")
        ...     a.resume(1)
        ...     print(a.receive(timeout=5).text, a.receive(timeout=0))
        one None
        """
        if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
            raise TypeError(f"count must be an int or None, not {type(count).__name__}")
        if count is not None and count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        self._actor.check()
        self._actor.intake.resume(count)

    def set_buffer_size(self, size: int, version: Literal[4, 6] | None = None) -> None:
        """Receive at most `size` bytes (0 or more) of each datagram from now on; the system discards what is longer. For one IP version,
        or for both.
        """
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"size must be an int, not {type(size).__name__}")
        if size < 0:
            raise ValueError(f"size must be 0 or more, not {size}")
        if version not in (None, 4, 6):
            raise ValueError(f"version must be 4, 6 or None, not {version!r}")
        self._actor.set_buffer_size(size, version)

    def when_ready(self, call: Callable[[], object]) -> bool:
        """Have `call()` run once, when a receive would no longer wait, or would raise. False, and it is not called, when that is so now.

        It is called on one of the engine's threads and must only pass the word on: `loop.call_soon_threadsafe`, `queue.put`.
        """
        check_callable(call, "call", optional=False)
        ready = self._mailbox.call_when_ready(call)
        self._actor.reader.give_back()
        return ready

    def set_broadcast(self, allowed: bool) -> None:
        """Allow sending to broadcast addresses, or forbid it again (SO_BROADCAST)."""
        self._actor.set_broadcast(allowed)

    def set_reuse_port(self, allowed: bool) -> None:
        """Let others that ask for it too bind the same port from now on, or forbid it again (SO_REUSEPORT)."""
        self._actor.set_reuse_port(allowed)

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

"""Connection: a peer, whatever carries the messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self, overload

from actors.errors import Broken, BusError, Closed, PeerClosed
from actors.flushing import flush
from actors.message import Message, Sendable
from actors.stream import LINGER, StreamActor
from actors.waiting import check_timeout, deadline_after
from bus.proxies import Proxy

if TYPE_CHECKING:
    from actors.datagram import DatagramActor
    from actors.link import LinkActor
    from actors.stats import Stats

__all__ = ["SEND_TIMEOUT", "Connection"]

SEND_TIMEOUT = 20.0


def peer_certificate(actor: Any) -> dict[str, Any] | None:
    certificate: dict[str, Any] | None = getattr(actor.reader.sock, "peer_certificate", None)
    return certificate


def tls_version(actor: Any) -> str | None:
    version: str | None = getattr(actor.reader.sock, "version", None)
    return version


class Connection(Proxy):
    """A connection with one peer: what `connect` and `Listener.accept` give. Safe to use from several threads.

    >>> import bus
    >>> with bus.listen("tcp://127.0.0.1:0") as listener, bus.connect(f"tcp://{listener.address}") as conn:
    ...     conn.send("hello")
    ...     with listener.accept() as peer:
    ...         print(peer.receive(timeout=5).text)
    hello
    """

    __slots__ = ("_get", "_mailbox", "_told")

    _actor: StreamActor | DatagramActor | LinkActor

    def __init__(self, actor: StreamActor | DatagramActor | LinkActor) -> None:
        self._actor = actor
        self._mailbox = actor.mailbox
        self._get = actor.reader.get if isinstance(actor, StreamActor) else actor.mailbox.get
        self._told = False

    @property
    def local_address(self) -> str:
        """This end: "ip:port" or a path."""
        return self._actor.local_address

    @property
    def remote_address(self) -> str:
        """The other end: "ip:port" or a path."""
        return self._actor.remote_address

    def send(self, message: Sendable, timeout: float | None = SEND_TIMEOUT) -> None:
        """Send one message: str (UTF-8), bytes-like, dict (compact JSON) or Message.

        Returns when the message is accepted whole. That is at once unless the peer does not read and the outbox is full: then it waits up
        to
        `timeout` seconds (None: for ever) and raises NotSent, with nothing taken. Raises PeerClosed or Broken when the peer has left,
        Closed after
        `close()`, TooLarge, TypeError and ValueError for what is no message. After the peer's orderly end the messages that it had sent
        can still be answered, until `receive` or `connected` has told that end.
        """
        if timeout is not SEND_TIMEOUT:
            check_timeout(timeout)
        self._actor.send(message, timeout)

    def send_many(self, messages: Iterable[Sendable], timeout: float | None = SEND_TIMEOUT) -> None:
        """Send several, in order, with fewer system calls than one by one. NotSent tells in `accepted` how many were taken."""
        self._actor.send_many(messages, deadline_after(timeout))

    def flush(self, timeout: float | None = SEND_TIMEOUT, acked: bool = True) -> bool:
        """Wait until the peer's TCP has acknowledged everything that was sent; with `acked=False`, until the kernel has it.

        False after `timeout` seconds (None: for ever), and at once in a callback. Raises the reason (Broken, PeerClosed, Closed) when the
        connection ended before. That its TCP has it does not say that the peer's program has read it. Where the system does not tell what
        was acknowledged (other than Linux), and for UDP, the kernel's having it is all.

        >>> import bus
        >>> with bus.serve("tcp://127.0.0.1:0", lambda msg, client: None) as server, bus.connect(f"tcp://{server.address}") as conn:
        ...     conn.send("hello")
        ...     conn.flush(timeout=5)
        True
        """
        deadline = deadline_after(timeout)
        actor = self._actor
        stream: StreamActor | None = actor if isinstance(actor, StreamActor) else getattr(actor, "stream", None)
        return True if stream is None else flush(stream, deadline, acked)

    def send_eof(self) -> None:
        """Say that nothing more will be sent, behind what was, and go on receiving: TCP's half-close, as `nc -N` does it. Returns at once.

        From then on `send` raises Closed. A second time it is nothing. Raises ValueError where one direction can't end alone: over
        WebSocket and UDP, and with `reconnect=True`. Over TLS the peer hears close_notify; with TLS 1.2 it may answer no more.

        >>> import bus
        >>> with bus.serve("tcp://127.0.0.1:0", lambda msg, client: msg.text.upper()) as server:
        ...     with bus.connect(f"tcp://{server.address}") as conn:
        ...         conn.send("all I have to say")
        ...         conn.send_eof()
        ...         print([msg.text for msg in conn])
        ['ALL I HAVE TO SAY']
        """
        actor = self._actor
        if not isinstance(actor, StreamActor) or hasattr(actor, "say_goodbye_with"):
            raise ValueError("one direction can end alone over tcp://, tls:// and unix:// only, without reconnect=True; close() ends both")
        actor.halves.end_output()

    @overload
    def receive(self, timeout: None = None) -> Message: ...
    @overload
    def receive(self, timeout: float) -> Message | None: ...
    def receive(self, timeout: float | None = None) -> Message | None:
        """The next message; None after `timeout` seconds without one (0 polls, None waits for ever).

        When the peer has left, everything it sent comes first; then PeerClosed (in order) or Broken (otherwise) is raised. Closed after
        `close()`.
        """
        try:
            return self._get(None if timeout is None else deadline_after(timeout))
        except (PeerClosed, Broken):
            self._tell()
            raise

    def _tell(self) -> None:
        """The script learns now that the peer has left: it answers nothing more."""
        self._told = True
        self._actor.told()

    def __iter__(self) -> Self:
        """The messages until the peer closes in order. Raises Broken or Closed at another end."""
        return self

    def __next__(self) -> Message:
        try:
            return self._get(None)  # type: ignore[return-value]  # None only after a timeout
        except (PeerClosed, Broken) as exc:
            self._tell()
            if isinstance(exc, PeerClosed):
                raise StopIteration from None
            raise

    def connected(self) -> bool:
        """True while the link is up or a received message waits to be taken. With `reconnect`, False during a gap."""
        mailbox = self._mailbox
        if mailbox.idle:
            self._actor.reader.look()
        ended = mailbox.ended
        if len(mailbox):
            return True
        if ended is None:
            return self._actor.up
        if not isinstance(ended, Closed):
            self._tell()
        return False

    def close(self, linger: float = LINGER, code: int = 1000, reason: str = "") -> bool:
        """Close in order, as every proxy does; a WebSocket with that code and reason (RFC 6455, section 7.4).

        Raises ValueError for a code that may not be sent.
        """
        choose = getattr(self._actor, "say_goodbye_with", None)
        if choose is not None:
            choose(code, reason)
        return super().close(linger)

    def _framing(self, name: str) -> Any:
        """What only a WebSocket's framing knows; None for everything else."""
        return getattr(getattr(self._actor, "framing", None), name, None)

    @property
    def close_code(self) -> int | None:
        """The code of a WebSocket's closing handshake, the peer's if it sent one; None before, and for everything else."""
        code: int | None = self._framing("close_code")
        return code

    @property
    def close_reason(self) -> str | None:
        """The text beside that code."""
        reason: str | None = self._framing("close_reason")
        return reason

    @property
    def subprotocol(self) -> str | None:
        """The WebSocket subprotocol agreed on, if any."""
        protocol = self._framing("protocol")
        return None if protocol is None else protocol.subprotocol

    @property
    def latency(self) -> float | None:
        """Seconds from a WebSocket's last answered ping to its pong; None before the first, and for everything else."""
        latency: float | None = getattr(self._actor, "latency", None)
        return latency

    @property
    def unconfirmed(self) -> tuple[Message, ...]:
        """With `reconnect=True`: messages that were taken for sending, and whose arrival the end of their connection left open. The oldest
        first.

        The peer's TCP had not acknowledged every byte of them when the connection ended (over TLS, a few may be named that had arrived).
        They are never sent again by themselves: the peer may have them. At most 8 MiB are kept until `take_unconfirmed`;
        `stats().unconfirmed` counts all.
        """
        return tuple(getattr(self._actor, "unconfirmed", ()))

    def take_unconfirmed(self) -> list[Message]:
        """What `unconfirmed` shows, which then is empty: to send it again, say, where twice is better than never."""
        return list(getattr(self._actor, "take_unconfirmed", list)())

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The peer's certificate, as `ssl.SSLSocket.getpeercert` gives it (empty if it was not checked); None without one, or TLS."""
        return peer_certificate(self._actor)

    @property
    def tls_version(self) -> str | None:
        """What the two speak, "TLSv1.3" for one; None without TLS."""
        return tls_version(self._actor)

    def stats(self) -> Stats:
        """A snapshot of the counters."""
        return self._actor.stats()

    def fileno(self) -> int:
        """A descriptor that is readable when `receive` would not wait, for `select` and its kin. Not the socket's: do not read from it."""
        fd = self._mailbox.bell()
        self._actor.reader.give_back()
        return fd

    def _text(self) -> str:
        ended: BusError | None = self._mailbox.ended
        if ended is None:
            state = "connected" if self._actor.up else "reconnecting"
        else:
            state = "closed" if isinstance(ended, Closed) else f"ended ({ended})"
        return f"{self.local_address} to {self.remote_address} {state}, {len(self._mailbox)} waiting"

"""What every proxy has: a context manager, a close, a text."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Self

from actors.errors import DeadlinePassed
from actors.stream import LINGER
from actors.waiting import check_timeout

if TYPE_CHECKING:
    from actors.datagram import DatagramActor
    from actors.link import LinkActor
    from actors.listener import ListenerActor
    from actors.stream import StreamActor
    from actors.subscription import TopicActor

__all__ = ["Proxy"]


class Proxy:
    """The script's handle of an actor. Dropping it without `close()` closes, with a ResourceWarning, as Python's own sockets do."""

    __slots__ = ("__weakref__", "_actor")

    _actor: StreamActor | DatagramActor | LinkActor | ListenerActor | TopicActor

    def close(self, linger: float = LINGER) -> bool:
        """Close in order, and wait for it up to `linger` seconds.

        Returns True if everything that was sent has reached the other side's TCP (always True where nothing can be left to send). Closing
        twice is nothing; every call that is blocked on this object ends at once. In a callback, and when the time of a `bus.deadline` is
        over, it does not wait, and returns False.

        >>> import bus
        >>> sock = bus.bind("udp://127.0.0.1:0")
        >>> sock.close()
        True
        """
        seconds = check_timeout(linger, "linger")
        try:
            return self._actor.close(LINGER if seconds is None else seconds)
        except DeadlinePassed:
            return False

    def close_soon(self) -> None:
        """Ask for the close and return at once; nothing waits for it, and what was not sent may be lost. For finalizers."""
        self._actor.close_soon()
        self._actor.closing = True  # asked only now, as in `close`

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._text()}>"

    def _text(self) -> str:
        raise NotImplementedError

    def __del__(self) -> None:
        actor = getattr(self, "_actor", None)
        if actor is None or actor.closing or actor.actor_stopped.is_set():
            return
        if actor.mailbox.ended is None:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
        actor.close_soon()

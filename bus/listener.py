"""Listener: connections that come in, one `accept` at a time."""

from __future__ import annotations

from typing import Self, overload

from actors.listener import ListenerActor
from actors.waiting import deadline_after
from bus.connection import Connection
from bus.proxies import Proxy

__all__ = ["Listener"]


class Listener(Proxy):
    """A listening socket: what `listen` gives. Safe to use from several threads.

    >>> import bus
    >>> with bus.listen("tcp://127.0.0.1:0") as listener:
    ...     print(listener.accept(timeout=0))
    None
    """

    __slots__ = ("_mailbox",)

    _actor: ListenerActor

    def __init__(self, actor: ListenerActor) -> None:
        self._actor = actor
        self._mailbox = actor.mailbox

    @property
    def address(self) -> str:
        """Where it listens: "ip:port" or a path."""
        return self._actor.local_address

    @overload
    def accept(self, timeout: None = None) -> Connection: ...
    @overload
    def accept(self, timeout: float) -> Connection | None: ...
    def accept(self, timeout: float | None = None) -> Connection | None:
        """The next connection; None after `timeout` seconds without one (0 polls, None waits for ever). Raises Closed after `close()`."""
        conn: Connection | None = self._mailbox.get(None if timeout is None else deadline_after(timeout))
        return conn

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Connection:
        return self.accept()

    def reload_certificates(self) -> None:
        """Read the files of `cert`, `key` and `ca` again, for handshakes from now on; running connections go on as they are.

        Raises OSError and ValueError as `listen` does, and then the old ones stay in force; TypeError if it was not given files.
        """
        self._actor.reload_certificates()

    def fileno(self) -> int:
        """A descriptor that is readable when `accept` would not wait."""
        return self._mailbox.bell()

    def _text(self) -> str:
        state = "listening" if self._mailbox.ended is None else "closed"
        return f"{self.address} {state}, {len(self._mailbox)} waiting"

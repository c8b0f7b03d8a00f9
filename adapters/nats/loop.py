"""The event loop of a transport: names are looked up as everywhere in this library, and a connection can be dropped at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from actors.errors import BusError
from actors.resolving import Resolved, look_up

__all__ = ["Loop"]


class Loop(asyncio.SelectorEventLoop):
    """asyncio's own looks names up on threads that nobody can leave behind: the interpreter's exit would wait for a dead name server.

    `connection` is the transport of the last connection made, below any TLS.
    """

    connection: asyncio.WriteTransport | None = None
    _disowned = False

    async def getaddrinfo(self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
        future: asyncio.Future[Any] = self.create_future()

        def settle(outcome: tuple[Resolved, ...] | BusError) -> None:
            if future.done():
                return
            if isinstance(outcome, BusError):
                future.set_exception(outcome)
            else:
                future.set_result([(found.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", found.sockaddr) for found in outcome])

        look_up(host, port, type, family, lambda outcome: self.call_unless_closed(lambda: settle(outcome)))
        return await future

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        made = await super().create_connection(*arguments, **options)
        self.connection = made[0]
        return made

    def call_unless_closed(self, call: Callable[[], object]) -> None:
        """`call_soon_threadsafe`, and nothing when the loop has ended."""
        try:
            self.call_soon_threadsafe(call)
        except RuntimeError:
            if not self.is_closed():
                raise

    def is_closed(self) -> bool:
        return self._disowned or super().is_closed()

    def disown(self) -> None:
        """In the child of a fork: close its copies of the descriptors, and nothing else. What they refer to is the parent's, too: nothing
        is sent, and no interest is changed, which the two share.
        """
        self._disowned = True
        inside: Any = self
        self._kept = list(inside._selector.get_map().values())  # who waits there shall not be finalized
        sock = None if self.connection is None else getattr(self.connection, "_sock", None)
        for end in (sock, inside._ssock, inside._csock, inside._selector):
            if end is not None:
                end.close()

"""A descriptor that becomes readable when somebody calls `set()`: how a thread inside `poll` is reached.

Linux has eventfd, one descriptor and eight bytes; elsewhere a pair of connected sockets does the same.
`PORTABLE` says which; the environment variable ACTORBUS_PORTABLE=1 forces the second, so that the tests run both.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import weakref
from functools import partial
from threading import Lock

PORTABLE = (
    bool(os.environ.get("ACTORBUS_PORTABLE")) or not sys.platform.startswith("linux") or not hasattr(select, "epoll")
)


def _close(*pair: socket.socket) -> None:
    for sock in pair:
        sock.close()


class Wakeup:
    """Level-triggered: any number of `set()` before one `clear()` count as one, and none is lost.

    Any thread may call `set`; only the owner of the poll calls `clear` and `close`. `set` after `close` does nothing.
    """

    __slots__ = ("__weakref__", "_reader", "_writer", "fd")

    def __init__(self) -> None:
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None
        if PORTABLE:
            self._reader, self._writer = socket.socketpair()
            self._reader.setblocking(False)
            self._writer.setblocking(False)
            # In a cycle of garbage the sockets would be finalized before us, and warn. This holds them until they are closed.
            weakref.finalize(self, _close, self._reader, self._writer).atexit = False
            self.fd = self._reader.fileno()
        else:
            self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def set(self) -> None:
        try:
            if self._writer is not None:
                self._writer.send(b"!")
            else:
                os.eventfd_write(self.fd, 1)
        except (OSError, ValueError):
            pass  # full: it is set already; or closed (then the number is -1, a ValueError): nobody waits any more

    def clear(self) -> None:
        try:
            if self._reader is not None:
                while len(self._reader.recv(4096)) == 4096:
                    pass
            else:
                os.eventfd_read(self.fd)
        except (OSError, ValueError):
            pass

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if self._reader is not None and self._writer is not None:
            self._reader.close()
            self._writer.close()
        elif fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self.close()


class Nap:
    """How a thread that waits for other threads alone is reached: a lock that is open after `unpark`. Any number of those count as one.

    A thread that opens a lock keeps the interpreter; one that writes to a descriptor gives it away, and so to the thread that it wakes.
    """

    __slots__ = ("__weakref__", "_lock", "wait")

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()
        self.wait = partial(self._lock.acquire, True)  # seconds; whether it was unparked before they were over

    def unpark(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it is open

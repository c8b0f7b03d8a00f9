"""Which sockets are polled for what, and with what.

`interest` decides; `EpollPoller` and `SelectorPoller` carry it out. Events are reported as (fd, mask) with the bits of this module.
"""

from __future__ import annotations

import select
import selectors
from typing import Protocol

from actors.wakeup import PORTABLE

__all__ = ["ERR", "HUP", "IN", "OUT", "Poller", "interest", "make_poller"]

# The values of <sys/epoll.h>, also where there is no epoll.
IN = 0x001
OUT = 0x004
ERR = 0x008
HUP = 0x010
RDHUP = 0x2000
ET = 1 << 31


def interest(*, reading: bool, paused: bool, writing: bool) -> int:
    """The mask for a socket: IN unless nobody is to read it now, OUT while something waits to be written.

    A bare 0 would not do: epoll reports HUP and ERR whatever the mask, level-triggered, and the loop would spin on a dead peer. So a socket
    without interest is edge-triggered: one report. A paused one also asks for RDHUP, so that a peer's leaving is noticed once.
    """
    mask = (IN if reading and not paused else 0) | (OUT if writing else 0)
    if mask:
        return mask
    return ET | RDHUP if reading else ET


class Poller(Protocol):
    """What a reader thread polls. `modify` may be called from any thread if `thread_safe`, else only by the one that polls."""

    thread_safe: bool

    def register(self, fd: int, mask: int) -> None: ...
    def modify(self, fd: int, mask: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def poll(self, timeout: float | None) -> list[tuple[int, int]]: ...
    def close(self) -> None: ...


class EpollPoller:
    """Linux: the kernel's own bookkeeping, changed from any thread."""

    thread_safe = True

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.register = self._epoll.register
        self.modify = self._epoll.modify
        self.unregister = self._epoll.unregister
        self.poll = self._epoll.poll
        self.close = self._epoll.close


class SelectorPoller:
    """Elsewhere: the best of `selectors`. It has neither edges nor hang-ups; a socket without interest is simply not polled."""

    thread_safe = False

    def __init__(self) -> None:
        self._selector: selectors.BaseSelector = selectors.DefaultSelector()
        if isinstance(self._selector, getattr(selectors, "EpollSelector", ())):
            self._selector.close()
            self._selector = selectors.PollSelector()  # forced on Linux: then really another mechanism

    def register(self, fd: int, mask: int) -> None:
        events = (selectors.EVENT_READ if mask & IN else 0) | (selectors.EVENT_WRITE if mask & OUT else 0)
        if events:
            self._selector.register(fd, events)

    def modify(self, fd: int, mask: int) -> None:
        self.unregister(fd)
        self.register(fd, mask)

    def unregister(self, fd: int) -> None:
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        return [
            (key.fd, (IN if events & selectors.EVENT_READ else 0) | (OUT if events & selectors.EVENT_WRITE else 0))
            for key, events in self._selector.select(timeout)
        ]

    def close(self) -> None:
        self._selector.close()


def make_poller() -> Poller:
    return SelectorPoller() if PORTABLE else EpollPoller()

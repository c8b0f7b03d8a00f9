"""The TCP side of a `FaultProxy`: one link for each connection that comes in. Everything here runs on the proxy's thread."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from functools import partial
from random import Random
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector
from time import monotonic
from typing import Literal

from actors.resolving import Resolved
from bus.testing.faults import MOUTHFUL, Faults, StreamLine

__all__ = ["Links", "Settings", "forget", "watch"]

BACKLOG = 1024
ACCEPTS = 100  # in one turn
ENDING_SECONDS = 5.0  # how long an orderly cut waits for both ends to end theirs
RESET = struct.pack("ii", 1, 0)

Way = Literal["up", "down"]
End = Literal["client", "target"]
OTHER: dict[End, End] = {"client": "target", "target": "client"}
SOURCE: dict[Way, End] = {"up": "client", "down": "target"}


class Settings:
    """What the proxy was told. Changed on its thread only."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self.faults: dict[Way, Faults] = {"up": faults, "down": faults}
        self.stalled: set[Way] = set()
        self.seed = seed

    def chance(self, number: int, way: Way) -> Random:
        """The dice of one direction of the connection with that number: the same again with the same seed."""
        return Random(f"{self.seed} {number} {way}")


def watch(selector: BaseSelector, sock: socket.socket, mask: int, call: Callable[[int], object]) -> None:
    """Have `call(mask)` called for these events from now on, or for none."""
    key = selector.get_map().get(sock.fileno())
    if not mask:
        forget(selector, sock)
    elif key is None:
        selector.register(sock, mask, call)
    elif key.events != mask:
        selector.modify(sock, mask, call)


def forget(selector: BaseSelector, sock: socket.socket) -> None:
    """Nothing is called for it any more. Before it is closed."""
    if sock.fileno() in selector.get_map():
        selector.unregister(sock)


class Link:
    """One connection through the proxy, two sockets. It passes bytes on, or ends in order, or swallows what the end that is left says."""

    def __init__(self, links: Links, client: socket.socket, number: int) -> None:
        self._links = links
        self._settings = links.settings
        self._socks: dict[End, socket.socket] = {"client": client}
        self._addresses = list(links.targets)
        self._connecting = True
        self._full: set[Way] = set()  # the kernel takes no more in this direction for now
        self._finished: set[Way] = set()  # its end was passed on
        self._silent: set[End] = set()  # while it ends or swallows: says nothing more
        self._passing = True
        self._ends_by: float | None = None
        self.in_order = False  # how its limits cut it
        self.lines: dict[Way, StreamLine] = {way: StreamLine(self._settings.chance(number, way)) for way in ("up", "down")}
        self._prepare(client)
        self._connect()

    def _prepare(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass  # it has gone again, which some systems say here

    def _connect(self) -> None:
        """To the next of the target's addresses. When there is none left, the client's connection is reset."""
        while self._addresses:
            address = self._addresses.pop(0)
            try:
                sock = socket.socket(address.family, socket.SOCK_STREAM)
            except OSError:
                continue
            self._prepare(sock)
            if sock.connect_ex(address.sockaddr) in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
                self._socks["target"] = sock
                self.settle()
                return
            sock.close()
        self.reset()

    # -- what happens ---------------------------------------------------------------------------------------------------

    def _ready(self, end: End, mask: int) -> None:
        if self._socks.get(end) is None:
            return  # closed in this very turn
        if end == "target" and self._connecting:
            if self._socks[end].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._close(end)
                self._connect()
                return
            self._connecting = False
        for way in ("up", "down"):
            if mask & EVENT_WRITE and SOURCE[way] != end:
                self._full.discard(way)
            if mask & EVENT_READ and SOURCE[way] == end:
                self._read(end, way)
        self.tick(monotonic())

    def _read(self, end: End, way: Way) -> None:
        line = self.lines[way]
        sock = self._socks.get(end)
        room = line.room if self._passing else MOUTHFUL
        if sock is None or not room:
            return
        try:
            data = sock.recv(min(room, MOUTHFUL))
        except BlockingIOError:
            return
        except OSError:
            self.reset()
            return
        if not self._passing:
            if not data:
                self._silent.add(end)
        elif data:
            line.put(data, monotonic(), self._settings.faults[way])
        else:
            line.end(monotonic(), self._settings.faults[way])

    def tick(self, now: float) -> None:
        """Pass on what is due."""
        if self._passing and not self._connecting:
            for way in ("up", "down"):
                if way not in self._settings.stalled and self._socks:
                    self._pass(way, now)
            if len(self._finished) == 2:
                self._close_all()
        elif self._ends_by is not None and (now >= self._ends_by or len(self._silent) == 2):
            self._close_all()
        self.settle()

    def _pass(self, way: Way, now: float) -> None:
        line, faults = self.lines[way], self._settings.faults[way]
        sock = self._socks[OTHER[SOURCE[way]]]
        while way not in self._full and not line.is_cut and (data := line.take(now, faults)):
            try:
                count = sock.send(data)
            except BlockingIOError:
                self._full.add(way)
            except OSError:
                self.reset()
                return
            else:
                line.taken(count, now, faults)
                self._links.passed[way] += count
        if line.is_cut:
            self.cut(in_order=self.in_order)
        elif way not in self._finished and line.over(now):
            self._finished.add(way)
            _finish(sock)

    def next_time(self) -> float | None:
        if not self._passing:
            return self._ends_by
        if self._connecting:
            return None
        times = []
        for way, line in self.lines.items():
            if way not in self._settings.stalled and way not in self._full and way not in self._finished:
                time = line.next_time(self._settings.faults[way])
                if time is not None:
                    times.append(time)
        return min(times, default=None)

    def settle(self) -> None:
        """Say to the selector what this link waits for now."""
        for end, sock in self._socks.items():
            mask = 0
            for way in ("up", "down"):
                if not self._passing:
                    wants = SOURCE[way] == end and end not in self._silent
                    mask |= EVENT_READ if wants else 0
                elif SOURCE[way] == end:
                    connected = end == "client" or not self._connecting
                    mask |= EVENT_READ if connected and way not in self._settings.stalled and self.lines[way].room else 0
                elif way in self._full or (end == "target" and self._connecting):
                    mask |= EVENT_WRITE
            watch(self._links.selector, sock, mask, partial(self._ready, end))

    # -- faults -----------------------------------------------------------------------------------------------------------

    def cut(self, *, in_order: bool) -> None:
        """End it for both ends: a reset, or FIN; what is still on its way is lost."""
        if not in_order or not self._passing:
            self.reset()
            return
        self._stop_passing()
        self._ends_by = monotonic() + ENDING_SECONDS
        for sock in self._socks.values():
            _finish(sock)
        self.settle()

    def limit(self, way: Way, after: int, in_order: bool) -> None:
        """Cut it once that many bytes more have passed."""
        self.in_order = in_order
        self.lines[way].limit = self.lines[way].passed + after

    def swallow(self, gone: End) -> None:
        """One end is gone, and the other does not hear of it."""
        if not self._passing:
            return
        self._stop_passing()
        self._close(gone)
        self.settle()

    def _stop_passing(self) -> None:
        self._passing = self._connecting = False
        self._silent |= {SOURCE[way] for way, line in self.lines.items() if line.ended}

    def reset(self) -> None:
        for end in list(self._socks):
            self._close(end)
        self._links.gone(self)

    def _close(self, end: End) -> None:
        sock = self._socks.pop(end, None)
        if sock is not None:
            forget(self._links.selector, sock)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            except OSError:
                pass  # the system may have given it up
            sock.close()

    def _close_all(self) -> None:
        for sock in self._socks.values():
            forget(self._links.selector, sock)
            sock.close()
        self._socks.clear()
        self._links.gone(self)


def _finish(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # reset meanwhile; reading will tell


class Links:
    """All connections through the proxy, and the port they come in by."""

    def __init__(self, selector: BaseSelector, targets: tuple[Resolved, ...], settings: Settings) -> None:
        self.selector = selector
        self.targets = targets
        self.settings = settings
        self.passed: dict[Way, int] = {"up": 0, "down": 0}
        self.count = 0
        self._links: dict[Link, None] = {}  # in the order they came
        self._limits: dict[Way, tuple[int, bool]] = {}  # for connections to come
        self._refusing = False
        self._listening = self._bound(("127.0.0.1", 0))
        self.sockname = self._listening.getsockname()
        self._listen()

    def _bound(self, address: tuple[str, int]) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind(address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _listen(self) -> None:
        self._listening.listen(BACKLOG)
        watch(self.selector, self._listening, EVENT_READ, self.accept)

    def accept(self, mask: int) -> None:
        for _ in range(ACCEPTS):
            try:
                client, _ = self._listening.accept()
            except OSError:
                return  # none waits, or it has gone again; out of descriptors, the others go on
            self.count += 1
            link = Link(self, client, self.count)
            for way, (after, in_order) in self._limits.items():
                link.limit(way, after, in_order)
            if link._socks:
                self._links[link] = None

    def _let_in(self) -> None:
        before = -1
        while not self._refusing and self.count > before:
            before = self.count
            self.accept(EVENT_READ)

    def gone(self, link: Link) -> None:
        self._links.pop(link, None)

    def tick(self, now: float) -> float | None:
        """Do what is due; when it is time again."""
        for link in list(self._links):
            link.tick(now)
        return min((time for link in self._links if (time := link.next_time()) is not None), default=None)

    # First of all those are let in that were connected before the call, as far as their clients know.

    def cut(self, after: int | None, ways: tuple[Way, ...], in_order: bool) -> None:
        self._let_in()
        for link in list(self._links):
            if after is None:
                link.cut(in_order=in_order)
            else:
                for way in ways:
                    link.limit(way, after, in_order)
        if after is not None:
            self._limits |= dict.fromkeys(ways, (after, in_order))

    def half_open(self, gone: End) -> None:
        self._let_in()
        for link in list(self._links):
            link.swallow(gone)

    def refuse(self) -> None:
        """Nothing listens any more; a socket that only holds the port is in its place."""
        if not self._refusing:
            self._let_in()
            self._refusing = True
            forget(self.selector, self._listening)
            self._listening.close()
            self._listening = self._bound(self.sockname)

    def release(self) -> None:
        self._limits.clear()
        for link in self._links:
            for line in link.lines.values():
                line.limit = None
        if self._refusing:
            self._refusing = False
            self._listen()

    def close(self) -> None:
        for link in list(self._links):
            link.reset()
        self._listening.close()

"""What stands in for the engine's surroundings while its modules are explored: waiters, wake-ups, sockets, a poller, spare threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from socket import AF_UNIX
from weakref import WeakKeyDictionary

from actors.poller import IN, OUT
from tests.interleaving.primitives import Parking, give_way, monotonic, parking, wait_for

__all__ = ["Bell", "Place", "Poller", "Socket", "SpareThread", "current"]

SPINNING = 3  # times the same events: somebody holds what the loop needs to deal with them, and should have a turn

# What can be polled, by number. The numbers are given by hand, so a new run replaces those of the last one.
_open: dict[int, Bell | Socket] = {}


class Place:
    """A thread's Waiter. What it polls may be one of the sockets below."""

    def __init__(self, place: Parking) -> None:
        self.parking = place
        self.host: object = None
        self.interrupted = False

    def unpark(self) -> None:
        self.parking.unpark()

    def interrupt(self) -> None:
        """Ctrl-C, in this wait or the next."""
        self.interrupted = True
        self.unpark()

    def wait(self, deadline: float | None, fd: int = -1, events: int = IN, on: object = None) -> bool:
        ready = self._wait(deadline, fd)
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt
        return ready

    def _wait(self, deadline: float | None, fd: int) -> bool:
        if fd < 0:
            self.parking.park(deadline)
            return False
        sock = _open[fd]
        assert isinstance(sock, Socket)
        sock.pollers += 1
        came = wait_for(_Either(self.parking, sock), deadline)
        sock.pollers -= 1
        if not came or (sock.readable and not self.parking.token):
            return came
        self.parking.token = False
        return sock.readable


class _Either:
    def __init__(self, place: Parking, sock: Socket) -> None:
        self.place = place
        self.sock = sock

    def ready(self) -> bool:
        return self.place.token or self.sock.readable

    def __repr__(self) -> str:
        return f"<{self.place!r} or {self.sock!r}>"


_places: WeakKeyDictionary[Parking, Place] = WeakKeyDictionary()


def current() -> Place:
    """The calling thread's, a new one in each run."""
    place = _places.get(parking())
    if place is None:
        place = _places[parking()] = Place(parking())
    return place


class Bell:
    """A Wakeup."""

    def __init__(self) -> None:
        self.fd = 99
        self.readable = False
        _open[self.fd] = self

    def set(self) -> None:
        self.readable = True

    def clear(self) -> None:
        self.readable = False

    def close(self) -> None:
        pass


class Socket:
    """A connected one. `arrive` is the peer's doing, b"" its FIN; what is sent is taken at once."""

    family = AF_UNIX  # has no TCP state to be asked for

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.arrived: deque[bytes] = deque()
        self.sent = bytearray()
        self.pollers = 0  # threads that poll it directly
        self.closed = False
        _open[fd] = self

    @property
    def readable(self) -> bool:
        return bool(self.arrived)

    def arrive(self, *chunks: bytes) -> None:
        self.arrived.extend(chunks)

    def fileno(self) -> int:
        return self.fd

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def recv(self, size: int) -> bytes:
        assert not self.closed, "read after it was closed"
        if not self.arrived:
            raise BlockingIOError
        return self.arrived.popleft() if self.arrived[0] else b""

    def send(self, data: bytes | memoryview) -> int:
        assert not self.closed, "written after it was closed"
        self.sent += data
        return len(data)

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        assert not self.pollers, "closed under somebody's poll"
        self.closed = True

    def __repr__(self) -> str:
        return f"<Socket {self.fd}, {len(self.arrived)} chunks waiting>"


class Poller:
    """An epoll, level-triggered. A mask without IN and OUT reports nothing: nobody hangs up here."""

    thread_safe = True

    def __init__(self) -> None:
        self.masks: dict[int, int] = {}
        self.closed = False
        self.polled_by = 0
        self.last: list[tuple[int, int]] = []
        self.repeated = 0

    def register(self, fd: int, mask: int) -> None:
        self.masks[fd] = mask

    modify = register

    def unregister(self, fd: int) -> None:
        del self.masks[fd]

    def events(self) -> list[tuple[int, int]]:
        return [(fd, bits) for fd, mask in self.masks.items() if (bits := mask & ((IN if _open[fd].readable else 0) | OUT))]

    def ready(self) -> bool:
        return bool(self.events())

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        assert not self.closed, "polled after it was closed"
        assert not self.polled_by, "polled by two threads"
        self.polled_by += 1
        came = wait_for(self, None if timeout is None else monotonic() + timeout)
        self.polled_by -= 1
        events = self.events() if came else []
        self.repeated = self.repeated + 1 if events and events == self.last else 0
        self.last = events
        if self.repeated > SPINNING:
            give_way()
        return events

    def close(self) -> None:
        self.closed = True

    def __repr__(self) -> str:
        return f"<Poller of {self.masks}>"


class SpareThread:
    """The crew: its `run` takes the work, and the explored thread that calls `live` does it, until `leave`."""

    def __init__(self) -> None:
        self.work: deque[Callable[[], object]] = deque()
        self.leaving = False

    def ready(self) -> bool:
        return bool(self.work) or self.leaving

    def run(self, work: Callable[[], object]) -> bool:
        self.work.append(work)
        return True

    def leave(self) -> None:
        self.leaving = True

    def live(self) -> None:
        while True:
            wait_for(self)
            if not self.work:
                return
            self.work.popleft()()

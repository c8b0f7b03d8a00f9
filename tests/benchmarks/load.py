"""Many busy clients in one process: an epoll loop over plain sockets, each with one message under way at all times.

Every phase sends a fixed number of messages and ends when the last echo is in. The server is then idle, so its CPU time
is read between phases without racing the load, and belongs to exactly that number of echoes.
"""

import gc
import select
import socket
import time
from dataclasses import dataclass

from . import wire
from .end import REPLY_TIMEOUT, Gate, Spent


@dataclass(slots=True)
class _Caller:
    sock: socket.socket
    sent: int = 0
    partial: bytes = b""


class Fleet:
    # The sockets stay blocking: a read comes after epoll said so, and a write finds room, as nothing else is under way.
    def __init__(self, address: str, clients: int) -> None:
        self._poller = select.epoll()
        self._callers: dict[int, _Caller] = {}
        for _ in range(clients):
            sock = wire.connect(address, timeout=None)
            self._callers[sock.fileno()] = _Caller(sock)
            self._poller.register(sock, select.EPOLLIN)

    def close(self) -> None:
        for caller in self._callers.values():
            caller.sock.close()
        self._poller.close()

    def exchange(self, message: bytes, count: int) -> list[int]:
        """Nanoseconds each of `count` echoes took, from its send to its being read here."""
        callers, clock, size = self._callers, time.perf_counter_ns, len(message)
        waits: list[int] = []
        unsent = count
        for caller in list(callers.values())[:count]:
            caller.sent = clock()
            caller.sock.sendall(message)
            unsent -= 1
        while len(waits) < count:
            ready = self._poller.poll(REPLY_TIMEOUT)
            if not ready:
                raise TimeoutError(f"{count - len(waits)} echoes are missing")
            for number, _ in ready:
                caller = callers[number]
                data = caller.sock.recv(wire.CHUNK)
                if not data:
                    raise EOFError("the server closed a connection")
                if caller.partial:
                    data = caller.partial + data
                if len(data) < size:
                    caller.partial = data
                    continue
                caller.partial = b""
                if data != message:
                    raise ValueError("the echo differs from what was sent")
                now = clock()
                waits.append(now - caller.sent)
                if unsent:
                    unsent -= 1
                    caller.sent = now
                    caller.sock.sendall(message)
        return waits


def load(address: str, gate: Gate) -> None:
    # This end is the instrument, not the subject; its collections would show up as the servers' latency.
    gc.disable()
    message = wire.frame(gate.payload)
    fleet = Fleet(address, gate.cell.clients)
    fleet.exchange(message, gate.cell.warm)
    gate.wait_to_start()
    before_all, begun = Spent.so_far(), time.perf_counter()
    waits = fleet.exchange(message, gate.cell.count)
    wall, spent = time.perf_counter() - begun, Spent.so_far() - before_all
    gate.report(waits, wall, spent)
    fleet.close()

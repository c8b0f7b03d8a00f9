"""Many busy clients in one process: an epoll loop over plain sockets, each with one message under way at all times.

A phase sends a fixed number of messages, or sends for so many seconds, and ends when the last echo is in. The server is then
idle, so its CPU time is read between phases without racing the load, and belongs to exactly that number of echoes.
"""

import gc
import random
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial

from . import wire
from .end import REPLY_TIMEOUT, Gate, Spent, percentile, say
from .many_wires import WIRES, visit

SLOW = 1  # what a message starts with whose callback is to sleep; see `many_work`
BY_CHANCE = "1 % of the callbacks sleep 50 ms"
SAME_CLIENTS = "all callbacks of 1 % of the clients sleep 50 ms"
# The share of the clients that ask for naps, and of the messages of these. The waits of the others are what counts.
SLEEPERS = {BY_CHANCE: (0.5, 0.02), SAME_CLIENTS: (0.01, 1.0), "": (0.0, 0.0)}


@dataclass(slots=True)
class _Caller:
    sock: socket.socket
    naps: float  # the share of its messages
    sent: int = 0
    partial: bytes = b""
    expected: bytes = b""


@dataclass
class Exchange:
    sent: int
    received: int
    waits: list[int]  # in nanoseconds, of those who never nap


class Fleet:
    # The sockets stay blocking: a read comes after epoll said so, and a write finds room, as nothing else is under way.
    def __init__(self, wire_name: str, address: str, payload: bytes, clients: int, variant: str) -> None:
        protocol = WIRES[wire_name]
        self._quick = protocol.outgoing(payload), protocol.incoming(payload)
        napping = bytes([SLOW]) + payload[1:]
        self._napping = protocol.outgoing(napping), protocol.incoming(napping)
        share, naps = SLEEPERS[variant]
        # Scattered, or one thread of several might happen to get them all.
        nappers = set(random.sample(range(clients), round(share * clients)))
        self._poller = select.epoll()
        self._callers: dict[int, _Caller] = {}
        for number, sock in enumerate(visit(protocol, address, clients)):
            sock.settimeout(None)
            self._callers[sock.fileno()] = _Caller(sock, naps if number in nappers else 0.0)
            self._poller.register(sock, select.EPOLLIN)

    def close(self) -> None:
        for caller in self._callers.values():
            caller.sock.close()
        self._poller.close()

    def _call(self, caller: _Caller) -> None:
        message, caller.expected = self._napping if caller.naps and random.random() < caller.naps else self._quick
        caller.sent = time.perf_counter_ns()
        caller.sock.sendall(message)

    def exchange(self, count: int, seconds: float = 0.0) -> Exchange:
        """`count` echoes, or fewer if `seconds`, unless 0, are over before. What is missing after a while stays missing."""
        callers, clock, call = self._callers, time.perf_counter_ns, self._call
        found = Exchange(0, 0, [])
        stop = clock() + int(seconds * 1e9) if seconds else sys.maxsize
        for caller in list(callers.values())[:count]:
            call(caller)
            found.sent += 1
        while found.received < found.sent:
            ready = self._poller.poll(REPLY_TIMEOUT)
            if not ready:
                break
            for number, _ in ready:
                caller = callers[number]
                data = caller.sock.recv(wire.CHUNK)
                if not data:
                    raise EOFError("the server closed a connection")
                if caller.partial:
                    data = caller.partial + data
                if len(data) < len(caller.expected):
                    caller.partial = data
                    continue
                caller.partial = b""
                if data != caller.expected:
                    raise ValueError("the echo differs from what was sent")
                now = clock()
                found.received += 1
                if not caller.naps:
                    found.waits.append(now - caller.sent)
                if found.sent < count and now < stop:
                    found.sent += 1
                    call(caller)
        return found


def load(address: str, gate: Gate, wire_name: str = "tcp") -> None:
    # This end is the instrument, not the subject; its collections would show up as the servers' latency.
    gc.disable()
    random.seed(gate.cell.clients)
    cell = gate.cell
    fleet = Fleet(wire_name, address, gate.payload, cell.clients, cell.variant)
    # One for each at least: only so all are known to be accepted, and to accept is not what is measured.
    fleet.exchange(max(cell.warm, cell.clients), cell.seconds / 2)
    gate.wait_to_start()
    before_all, begun = Spent.so_far(), time.perf_counter()
    found = fleet.exchange(cell.count, cell.seconds)
    wall, spent = time.perf_counter() - begun, Spent.so_far() - before_all
    waits = sorted(found.waits)
    shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    say(
        {
            "sent": found.sent,
            "received": found.received,
            **{name: percentile(waits, share) / 1e9 for name, share in shares.items()},
            "wall": wall,
            **asdict(spent),
        }
    )
    sys.stdin.readline()
    fleet.close()


load_websocket = partial(load, wire_name="ws")

"""All receivers of a fan-out in one process, over plain sockets, and the orders to send."""

import contextlib
import gc
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import partial

from . import wire
from .end import Gate, Spent, percentile, say
from .fanout_servers import LARGE, PAYLOADS, SMALL, STUFF
from .many_wires import WIRES, Wire, visit
from .orders import KNOWN, Orders

STUCK = "one more never reads"
STUCK_TIMEOUT = 2.0  # a server that has sent nothing for so long is not about to
STUFFED_BYTES = 8 << 20  # more than any kernel's buffers and any of the peers' own limits
SMALL_BUFFER = 4096


@dataclass
class Received:
    """`waits`: nanoseconds from each order until the last had the message; `deliveries` and `complete` are messages and receivers."""

    ordered: int = 0
    waits: list[int] = field(default_factory=list)
    deliveries: int = 0
    complete: int = 0


class Audience:
    def __init__(self, protocol: Wire, socks: list[socket.socket], orders: Orders) -> None:
        self._incoming = protocol.incoming
        self._orders = orders
        self._socks = {sock.fileno(): sock for sock in socks}
        self._poller = select.epoll()
        for sock in socks:
            self._poller.register(sock, select.EPOLLIN)

    def hear(self, order: bytes, count: int, seconds: float = 0.0) -> Received:
        """So many messages, one when all have the one before; fewer if the seconds, unless 0, are over, or when one does not come."""
        frame, socks, clock = self._incoming(PAYLOADS[order]), self._socks, time.perf_counter_ns
        size, found, lacking = len(frame), Received(), 0
        got = dict.fromkeys(socks, 0)
        stop = clock() + int(seconds * 1e9) if seconds else sys.maxsize
        while found.ordered < count and not lacking and clock() < stop:
            before, lacking = clock(), len(socks)
            self._orders.give(order)
            found.ordered += 1
            while lacking and (ready := self._poller.poll(STUCK_TIMEOUT)):
                for number, _ in ready:
                    data = socks[number].recv(wire.CHUNK)
                    if not data:
                        raise EOFError("the server closed a connection")
                    start = got[number]
                    if not frame.startswith(data, start):
                        raise ValueError("something else came than what was sent")
                    if start + len(data) < size:
                        got[number] = start + len(data)
                    else:
                        got[number] = 0
                        lacking -= 1
                        found.deliveries += 1
            found.waits.append(clock() - before)
        found.complete = len(socks) - lacking
        return found


def stuff(orders: Orders) -> None:
    """When the server says that it is done, or does not, its only client has been sent more than it can be."""
    orders.until_known(1)
    for _ in range(STUFFED_BYTES // len(PAYLOADS[STUFF])):
        orders.give(STUFF)
    with contextlib.suppress(TimeoutError):
        orders.ask(KNOWN)


def receive(address: str, gate: Gate, wire_name: str = "tcp") -> None:
    # This end is the instrument, not the subject.
    gc.disable()
    cell, protocol = gate.cell, WIRES[wire_name]
    served, control = address.split()
    orders = Orders(control, STUCK_TIMEOUT)
    deaf: list[socket.socket] = []
    if cell.variant == STUCK:
        # It comes first, so that the others need not be sent all that, too.
        deaf += visit(protocol, served, 1, receive_buffer=SMALL_BUFFER)
        stuff(orders)
    socks = list(visit(protocol, served, cell.clients))
    with contextlib.suppress(TimeoutError):
        orders.until_known(cell.clients + len(deaf))
    audience = Audience(protocol, socks, orders)
    for order in (SMALL, LARGE):
        # What does not come now will not come later.
        answers = audience.hear(order, cell.warm).complete == cell.clients
        gate.wait_to_start()
        before, begun = Spent.so_far(), time.perf_counter()
        found = audience.hear(order, cell.count, cell.seconds) if answers else Received(ordered=cell.count)
        wall, spent = time.perf_counter() - begun, Spent.so_far() - before
        waits = sorted(found.waits) or [0]
        times = {"p50": percentile(waits, 0.5) / 1e9, "p99": percentile(waits, 0.99) / 1e9, "wall": wall}
        say({"ordered": found.ordered, "deliveries": found.deliveries, "complete": found.complete, **times, **asdict(spent)})
    sys.stdin.readline()


receive_ws = partial(receive, wire_name="ws")
receive_zmtp = partial(receive, wire_name="zmtp")
receive_socketio = partial(receive, wire_name="socketio")

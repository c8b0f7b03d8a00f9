"""One publisher and its subscribers, each on a thread of its own, all in one process.

Twice: in bursts, where a thread finds many messages when it gets its turn, and one message at a time, where each has to wake its receiver.
What says that all have arrived is the same for all, and in the figures of both.
"""

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from operator import attrgetter
from queue import Queue, SimpleQueue
from time import perf_counter_ns
from typing import Any

from .end import Gate, Spent, percentile, say

BURST = 1000
TOPIC = "robots.arm.moved"

Publish = Callable[[bytes], object]
Receive = Callable[[], object]


def itself(message: Any) -> Any:
    return message


def deliver(gate: Gate, publish: Publish, receives: list[Receive], data: Callable[[Any], object] = itself) -> None:
    """Have each of these received on a thread of its own, and report. `data` of the first message of a burst is looked at."""
    payload = gate.payload
    order: list[SimpleQueue[int]] = [SimpleQueue() for _ in receives]
    done: SimpleQueue[None] = SimpleQueue()

    def take(receive: Receive, orders: SimpleQueue[int]) -> None:
        while burst := orders.get():
            if data(receive()) != payload:
                raise ValueError("what came differs from what was published")
            for _ in range(burst - 1):
                receive()
            done.put(None)

    for receive, orders in zip(receives, order, strict=True):
        threading.Thread(target=take, args=(receive, orders), daemon=True).start()

    def begin(burst: int) -> None:
        for orders in order:
            orders.put(burst)

    measure(gate, publish, begin, done, len(receives))
    begin(0)


def measure(gate: Gate, publish: Publish, begin: Callable[[int], None], done: "SimpleQueue[None]", subscribers: int) -> None:
    """`begin(n)`: each subscriber puts something into `done` when it has the next n messages."""
    payload = gate.payload

    def bursts(size: int, count: int) -> list[int]:
        walls = []
        for _ in range(max(1, count // (size * subscribers))):
            begin(size)
            before = perf_counter_ns()
            for _ in range(size):
                publish(payload)
            for _ in range(gate.cell.clients):
                done.get()
            walls.append(perf_counter_ns() - before)
        return walls

    size = max(1, min(BURST, gate.cell.count // (2 * subscribers)))
    bursts(size, gate.cell.warm)
    bursts(1, gate.cell.warm)
    say({"warm": True})
    input()
    before = Spent.so_far()
    walls = bursts(size, gate.cell.count)
    between = Spent.so_far()
    trips = sorted(bursts(1, gate.cell.count // 10))
    after = Spent.so_far()
    many, few = len(walls) * size * subscribers, len(trips) * subscribers
    say(
        {
            "count": many,
            "p50": percentile(trips, 0.50) / 1e9,
            "p99": percentile(trips, 0.99) / 1e9,
            "wall": sum(walls) / 1e9,
            **asdict(between - before),
            "single_cpu": (after - between).cpu / few,
        }
    )
    input()


def simple(address: str, gate: Gate) -> None:
    queues([SimpleQueue() for _ in range(gate.cell.clients)], gate)


def queue(address: str, gate: Gate) -> None:
    queues([Queue() for _ in range(gate.cell.clients)], gate)


def queues(boxes: Sequence[Any], gate: Gate) -> None:
    """As one would write it by hand."""
    puts = [box.put for box in boxes]

    def publish(payload: bytes) -> None:
        for put in puts:
            put(payload)

    deliver(gate, publish, [box.get for box in boxes])


def bus(address: str, gate: Gate) -> None:
    import bus

    subscriptions = [bus.subscribe(TOPIC) for _ in range(gate.cell.clients)]
    deliver(gate, functools.partial(bus.publish, TOPIC), [subscription.receive for subscription in subscriptions], attrgetter("data"))
    for subscription in subscriptions:
        subscription.close()


def zmq(address: str, gate: Gate) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.set(zmq.SNDHWM, 0)
        publisher.set(zmq.XPUB_VERBOSE, 1)
        publisher.bind("inproc://topics")
        sockets = []
        for _ in range(gate.cell.clients):
            socket = context.socket(zmq.SUB)
            socket.set(zmq.RCVHWM, 0)
            socket.subscribe(b"")
            socket.connect("inproc://topics")
            sockets.append(socket)
        for _ in sockets:
            publisher.recv()  # that one is subscribed
        deliver(gate, publisher.send, [socket.recv for socket in sockets])
        context.destroy(linger=0)


def nng(address: str, gate: Gate) -> None:
    pynng: Any = import_module("pynng")
    # Buffers for a whole burst: beyond them a publisher drops, and a subscriber, too.
    with pynng.Pub0(listen="inproc://topics", send_buffer_size=2 * BURST) as publisher:
        sockets = [pynng.Sub0(dial="inproc://topics", topics=b"", recv_buffer_size=2 * BURST) for _ in range(gate.cell.clients)]
        while len(publisher.pipes) < len(sockets):
            time.sleep(0.001)  # until the publisher knows them all; who came too late would miss the first burst
        deliver(gate, publisher.send, [socket.recv for socket in sockets])
        for socket in sockets:
            socket.close()


def pykka(address: str, gate: Gate) -> None:
    import pykka

    done: SimpleQueue[None] = SimpleQueue()

    payload = gate.payload

    class Counter(pykka.ThreadingActor):
        left = 0

        def on_receive(self, message: Any) -> None:
            if type(message) is int:
                self.left = message
            elif message == payload:
                self.left -= 1
                if not self.left:
                    done.put(None)

    refs = [Counter.start() for _ in range(gate.cell.clients)]

    def tell(message: Any) -> None:
        for ref in refs:
            ref.tell(message)

    measure(gate, tell, tell, done, gate.cell.clients)
    pykka.ActorRegistry.stop_all()

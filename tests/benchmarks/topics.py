"""Topics inside one process: who takes part, and the table."""

from .cell import Cell
from .part import Figures, Part, Peer
from .process import End
from .table import MICRO, middle, ratio, spread

FLOOR = "simple"
SUBSCRIBERS = ((1, 200_000, 10_000), (10, 200_000, 10_000), (1000, 20_000, 2_000))  # each with messages and warm-up

PEERS = (
    Peer(FLOOR, "**floor**: `queue.SimpleQueue` each", "", "topic_ends:simple"),
    Peer("queue", "`queue.Queue` each", "", "topic_ends:queue"),
    Peer("zmq", "pyzmq PUB/SUB, inproc", "", "topic_ends:zmq", needs="zmq"),
    Peer("nng", "pynng Pub0/Sub0, inproc", "", "topic_ends:nng", needs="pynng"),
    Peer("pykka", "Pykka, `tell` each", "", "topic_ends:pykka", needs="pykka"),
    Peer("bus", "actorbus, `bus.publish`", "", "topic_ends:bus", needs="bus"),
)


def measure(peer: Peer, cell: Cell) -> Figures:
    """`cpu` is per delivery in bursts, `single_cpu` of messages one at a time; p50 and p99 are of the latter."""
    with End(peer.client, cell, address="") as end:
        end.hear()
        found = end.ask()
        end.nudge()
    return {
        "p50": found["p50"],
        "p99": found["p99"],
        "rate": found["count"] / found["wall"],
        "cpu": found["cpu"] / found["count"],
        "single_cpu": found["single_cpu"],
        "faults": found["faults"] / found["count"],
        "sent": found["count"],
        "received": found["count"],
    }


PART = Part(
    "topics",
    "Topics inside one process, to subscribers on a thread each, in bursts of up to 1000, and a tenth as many messages one at a time. "
    "The queues hand on one and the same object and have no bound; p50 is from publishing one message until the publisher knows that all "
    "have it.",
    tuple(
        Cell(128, clients=number, noun="subscribers", count=count, warm=warm, placement="free") for number, count, warm in SUBSCRIBERS
    ),
    PEERS,
    measure,
    (
        ("CPU µs per delivery, bursts", spread("cpu", MICRO)),
        (": SimpleQueue", ratio("cpu", FLOOR)),
        (": Pykka", ratio("cpu", "pykka")),
        ("one at a time", spread("single_cpu", MICRO)),
        (": SimpleQueue", ratio("single_cpu", FLOOR)),
        ("p50 µs", middle("p50", MICRO)),
        ("deliveries/s", middle("rate")),
    ),
)

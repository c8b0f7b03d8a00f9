"""What actors and mailboxes cost inside one process: three parts, who takes part in them, and their tables."""

from .cell import Cell
from .part import Figures, Part, Peer
from .process import End
from .table import MICRO, growth, middle, ratio, share, spread
from .trips import cores_for

PYKKA, QUEUE = "pykka", "simple"
QUEUED = (1, 100, 10_000)


def measure(peer: Peer, cell: Cell) -> Figures:
    with End(peer.client, cell, core=cores_for(cell.placement)[0], address="") as end:
        end.hear()
        found = end.ask()
        end.nudge()
    count = found["count"]
    figures = {name: found[name] for name in ("p50", "p99") if name in found}
    rates = {"rate": count / found["wall"], "cpu": found["cpu"] / count, "faults": found["faults"] / count}
    return {**figures, **rates, "sent": count, "received": count}


ACTORS = Part(
    "actors",
    "An actor in the same process, on a thread of its own or a reader thread: messages told in bursts, with an `ask` behind each, which is "
    "answered when all have been handled; `ask`; and a call through a proxy.",
    (
        Cell(variant="tell", count=50_000, warm=5_000),
        Cell(variant="ask", count=5_000, warm=500),
        Cell(variant="proxy", count=5_000, warm=500),
    ),
    (
        Peer(PYKKA, "Pykka `ThreadingActor`", "", "actor_ends:pykka_threading", "pykka"),
        Peer("bus", "actorbus `SocketActor` on a reader thread", "", "actor_ends:bus_reader", "bus"),
    ),
    measure,
    (
        ("CPU µs per message", spread("cpu", MICRO)),
        ("p50 µs", spread("p50", MICRO)),
        ("p99 µs", middle("p99", MICRO)),
        ("messages/s", middle("rate")),
        ("CPU : Pykka", ratio("cpu", PYKKA)),
        ("handled", share("received", "sent")),
    ),
)

BOXES = (
    Peer(QUEUE, "**floor**: `queue.SimpleQueue`", "", "mailbox_ends:simple"),
    Peer("queue", "`queue.Queue`", "", "mailbox_ends:queue"),
    Peer("bus", "actorbus mailbox", "", "mailbox_ends:bus_single", "bus"),
)

MAILBOX = Part(
    "mailbox",
    "From one thread to another of the same process, with so many messages queued already: 1,000 more are put and 1,000 taken, again and "
    "again, by the two threads in turn. The mailbox alone has a bound, in messages and in bytes.",
    tuple(Cell(64, clients=queued, noun="queued", count=100_000, warm=10_000) for queued in QUEUED),
    (*BOXES, Peer("bus-batch", "actorbus mailbox, 10 put at once, as a reader does", "", "mailbox_ends:bus_batch", "bus")),
    measure,
    (
        ("CPU µs per message", spread("cpu", MICRO)),
        ("CPU : floor", ratio("cpu", QUEUE)),
        ("CPU : 1 queued", growth("cpu", "64 B, 1 queued")),
        ("messages/s", middle("rate")),
        ("received", share("received", "sent")),
    ),
)

HAND_OVER = Part(
    "hand-over",
    "One message to another thread of the same process, which waits for it, and back through a second queue.",
    (Cell(64, count=10_000, warm=1_000),),
    BOXES,
    measure,
    (
        ("p50 µs", spread("p50", MICRO)),
        ("p99 µs", middle("p99", MICRO)),
        ("CPU µs, there and back", spread("cpu", MICRO)),
        ("p50 : floor", ratio("p50", QUEUE)),
        ("CPU : floor", ratio("cpu", QUEUE)),
        ("received", share("received", "sent")),
    ),
)

"""Part four, topics inside one process: who takes part, and the table."""

from .peers import Load, Peer, Sample
from .process import End
from .table import PLACEMENT, Column, Results, median_of, micro, ratio, spread_of

SUBSCRIBERS = (1, 10, 1000)
KINDS = {
    "simple": ("**floor**: `queue.SimpleQueue` each", None),
    "queue": ("`queue.Queue` each", None),
    "zmq": ("pyzmq PUB/SUB, inproc", "zmq"),
    "pykka": ("Pykka, `tell` each", "pykka"),
    "bus": ("actorbus, `bus.publish`", "bus"),
}

PEERS = tuple(
    Peer(f"{kind}_{count}", f"{title}, {count} subscribers", "", f"topic_ends:{kind}_{count}", needs=needs)
    for count in SUBSCRIBERS
    for kind, (title, needs) in KINDS.items()
)


def measure(peer: Peer, load: Load) -> Sample:
    """`client_cpu` is the CPU per delivery in bursts, `server_cpu` the one of messages one at a time; p50 and p99 are of the latter."""
    with End(
        peer.client, limit=load.limit, core=None, address="", size=load.size, warm=load.warm, count=load.count, clients=load.clients
    ) as end:
        end.hear()
        found = end.ask()
        end.nudge()
    return Sample(
        p50=found["p50"],
        p99=found["p99"],
        rate=found["count"] / found["wall"],
        server_cpu=found["single_cpu"],
        client_cpu=found["cpu"] / found["count"],
        client_busy=found["cpu"] / found["wall"],
        faults=found["faults"] / found["count"],
    )


def _beside(kind: str, name: str) -> str:
    return f"{kind}_{name.rpartition('_')[2]}"


COLUMNS = (
    Column("CPU µs per delivery, bursts", lambda results, name: spread_of(results, name, lambda sample: micro(sample.client_cpu))),
    Column(": SimpleQueue", lambda results, name: ratio(results, name, _beside("simple", name), lambda sample: sample.client_cpu)),
    Column(": Pykka", lambda results, name: ratio(results, name, _beside("pykka", name), lambda sample: sample.client_cpu)),
    Column("one at a time", lambda results, name: spread_of(results, name, lambda sample: micro(sample.server_cpu))),
    Column(": SimpleQueue ", lambda results, name: ratio(results, name, _beside("simple", name), lambda sample: sample.server_cpu)),
    Column("p50 µs", lambda results, name: median_of(results, name, lambda sample: micro(sample.p50))),
)


def load(size: int, limit: float, *, quick: bool, count: int | None) -> Load:
    return Load(size=size, warm=10_000, count=count or (100_000 if quick else 400_000), clients=1, limit=limit, placement="free")


def heading(results: Results) -> str:
    load = results.load
    return (
        f"Topics inside one process, {load.size} bytes, {load.count} deliveries a round, in bursts of up to 1000, and a tenth as many one "
        f"at a time, to subscribers on a thread each, {PLACEMENT['free']}. The queues hand on one and the same object and have no bound; "
        "p50 is from publishing one message until the publisher knows that all have it."
    )

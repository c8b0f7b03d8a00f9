"""Messages one way, as fast as they go: who takes part, how it is measured, and the table."""

import time
from collections.abc import Mapping
from typing import Any

from .cell import Cell
from .end import REPLY_TIMEOUT
from .part import Bars, Figures, Part, Peer
from .process import End
from .table import MICRO, middle, ratio, share, spread
from .trips import cores_for

POLL = 0.002  # seconds between two questions of how many came: an error of a hundredth in a run of a fifth of a second


def arrived(receiver: End, count: int, quiet: float) -> Mapping[str, Any]:
    """What the receiver says once so many have come, or no more came for so many seconds."""
    said = receiver.ask()
    seen, since = said["received"], time.monotonic()
    while seen < count and time.monotonic() - since < quiet:
        time.sleep(POLL)
        said = receiver.ask()
        if said["received"] > seen:
            seen, since = said["received"], time.monotonic()
    return said


def one_way(peer: Peer, cell: Cell, quiet: float = REPLY_TIMEOUT) -> Figures:
    """`cpu` is that of both processes for each message that came; the clock stops when the last one has."""
    receiving, sending = cores_for(cell.placement)
    with End(peer.server, cell, core=receiving) as receiver:
        address = receiver.hear()["address"]
        with End(peer.client, cell, core=sending, address=address) as sender:
            sent_before = sender.hear()["sent"]
            before = arrived(receiver, sent_before, quiet)
            begun = time.perf_counter()
            sent = sender.ask()
            after = arrived(receiver, before["received"] + sent["sent"], quiet)
            wall = time.perf_counter() - begun
            spent = sender.ask()
            sender.nudge()
    received = after["received"] - before["received"]
    each = max(1, received)
    receiver_cpu, sender_cpu = (after["cpu"] - before["cpu"]) / each, spent["cpu"] / sent["sent"]
    return {
        "cpu": receiver_cpu + sender_cpu,
        "server_cpu": receiver_cpu,
        "client_cpu": sender_cpu,
        "rate": received / wall,
        "byte_rate": received * cell.size / wall,
        "sent_rate": sent["sent"] / sent["wall"],
        "faults": (after["faults"] - before["faults"] + spent["faults"]) / each,
        "sent": sent["sent"],
        "received": received,
    }


FLOOR, PUSH_PULL = "raw", "zmq"

PEERS = (
    Peer(FLOOR, "**floor**: `sendall` of each framed message, splitting what comes", "one_way_ends:raw_in", "one_way_ends:raw_out"),
    Peer("raw-100", "the same, 100 messages joined for each `sendall`", "one_way_ends:raw_in", "one_way_ends:raw_many_out"),
    Peer("asyncio", "asyncio streams at both ends", "one_way_ends:asyncio_in", "one_way_ends:asyncio_out"),
    Peer("uvloop", "uvloop, stream to `Protocol`", "one_way_ends:uvloop_in", "one_way_ends:uvloop_out", "uvloop"),
    Peer(PUSH_PULL, "pyzmq PUSH/PULL", "one_way_ends:zmq_in", "one_way_ends:zmq_out", "zmq"),
    Peer("nng", "pynng Push0/Pull0", "one_way_ends:nng_in", "one_way_ends:nng_out", "pynng"),
    Peer("bus", "actorbus `send`, proxies at both ends", "one_way_ends:bus_in", "one_way_ends:bus_out", "bus"),
    Peer("bus-many", "actorbus `send_many`, 100 messages each", "one_way_ends:bus_in", "one_way_ends:bus_many_out", "bus"),
    Peer("bus-serve", "actorbus `send`, callback server", "one_way_ends:bus_serve_in", "one_way_ends:bus_out", "bus"),
)

LABELS = {
    FLOOR: "floor: sendall and split",
    "raw-100": "sendall, 100 joined",
    "asyncio": "asyncio streams",
    "uvloop": "uvloop",
    PUSH_PULL: "pyzmq PUSH/PULL",
    "nng": "pynng Push0/Pull0",
    "bus": "actorbus send",
    "bus-many": "actorbus send_many",
}

PART = Part(
    "one-way",
    "Messages one way over TCP, one after the other without a pause. CPU is that of both processes.",
    (Cell(64, count=30_000, warm=3_000), Cell(1024, count=30_000, warm=3_000)),
    PEERS,
    one_way,
    (
        ("CPU µs per message", spread("cpu", MICRO)),
        ("sender", middle("client_cpu", MICRO)),
        ("receiver", middle("server_cpu", MICRO)),
        ("CPU : floor", ratio("cpu", FLOOR)),
        ("CPU : PUSH/PULL", ratio("cpu", PUSH_PULL)),
        ("messages/s", spread("rate")),
        ("received", share("received", "sent")),
    ),
    bars=(Bars("64 B", "cpu", "One way, 64 B: CPU of both ends, µs", MICRO, LABELS),),
)

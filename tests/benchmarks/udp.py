"""Datagrams, at a stated rate and as fast as they go: who takes part, how it is measured, and the table."""

from .cell import Cell
from .one_way import one_way
from .part import Figures, Part, Peer
from .table import MICRO, middle, ratio, share, spread

FLOOR = "socket"
QUIET = 0.5  # seconds without a datagram: what has not come will not come

PEERS = (
    Peer(FLOOR, "**floor**: plain socket from plain socket", "udp_ends:socket_in", "udp_ends:socket_out"),
    Peer("asyncio", "asyncio `DatagramProtocol` from plain socket", "udp_ends:asyncio_in", "udp_ends:socket_out"),
    Peer("uvloop", "uvloop, the same", "udp_ends:uvloop_in", "udp_ends:socket_out", "uvloop"),
    Peer("bus", "actorbus from plain socket", "udp_ends:bus_in", "udp_ends:socket_out", "bus"),
    Peer("bus-out", "plain socket from actorbus", "udp_ends:socket_in", "udp_ends:bus_out", "bus"),
    Peer("bus-both", "actorbus from actorbus", "udp_ends:bus_in", "udp_ends:bus_out", "bus"),
)


def measure(peer: Peer, cell: Cell) -> Figures:
    """Also `lost`, the share of what was sent that did not come."""
    found = one_way(peer, cell, QUIET)
    return {**found, "lost": 1 - found["received"] / found["sent"]}


PART = Part(
    "udp",
    "Datagrams from one process to another. Every receiver asks for 4 MiB of kernel buffer, as `bus.bind` does by itself. CPU is for each "
    "datagram sent, and for each received.",
    (
        Cell(256, rate=20_000, count=20_000, warm=1_000, placement="apart"),
        Cell(256, variant="as fast as they go", count=50_000, warm=1_000, placement="apart"),
    ),
    PEERS,
    measure,
    (
        ("sent/s", middle("sent_rate")),
        ("lost", middle("lost", form="{:.1%}")),
        ("received", share("received", "sent")),
        ("CPU µs, receiver", spread("server_cpu", MICRO)),
        ("CPU µs, sender", middle("client_cpu", MICRO)),
        ("receiver : floor", ratio("server_cpu", FLOOR)),
        ("sender : floor", ratio("client_cpu", FLOOR)),
    ),
)

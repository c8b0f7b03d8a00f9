"""Large messages one way, in clear and over TLS: who takes part, and the table."""

from .cell import Cell
from .one_way import one_way
from .part import Bars, Figures, Part, Peer
from .table import MILLI, middle, ratio, share, spread
from .tls import with_certificate

FLOOR = "floor"
TLS = "TLS"
WORK = ((100_000, 1_000, 100), (1_000_000, 100, 10), (10_000_000, 10, 2))
IN_CLEAR_ONLY = ("zmq",)

PEERS = (
    Peer(FLOOR, "**floor**: blocking sockets, length framing", "one_way_ends:raw_large_in", "one_way_ends:raw_large_out"),
    Peer("asyncio", "asyncio streams at both ends", "one_way_ends:asyncio_in", "one_way_ends:asyncio_out"),
    Peer("uvloop", "uvloop, stream to `Protocol`", "one_way_ends:uvloop_in", "one_way_ends:uvloop_out", "uvloop"),
    Peer("zmq", "pyzmq PUSH/PULL", "one_way_ends:zmq_in", "one_way_ends:zmq_large_out", "zmq"),
    Peer("ws-sync", "`websockets.sync` at both ends", "ws_one_way_ends:sync_in", "ws_one_way_ends:sync_out", "websockets"),
    Peer("bus", "actorbus, proxies at both ends", "one_way_ends:bus_in", "one_way_ends:bus_out", "bus"),
    Peer("bus-ws", "actorbus over WebSocket, proxy client, callback server", "ws_one_way_ends:bus_in", "ws_one_way_ends:bus_out", "bus"),
)


LABELS = {
    FLOOR: "floor: sockets by hand",
    "asyncio": "asyncio streams",
    "uvloop": "uvloop",
    "zmq": "pyzmq PUSH/PULL",
    "ws-sync": "websockets.sync",
    "bus": "actorbus",
    "bus-ws": "actorbus, WebSocket",
}


def measure(peer: Peer, cell: Cell) -> Figures:
    if cell.variant != TLS:
        return one_way(peer, cell)
    return {} if peer.name in IN_CLEAR_ONLY else one_way(peer, with_certificate(cell))


PART = Part(
    "bulk",
    "Large messages one way, one after the other without a pause, over TCP and over TLS 1.3. CPU is that of both processes.",
    tuple(
        Cell(size, variant=variant, count=count, warm=warm, placement="apart") for variant in ("TCP", TLS) for size, count, warm in WORK
    ),
    PEERS,
    measure,
    (
        ("MB/s", spread("byte_rate", 1e6)),
        ("CPU ms per message", spread("cpu", MILLI)),
        ("sender", middle("client_cpu", MILLI)),
        ("receiver", middle("server_cpu", MILLI)),
        ("CPU : floor", ratio("cpu", FLOOR)),
        ("MB/s : floor", ratio("byte_rate", FLOOR)),
        ("received", share("received", "sent")),
    ),
    bars=(
        Bars("1 MB, TCP", "cpu", "1 MB one way, TCP: CPU of both ends, ms", MILLI, LABELS),
        Bars("1 MB, TLS", "cpu", "1 MB one way, TLS: CPU of both ends, ms", MILLI, LABELS),
    ),
)

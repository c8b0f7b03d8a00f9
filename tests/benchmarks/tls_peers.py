"""The round trip of one message over TLS: who takes part, and the table."""

from .cell import Cell
from .echo_peers import FIGURES, LABELS
from .part import Bars, Figures, Part, Peer
from .table import MICRO, ratio
from .tls import with_certificate
from .trips import round_trips

FLOOR = "floor"

PEERS = (
    Peer(FLOOR, "**floor**: blocking `ssl` sockets, timeout, length framing", "socket_ends:floor_server", "socket_ends:floor_client"),
    Peer("asyncio", "asyncio streams at both ends", "asyncio_ends:streams_server", "asyncio_ends:streams_client"),
    Peer("uvloop", "uvloop, a `Protocol` at both ends", "asyncio_ends:uvloop_server", "asyncio_ends:uvloop_client", "uvloop"),
    Peer("bus", "actorbus, proxies at both ends", "bus_ends:proxy_server", "bus_ends:proxy_client", "bus"),
    Peer("bus-serve", "actorbus, proxy client, callback server", "bus_ends:callback_server", "bus_ends:proxy_client", "bus"),
)


def measure(peer: Peer, cell: Cell) -> Figures:
    return round_trips(peer, with_certificate(cell))


PART = Part(
    "tls",
    "Round trip over TLS 1.3, one client. CPU is that of both processes. TCP_NODELAY everywhere.",
    (Cell(256, count=3_000, warm=1_000), Cell(100 * 1024, count=600, warm=100)),
    PEERS,
    measure,
    (*FIGURES, ("p50 : floor", ratio("p50", FLOOR)), ("CPU : floor", ratio("cpu", FLOOR))),
    bars=(Bars("256 B", "p50", "TLS round trip, 256 B: p50, µs", MICRO, {peer.name: LABELS[peer.name] for peer in PEERS}),),
)

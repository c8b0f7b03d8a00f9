"""The round trip of one message over TCP: who takes part, and the table."""

from .cell import Cell
from .part import Bars, Part, Peer
from .table import MICRO, middle, ratio, share, spread
from .trips import round_trips

FLOOR = "floor"

PEERS = (
    Peer("bare", "raw sockets, no framing, no timeout", "socket_ends:bare_server", "socket_ends:bare_client"),
    Peer(
        FLOOR,
        "**floor**: blocking sockets, timeout, length framing",
        "socket_ends:floor_server",
        "socket_ends:floor_client",
    ),
    Peer(
        "read-ahead",
        "the floor with a read buffer (one `recv` a message)",
        "socket_ends:read_ahead_server",
        "socket_ends:read_ahead_client",
    ),
    Peer(
        "socketserver",
        "`socketserver.ThreadingTCPServer`, floor client",
        "socket_ends:socketserver_server",
        "socket_ends:floor_client",
    ),
    Peer(
        "asyncio-server",
        "asyncio streams server, floor client",
        "asyncio_ends:streams_server",
        "socket_ends:floor_client",
    ),
    Peer(
        "asyncio",
        "asyncio streams at both ends, `asyncio.timeout` in the client",
        "asyncio_ends:streams_server",
        "asyncio_ends:streams_client",
    ),
    Peer("zmq", "pyzmq REQ/REP at both ends", "zmq_ends:rep_server", "zmq_ends:req_client", needs="zmq"),
    Peer("bus", "actorbus, proxies at both ends", "bus_ends:proxy_server", "bus_ends:proxy_client", needs="bus"),
    Peer(
        "bus-serve",
        "actorbus, proxy client, callback server",
        "bus_ends:callback_server",
        "bus_ends:proxy_client",
        needs="bus",
    ),
)

FIGURES = (
    ("p50 µs", spread("p50", MICRO)),
    ("p99 µs", middle("p99", MICRO)),
    ("CPU µs per echo", spread("cpu", MICRO)),
    ("echoes/s", middle("rate")),
    ("received", share("received", "sent")),
)

PART = Part(
    "echo",
    "Round trip over TCP, one client. CPU is that of both processes. TCP_NODELAY everywhere.",
    (Cell(256, count=10_000, warm=2_000),),
    PEERS,
    round_trips,
    (*FIGURES, ("p50 : floor", ratio("p50", FLOOR)), ("CPU : floor", ratio("cpu", FLOOR))),
    bars=(Bars("256 B", "p50", "TCP round trip of 256 B: p50, µs", MICRO),),
)

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
        "asyncio",
        "asyncio streams at both ends, `asyncio.timeout` in the client",
        "asyncio_ends:streams_server",
        "asyncio_ends:streams_client",
    ),
    Peer("uvloop", "uvloop, a `Protocol` at both ends", "asyncio_ends:uvloop_server", "asyncio_ends:uvloop_client", "uvloop"),
    Peer("gevent", "gevent at both ends", "gevent_ends:server", "gevent_ends:client", "gevent"),
    Peer("twisted", "Twisted `Int32StringReceiver` at both ends", "twisted_ends:server", "twisted_ends:client", "twisted"),
    Peer("zmq-pair", "pyzmq PAIR at both ends", "zmq_ends:pair_server", "zmq_ends:pair_client", "zmq"),
    Peer("zmq", "pyzmq REQ/REP at both ends", "zmq_ends:rep_server", "zmq_ends:req_client", "zmq"),
    Peer("nng", "pynng Pair0 at both ends", "nng_ends:pair_server", "nng_ends:pair_client", "pynng"),
    Peer("bus", "actorbus, proxies at both ends", "bus_ends:proxy_server", "bus_ends:proxy_client", needs="bus"),
    Peer(
        "bus-serve",
        "actorbus, proxy client, callback server",
        "bus_ends:callback_server",
        "bus_ends:proxy_client",
        needs="bus",
    ),
)

LABELS = {
    "bare": "bare sockets, no framing",
    FLOOR: "floor: sockets by hand",
    "socketserver": "socketserver",
    "asyncio": "asyncio streams",
    "uvloop": "uvloop Protocol",
    "gevent": "gevent",
    "twisted": "Twisted",
    "zmq-pair": "pyzmq PAIR",
    "zmq": "pyzmq REQ/REP",
    "nng": "pynng Pair0",
    "bus": "actorbus, proxies",
    "bus-serve": "actorbus, callback",
}

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
    (
        Cell(16, count=5_000, warm=1_000),
        Cell(256, count=5_000, warm=1_000),
        Cell(8 * 1024, count=3_000, warm=1_000),
        Cell(100 * 1024, count=1_000, warm=200),
    ),
    PEERS,
    round_trips,
    (
        *FIGURES,
        ("p50 : floor", ratio("p50", FLOOR)),
        ("p99 : floor", ratio("p99", FLOOR)),
        ("CPU : floor", ratio("cpu", FLOOR)),
        ("p50 : REQ/REP", ratio("p50", "zmq")),
    ),
    bars=(Bars("256 B", "p50", "TCP round trip, 256 B: p50, µs", MICRO, LABELS),),
)

"""Part one, the round trip: who takes part, and the table."""

from .peers import Peer
from .table import PLACEMENT, Column, Results, median_of, micro, ratio, spread_of

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

COLUMNS = (
    Column("p50 µs", lambda results, name: spread_of(results, name, lambda sample: micro(sample.p50))),
    Column("p99 µs", lambda results, name: median_of(results, name, lambda sample: micro(sample.p99))),
    Column("CPU µs per echo", lambda results, name: spread_of(results, name, lambda sample: micro(sample.cpu))),
    Column("p50 : floor", lambda results, name: ratio(results, name, FLOOR, lambda sample: sample.p50)),
    Column("CPU : floor", lambda results, name: ratio(results, name, FLOOR, lambda sample: sample.cpu)),
)


def heading(results: Results) -> str:
    load = results.load
    return (
        f"Round trip of {load.size} bytes, one client, {load.count} trips a round after {load.warm} of warm-up. "
        f"CPU is that of both processes, placed {PLACEMENT[load.placement]}. TCP_NODELAY everywhere."
    )

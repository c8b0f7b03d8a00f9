"""The round trip over WebSocket, two parts: both ends of a make, and one end beside a common other one."""

from .cell import Cell
from .echo_peers import FIGURES
from .part import Bars, Part, Peer
from .table import MICRO, ratio
from .trips import round_trips

FLOOR = "sync"


def peer(name: str, title: str, server: str, client: str, needs: str = "") -> Peer:
    return Peer(name, title, f"ws_ends:{server}_server", f"ws_ends:{client}", needs)


PEERS = (
    peer("sync", "**websockets.sync** at both ends", "sync", "sync_client", "websockets"),
    peer("asyncio", "websockets asyncio at both ends", "asyncio", "asyncio_client", "websockets"),
    peer("aiohttp", "aiohttp at both ends", "aiohttp", "aiohttp_client", "aiohttp"),
    peer("picows", "picows (Cython) at both ends", "picows", "picows_client", "picows"),
    peer("bus", "actorbus, proxies at both ends", "bus_session", "bus_client", "bus"),
    peer("bus-serve", "actorbus, proxy client, callback server", "bus_callback", "bus_client", "bus"),
)

LABELS = {
    "sync": "websockets.sync",
    "asyncio": "websockets asyncio",
    "aiohttp": "aiohttp",
    "picows": "picows (Cython)",
    "bus": "actorbus, proxies",
    "bus-serve": "actorbus, callback",
}

# What each costs by itself shows beside the quickest other end.
SINGLE = (
    PEERS[3],
    peer("client-sync", "websockets.sync client, picows server", "picows", "sync_client", "picows"),
    peer("client-lib", "websocket-client, picows server", "picows", "websocket_client", "picows websocket"),
    peer("client-aiohttp", "aiohttp client, picows server", "picows", "aiohttp_client", "picows aiohttp"),
    peer("client-bus", "actorbus client, picows server", "picows", "bus_client", "picows bus"),
    peer("server-sync", "websockets.sync server, picows client", "sync", "picows_client", "picows"),
    peer("server-asyncio", "websockets asyncio server, picows client", "asyncio", "picows_client", "picows"),
    peer("server-aiohttp", "aiohttp server, picows client", "aiohttp", "picows_client", "picows aiohttp"),
    peer("server-bus", "actorbus session handler, picows client", "bus_session", "picows_client", "picows bus"),
    peer("server-bus-serve", "actorbus callback, picows client", "bus_callback", "picows_client", "picows bus"),
)

PART = Part(
    "websocket",
    "WebSocket round trip, binary messages, one client. CPU is that of both processes. No compression, no pings.",
    (
        Cell(256, count=3_000, warm=500),
        Cell(8 * 1024, count=2_000, warm=500),
        Cell(100 * 1024, count=500, warm=100),
    ),
    PEERS,
    round_trips,
    (*FIGURES, ("p50 : websockets.sync", ratio("p50", FLOOR)), ("p50 : picows", ratio("p50", "picows"))),
    bars=(Bars("256 B", "p50", "WebSocket round trip, 256 B: p50, µs", MICRO, LABELS),),
)

ENDS = Part(
    "websocket-ends",
    "WebSocket round trip, the same, each client at one common server and each server with one common client.",
    (Cell(256, count=3_000, warm=500),),
    SINGLE,
    round_trips,
    (*FIGURES, ("p50 : picows", ratio("p50", "picows"))),
)

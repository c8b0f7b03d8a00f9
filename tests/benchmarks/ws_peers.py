"""Part three, the round trip over WebSocket: both ends of a make, each client at one common server, each server with one common client."""

from .echo_peers import COLUMNS as ECHO_COLUMNS
from .peers import Peer
from .table import PLACEMENT, Column, Results, ratio

FLOOR = "ws-sync"


def peer(name: str, title: str, server: str, client: str, needs: str | None = None) -> Peer:
    return Peer(f"ws-{name}", title, f"ws_ends:{server}_server", f"ws_ends:{client}", needs)


PEERS = (
    peer("sync", "**websockets.sync** at both ends", "sync", "sync_client", "websockets"),
    peer("asyncio", "websockets asyncio at both ends", "asyncio", "asyncio_client", "websockets"),
    peer("aiohttp", "aiohttp at both ends", "aiohttp", "aiohttp_client", "aiohttp"),
    peer("picows", "picows (Cython) at both ends", "picows", "picows_client", "picows"),
    peer("bus", "actorbus, proxies at both ends", "bus_session", "bus_client", "bus"),
    peer("bus-serve", "actorbus, proxy client, callback server", "bus_callback", "bus_client", "bus"),
    peer("client-sync", "websockets.sync client, picows server", "picows", "sync_client", "picows"),
    peer("client-lib", "websocket-client, picows server", "picows", "websocket_client", "websocket"),
    peer("client-aiohttp", "aiohttp client, picows server", "picows", "aiohttp_client", "picows"),
    peer("client-bus", "actorbus client, picows server", "picows", "bus_client", "picows"),
    peer("server-sync", "websockets.sync server, picows client", "sync", "picows_client", "picows"),
    peer("server-asyncio", "websockets asyncio server, picows client", "asyncio", "picows_client", "picows"),
    peer("server-aiohttp", "aiohttp server, picows client", "aiohttp", "picows_client", "picows"),
    peer("server-bus", "actorbus session handler, picows client", "bus_session", "picows_client", "picows"),
    peer("server-bus-serve", "actorbus callback, picows client", "bus_callback", "picows_client", "picows"),
)

COLUMNS = (
    *ECHO_COLUMNS[:3],
    Column("p50 : websockets.sync", lambda results, name: ratio(results, name, FLOOR, lambda sample: sample.p50)),
    Column("p50 : picows", lambda results, name: ratio(results, name, "ws-picows", lambda sample: sample.p50)),
)


def heading(results: Results) -> str:
    load = results.load
    return (
        f"WebSocket round trip of {load.size} bytes, binary, one client, {load.count} trips a round after {load.warm} of warm-up. "
        f"CPU is that of both processes, placed {PLACEMENT[load.placement]}. No compression, no pings."
    )

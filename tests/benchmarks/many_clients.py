"""Part two, many busy clients: who takes part, and the table."""

from .peers import Peer
from .table import PLACEMENT, Column, Results, median_of, micro, milli, ratio, spread_of, whole

FLOOR = "epoll"

PEERS = (
    Peer(FLOOR, "**floor**: one thread, an epoll loop by hand", "many_servers:epoll_server", "load:load"),
    Peer("asyncio", "asyncio `Protocol`", "asyncio_ends:protocol_server", "load:load"),
    Peer("uvloop", "uvloop, the same `Protocol`", "asyncio_ends:uvloop_server", "load:load", needs="uvloop"),
    Peer("threads", "a thread per client, blocking sockets, read buffer", "many_servers:threads_server", "load:load"),
    Peer("bus", "actorbus, `bus.serve`", "bus_ends:callback_server", "load:load", needs="bus"),
)

COLUMNS = (
    Column("CPU µs per echo", lambda results, name: spread_of(results, name, lambda sample: micro(sample.server_cpu))),
    Column("CPU : floor", lambda results, name: ratio(results, name, FLOOR, lambda sample: sample.server_cpu)),
    Column("echoes/s", lambda results, name: spread_of(results, name, lambda sample: whole(sample.rate))),
    Column("p50 ms", lambda results, name: median_of(results, name, lambda sample: milli(sample.p50))),
    Column("p99 ms", lambda results, name: median_of(results, name, lambda sample: milli(sample.p99))),
    Column(
        "generator busy", lambda results, name: median_of(results, name, lambda sample: sample.client_busy, "{:.0%}")
    ),
)


def heading(results: Results) -> str:
    load = results.load
    return (
        f"{load.clients} busy clients, {load.size} bytes, {load.count} echoes a round after {load.warm} of warm-up. "
        f"Server and generator placed {PLACEMENT[load.placement]}. "
        "CPU is the server's alone; a generator that is always busy bounds the rate, not the CPU."
    )

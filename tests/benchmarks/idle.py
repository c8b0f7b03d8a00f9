"""Many clients that say nothing: who takes part, how it is measured, and the table."""

from .cell import Cell
from .idle_servers import TRACED
from .part import Bars, Figures, Part, Peer
from .process import End
from .table import MICRO, MILLI, middle, ratio, spread
from .trips import cores_for

PEERS = (
    Peer("bus-tcp", "**actorbus**, TCP", "idle_servers:bus_tcp_server", "idle_clients:visitors", needs="bus"),
    Peer("asyncio", "asyncio `Protocol`, TCP", "idle_servers:asyncio_server", "idle_clients:visitors"),
    Peer("threads", "a thread per client, TCP", "idle_servers:threads_server", "idle_clients:visitors"),
    Peer("bus-ws", "**actorbus**, WebSocket", "idle_servers:bus_ws_server", "idle_clients:visitors_ws", needs="bus"),
    Peer("websockets", "websockets asyncio", "idle_servers:websockets_server", "idle_clients:visitors_ws", needs="websockets"),
)

MANY = 10_000
CELLS = (
    Cell(clients=1_000, noun="idle connections", seconds=1.0, placement="free"),
    Cell(clients=MANY, noun="idle connections", seconds=1.0, placement="free"),
)
OUR_THREADS = 3  # the main one, which takes orders, the one that the parent asks, and the watchdog
KIB = 1024


def visited(peer: Peer, cell: Cell) -> dict[str, float]:
    server_core, client_core = cores_for(cell.placement)
    with End(peer.server, cell, core=server_core) as server:
        address = server.hear()["address"]
        with End(peer.client, cell, core=client_core, address=address) as client:
            client.hear()
            found = client.ask()
            client.nudge()
    return found


def measure(peer: Peer, cell: Cell) -> Figures:
    """CPU is per connection, but `idle_cpu`, which is the share of a core that all of them take."""
    if peer.name == "threads" and cell.clients >= MANY:
        return {}
    found = visited(peer, cell)
    del found["traced"]
    if cell.clients < MANY:  # tracing takes its time: nothing else of that run counts
        found["traced"] = visited(peer, cell.changed(variant=TRACED, seconds=0.1))["traced"]
    closing = {"leave_all_cpu": found["leave_cpu"] * cell.clients, "stop_all_cpu": found["stop_cpu"] * cell.clients}
    return {**found, **closing, "threads": found["threads"] - OUR_THREADS}


COLUMNS = (
    ("threads", middle("threads")),
    ("KiB of Python's memory each", middle("traced", KIB)),
    ("KiB resident each", middle("resident", KIB)),
    ("CPU µs each to accept", spread("accept_cpu", MICRO)),
    (": asyncio", ratio("accept_cpu", "asyncio")),
    (": websockets asyncio", ratio("accept_cpu", "websockets")),
    ("CPU while idle, ms a second", middle("idle_cpu", MILLI)),
    ("CPU s when all leave", spread("leave_all_cpu")),
    ("CPU s to close all", spread("stop_all_cpu")),
)

PART = Part(
    "idle",
    "Connections that say nothing, from another process, no pings. CPU is the server's. Half of them leave, the server closes the others; "
    "both are given for all. Threads are those beside the main one. Python's memory is what `tracemalloc` sees, in a run of its own.",
    CELLS,
    PEERS,
    measure,
    COLUMNS,
    bars=(Bars(CELLS[1].name, "resident", "10,000 idle connections: KiB of the process each", KIB),),
)

"""One message to all clients of a server: who takes part, how it is measured, and the table."""

from typing import Any

from .cell import Cell
from .fanout_clients import STUCK
from .part import Bars, Figures, Part, Peer
from .process import End
from .table import MICRO, MILLI, middle, ratio, share, spread
from .trips import cores_for

PEERS = (
    Peer("floor", "**floor**: a loop over non-blocking sockets", "fanout_servers:floor_server", "fanout_clients:receive"),
    Peer("bus-tcp", "**actorbus**, TCP, `send_to_all`", "fanout_servers:bus_tcp_server", "fanout_clients:receive", needs="bus"),
    Peer("bus-ws", "**actorbus**, WebSocket, `send_to_all`", "fanout_servers:bus_ws_server", "fanout_clients:receive_ws", needs="bus"),
    Peer("sync", "`websockets.sync`, a loop", "fanout_servers:sync_server", "fanout_clients:receive_ws", needs="websockets"),
    Peer("asyncio", "websockets asyncio, `broadcast`", "fanout_servers:asyncio_server", "fanout_clients:receive_ws", needs="websockets"),
    Peer("zmq", "pyzmq XPUB", "fanout_servers:zmq_server", "fanout_clients:receive_zmtp", needs="zmq"),
    Peer(
        "socketio",
        "python-socketio on aiohttp, `emit`",
        "fanout_servers:socketio_server",
        "fanout_clients:receive_socketio",
        needs="socketio aiohttp",
    ),
)

CELLS = (
    Cell(clients=10, count=200, warm=10, placement="free"),
    Cell(clients=100, count=50, warm=5, placement="free"),
    Cell(clients=1000, count=20, warm=4, seconds=1.0, placement="free"),
    Cell(clients=1000, variant=STUCK, count=20, warm=4, seconds=1.0, placement="free"),
)


def figures(found: dict[str, Any], server_cpu: float, cell: Cell) -> dict[str, float]:
    """CPU is per delivery; `complete` of `clients` received every message, and `received` deliveries of `sent` came."""
    deliveries = found["deliveries"]
    counts = {"complete": found["complete"], "clients": cell.clients, "received": deliveries, "sent": found["ordered"] * cell.clients}
    if found["complete"] < cell.clients:
        return counts
    costs = {"server_cpu": server_cpu / deliveries, "client_cpu": found["cpu"] / deliveries}
    return {
        **counts,
        **costs,
        "p50": found["p50"],
        "p99": found["p99"],
        "rate": deliveries / found["wall"],
        "cpu": sum(costs.values()),
    }


def measure(peer: Peer, cell: Cell) -> Figures:
    """The figures of 10 KB beside those of 100 B, with "large_" before their names: to connect costs more than to measure."""
    server_core, client_core = cores_for(cell.placement)
    with End(peer.server, cell, core=server_core) as server:
        address = server.hear()["address"]
        with End(peer.client, cell, core=client_core, address=address) as client:
            measured: dict[str, float] = {}
            for prefix in ("", "large_"):
                client.hear()
                before = server.ask()
                found = client.ask()
                after = server.ask()
                here = figures(found, after["cpu"] - before["cpu"], cell)
                measured |= {prefix + name: figure for name, figure in here.items()}
            client.nudge()
    return measured


COLUMNS = tuple(
    column
    for title, prefix in (("100 B", ""), ("10 KB", "large_"))
    for column in (
        (f"{title}: server's CPU µs per delivery", spread(f"{prefix}server_cpu", MICRO)),
        (": `websockets.sync`", ratio(f"{prefix}server_cpu", "sync")),
        (": websockets asyncio", ratio(f"{prefix}server_cpu", "asyncio")),
        ("of both µs", middle(f"{prefix}cpu", MICRO)),
        ("until the last has it, p50 ms", middle(f"{prefix}p50", MILLI)),
        ("received everything", share(f"{prefix}complete", f"{prefix}clients")),
    )
)

LABELS = {
    "floor": "a loop over sockets",
    "bus-tcp": "actorbus, TCP",
    "bus-ws": "actorbus, WebSocket",
    "sync": "websockets.sync",
    "asyncio": "websockets asyncio",
    "zmq": "pyzmq XPUB",
    "socketio": "python-socketio",
}

PART = Part(
    "fanout",
    "One message from a server to all its clients, and the next when the last has it. The receivers are plain sockets in one process, the "
    "same for all. One that never reads was sent 8 MiB before the others came, and is not among those counted.",
    CELLS,
    PEERS,
    measure,
    COLUMNS,
    bars=(Bars(CELLS[2].name, "server_cpu", "100 B to 1,000 clients: server's CPU each, µs", MICRO, LABELS),),
)

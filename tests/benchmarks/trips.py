"""One measurement of the round trip between two ends, which is how most parts measure."""

from .cell import Cell
from .machine import usable_cores
from .part import Figures, Peer
from .process import End


def cores_for(placement: str) -> tuple[int | None, int | None]:
    """The cores of server and client; None leaves it to the scheduler."""
    cores = usable_cores()
    return {"apart": (cores[0], cores[-1]), "together": (cores[0], cores[0]), "free": (None, None)}[placement]


def exchange(peer: Peer, cell: Cell) -> tuple[Figures, Figures, Figures]:
    """What the server had spent before the client's run, what the client found, and what the server had spent after it."""
    server_core, client_core = cores_for(cell.placement)
    with End(peer.server, cell, core=server_core) as server:
        address = server.hear()["address"]
        with End(peer.client, cell, core=client_core, address=address) as client:
            client.hear()
            before = server.ask()
            found = client.ask()
            after = server.ask()
            client.nudge()
    return before, found, after


def round_trips(peer: Peer, cell: Cell) -> Figures:
    """Times in seconds; CPU and page faults per message, `cpu` that of both processes."""
    before, found, after = exchange(peer, cell)
    count = found["count"]
    server_cpu, client_cpu = (after["cpu"] - before["cpu"]) / count, found["cpu"] / count
    return {
        "p50": found["p50"],
        "p99": found["p99"],
        "rate": count / found["wall"],
        "cpu": server_cpu + client_cpu,
        "server_cpu": server_cpu,
        "client_cpu": client_cpu,
        "client_busy": found["cpu"] / found["wall"],
        "faults": (after["faults"] - before["faults"] + found["faults"]) / count,
        "sent": cell.count,
        "received": count,
    }

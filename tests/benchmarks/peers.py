"""A peer: one way to do the same thing, as a pair of ends; and one measurement of it."""

import importlib.util
from dataclasses import asdict, dataclass
from typing import Any

from .machine import usable_cores
from .process import End


@dataclass(frozen=True)
class Peer:
    name: str
    title: str
    server: str
    client: str
    needs: str | None = None

    @property
    def available(self) -> bool:
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


PLACEMENTS = ("together", "apart", "free")


@dataclass(frozen=True)
class Load:
    """What every peer of one part is given."""

    size: int
    warm: int
    count: int
    clients: int
    limit: float
    placement: str


@dataclass(frozen=True)
class Sample:
    """One round of one peer. Times in seconds; CPU and page faults per message."""

    p50: float
    p99: float
    rate: float
    server_cpu: float
    client_cpu: float
    client_busy: float
    faults: float

    @property
    def cpu(self) -> float:
        return self.server_cpu + self.client_cpu

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "cpu": self.cpu}


def cores_for(placement: str) -> tuple[int | None, int | None]:
    """The cores of server and client; None leaves it to the scheduler."""
    cores = usable_cores()
    return {"apart": (cores[0], cores[-1]), "together": (cores[0], cores[0]), "free": (None, None)}[placement]


def measure(peer: Peer, load: Load) -> Sample:
    server_core, client_core = cores_for(load.placement)
    with End(peer.server, limit=load.limit, core=server_core, size=load.size) as server:
        address = server.hear()["address"]
        with End(
            peer.client,
            limit=load.limit,
            core=client_core,
            address=address,
            size=load.size,
            warm=load.warm,
            count=load.count,
            clients=load.clients,
        ) as client:
            client.hear()
            before = server.ask()
            found = client.ask()
            after = server.ask()
            client.nudge()
    count = found["count"]
    return Sample(
        p50=found["p50"],
        p99=found["p99"],
        rate=count / found["wall"],
        server_cpu=(after["cpu"] - before["cpu"]) / count,
        client_cpu=found["cpu"] / count,
        client_busy=found["cpu"] / found["wall"],
        faults=(after["faults"] - before["faults"] + found["faults"]) / count,
    )

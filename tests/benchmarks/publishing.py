"""Publishing to a server of topics: who takes part, how it is measured, and the table.

Each way publishes so many messages to a topic that nobody hears, and the clock stops when the server has confirmed the last one. Every
measurement has a server of its own.
"""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .cell import Cell
from .part import PLACES, Figures, Part, Peer
from .process import End, EndFailed
from .table import MICRO, ratio, share, spread

NATS, REDIS = "nats-server", "redis-server"
BASE = "nats-py"
START = 20.0

PEERS = (
    Peer(BASE, "nats-py, in its own event loop", NATS, "publishing_ends:nats_py", "nats", NATS),
    Peer("submitted", "nats-py, each message submitted from another thread", NATS, "publishing_ends:nats_py_submitted", "nats", NATS),
    Peer("redis", "redis-py, one after the other", REDIS, "publishing_ends:redis_single", "redis", REDIS),
    Peer("redis-pipelines", "redis-py, pipelines of 100", REDIS, "publishing_ends:redis_pipelines", "redis", REDIS),
    Peer("bus", "actorbus, one thread", NATS, "publishing_ends:one_thread", "bus nats", NATS),
    Peer("bus-four", "actorbus, four threads", NATS, "publishing_ends:four_threads", "bus nats", NATS),
)


@contextlib.contextmanager
def nats(directory: Path) -> Iterator[tuple[str, int]]:
    """Its URL and the process's number."""
    from tests.natsserver import NatsServer

    with NatsServer(directory) as server:
        (ports,) = directory.glob("nats-server_*.ports")
        yield server.url, int(ports.stem.rpartition("_")[2])


@contextlib.contextmanager
def redis(directory: Path) -> Iterator[tuple[str, int]]:
    # It takes no port 0 for "any", so another process may be faster: then this measurement fails, and says so.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    binary = shutil.which(REDIS, path=PLACES)
    assert binary is not None
    words = [binary, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", str(directory)]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(port, process)
            yield f"redis://127.0.0.1:{port}", process.pid
        finally:
            process.kill()


def _wait_for(port: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), timeout=1):
            return
        time.sleep(0.01)
    raise EndFailed(f"{REDIS} does not come up")


SERVERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[tuple[str, int]]]] = {NATS: nats, REDIS: redis}


def cpu_of(pid: int) -> float:
    """Seconds that another process has used: the nanoseconds of each of its threads."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def measure(peer: Peer, cell: Cell) -> Figures:
    with tempfile.TemporaryDirectory() as directory, SERVERS[peer.server](Path(directory)) as (url, pid):
        with End(peer.client, cell, address=url) as client:
            client.hear()
            before = cpu_of(pid)
            found = client.ask()
            after = cpu_of(pid)
            client.nudge()
    count = found["count"]
    client_cpu, server_cpu = found["cpu"] / count, (after - before) / count
    figures = {"cpu": client_cpu + server_cpu, "client_cpu": client_cpu, "server_cpu": server_cpu, "rate": count / found["wall"]}
    return {**figures, "wall": found["wall"] / count, "faults": found["faults"] / count, "sent": cell.count, "received": count}


PART = Part(
    "nats",
    "Publishing to a server on the same machine, which confirms the last message.",
    (Cell(128, count=30_000, warm=3_000, placement="free"),),
    PEERS,
    measure,
    (
        ("µs a message", spread("wall", MICRO)),
        ("CPU µs", spread("client_cpu", MICRO)),
        ("CPU µs, server", spread("server_cpu", MICRO)),
        (f"rate : {BASE}", ratio("rate", BASE)),
        (f"CPU : {BASE}", ratio("client_cpu", BASE)),
        ("published", share("received", "sent")),
    ),
)

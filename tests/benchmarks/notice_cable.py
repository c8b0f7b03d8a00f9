"""`unshare -rn python -m tests.benchmarks.notice_cable ORDER`: clients beyond a cable that is pulled, in network namespaces of their own.

All peers at once, since they only wait, and no traffic leaves these namespaces. The server's is that of this process, the clients' that of
a child; what the children of this process get is where its main thread is when it starts them.
"""

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .cell import Cell
from .notice_servers import BIND
from .process import End, EndFailed

HERE, THERE = "10.231.0.1", "10.231.0.2"
CLONE_NEWNET = 0x40000000
SETTLED = 1.0  # for what is under way to arrive
STARTING = 60.0


def sh(command: str) -> None:
    subprocess.run(command, shell=True, check=True)


@contextlib.contextmanager
def inside(pid: int) -> Iterator[None]:
    """The calling thread is in the network namespace of that process meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(namespace: int) -> None:
        if libc.setns(namespace, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    back, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    enter(there)
    try:
        yield
    finally:
        enter(back)
        os.close(back)
        os.close(there)


@contextlib.contextmanager
def cable() -> Iterator[int]:
    """The process at whose end the clients are to be."""
    there = subprocess.Popen(["unshare", "-n", "sleep", "600"])
    try:
        while os.readlink(f"/proc/{there.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            time.sleep(0.001)
        sh(f"ip link set lo up && ip link add cable0 type veth peer name cable1 netns {there.pid}")
        sh(f"ip address add {HERE}/24 dev cable0 && ip link set cable0 up")
        with inside(there.pid):
            sh(f"ip address add {THERE}/24 dev cable1 && ip link set cable1 up")
        yield there.pid
    finally:
        there.kill()
        there.wait()


def pull(peers: dict[str, tuple[str, str]], variants: list[str], seconds: float) -> dict[str, dict[str, float]]:
    """By variant and peer: seconds from the pull until the client was told. Who was not is missing."""
    found: dict[str, dict[str, float]] = {variant: {} for variant in variants}
    with ExitStack() as stack, tempfile.TemporaryDirectory() as directory, cable() as there:
        Path(directory, BIND).write_text(f"{HERE}:0")
        plan = Cell(files=directory, limit=STARTING + seconds)
        servers = {name: stack.enter_context(End(server, plan)) for name, (server, _) in peers.items()}
        addresses = {name: server.hear()["address"] for name, server in servers.items()}
        clients: dict[tuple[str, str], End] = {}
        with inside(there):
            for variant in variants:
                for name, (_, client) in peers.items():
                    end = End(client, plan.changed(variant=variant), address=addresses[name])
                    clients[variant, name] = stack.enter_context(end)
        for end in clients.values():
            end.hear()
            end.nudge()
        time.sleep(SETTLED)
        pulled = time.monotonic()
        sh("ip link set cable0 down")
        for (variant, name), end in clients.items():
            with contextlib.suppress(EndFailed):
                found[variant][name] = end.hear_until(pulled + seconds)["told"] - pulled
        for end in (*clients.values(), *servers.values()):
            end.kill()
    return found


def main() -> None:
    order: dict[str, Any] = json.loads(sys.argv[1])
    peers = {name: (server, client) for name, (server, client) in order["peers"].items()}
    print(json.dumps(pull(peers, order["variants"], order["seconds"])), flush=True)


if __name__ == "__main__":
    main()

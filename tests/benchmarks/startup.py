"""What it costs to start: imports above bare Python, and an empty script with and without the runner. Fresh processes with warm caches."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from .cell import Cell
from .part import Figures, Part, Peer
from .process import ROOT, EndFailed
from .table import MILLI, middle, spread

BARE = ("-c", "pass")
# As the installed command does it, without the search for it.
RUN = "import sys; from adapters.cli import main; sys.exit(main())"
SCRIPT = "SCRIPT"  # stands for the path of an empty one
# Caches are written: what comes out of a wheel has them, and what runs from a checkout would be compiled in each process.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def imports(module: str, title: str = "") -> Peer:
    return Peer(module.partition(".")[0], title or f"`import {module}`", "", f"-c\nimport {module}", needs=module.partition(".")[0])


# `client` is the interpreter's arguments, a line each.
PEERS = (
    Peer("bare", "bare Python", "", "\n".join(BARE)),
    imports("bus", "**`import bus`**"),
    Peer("bus-connect", "**`import bus; bus.connect`**", "", "-c\nimport bus; bus.connect", needs="bus"),
    imports("zmq"),
    imports("websockets.sync.client"),
    imports("asyncio"),
    imports("aiohttp"),
    Peer("script", "`python empty.py`", "", SCRIPT),
    Peer("bus-run", "**`actorbus run empty.py`**", "", f"-c\n{RUN}\nrun\n{SCRIPT}", needs="bus"),
)


def spent(arguments: Sequence[str]) -> tuple[float, float]:
    """CPU and seconds of an interpreter from its start to its end."""
    begun = time.perf_counter()
    child = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise EndFailed(f"{arguments} ended with {child.returncode}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - begun


def measure(peer: Peer, cell: Cell) -> Figures:
    """The median of `count` starts, taking turns with bare ones."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "empty.py")
        script.touch()
        arguments = [str(script) if word == SCRIPT else word for word in peer.client.split("\n")]
        spent(arguments)
        pairs = [(spent(BARE), spent(arguments)) for _ in range(max(3, cell.count))]
    bare, found = ([run[side] for run in pairs] for side in (0, 1))
    cpu = median(cpu for cpu, _ in found)
    return {"cpu": cpu, "above": max(0.0, cpu - median(cpu for cpu, _ in bare)), "wall": median(wall for _, wall in found)}


PART = Part(
    "startup",
    "An interpreter from its start to its end, in fresh processes with warm bytecode caches; CPU is user and system together.",
    (Cell(variant="start to end", count=5, placement="free"),),
    PEERS,
    measure,
    (
        ("CPU ms", spread("cpu", MILLI)),
        ("above bare Python, CPU ms", spread("above", MILLI)),
        ("wall ms", middle("wall", MILLI)),
    ),
)

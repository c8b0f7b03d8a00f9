"""A part of the suite, and the peers that take part: see the package's docstring."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .cell import Cell
from .table import Column

Figures = Mapping[str, float]

# A program that came with a package stands beside the interpreter.
PLACES = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))


@dataclass(frozen=True)
class Peer:
    """One way to do the same thing. `server` and `client` name functions as "module:function"; what they mean is up to `Part.measure`.

    `needs` are modules and `runs` a program, without which it is left out.
    """

    name: str
    title: str
    server: str
    client: str
    needs: str = ""
    runs: str = ""

    @property
    def ours(self) -> bool:
        return "bus" in self.needs.split()

    @property
    def label(self) -> str:
        """What the title says, without Markdown, where it has to be short.

        >>> Peer("zmq", "pyzmq `REQ`/`REP` at both ends", "", "").label
        'pyzmq REQ/REP'
        """
        return self.title.replace("**", "").replace("`", "").removesuffix(" at both ends")

    def lacks(self) -> str:
        """Why it cannot take part; empty if it can."""
        missing = [module for module in self.needs.split() if importlib.util.find_spec(module) is None]
        if missing:
            return f"{missing[0]} is not installed"
        if self.runs and shutil.which(self.runs, path=PLACES) is None:
            return f"there is no {self.runs} on the PATH"
        return ""


@dataclass(frozen=True)
class Bars:
    """A panel of the picture: this figure, divided by `unit`, of every peer in the cell of this name, or of those with `labels`."""

    cell: str
    figure: str
    title: str
    unit: float = 1
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    name: str
    heading: str
    cells: Sequence[Cell]
    peers: Sequence[Peer]
    measure: Callable[[Peer, Cell], Figures]
    columns: Sequence[Column]
    bars: Sequence[Bars] = ()

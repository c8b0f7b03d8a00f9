"""Where the suite runs: it needs a Python 2.7, which most machines do not have any more."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Environment", "Unavailable", "make"]

PACKAGE = "autobahntestsuite"
INSTALLING = 600.0  # seconds; parts of it are compiled


class Unavailable(Exception):
    """The suite cannot run here; says why."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment of a Python 2.7 with the suite in it."""

    directory: Path

    @property
    def python(self) -> str:
        return str(self.directory / "bin" / "python")

    def version(self) -> str:
        found = self.directory.glob(f"lib/python2.7/site-packages/{PACKAGE}-*.dist-info")
        return next((path.name.split("-")[1].removesuffix(".dist") for path in found), "?")


def pythons() -> Iterator[str]:
    """Those on the path first, then those of a version switcher."""
    for name in ("python2.7", "python2"):
        if found := shutil.which(name):
            yield found
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(root.glob("versions/2.7*/bin/python2.7"), reverse=True))


def fails(python: str, *arguments: str, path: str = "") -> str:
    """What went wrong with `python arguments`; "" if nothing did. (Version switchers leave stubs that do not start.)"""
    variables = {**os.environ, "PYTHONPATH": path}
    try:
        done = subprocess.run([python, *arguments], env=variables, capture_output=True, text=True, timeout=INSTALLING, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    return "" if done.returncode == 0 else done.stderr or f"exit status {done.returncode}"


def find_python() -> str:
    without_pip = []
    for python in pythons():
        if fails(python, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))"):
            continue
        if not fails(python, "-m", "pip", "--version"):
            return python
        without_pip.append(python)
    if without_pip:
        raise Unavailable(f"{without_pip[0]} has no pip, which has to install {PACKAGE} for Python 2.7")
    raise Unavailable(f"{PACKAGE} needs Python 2.7, and there is none on the path or among pyenv's versions")


def make(directory: Path, python: str | None = None) -> Environment:
    """Make the environment in `directory`, or take the one that is there. Raises Unavailable."""
    made = Environment(directory / "environment")
    finished = directory / "finished"  # a half-made one must not be taken for a whole one the next time
    if finished.exists():
        return made
    python = python or find_python()
    tool = directory / "virtualenv"
    shutil.rmtree(made.directory, ignore_errors=True)
    pip = ("-m", "pip", "install", "-q", "--disable-pip-version-check")
    said = (
        fails(python, *pip, "--upgrade", "--target", str(tool), "virtualenv")
        or fails(python, "-m", "virtualenv", str(made.directory), path=str(tool))
        or fails(made.python, *pip, PACKAGE)
    )
    if said:
        last = "\n".join(said.strip().splitlines()[-8:])
        raise Unavailable(f"{python} could not get {PACKAGE}:\n{last}")
    finished.touch()
    return made

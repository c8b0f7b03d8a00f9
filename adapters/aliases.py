"""The dialects' original import names: `scriptling.net.unicast` and `adapters.scriptling.net.unicast` are one module.

An alias is not a copy. Were the files found a second time under the other name, there would be two `runtime` modules
with two tables of routes. So the finder stands before the one that searches directories, and its loader hands out the
module that exists.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["install", "offer"]

NAMES = ("scriptling", "daystar_api", "hs")


class _Alias:  # no importlib.abc.Loader: that module would cost every start of a script some milliseconds
    """Loads `scriptling.x` by importing `adapters.scriptling.x`."""

    def __init__(self, real: str) -> None:
        self._real = real
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._real)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # It ran when it was first imported. The import system has put the alias's spec on it, under which it could
        # not be reloaded.
        module.__spec__ = self._spec


class _Finder:
    """Answers for the dialects' names, unless a real package bears one; for those in `forced` in any case."""

    def __init__(self) -> None:
        self.forced: set[str] = set()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        top, inner, _ = fullname.partition(".")
        if top not in NAMES:
            return None
        if inner:
            # Below a package that is ours, everything is; below a real one, nothing.
            if not _is_ours(sys.modules.get(top)):
                return None
        elif top not in self.forced and _in_the_way(top) is not None:
            return None
        real = importlib.util.find_spec(f"adapters.{fullname}")
        if real is None:
            return None
        loader: Any = _Alias(real.name)
        return ModuleSpec(fullname, loader, origin=real.origin, is_package=real.submodule_search_locations is not None)


_finder = _Finder()


def _is_ours(module: ModuleType | None) -> bool:
    return module is not None and module.__name__.startswith("adapters.")


def _in_the_way(name: str) -> str | None:
    """Where a real package or module of that name is, loaded or not; None if there is none."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return None if _is_ours(loaded) else str(getattr(loaded, "__file__", None) or loaded)
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)  # finders of old have none
        spec = find_spec(name, None) if find_spec is not None and finder is not _finder else None
        # A directory that merely bears the name (a namespace package) has no loader, and nothing in it that is meant.
        if isinstance(spec, ModuleSpec) and spec.loader is not None and spec.origin is not None:
            return spec.origin
    return None


def offer() -> None:
    """Make the original names importable where no real package bears them."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def install(force: bool = False) -> None:
    """Make `scriptling`, `daystar_api` and `hs` importable under these names. Doing so twice is nothing.

    ImportError, and nothing is installed, if a real package of one of these names can be imported: it would be hidden
    from the whole program. With `force` it is.
    """
    present = [name for name in NAMES if importlib.util.find_spec(f"adapters.{name}") is not None]
    for name in present:
        if name in _finder.forced:
            continue
        real = _in_the_way(name)
        if real is None:
            continue
        if not force:
            raise ImportError(
                f"a real package {name!r} is in the way: {real} "
                f"(import adapters.{name} instead, or hide it from this program with adapters.install(force=True))",
                name=name,
                path=real,
            )
        _finder.forced.add(name)
        for loaded in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            del sys.modules[loaded]
    offer()

"""Modules beside a script are found by that script; two files of one module name in one process are an error.

Scripts run together share `sys.modules`. Which file `import cell` means depends on the directory of the script that
says it, but the module is loaded once. So every script searches its own directory first, and when it gets a module
that another directory provided, and would by itself have got a different file, it is told so, instead of working with
a stranger's code.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from actors import scope
from actors.scope import Scope

__all__ = ["found"]


class _Finder:
    """Searches the directory of the script that asks, and then `sys.path`: what Python does for a script alone."""

    def __init__(self, directories: Mapping[Scope, str]) -> None:
        self._directories = directories

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        here = scope.current()
        if path is not None or here is None or here not in self._directories:
            return None
        return _find(fullname, self._directories[here])


class _Check:
    """Compares, once per script and name, what the script got with what it would have got by itself."""

    def __init__(self, directories: Mapping[Scope, str]) -> None:
        self._directories = directories
        self._seen: dict[Scope, set[str]] = {owner: set() for owner in directories}

    def __call__(self, name: str, importing: Mapping[str, object] | None) -> None:
        here = scope.current()
        if here is None or importing is None:
            return
        seen = self._seen.get(here)
        top = name.partition(".")[0]
        if seen is None or top in seen:
            return
        directory = self._directories[here]
        # The script and its siblings are held to this. What a library imports is its own affair.
        inside = str(importing.get("__file__", "")).startswith(os.path.join(directory, ""))
        if not inside and importing.get("__name__") != "__main__":
            return
        module = sys.modules.get(top)
        if module is None:
            return
        got = _place(getattr(module, "__spec__", None))
        meant = _find(top, directory) if got is not None else None
        wanted = _place(meant)
        if got is None or meant is None or wanted is None or _same(got, wanted):
            seen.add(top)
            return
        of_a_script = any(_is_beside(got, other) for other in self._directories.values())
        # A directory without __init__.py gives way to a module anywhere else, for a script alone too.
        if of_a_script or (meant.loader is not None and _is_beside(wanted, directory)):
            raise ImportError(
                f"two files are called {top!r}: script {here.name!r} means {wanted}, but loaded is {got}; "
                "scripts that run together share their modules, so rename one of the two or run the scripts apart",
                name=top,
                path=wanted,
            )


def _find(name: str, directory: str) -> ModuleSpec | None:
    spec = PathFinder.find_spec(name, [directory, *sys.path])
    if spec is not None and spec.loader is None and spec.submodule_search_locations is not None:
        # A directory without __init__.py. Its search path would be computed anew from `sys.path` alone when that
        # changes.
        spec.submodule_search_locations = list(spec.submodule_search_locations)
    return spec


def _place(spec: ModuleSpec | None) -> str | None:
    """The file a module comes from, or the directory, if that is all it is. None for the interpreter's own.

    Those come before any directory, for a script alone too.
    """
    if spec is None or spec.origin in {"built-in", "frozen"}:
        return None
    return spec.origin or next(iter(spec.submodule_search_locations or ()), None)


def _same(one: str, other: str) -> bool:
    try:
        return one == other or os.path.samefile(one, other)
    except OSError:
        return False


def _is_beside(place: str, directory: str) -> bool:
    """Whether a module's file, or its package's directory, stands in `directory` itself."""
    above, file = os.path.split(place)
    if file.startswith("__init__."):
        above = os.path.dirname(above)
    return above == directory


@contextlib.contextmanager
def found(directories: Mapping[Scope, str]) -> Iterator[None]:
    """Within: each script's imports start in its directory, and get what they would get alone, or ImportError."""
    finder, check = _Finder(directories), _Check(directories)
    plain_import = builtins.__import__

    def checked_import(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        try:
            module = plain_import(name, globals, locals, fromlist, level)
        except ImportError:
            if level == 0:
                check(name, globals)  # a part is missing, perhaps because the whole is another script's
            raise
        if level == 0:
            check(name, globals)
        return module

    before = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
    sys.meta_path.insert(before, finder)
    builtins.__import__ = checked_import
    try:
        yield
    finally:
        builtins.__import__ = plain_import
        sys.meta_path.remove(finder)

"""Each script is the main program, as far as it can see: its own `__main__`, its own `sys.argv`.

Dataclasses, pickle, enum and `typing.get_type_hints` look a class's module up by name, in `sys.modules["__main__"]`.
With several scripts that place holds a stand-in which answers for the script the asking thread works for. The import
system and pickle reach it through its attributes, so this serves the C code too, which a `sys.modules` of another
type would not (the interpreter keeps its own reference).

`sys.argv` is a property for the same reason: a script may change the list, and also put another in its place.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib.machinery
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType

from actors import scope
from actors.scope import Scope

__all__ = ["Main", "alone", "side_by_side"]


class Main:
    """A script's `__main__` module and its `sys.argv`."""

    def __init__(self, path: str, argv: list[str]) -> None:
        self.argv = argv
        self.module = ModuleType("__main__")
        vars(self.module).update(
            __file__=path,
            __cached__=None,
            __builtins__=builtins,
            __loader__=importlib.machinery.SourceFileLoader("__main__", path),
        )


@contextlib.contextmanager
def alone(main: Main) -> Iterator[None]:
    """Within: the process runs this script, as if Python had been given it."""
    module, argv = sys.modules["__main__"], sys.argv
    sys.modules["__main__"], sys.argv = main.module, main.argv
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv = module, argv


@contextlib.contextmanager
def side_by_side(mains: Mapping[Scope, Main]) -> Iterator[None]:
    """Within: a thread sees the `__main__` and the `sys.argv` of the script it works for."""
    module, kind = sys.modules["__main__"], type(sys)
    sys.modules["__main__"] = _stand_in(mains, module)
    sys.__class__ = _sys_with_argv(mains, kind)
    try:
        yield
    finally:
        sys.__class__ = kind
        sys.modules["__main__"] = module


def _stand_in(mains: Mapping[Scope, Main], otherwise: ModuleType) -> ModuleType:
    def answering() -> ModuleType:
        here = scope.current()
        main = mains.get(here) if here is not None else None
        return main.module if main is not None else otherwise

    class MainOfThisThread(ModuleType):
        def __getattribute__(self, name: str) -> object:
            return getattr(answering(), name)

        def __setattr__(self, name: str, value: object) -> None:
            setattr(answering(), name, value)

        def __delattr__(self, name: str) -> None:
            delattr(answering(), name)

        def __dir__(self) -> list[str]:
            return dir(answering())

        def __repr__(self) -> str:
            return repr(answering())

    return MainOfThisThread("__main__")


def _sys_with_argv(mains: Mapping[Scope, Main], kind: type[ModuleType]) -> type[ModuleType]:
    class SysWithArgv(kind):  # type: ignore[misc, valid-type]
        @property
        def argv(self) -> list[str]:
            here = scope.current()
            main = mains.get(here) if here is not None else None
            return main.argv if main is not None else self.__dict__["argv"]

        @argv.setter
        def argv(self, value: list[str]) -> None:
            here = scope.current()
            main = mains.get(here) if here is not None else None
            if main is not None:
                main.argv = value
            else:
                self.__dict__["argv"] = value

    return SysWithArgv

"""What is done when the interpreter ends.

Loaded with `import bus`, before any of the engine: handlers that a script registers with `atexit` from there on run before ours, while its
connections are open; and that of `logging`, which is registered when it is loaded, behind ours, which still has something to say.
"""

from __future__ import annotations

import atexit
import logging  # noqa: F401  # see above
from collections.abc import Callable

__all__ = ["at_exit"]

_calls: list[Callable[[], object]] = []


def at_exit(call: Callable[[], object]) -> None:
    """Have `call()` done then."""
    _calls.append(call)


def _end() -> None:
    for call in _calls:
        call()


atexit.register(_end)

"""Other people's APIs spoken exactly, other people's engines, and the command line."""

from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path

from adapters.aliases import install

__all__ = ["install"]

# `bus` is a generic name, and somebody's own module can stand in the way of ours. It sees to `actors` itself.
_home = _Path(__file__).resolve().parent.parent
_spec = _find_spec("bus")
_origin = None if _spec is None or _spec.origin is None else _Path(_spec.origin).resolve()
if _origin is None or _origin.parent.parent != _home:
    raise ImportError(
        f"actorbus needs its own package 'bus' in {_home}, but the import finds {_origin or 'nothing'}; rename that or move it away"
    )

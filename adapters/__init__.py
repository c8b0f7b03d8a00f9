"""Other people's APIs spoken exactly, other people's engines, and the command line."""

from importlib.util import find_spec as _find_spec
from os.path import dirname as _dirname
from os.path import realpath as _realpath

from adapters.aliases import install

__all__ = ["install"]

# `bus` is a generic name, and somebody's own module can stand in the way of ours. It sees to `actors` itself.
_home = _dirname(_dirname(_realpath(__file__)))
_spec = _find_spec("bus")
_origin = None if _spec is None or _spec.origin is None else _realpath(_spec.origin)
if _origin is None or _dirname(_dirname(_origin)) != _home:
    raise ImportError(
        f"actorbus needs its own package 'bus' in {_home}, but the import finds {_origin or 'nothing'}; rename that or move it away"
    )

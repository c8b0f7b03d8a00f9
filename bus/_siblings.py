"""Is the package `actors` beside us ours? These names are generic, and somebody's own module can stand in the way. Checked on import."""

from __future__ import annotations

from importlib.util import find_spec
from os.path import dirname, realpath

HOME = dirname(dirname(realpath(__file__)))

_spec = find_spec("actors")
_origin = None if _spec is None or _spec.origin is None else realpath(_spec.origin)
if _origin is None or dirname(dirname(_origin)) != HOME:
    raise ImportError(
        f"actorbus needs its own package 'actors' in {HOME}, but the import finds {_origin or 'nothing'}; rename that or move it away"
    )

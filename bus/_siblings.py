"""Is the package `actors` beside us ours? These names are generic, and somebody's own module can stand in the way. Checked on import."""

from __future__ import annotations

import sys
from os.path import dirname, realpath

HOME = dirname(dirname(realpath(__file__)))

# As importlib.util.find_spec does it, which `import bus` needs for nothing else.
_found = sys.modules.get("actors")
if _found is not None:
    _spec = _found.__spec__
else:
    _specs = (finder.find_spec("actors", None) for finder in sys.meta_path if hasattr(finder, "find_spec"))  # some of old have none
    _spec = next((spec for spec in _specs if spec is not None), None)
_origin = None if _spec is None or _spec.origin is None else realpath(_spec.origin)
if _origin is None or dirname(dirname(_origin)) != HOME:
    raise ImportError(
        f"actorbus needs its own package 'actors' in {HOME}, but the import finds {_origin or 'nothing'}; rename that or move it away"
    )

"""For tests of your own scripts: a pair of connections without a port, and a proxy that does to a link what networks do.

Import it where you test: `import bus` does not load it.

>>> import bus.testing
>>> ours, theirs = bus.testing.pair()
>>> with ours, theirs:
...     ours.send("hello")
...     print(theirs.receive(timeout=5).text)
hello
"""

from __future__ import annotations

from bus.testing.faults import Direction, Faults
from bus.testing.pairs import pair
from bus.testing.proxy import FaultProxy, ProxyStats

__all__ = ["Direction", "FaultProxy", "Faults", "ProxyStats", "pair"]

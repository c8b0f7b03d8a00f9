"""One cell of a part: what every peer is asked to do there."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Self


def human(size: int) -> str:
    """Whole kilo- and mebibytes, or kilo- and megabytes, are said as such.

    >>> human(256), human(8192), human(100_000), human(10_000_000)
    ('256 B', '8 KiB', '100 KB', '10 MB')
    """
    for factor, unit in ((1 << 20, "MiB"), (10**6, "MB"), (1 << 10, "KiB"), (10**3, "KB")):
        if size and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


@dataclass(frozen=True)
class Cell:
    """What a part does not need, it leaves as it is.

    `size` is in bytes; `clients` are how many of whatever `noun` says; `count` and `warm` messages are sent in a round, and before it;
    `rate` is messages a second, 0 as fast as it goes; `seconds` is how long a measurement takes that is not over after so many messages,
    `limit` how long any may take. `files` is a directory with what else the ends need.
    """

    size: int = 0
    clients: int = 0
    noun: str = "clients"
    variant: str = ""
    count: int = 0
    warm: int = 0
    rate: float = 0.0
    seconds: float = 0.0
    files: str = ""
    placement: str = "together"
    limit: float = 60.0

    @property
    def name(self) -> str:
        """
        >>> Cell(size=1024, clients=1000, variant="one never reads").name
        '1 KiB, 1,000 clients, one never reads'
        """
        parts = [human(self.size)] if self.size else []
        parts += [f"{self.clients:,} {self.noun if self.clients != 1 else self.noun.removesuffix('s')}"] if self.clients else []
        parts += [f"{self.rate:,.0f} a second"] if self.rate else []
        parts += [self.variant] if self.variant else []
        return ", ".join(parts)

    def changed(self, **values: Any) -> Self:
        """The values that are not None instead of ours."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def quick(self) -> Self:
        """A fifth of the work, for a first look."""
        return replace(self, count=math.ceil(self.count / 5), warm=math.ceil(self.warm / 4), seconds=self.seconds / 4)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

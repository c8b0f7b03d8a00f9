"""The one thread that runs all callbacks of a server with `serial=True`."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING

from actors import crew

if TYPE_CHECKING:
    from actors.lane import Lane

__all__ = ["SerialLine"]


class SerialLine:
    """See the module. Its queue holds each client at most once. `started` is False when no thread was to be had."""

    def __init__(self) -> None:
        self._lanes: SimpleQueue[Lane | None] = SimpleQueue()
        self.started = crew.run(self._work)

    def add(self, lane: Lane) -> None:
        self._lanes.put(lane)

    def stop(self) -> None:
        self._lanes.put(None)

    def _work(self) -> None:
        while True:
            lane = self._lanes.get()
            if lane is None:
                return
            lane.drain_apart()

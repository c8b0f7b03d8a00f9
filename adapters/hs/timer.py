"""`hs.timer`: `doAfter`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Self

from actors import hosting
from actors.alarm import AlarmActor
from adapters.hs import dispatcher
from adapters.hs.arguments import function, number

__all__ = ["Timer", "doAfter"]


class Timer:
    """A call to come: what `doAfter` gives. It need not be kept."""

    def __init__(self, seconds: float, fn: Callable[[], object]) -> None:
        self._fn: Callable[[], object] | None = fn
        owner = dispatcher.home()
        self._alarm = AlarmActor.start_at(
            monotonic() + seconds, partial(dispatcher.post, owner, self._fire), hosting.shared(), owner
        )

    def _fire(self) -> None:
        fn, self._fn = self._fn, None
        if fn is not None:
            dispatcher.call("hs.timer callback", fn)

    def stop(self) -> Self:
        """The function is not called any more. Doing so twice is nothing."""
        self._fn = None
        self._alarm.close_soon()
        return self

    def running(self) -> bool:
        """Whether the function will still be called."""
        return self._fn is not None

    def __repr__(self) -> str:
        return f"<Timer {'running' if self.running() else 'stopped'}>"


def doAfter(seconds: float, fn: Callable[[], object]) -> Timer:
    """Call `fn()` once, after that many seconds (0 or less: as soon as the callbacks before it have run)."""
    return Timer(max(0.0, number(seconds, "seconds")), function(fn))

"""The routes that scripts have registered with `runtime.http.websocket`, served on one address.

A script's routes are served once its code has returned, and then keep it alive. The first that has some starts the server; those of the
others are added to it as they come. Who asks meanwhile for a path that is not there yet is kept waiting while a script that may bring it
still starts: as with a refused connection, the order does not matter.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from actors import scope
from actors.scope import Scope

if TYPE_CHECKING:
    import bus
    from adapters.scriptling.runtime.serving import Table

__all__ = ["Routes"]


def _nobody_has_any() -> bool:
    """Who registers a route has imported what keeps it. Most scripts do not, and should not wait for that."""
    return "adapters.scriptling.runtime.http" not in sys.modules


class _Served:
    """As a script's scope holds it. What serves is no script's, and is closed when all have ended."""

    keeps_alive = True

    def close_soon(self) -> None:
        """Nothing to do."""


class Routes:
    """`announce` is told what is served, and where. A visitor waits for its path until `patience` seconds from now, at the longest.

    The fields belong to the condition, which is held while the server is started; the server itself reads the table without it.
    """

    def __init__(
        self,
        address: str,
        owners: Sequence[Scope],
        announce: Callable[[str], object],
        *,
        origins: Sequence[str] | None = None,
        patience: float = 0.0,
    ) -> None:
        self._address = address
        self._owners = owners
        self._announce = announce
        self._origins = origins
        self._patient_until = monotonic() + patience
        self._changed = threading.Condition()
        self._busy = set(owners)  # whose code has not ended
        self._table: Table = {}
        self._server: bus.Server | None = None

    def returned(self, owner: Scope) -> None:
        """The script's code has returned, and this is its thread. Raises SystemExit that says why its routes cannot be served."""
        try:
            if _nobody_has_any():
                return
            from adapters.scriptling.runtime import http
            from adapters.scriptling.runtime.serving import look_up

            if any(route.owner is owner and route.served for route in http.routes()):
                return  # it has called `runtime.serve`, and looks after them itself
            added = look_up([owner])
            if not added:
                return
            with self._changed:
                self._table |= added
                server = self._server = self._server or self._start()
        finally:
            self.ended(owner)
        self._announce(f"serving {', '.join(added)} on ws://{server.address}")
        owner.add(_Served())

    def ended(self, owner: Scope) -> None:
        """The script's code has ended, one way or the other."""
        with self._changed:
            self._busy.discard(owner)
            self._changed.notify_all()

    def forget(self) -> None:
        if _nobody_has_any():
            return
        from adapters.scriptling.runtime import http

        for owner in self._owners:
            http.forget(owner)

    def _start(self) -> bus.Server:
        from adapters.scriptling.runtime.serving import serve_table

        previous = scope.enter(None)
        try:
            return serve_table(self._address, self._table, origins=self._origins, on_request=self._wait_for_its_path)
        except OSError as exc:
            self._table.clear()  # the script that brought these ends now
            raise SystemExit(f"the routes cannot be served: {exc} (--listen takes another address)") from None
        finally:
            scope.enter(previous)

    def _wait_for_its_path(self, request: bus.Request) -> None:
        path = request.path.partition("?")[0]
        with self._changed:
            self._changed.wait_for(lambda: path in self._table or not self._busy, max(0.0, self._patient_until - monotonic()))

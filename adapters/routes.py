"""The routes that scripts have registered with `runtime.http.websocket`, served on one address.

A script's routes are served once its code has returned, and then keep it alive. What scripts register that were started together is
served by one server, whichever returns first: it gives the others GATHER seconds, and no longer, because one of them may be a client.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import bus
from actors import scope
from actors.scope import Scope
from adapters.scriptling.runtime import http
from adapters.scriptling.runtime.serving import serve_routes

__all__ = ["Routes"]

GATHER = 1.0  # seconds; less than a refused connection to this machine is tried again


class _Served:
    """As a script's scope holds it. What serves is no script's, and is closed when all have ended."""

    keeps_alive = True

    def close_soon(self) -> None:
        """Nothing to do."""


class Routes:
    """`announce` is told what is served, and where. The fields belong to the condition, which is held while the server is started."""

    def __init__(self, address: str, owners: Sequence[Scope], announce: Callable[[str], object]) -> None:
        self._address = address
        self._owners = owners
        self._announce = announce
        self._changed = threading.Condition()
        self._busy = set(owners)  # whose code has not ended
        self._server: bus.Server | None = None
        self._hosted: list[Scope] = []  # whose routes it serves

    def returned(self, owner: Scope) -> None:
        """The script's code has returned, and this is its thread. Raises SystemExit that says why its routes cannot be served."""
        with self._changed:
            self.ended(owner)
            if self._looks_after_itself(owner):
                return
            if any(route.owner is owner for route in http.routes()):
                self._changed.wait_for(lambda: self._server is not None or not self._busy, GATHER)
                if self._server is None:
                    self._serve()
            late = [route.path for route in http.routes() if route.owner is owner and not route.served]
            if late:
                raise SystemExit(f"{', '.join(late)}: registered too late, the server for the scripts of this command runs already")
            if owner in self._hosted:
                owner.add(_Served())

    def ended(self, owner: Scope) -> None:
        """The script's code has ended, one way or the other."""
        with self._changed:
            self._busy.discard(owner)
            self._changed.notify_all()

    def forget(self) -> None:
        for owner in self._owners:
            http.forget(owner)

    def _looks_after_itself(self, owner: Scope) -> bool:
        """Whether it has called `runtime.serve`."""
        return owner not in self._hosted and any(route.owner is owner and route.served for route in http.routes())

    def _serve(self) -> None:
        hosted = [owner for owner in self._owners if not self._looks_after_itself(owner)]
        previous = scope.enter(None)
        try:
            self._server = serve_routes(self._address, None, hosted)
        except OSError as exc:
            raise SystemExit(f"the routes cannot be served: {exc} (--listen takes another address)") from None
        finally:
            scope.enter(previous)
        served = [route for route in http.routes() if route.served and route.owner in hosted]
        self._hosted = [owner for owner in hosted if any(route.owner is owner for route in served)]
        self._announce(f"serving {', '.join(route.path for route in served)} on ws://{self._server.address}")

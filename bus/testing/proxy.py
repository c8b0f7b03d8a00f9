"""FaultProxy: stands between a script and its server, and does to their link what networks do.

One thread of its own, which owns the sockets and everything that can change; other threads hand it calls to run. Everything on the way is
bounded: a stream's sender is not read while its line is full, so that a slow reader slows the writer as without the proxy; datagrams over
the bound are lost and counted.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from random import randrange
from selectors import EVENT_READ, DefaultSelector
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, Unpack

from actors.errors import BadAddress, Closed
from actors.resolving import format_address, resolve
from actors.waiting import deadline_after
from bus.arguments import VERBS
from bus.endpoints import parse
from bus.testing.datagrams import Exchanges
from bus.testing.faults import Direction, Faults, each_way
from bus.testing.streams import Links, Settings

__all__ = ["FaultProxy", "ProxyStats"]

log = logging.getLogger("actorbus.testing")

RESOLVE_SECONDS = 10.0
STREAM_FAULTS = ("latency", "jitter", "trickle")
DATAGRAM_FAULTS = ("latency", "jitter", "loss", "duplicate", "reorder")


class Changes(TypedDict, total=False):
    latency: float
    jitter: float
    trickle: float | None
    loss: float
    duplicate: float
    reorder: float


@dataclass(frozen=True)
class ProxyStats:
    """Counters of a proxy since it was made.

    `connections` that came in, or for UDP clients; `bytes_up` that reached the target, `bytes_down` the clients. Datagrams: `lost`,
    `duplicated` and `reordered` by the proxy, in both directions.

    >>> ProxyStats(lost=3).lost
    3
    """

    connections: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0


class FaultProxy:
    """A proxy on loopback in front of `target`: connect to its `url` instead.

    `target`: `tcp://host:port`, `udp://host:port`, or `tls://`, `ws://`, `wss://`, which it passes on as the bytes they are. "up" is the
    direction to the target, "down" the one to the client that connected.

    What goes wrong all the time is given here, for both directions, and changed by `set`: `latency` and `jitter` (seconds, in each
    direction), `trickle` (bytes a second; streams), `loss`, `duplicate`, `reorder` (probabilities from 0 to 1; UDP). `seed` makes chance
    repeat itself: the n-th connection fares the same again; without one, `seed` tells which one was taken. What happens once, or until
    `release`: `cut`, `stall`, `half_open`, `refuse`. Safe to use from several threads; a change holds when the call returns.

    A client's connection is accepted before the target has accepted the proxy's, and reset when it does not. On its way in one direction a
    stream has up to 256 KiB, UDP 10,000 datagrams or 16 MiB.

    Raises BadAddress, ConnectFailed (no such name), OSError, TypeError, and ValueError for a fault that this transport can't have.

    >>> import bus, bus.testing
    >>> with bus.serve("tcp://127.0.0.1:0", on_message=lambda msg, client: msg) as server:
    ...     with bus.testing.FaultProxy(f"tcp://{server.address}", latency=0.01) as proxy, bus.connect(proxy.url) as conn:
    ...         conn.send("there and back")
    ...         print(conn.receive(timeout=5).text)
    ...         proxy.cut()
    ...         try:
    ...             conn.receive(timeout=5)
    ...         except bus.Broken as exc:
    ...             print(exc.reason)
    there and back
    the peer reset it
    """

    def __init__(
        self,
        target: str,
        *,
        latency: float = 0.0,
        jitter: float = 0.0,
        trickle: float | None = None,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        seed: int | None = None,
    ) -> None:
        endpoint = parse(target, "connect", VERBS)
        if endpoint.scheme == "unix":
            raise BadAddress(target, "a FaultProxy stands in front of tcp, tls, ws, wss and udp")
        if endpoint.port == 0:
            raise BadAddress(target, "port 0 can't be connected to")
        self._datagrams = endpoint.scheme == "udp"
        faults = self._checked(Faults(), latency=latency, jitter=jitter, trickle=trickle, loss=loss, duplicate=duplicate, reorder=reorder)
        self._settings = Settings(faults, randrange(1 << 32) if seed is None else seed)
        kind = socket.SOCK_DGRAM if self._datagrams else socket.SOCK_STREAM
        targets = resolve(endpoint.host, endpoint.port, kind, deadline_after(RESOLVE_SECONDS))
        self._target = target
        self._calls: deque[tuple[Callable[[], object], Future[None]]] = deque()
        self._lock = threading.Lock()  # owns `_calls` and `_closed`
        self._closed = False
        self._selector = DefaultSelector()
        self._awake, self._bell = socket.socketpair()
        self._side: Links | Exchanges
        try:
            self._awake.setblocking(False)
            self._bell.setblocking(False)
            self._selector.register(self._awake, EVENT_READ, self._woken)
            self._side = (Exchanges if self._datagrams else Links)(self._selector, targets, self._settings)
            self.address = format_address(self._side.sockname)
            self.url = str(endpoint._replace(host="127.0.0.1", port=self._side.sockname[1]))
            self._thread = threading.Thread(target=self._run, name=f"faults {self.address}", daemon=True)
            self._thread.start()
        except BaseException:
            self._closed = True
            thread = getattr(self, "_thread", None)
            if thread is None or thread.ident is None:
                self._drop()
            else:
                self._ring()  # it has begun, and drops all itself
            raise

    def _checked(self, faults: Faults, **changes: Any) -> Faults:
        changed = replace(faults, **changes)
        possible = DATAGRAM_FAULTS if self._datagrams else STREAM_FAULTS
        for name in changes:
            if name not in possible and getattr(changed, name):
                suits, this = ("connections", "UDP") if self._datagrams else ("UDP", "a connection")
                raise ValueError(f"{name} is for {suits}, and this proxy is for {this}")
        return changed

    # -- the script's side ------------------------------------------------------------------------------------------------

    @property
    def seed(self) -> int:
        """What chance was seeded with."""
        return self._settings.seed

    @property
    def up(self) -> Faults:
        """What goes wrong towards the target now."""
        return self._settings.faults["up"]

    @property
    def down(self) -> Faults:
        """What goes wrong towards the clients now."""
        return self._settings.faults["down"]

    def set(self, direction: Direction = "both", **faults: Unpack[Changes]) -> None:
        """Change what goes wrong all the time: the faults named, in that direction; the others stay.

        `proxy.set(latency=0.2)`, `proxy.set("down", loss=1)`, `proxy.set(trickle=None)`. It concerns what comes in from now on; `trickle`
        also what is on its way. Raises Closed, TypeError, ValueError.
        """
        changed = {way: self._checked(self._settings.faults[way], **faults) for way in each_way(direction)}
        self._ask(lambda: self._settings.faults.update(changed))

    def cut(self, after: int | None = None, direction: Direction = "both", *, in_order: bool = False) -> None:
        """Cut all connections: with a reset, or `in_order` with a FIN to both ends. What is on its way is lost.

        With `after`, each is cut once so many bytes more have passed in that direction (with "both": in either); new connections count from
        their beginning, until `release`. Not for UDP: ValueError. Raises Closed.
        """
        ways = each_way(direction)
        if after is not None and (isinstance(after, bool) or not isinstance(after, int)):
            raise TypeError(f"after must be an int or None, not {type(after).__name__}")
        if after is not None and after < 0:
            raise ValueError(f"after must be 0 or more bytes, not {after}")
        links = self._links("cut")
        self._ask(lambda: links.cut(after, ways, in_order))

    def stall(self, direction: Direction = "both") -> None:
        """Read and pass on nothing more in that direction, not even an end, until `release`. Connections are still accepted."""
        ways = each_way(direction)
        self._ask(lambda: self._settings.stalled.update(ways))

    def half_open(self, gone: Literal["target", "client"] = "target") -> None:
        """One end of all connections is gone (its own is reset); the other stays up, and what it sends is swallowed.

        Its TCP goes on acknowledging, so that keepalive notices nothing and only what waits for an answer does. Not for UDP: ValueError.
        """
        if gone not in ("target", "client"):
            raise ValueError(f'gone must be "target" or "client", not {gone!r}')
        links = self._links("half_open")
        self._ask(lambda: links.half_open(gone))

    def refuse(self) -> None:
        """Refuse new connections, as a server that is down, until `release`. Not for UDP: ValueError."""
        self._ask(self._links("refuse").refuse)

    def release(self) -> None:
        """What `stall`, `refuse` and `cut(after=…)` ordered is over."""
        self._ask(self._release)

    def stats(self) -> ProxyStats:
        """A snapshot of the counters. Also after `close`."""
        side = self._side
        passed = {"connections": side.count, "bytes_up": side.passed["up"], "bytes_down": side.passed["down"]}
        if isinstance(side, Links):
            return ProxyStats(**passed)
        lines = [line for exchange in list(side.exchanges.values()) for line in (exchange.up, exchange.down)]
        return ProxyStats(
            **passed,
            lost=side.lost + sum(line.lost for line in lines),
            duplicated=side.duplicated + sum(line.duplicated for line in lines),
            reordered=side.reordered + sum(line.reordered for line in lines),
        )

    def close(self) -> None:
        """Reset what is connected, free the port, end the thread. Closing twice is nothing."""
        with self._lock:
            self._closed = True
        self._ring()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FaultProxy {self.address} to {self._target}{' closed' if self._closed else ''}, seed={self.seed}>"

    def _links(self, what: str) -> Links:
        if isinstance(self._side, Exchanges):
            raise ValueError(f"{what} is for connections, and UDP has none; loss=1 lets nothing through")
        return self._side

    def _ask(self, call: Callable[[], object]) -> None:
        """Run it on the proxy's thread, and wait for that."""
        done: Future[None] = Future()
        with self._lock:
            if self._closed:
                raise Closed(self.address)
            self._calls.append((call, done))
        self._ring()
        done.result()

    def _ring(self) -> None:
        try:
            self._bell.send(b"\0")
        except OSError:
            pass  # it rings already, or the thread has ended

    # -- the proxy's thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            due: float | None = None
            while not self._closed:
                for key, mask in self._selector.select(None if due is None else max(0.0, due - monotonic())):
                    key.data(mask)
                self._run_calls()
                due = self._side.tick(monotonic())
        except BaseException:
            log.exception("%r failed", self)
        finally:
            with self._lock:
                self._closed = True
            self._drop()
            for _, done in self._calls:
                done.set_exception(Closed(self.address))

    def _woken(self, mask: int) -> None:
        self._awake.recv(4096)

    def _run_calls(self) -> None:
        while self._calls:
            call, done = self._calls.popleft()
            try:
                call()
            except Exception as exc:
                done.set_exception(exc)
            else:
                self._settle()
                done.set_result(None)

    def _settle(self) -> None:
        """A stall begins or ends at once."""
        if isinstance(self._side, Exchanges):
            self._side.settle()

    def _release(self) -> None:
        self._settings.stalled.clear()
        if isinstance(self._side, Links):
            self._side.release()

    def _drop(self) -> None:
        side = getattr(self, "_side", None)
        if side is not None:
            side.close()
        self._selector.close()
        self._awake.close()
        self._bell.close()

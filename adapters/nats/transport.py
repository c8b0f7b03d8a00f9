"""The one way between this process's threads and a NATS server: one connection at a time, one thread with an event loop.

Guarantees
- What one thread sends and asks for goes out in that order, subscriptions and requests included.
- A lost connection is made anew for ever, whatever the reason. First the subscriptions are restored, then what waited goes out. What was on
  its way when the connection was lost may be lost; nothing is sent twice.
- While there is no connection, messages wait (see `Outgoing`), and a question fails at once.
- Who waits for an answer is never left waiting: when the connection is lost, or all of it ends, the answer is the reason.

Everything here that is not for any thread belongs to the loop's thread. No user code ever runs there, and nothing there may block.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import threading
import weakref
from collections.abc import Callable
from random import random
from time import monotonic
from typing import Any, TypeVar

from actors.answer import Answer
from actors.errors import Broken, BusError, Closed, NotSent
from actors.hosting import BEFORE_FORK
from actors.telling import OnState
from actors.topics import MAX_PAYLOAD
from actors.waiting import current, remaining
from adapters.nats.interest import Ask, Interest
from adapters.nats.loop import Loop
from adapters.nats.outgoing import Op, Outgoing
from adapters.nats.servers import Servers
from adapters.nats.wire import Wire, end_all

__all__ = ["Transport"]

log = logging.getLogger("actorbus.nats")

RECONNECT_SECONDS = 0.25  # between attempts, and up to twice that by chance, so that not all clients of a server come back at once
ATTEMPT_SECONDS = 5.0
GOODBYE = 1.0  # seconds beyond the deadline, for the thread to say that it was over

T = TypeVar("T")


class Transport:
    """See the module. On the loop's thread, `tell(state, reason)` is called with "connected", "reconnecting" and "closed", and
    `refused(text)` with what the server does not permit.
    """

    def __init__(
        self,
        servers: Servers,
        *,
        tls: ssl.SSLContext | None,
        name: str,
        tell: OnState,
        refused: Callable[[str], object],
    ) -> None:
        self.url = str(servers)
        self._wire: Wire | None = None
        self.away: BusError | None = None  # why there is no connection at present
        self.since = monotonic()  # there is one, or there is none
        self.max_payload = MAX_PAYLOAD
        self.dropped = 0  # messages that were taken, and for which no connection came any more
        self.loop = Loop()
        self.outgoing = Outgoing(self.url, self._wake, self._why)
        self._servers = servers
        self._addresses = list(servers.addresses)
        self._tls = tls
        self._name = name
        self._tell = tell
        self._refused = refused
        self._asks: set[Ask[Any]] = set()  # changed and copied in single C calls
        self._interests: set[Interest] = set()
        self._news = asyncio.Event()
        self._leave = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="actorbus-nats", daemon=True)
        self._begun: Answer[bool] = Answer()
        _transports.add(self)

    # -- for any thread -----------------------------------------------------------------------------------------------

    def start(self, deadline: float | None) -> None:
        """Connect. Raises ConnectFailed or ConnectTimeout, and then nothing is left running."""
        self._first_deadline = deadline
        self._thread.start()
        try:
            self._begun.wait(None)  # which has that deadline itself
        except BaseException:
            self.close(monotonic())
            raise
        if self.outgoing.ended is not None:
            self._thread.join(GOODBYE)
            raise self.outgoing.ended.again()

    def exchange(self, ask: Ask[T], begin: Op, deadline: float | None, *, patient: bool = False) -> T | None:
        """Have `begin(wire)` awaited and wait for the answer to `ask`; None when the deadline came first. Raises the answer if that is an
        error: Broken as soon as there is no connection. `patient`: then it first waits for one.
        """
        if threading.current_thread() is self._thread:
            raise NotSent(self.url, "the thread of the transport cannot wait for itself")

        async def begin_if_still_wanted(wire: Wire) -> None:
            if not ask.given:
                await begin(wire)

        self._asks.add(ask)
        try:
            if self.away is not None and not patient:
                ask.fail(self.away)
            else:
                self.outgoing.call(begin_if_still_wanted)
            outcome = ask.wait(deadline)
        finally:
            self._asks.discard(ask)
            ask.set(Closed(self.url))  # nobody wants it any more
        if isinstance(outcome, BusError):
            raise outcome.again()
        return outcome

    def add(self, interest: Interest, ask: Ask[bool], deadline: float | None) -> None:
        """Subscribe, and return when the server knows; without one, it will when there is one again."""

        async def confirm(wire: Wire) -> None:
            with contextlib.suppress(Exception):
                await wire.flush()
            ask.set(True)

        async def begin(wire: Wire) -> None:
            self._interests.add(interest)
            await interest.begin(wire)

        async def begin_to_confirm(wire: Wire) -> None:
            wire.start(confirm(wire))

        self.outgoing.call(begin)
        self.exchange(ask, begin_to_confirm, deadline)

    def remove(self, interest: Interest) -> None:
        """Unsubscribe. What has come in meanwhile is still delivered. Waits for nothing, and after the end it is nothing."""

        async def end(wire: Wire) -> None:
            self._interests.discard(interest)
            await interest.end(wire)

        with contextlib.suppress(BusError):
            self.outgoing.call(end)

    def drain(self, interest: Interest, deadline: float | None) -> None:
        """Unsubscribe, and return when all is delivered that the server had sent before it knew, or at the deadline."""
        ask: Ask[bool] = Ask(True)

        async def forget(wire: Wire) -> None:
            self._interests.discard(interest)

        async def take_the_rest(wire: Wire) -> None:
            await interest.drain(wire)
            ask.set(True)

        async def end(wire: Wire) -> None:
            wire.start(take_the_rest(wire))

        self.outgoing.call(forget)
        self.exchange(ask, end, deadline)

    def close(self, deadline: float | None) -> bool:
        """Take nothing more, write what waits, as long as the deadline lets, and end. Returns whether the server has all of it. In a
        callback it does not wait, and returns False.
        """

        async def leave_after_flush(wire: Wire) -> None:
            async def leave() -> None:
                with contextlib.suppress(Exception):  # it is lost: that, too, ends it
                    await wire.flush()
                self._leave.set()

            wire.start(leave())

        if self.outgoing.end(Closed(self.url), leave_after_flush):
            left = remaining(deadline)
            if left == 0.0 or not self._begun.given or self.away is not None:
                self.loop.call_unless_closed(self._leave.set)
            elif left is not None:
                self.loop.call_unless_closed(lambda: self.loop.call_later(left, self._leave.set))
        if threading.current_thread() is self._thread or current().host is not None:
            return False
        self._thread.join(None if deadline is None else max(0.0, deadline - monotonic()) + GOODBYE)
        return not self._thread.is_alive() and not self.dropped

    def _wake(self) -> None:
        self.loop.call_unless_closed(self._news.set)

    def _why(self) -> str:
        return "the server does not take it fast enough" if self.away is None else f"there is no connection ({self.away.reason})"

    # -- on the loop's thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.outgoing.taker = threading.get_ident()
        reason: BusError = Closed(self.url)
        try:
            self.loop.run_until_complete(self._live())
        except BusError as exc:  # of the first connection
            reason = exc
        except BaseException as exc:
            log.exception("the transport to %s failed", self.url)
            reason = Broken(self.url, repr(exc))
        try:
            self.loop.run_until_complete(_cancel_the_rest())
        finally:
            self.dropped = self.outgoing.abandon(reason)
            if self.dropped:
                log.warning("%d messages that were published are lost: %s", self.dropped, self.away or reason)
            self._fail_all(reason)
            asyncio.set_event_loop(None)
            self.loop.close()
            self._begun.set(False)
            self._tell("closed", reason)

    async def _live(self) -> None:
        wire = await self._first()
        while wire is not None:
            await self._use(wire)
            wire = None if self._leave.is_set() else await self._next()

    async def _first(self) -> Wire | None:
        """Each address once; the last one's failure counts. None when we are to leave."""
        deadline = self._first_deadline
        outcome: Wire | BusError | None = None
        for left, address in zip(range(len(self._addresses), 0, -1), list(self._addresses), strict=True):
            now = monotonic()
            outcome = await self._dial(address, None if deadline is None else now + (deadline - now) / left)
            if not isinstance(outcome, BusError):
                return outcome
        assert isinstance(outcome, BusError)
        raise outcome

    async def _next(self) -> Wire | None:
        """The next connection, however long that takes; None when we are to leave."""
        attempt = 0
        while True:
            # The address of before is tried first, and then last.
            outcome = await self._dial(self._addresses[attempt % len(self._addresses)], monotonic() + ATTEMPT_SECONDS)
            if not isinstance(outcome, BusError):
                return outcome
            attempt += 1
            self._lose(outcome)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leave.wait(), RECONNECT_SECONDS * (1.0 + random()))

    def servers_known(self) -> set[str]:
        """Addresses: those that were given, and those that a server told of."""
        found = () if self._wire is None else self._wire.neighbours()
        return {*self._addresses, *found}

    def connected_to(self) -> str | None:
        """The address of the present connection."""
        return None if self._wire is None or self.away is not None else self._wire.address

    async def _dial(self, address: str, deadline: float | None) -> Wire | BusError | None:
        """A connection, why there is none, or None when we are to leave."""
        servers = self._servers
        wire = Wire(self.loop, address, servers, self._tls, self._refused)
        # What a cluster tells of itself are numbers; its certificates are for the name that was given.
        hostname = None if address in servers.addresses else servers.addresses[0].rpartition(":")[0]
        dialling = self.loop.create_task(wire.dial(deadline, name=self._name, hostname=hostname))
        await self._unless_leaving(dialling)
        dialling.cancel()  # once: it cleans up behind itself
        await asyncio.gather(dialling, return_exceptions=True)
        if self._leave.is_set():
            return None
        failed = dialling.exception()
        assert failed is None or isinstance(failed, BusError), failed
        return failed or wire

    async def _unless_leaving(self, *futures: asyncio.Future[Any]) -> None:
        """Return when one of these is done or we are to leave."""
        leaving = self.loop.create_task(self._leave.wait())
        await asyncio.wait({*futures, leaving}, return_when=asyncio.FIRST_COMPLETED)
        await end_all([leaving])

    async def _use(self, wire: Wire) -> None:
        """As long as it lasts, or until we are to leave."""
        self._wire = wire
        self._addresses.sort(key=lambda address: address != wire.address)
        feeding = self.loop.create_task(self._feed(wire))
        await self._unless_leaving(feeding, wire.lost)
        await end_all([feeding])
        self._addresses += [found for found in wire.neighbours() if found not in self._addresses]
        if not self._leave.is_set():
            self._lose(wire.lost.result() if wire.lost.done() else Broken(wire.url, repr(feeding.exception())))
            if self.outgoing.ended is not None:
                self._leave.set()  # it was to be the last one
        await wire.end()

    async def _feed(self, wire: Wire) -> None:
        self.max_payload = min(MAX_PAYLOAD, wire.max_payload)
        for interest in list(self._interests):
            await interest.begin(wire)
        await wire.flush()  # who hears that it is connected again may rely on the subscriptions
        self.away, self.since = None, monotonic()
        self._tell("connected", None)
        self._begun.set(True)
        # nats-py swallows a cancellation that strikes while it writes: so the end is looked for, too.
        while not (wire.lost.done() or self._leave.is_set()):
            self._news.clear()
            item = self.outgoing.take()
            if item is None:
                await self._news.wait()
            elif isinstance(item, bytes):
                await wire.write(item)
            else:
                await item(wire)

    def _lose(self, reason: BusError) -> None:
        first = self.away is None
        self.away = Broken(self.url, reason.reason).because(reason)
        if first:
            self.since = monotonic()
            self._fail_all(self.away)
            log.warning("%s; connecting again", reason)
            self._tell("reconnecting", reason)

    def _fail_all(self, reason: BusError) -> None:
        for ask in list(self._asks):
            ask.fail(reason)


async def _cancel_the_rest() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    await end_all(list(left))
    await asyncio.sleep(0)  # what was aborted hears of it


_transports: weakref.WeakSet[Transport] = weakref.WeakSet()
_left: list[Transport] = []  # to the parent, by a fork: nothing of them is to be finalized here, where it could touch what the two share


def _after_fork() -> None:
    # The thread, its loop and the connection are the parent's alone.
    for transport in list(_transports):
        transport.outgoing.after_fork(Broken(transport.url, BEFORE_FORK))
        transport.loop.disown()
        _left.append(transport)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""The actor of a server: its listening socket, its table of clients, who is admitted, broadcasts, and the end of all of it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal

from actors import hosting
from actors.actor import Close, CloseServer, post
from actors.answer import Answer, Tally
from actors.broadcast import offer_to_all
from actors.callbacks import NOBODY, Callbacks, judging
from actors.draining import ClientDrain, Drain, cut_of
from actors.errors import BusError, Closed, TooLarge
from actors.framing import LENGTH, Framing, with_heartbeat
from actors.lane import Lane
from actors.listener import ListenerActor
from actors.message import Message, Sendable, encode
from actors.outbox import MAX_BYTES as OUTBOX_BYTES
from actors.outbox import MAX_MESSAGES as OUTBOX_MESSAGES
from actors.paced import PacedLane
from actors.readerthread import ReaderThread
from actors.reports import BroadcastReport, StopReport
from actors.serialline import SerialLine
from actors.silence import HANDSHAKE_TIMEOUT
from actors.sockets import set_user_timeout
from actors.stream import LINGER, STALL_TIMEOUT, StreamActor
from actors.waiting import current, deadline_after

if TYPE_CHECKING:
    from actors.certificates import Credentials
    from actors.cluster import Cluster

__all__ = ["MAX_CLIENTS", "MAX_SIZE", "ServerActor", "Threads"]

log = logging.getLogger("actorbus.server")

MAX_SIZE = 1024 * 1024  # of a message from a client; a server has many, and knows none of them
MAX_CLIENTS = 10_000

Threads = int | Literal["own"] | None


class ServerActor(ListenerActor):
    """See the module. `make_client(actor)` makes what callbacks and reports show for a client.

    The table belongs to no lock: it is a dict, changed and copied in single C calls. So is `_present`.
    """

    keeps_alive = True
    client_type: type[StreamActor] = StreamActor

    def __init__(
        self,
        sock: socket.socket,
        loop: ReaderThread,
        *,
        callbacks: Callbacks,
        make_client: Callable[[StreamActor], Any],
        framing: Framing = LENGTH,
        max_size: int = MAX_SIZE,
        outbox_bytes: int = OUTBOX_BYTES,
        outbox_messages: int = OUTBOX_MESSAGES,
        stall_timeout: float | None = STALL_TIMEOUT,
        max_clients: int = MAX_CLIENTS,
        max_clients_per_address: int = MAX_CLIENTS,
        overflow: Literal["skip", "disconnect"] = "skip",
        serial: bool = False,
        threads: Threads = None,
        path: str | None = None,
        tls: Credentials | None = None,
        authenticate: Callable[[Message, Any], object] | None = None,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT,
        idle_timeout: float | None = None,
        heartbeat: float | None = None,
        user_timeout: float | None = None,
        max_messages_per_second: float | None = None,
        max_bytes_per_second: float | None = None,
        over_rate: Literal["delay", "disconnect"] = "delay",
    ) -> None:
        super().__init__(sock, loop, admit=self._admit_client, path=path, tls=tls)
        self._new_framing = partial(with_heartbeat, framing, heartbeat)  # a heartbeat is one connection's own
        self.framing = self._new_framing()
        self.max_size = max_size
        self._options: dict[str, Any] = {"outbox_bytes": outbox_bytes, "outbox_messages": outbox_messages, "stall_timeout": stall_timeout}
        self._options |= {"handshake_timeout": handshake_timeout, "idle_timeout": idle_timeout}
        if tls is not None:
            from actors.tlsstream import TlsStreamActor

            self.client_type = TlsStreamActor
        self._lane_type: Callable[..., Lane] = Lane
        if max_messages_per_second is not None or max_bytes_per_second is not None:
            self._lane_type = partial(
                PacedLane,
                max_messages_per_second=max_messages_per_second,
                max_bytes_per_second=max_bytes_per_second,
                over_rate=over_rate,
            )
        self.clients: dict[StreamActor, Any] = {}
        self.refused = 0
        self.unauthenticated = 0
        self.skipped = 0
        self.stopped: Answer[bool] = Answer()
        self.on_end: Callable[[], object] = lambda: None  # called once it has begun to close its clients
        self.cluster: Cluster | None = None  # that it is a node of
        self._callbacks = callbacks
        self._make_client = make_client
        self._authenticate = authenticate
        self._user_timeout = user_timeout
        self._max_clients = max_clients
        self._max_per_address = max_clients_per_address if path is None else max_clients  # clients of a Unix socket have no address
        self._overflow = overflow
        self._own = threads == "own"
        self._loops = [hosting.dedicated() for _ in range(threads)] if isinstance(threads, int) else []
        self._next_loop = 0
        self._serial: SerialLine | None = None
        if serial:
            line = SerialLine()
            if line.started:  # else the reader thread runs the callbacks, one at a time as well, if it is one
                self._serial = line
        self.draining = False
        self._drains: list[Drain] = []  # that were asked for and are not over
        self._drained: dict[StreamActor, Any] = {}  # the clients there were when the first one began
        self._undrained: set[StreamActor] = set()  # those that are not through with it
        self._present: dict[StreamActor, None] = {}  # those whose descriptor is not closed yet, the oldest first; of the reader thread
        self._unfinished: set[StreamActor] = set()  # those whose last callback has not run yet
        self._per_address: dict[str, int] = {}
        self._ending = False

    # -- clients, on the reader thread --------------------------------------------------------------------------------

    def _admit_client(self, sock: socket.socket, remote: str, local: str) -> StreamActor | None:
        host = remote.rpartition(":")[0]
        if self._ending or len(self._present) >= self._max_clients:
            self._refuse(remote, f"there are {len(self._present)} clients already (max_clients)")
            return None
        if self._per_address.get(host, 0) >= self._max_per_address:
            self._refuse(remote, f"there are {self._per_address[host]} from there already")
            return None
        set_user_timeout(sock, self._user_timeout)
        loop = self._loop_for_client()
        actor = self.client_type.open(
            sock,
            loop,
            remote_address=remote,
            local_address=local,
            framing=self._new_framing(),
            max_size=self.max_size,
            make_lane=self._make_lane,
            ready=self._ready,
            on_gone=lambda actor, reason: self.loop.call_soon(partial(self._client_gone, actor, host, reason)),
            dedicated=self._own,
            **self._client_options(),
        )
        self._present[actor] = None
        self._per_address[host] = self._per_address.get(host, 0) + 1
        return actor

    def _client_options(self) -> dict[str, Any]:
        return self._options if self.tls is None else self._options | {"context": self.tls.context}

    def _ready(self, actor: StreamActor) -> None:
        """Its messages can come: it is a client now, or has to say who it is first."""
        assert actor.lane is not None
        if self._authenticate is not None:
            actor.silence.expect("first message")
            return
        actor.lane.admit(self._callbacks, actor.lane.client)
        actor.loop.call_soon(actor.lane.settle)

    def _refuse(self, remote: str, reason: str) -> None:
        self.refused += 1
        log.warning("%s refused on %s: %s", remote, self.local_address, reason)

    def _loop_for_client(self) -> ReaderThread:
        if self._own:
            return hosting.dedicated()
        if not self._loops:
            return self.loop
        self._next_loop = (self._next_loop + 1) % len(self._loops)
        return self._loops[self._next_loop]

    def _make_lane(self, actor: StreamActor, *reader: Any, **options: Any) -> Lane:
        client = self._make_client(actor)
        self._unfinished.add(actor)

        def enter() -> None:
            self.clients[actor] = lane.client  # whole by now
            actor.silence.admitted()

        lane = self._lane_type(
            actor,
            *reader,
            callbacks=NOBODY if self._authenticate is None else judging(self._authenticate, lambda: lane, self._callbacks, LINGER),
            client=client,
            entered=enter,
            left=partial(self.clients.pop, actor, None),
            finished=partial(self._client_finished, actor),
            serial=self._serial,
            **options,
        )
        return lane

    def _client_finished(self, actor: StreamActor) -> None:
        """A client's last callback has run, on whichever thread; that may be after its descriptor has gone."""
        self._unfinished.discard(actor)
        if self._ending and not self._unfinished:
            self.loop.call_soon(self._maybe_finish)

    def _client_gone(self, actor: StreamActor, host: str, reason: BusError) -> None:
        log.info("%s", reason if actor.lane is None else actor.lane.ended or reason)  # what on_disconnect was told, or will be
        if self._authenticate is not None and actor.lane is not None and not actor.lane.admitted:
            self.unauthenticated += 1
        self._present.pop(actor, None)
        if self.draining:
            self._client_drained(actor)
        left = self._per_address.get(host, 1) - 1
        if left:
            self._per_address[host] = left
        else:
            self._per_address.pop(host, None)
        self._maybe_finish()

    # -- from any thread ----------------------------------------------------------------------------------------------

    def frame(self, message: Sendable) -> bytes:
        """The message as every client gets it. Raises TooLarge, TypeError, ValueError."""
        payload = encode(message)
        if len(payload) > self.max_size:
            raise TooLarge("all clients", f"{len(payload)} bytes are over max_size={self.max_size}")
        return self._framed(message, payload)

    def _framed(self, message: Sendable, payload: bytes) -> bytes:
        return self.framing.frame(payload)

    def broadcast(self, frame: bytes, to: Iterable[tuple[StreamActor, Any]] | None) -> BroadcastReport:
        """Give the same bytes to every client, or to those of `to`, each with what callbacks know it by. Waits for nobody."""
        report = offer_to_all(frame, self.clients.copy().items() if to is None else to, disconnect=self._overflow == "disconnect")
        if report.skipped:
            self.skipped += len(report.skipped)
            log.warning("a broadcast on %s skipped %d of %d clients", self.local_address, len(report.skipped), len(self.clients))
        return report

    def close(self, linger: float = LINGER) -> bool:
        return bool(self.stop_serving(linger))

    def stop_serving(self, linger: float = LINGER, drain: float | None = 0.0) -> StopReport:
        """Stop accepting, close every client in order within `linger`, free the port; `drain` seconds before that, drain.

        On a thread that runs a callback it only asks, and the report is false and empty; so it is for a drain in a session handler.
        """
        clients = dict(self.clients)
        working: frozenset[StreamActor] | None = None
        cut_short = False
        if drain != 0.0:
            over = self.drain(drain, linger)
            if current().host is not None or any(_handles(actor) == get_ident() for actor in clients):
                return StopReport(False)  # or it would wait for itself
            working = over.wait(None if drain is None else deadline_after(drain + 1.0))
            clients |= self._drained
            cut_short = bool(working)
        if working is None:
            working = _at_work(clients)
        wait = self._ask_to_close(clients, linger, None)
        if current().host is not None:
            return StopReport(False)
        deadline = deadline_after(linger + 1.0)
        taken = wait(deadline)
        # A callback that had the time of a drain is not waited for any longer.
        finished = bool(self.stopped.wait(0.0 if cut_short else deadline))
        cuts = (cut_of(actor, client, actor in working) for actor, client in clients.items())
        return StopReport(taken and finished, tuple(cut for cut in cuts if cut is not None))

    def close_from_outside(self, linger: float, reason: BusError | None = None) -> Callable[[float | None], bool]:
        taken = self._ask_to_close(self.clients.copy(), linger, reason)
        return lambda deadline: taken(deadline) and bool(self.stopped.wait(deadline))

    def _ask_to_close(self, clients: dict[StreamActor, Any], linger: float, reason: BusError | None) -> Callable[[float | None], bool]:
        answer = Tally(len(clients) + 1)  # theirs, and the server's own: the port is free
        self._say_goodbye()
        posted = post(self.actor_ref, CloseServer(reason or Closed(self.local_address), linger, answer, clients))
        self.closing = True  # asked only now: Ctrl-C before this leaves it to the next close, or to dropping the proxy
        waits: list[Callable[[float | None], object]] = [answer.wait] if posted else []
        if current().host is not None or not posted:
            # In a callback, behind which no other is to begin; or the server has ended, and clients may linger.
            waits += [actor.close_from_outside(linger) for actor in clients]

        def wait(deadline: float | None) -> bool:
            taken = [one(deadline) for one in waits]
            return all(taken)

        return wait

    def drain(self, seconds: float | None, linger: float | None) -> Answer[frozenset[StreamActor]]:
        """Ask it to drain, see `Drain`; returns what tells that this is over. From any thread."""
        order = Drain(seconds, linger)
        if not post(self.actor_ref, order):
            order.over.set(frozenset())
        elif linger is not None:
            self.closing = True
        return order.over

    def _say_goodbye(self) -> None:
        """The server begins to stop, and no client is closed for it yet."""

    # -- the end, on the reader thread --------------------------------------------------------------------------------

    def on_receive(self, message: Any) -> None:
        if isinstance(message, Close):
            self._say_goodbye()
            try:
                self._end(message.reason)
            finally:
                self._close_clients(message)
            if message.answer is not None:
                message.answer.set(True)
            self._maybe_finish()
        elif isinstance(message, Drain):
            self._drain(message)
        else:
            super().on_receive(message)

    def _close_clients(self, order: Close) -> None:
        awaited: dict[StreamActor, Any] = order.clients if isinstance(order, CloseServer) else {}
        for actor in awaited | self._present:
            actor.closing = True  # before it hears of it: on another thread it may be a guest who is about to be let in
            answer = order.answer if actor in awaited else None
            if not actor.take(Close(Closed(actor.remote_address), order.linger, answer)) and answer is not None:
                answer.set(actor.acknowledged)

    def _drain(self, order: Drain) -> None:
        if self.actor_stopped.is_set():
            order.over.set(frozenset())
            return
        self._drains.append(order)
        if not self.draining:
            self.draining = True
            self.stop_accepting()
            self._drained = dict(self.clients)
            self._undrained = set(self._present)
            reason = Closed(self.local_address)
            for actor in self._present:
                quiet = partial(self.loop.call_soon, partial(self._client_drained, actor))
                actor.loop.call_soon(ClientDrain(actor, reason, quiet).begin)
        if order.seconds is not None:
            order.timer = self.loop.call_later(order.seconds, partial(self._end_drain, order))
        self._maybe_drained()

    def _client_drained(self, actor: StreamActor) -> None:
        self._undrained.discard(actor)
        self._maybe_drained()

    def _maybe_drained(self) -> None:
        if not self._undrained:
            for order in list(self._drains):
                self._end_drain(order)

    def _end_drain(self, order: Drain) -> None:
        """All clients are through, or its time is over."""
        if order not in self._drains:
            return
        self._drains.remove(order)
        if order.timer is not None:
            order.timer.cancel()
        order.over.set(_at_work(self._undrained))
        if order.linger is not None:
            self.on_receive(Close(Closed(self.local_address), order.linger))

    def _end(self, reason: BusError) -> None:
        if not self._ending:
            self.on_end()
        self._ending = True
        self.end_listening(reason)

    def _maybe_finish(self) -> None:
        """The last callback has run: end what serves clients. Some may still linger until their peers have closed, too."""
        if not self._ending or self._unfinished or self.stopped.given:
            return
        if self._serial is not None:
            self._serial.stop()
        for loop in self._loops:
            hosting.release(loop)
        self._loops = []
        self.stopped.set(True)
        self.ended()


def _handles(actor: StreamActor) -> int | None:
    return None if actor.lane is None else actor.lane.handling


def _at_work(clients: Iterable[StreamActor]) -> frozenset[StreamActor]:
    return frozenset(actor for actor in clients if actor.lane is not None and actor.lane.at_work)

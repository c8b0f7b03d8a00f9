"""The actor of a server: its listening socket, its table of clients, who is admitted, broadcasts, and the end of all of it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from actors import hosting
from actors.actor import Close, post
from actors.errors import Broken, BusError, Closed, TooLarge
from actors.framing import LENGTH, Framing
from actors.heartbeat import with_heartbeat
from actors.http import HANDSHAKE_TIMEOUT
from actors.lane import NOBODY, Callbacks, Lane, SerialLine
from actors.listener import ListenerActor
from actors.message import Message, Sendable, encode
from actors.outbox import MAX_BYTES as OUTBOX_BYTES
from actors.paced import PacedLane
from actors.readerthread import ReaderThread
from actors.sockets import set_user_timeout
from actors.stream import LINGER, STALL_TIMEOUT, StreamActor
from actors.waiting import Answer, current, deadline_after

if TYPE_CHECKING:
    from actors.certificates import Credentials

__all__ = ["MAX_CLIENTS", "MAX_SIZE", "BroadcastReport", "ServerActor", "Threads"]

log = logging.getLogger("actorbus.server")

MAX_SIZE = 1024 * 1024  # of a message from a client; a server has many, and knows none of them
MAX_CLIENTS = 10_000

Threads = int | Literal["own"] | None


@dataclass(frozen=True)
class BroadcastReport:
    """What became of a broadcast, by client.

    `taken`: the kernel has the whole message. `queued`: it waits in the client's outbox, behind earlier ones. `skipped`: the outbox was
    full, or the client had left; nothing of the message goes to it.

    >>> report = BroadcastReport(taken=("a", "b"), queued=(), skipped=("c",))
    >>> len(report.taken), len(report.skipped)
    (2, 1)
    """

    taken: tuple[Any, ...] = ()
    queued: tuple[Any, ...] = ()
    skipped: tuple[Any, ...] = ()


class ServerActor(ListenerActor):
    """See the module. `make_client(actor)` makes what callbacks and reports show for a client.

    The table belongs to no lock: it is a dict, changed and copied in single C calls. So is the set `_present`.
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
        self.framing = with_heartbeat(framing, heartbeat)
        self.max_size = max_size
        self._options: dict[str, Any] = {"outbox_bytes": outbox_bytes, "stall_timeout": stall_timeout}
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
        self._callbacks = callbacks
        self._make_client = make_client
        self._authenticate = authenticate
        self._heartbeat = heartbeat
        self._user_timeout = user_timeout
        self._plain = framing
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
        self._present: set[StreamActor] = set()  # those whose descriptor is not closed yet; changed on the reader thread
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
        if self._user_timeout is not None:
            set_user_timeout(sock, self._user_timeout)
        loop = self._loop_for_client()
        actor = self.client_type.open(
            sock,
            loop,
            remote_address=remote,
            local_address=local,
            framing=with_heartbeat(self._plain, self._heartbeat),
            max_size=self.max_size,
            make_lane=self._make_lane,
            ready=self._ready,
            on_gone=lambda actor, reason: self.loop.call_soon(lambda: self._client_gone(actor, host, reason)),
            dedicated=self._own,
            **self._client_options(),
        )
        self._present.add(actor)
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
        judge = self._authenticate
        self._unfinished.add(actor)

        def enter() -> None:
            self.clients[actor] = lane.client  # whole by now
            actor.silence.admitted()

        lane = self._lane_type(
            actor,
            *reader,
            callbacks=NOBODY if judge is None else Callbacks(lambda message, client: self._judge(judge, lane, message, client)),
            client=client,
            entered=enter,
            left=lambda: self.clients.pop(actor, None),
            finished=lambda: self._client_finished(actor),
            serial=self._serial,
            **options,
        )
        return lane

    def _judge(self, judge: Callable[[Message, Any], object], lane: Lane, message: Message, client: Any) -> None:
        """The first message of one who is not admitted. On the thread that runs its callbacks."""
        admitted = False
        try:
            admitted = bool(judge(message, client))
        except BaseException:
            log.exception("authenticate raised for %s", lane.actor.remote_address)
        if admitted:
            lane.admit(self._callbacks, client)
        else:
            lane.actor.close_from_outside(LINGER, Closed(lane.actor.remote_address, ": authenticate did not admit it"))

    def _client_finished(self, actor: StreamActor) -> None:
        """A client's last callback has run, on whichever thread; that may be after its descriptor has gone."""
        self._unfinished.discard(actor)
        if self._ending:
            self.loop.call_soon(self._maybe_finish)

    def _client_gone(self, actor: StreamActor, host: str, reason: BusError) -> None:
        log.info("%s", reason if actor.lane is None else actor.lane.ended or reason)  # what on_disconnect was told, or will be
        if self._authenticate is not None and actor.lane is not None and not actor.lane.admitted:
            self.unauthenticated += 1
        self._present.discard(actor)
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

    def broadcast(self, frame: bytes, to: Iterable[StreamActor] | None) -> BroadcastReport:
        """Give the same bytes to every client, or to those of `to`. Waits for nobody."""
        taken, queued, skipped = [], [], []
        clients = self.clients
        for actor in list(clients) if to is None else to:
            client = clients.get(actor) or (actor.lane.client if actor.lane is not None else None)
            outcome = actor.outbox.offer(frame)
            if outcome == "taken":
                taken.append(client)
            elif outcome == "queued":
                queued.append(client)
            else:
                skipped.append(client)
                if self._overflow == "disconnect" and actor.outbox.ended is None:
                    reason = Broken(actor.remote_address, "it reads too slowly: its outbox was full at a broadcast")
                    actor.loop.call_soon(lambda actor=actor, reason=reason: actor.break_off(reason))  # type: ignore[misc]
        if skipped:
            self.skipped += len(skipped)
            log.warning("a broadcast on %s skipped %d of %d clients", self.local_address, len(skipped), len(clients))
        return BroadcastReport(tuple(taken), tuple(queued), tuple(skipped))

    def close(self, linger: float = LINGER) -> bool:
        """Stop accepting, close every client in order, free the port. Returns whether every client's TCP took everything, within `linger`.

        On a thread that runs a callback it only asks, and returns False.
        """
        wait = self.close_from_outside(linger)
        if current().host is not None:
            return False
        return wait(deadline_after(linger + 1.0))

    def close_from_outside(self, linger: float, reason: BusError | None = None) -> Callable[[float | None], bool]:
        answer: Answer[bool] = Answer()
        clients = list(self.clients)  # before the goodbye: who is admitted from now on is closed on the reader thread, after the next one
        self._say_goodbye()
        if not post(self.actor_ref, Close(reason or Closed(self.local_address), linger, answer)):
            return lambda deadline: bool(self.stopped.wait(deadline))
        self.closing = True
        # The port is free when the answer comes; then the clients are waited for.
        waits = [actor.close_from_outside(linger) for actor in clients]

        def wait(deadline: float | None) -> bool:
            free = bool(answer.wait(deadline))
            taken = [one(deadline) for one in waits]
            return free and all(taken) and bool(self.stopped.wait(deadline))

        return wait

    def _say_goodbye(self) -> None:
        """The server begins to stop, and no client is closed for it yet."""

    # -- the end, on the reader thread --------------------------------------------------------------------------------

    def on_receive(self, message: Any) -> None:
        if isinstance(message, Close):
            self._say_goodbye()
            self._end(message.reason)
            for actor in list(self._present):
                actor.close_from_outside(message.linger)
            if message.answer is not None:
                message.answer.set(True)
            self._maybe_finish()
        else:
            super().on_receive(message)

    def _end(self, reason: BusError) -> None:
        self._ending = True
        self.end_listening(reason)

    def _maybe_finish(self) -> None:
        """The last callback has run: end what serves clients. Some may still linger until their peers have closed, too."""
        if not self._ending or self._unfinished:
            return
        if self._serial is not None:
            self._serial.stop()
        for loop in self._loops:
            hosting.release(loop)
        self._loops = []
        self.stopped.set(True)
        self.ended()

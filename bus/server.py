"""Server and Client: many connections, one callback."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from actors.errors import BusError, DeadlinePassed, NotSent
from actors.message import Message, Sendable
from actors.reports import BroadcastReport, StopReport
from actors.server import ServerActor
from actors.stats import ServerStats, Stats
from actors.stream import LINGER, StreamActor
from actors.waiting import check_timeout, current, deadline_after
from bus.arguments import check_positive
from bus.connection import SEND_TIMEOUT, peer_certificate, tls_version
from bus.proxies import Proxy

if TYPE_CHECKING:
    from actors.cluster import Cluster, Node

__all__ = ["Client", "Server"]

NODES_TIMEOUT = 0.5  # for the other nodes of a cluster to answer


class Client:
    """A server's client, as callbacks see it. Safe to use from several threads, also after the callback has returned.

    `state` is a namespace for the script's own data about this client.
    """

    __slots__ = ("__weakref__", "_actor", "_home", "state")

    def __init__(self, actor: StreamActor, home: object) -> None:
        self._actor = actor
        self._home = home  # the same object for all clients of one server
        self.state: Any = SimpleNamespace()

    @property
    def local_address(self) -> str:
        """The server's end: "ip:port" or a path."""
        return self._actor.local_address

    @property
    def remote_address(self) -> str:
        """The client's end: "ip:port"."""
        return self._actor.remote_address

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The certificate that the client showed, as `ssl.SSLSocket.getpeercert` gives it; None without one, and without TLS."""
        return peer_certificate(self._actor)

    @property
    def tls_version(self) -> str | None:
        """What the two speak, "TLSv1.3" for one; None without TLS."""
        return tls_version(self._actor)

    def send(self, message: Sendable, timeout: float | None = SEND_TIMEOUT) -> None:
        """Send to this client, as `Connection.send` does. In a callback it never waits: over the limit it raises NotSent at once.

        In the client's own callback one message more than the outbox holds is taken; then the client is not read until it has read its
        replies.
        """
        actor = self._actor
        frame = actor.frame(message)
        outbox = actor.outbox
        if current().host is not actor.lane:
            if timeout is not SEND_TIMEOUT:
                check_timeout(timeout)
            if not outbox.try_send(frame):
                outbox.send(frame, deadline_after(timeout))
        elif outbox.congested:
            raise NotSent(actor.remote_address, f"{len(outbox)} bytes are still waiting for it to read, and a callback never waits")
        else:
            outbox.force(frame)

    def receive(self, timeout: float | None = None) -> Message | None:
        """Not here: a server's messages go to its callback. Raises TypeError."""
        raise TypeError("a server's client has no receive(): its messages go to on_message; for receive() use bus.listen and accept()")

    @property
    def ended(self) -> BusError | None:
        """Why the connection has ended, as soon as that is known; None while it has not. Messages from before may still be handled."""
        lane = self._actor.lane
        return None if lane is None else lane.ended

    def connected(self) -> bool:
        """True until the connection has ended and the last message before that was handled."""
        lane = self._actor.lane
        return lane is not None and not self._actor.closing and (lane.ended is None or bool(lane.pending))

    def close(self, linger: float = LINGER) -> bool:
        """Close this client's connection in order. In a callback it does not wait, and returns False."""
        seconds = check_timeout(linger, "linger")
        try:
            return self._actor.close(LINGER if seconds is None else seconds)
        except DeadlinePassed:
            return False

    def stats(self) -> Stats:
        """A snapshot of the counters."""
        return self._actor.stats()

    def __repr__(self) -> str:
        return f"<Client {self.remote_address} of {self.local_address} {self._actor.state.value}>"


class Server(Proxy):
    """A server of many clients: what `serve` gives. Safe to use from several threads.

    >>> import bus
    >>> with bus.serve("tcp://127.0.0.1:0", on_message=lambda msg, client: msg.text.upper()) as server:
    ...     with bus.connect(f"tcp://{server.address}") as conn:
    ...         conn.send("hello")
    ...         print(conn.receive(timeout=5).text)
    HELLO
    """

    __slots__ = ("_cluster", "_home")

    _actor: ServerActor

    def __init__(self, actor: ServerActor, home: object, join: Callable[[ServerActor], Cluster] | None = None) -> None:
        self._actor = actor
        self._home = home
        self._cluster = None if join is None else join(actor)

    @property
    def address(self) -> str:
        """Where it listens: "ip:port" or a path."""
        return self._actor.local_address

    @property
    def clients(self) -> list[Client]:
        """A snapshot of the clients connected now, in the order they came."""
        return list(self._actor.clients.values())

    def send(self, message: Sendable, client: Client, timeout: float | None = SEND_TIMEOUT) -> None:
        """Send to one client, as `Client.send` does.

        Raises PeerClosed or Broken when it has left, TypeError when it is not a Client, ValueError when it is another server's.
        """
        self._own(client).send(message, timeout)

    def _own(self, client: Client) -> Client:
        if not isinstance(client, Client):
            raise TypeError(f"client must be a Client of this server, not {type(client).__name__}")
        if client._home is not self._home:
            raise ValueError(f"{client!r} belongs to another server than {self.address}")
        return client

    def send_to_all(self, message: Sendable, to: Iterable[Client] | None = None) -> BroadcastReport:
        """Send to every client, or to those of `to`. Encodes once and never waits for anybody.

        A client whose outbox is full is skipped and counted, or disconnected with `overflow="disconnect"`. The report tells by client.
        In a cluster the clients of all its nodes get it, unless `to` is given: those of this node first. Raises TooLarge.
        """
        ended = self._actor.mailbox.ended
        if ended is not None:
            raise ended.again()
        frame = self._actor.frame(message)
        if to is not None:
            return self._actor.broadcast(frame, [(self._own(client)._actor, client) for client in to])
        if self._cluster is None:
            return self._actor.broadcast(frame, None)
        self._cluster.check(message)
        report = self._actor.broadcast(frame, None)
        return replace(report, elsewhere=self._cluster.pass_on(message))

    @property
    def cluster(self) -> str | None:
        """The name of the cluster that it is a node of; None without one."""
        return None if self._cluster is None else self._cluster.name

    @property
    def cut_off(self) -> bool:
        """Whether the other nodes of its cluster cannot be reached this moment. It serves its own clients all the same."""
        return self._cluster is not None and self._cluster.cut_off

    def nodes(self, timeout: float = NODES_TIMEOUT, *, expected: int | None = None) -> list[Node]:
        """The nodes of its cluster, this one first: those that answer within `timeout` seconds.

        Nobody knows how many there are, so it waits that long, unless `expected` says with how many in all it may end. Without a cluster,
        and cut off from it, this node is all there is, and nothing is waited for.

        >>> import bus
        >>> with bus.serve("tcp://127.0.0.1:0", lambda msg, client: None, cluster="chat") as one:
        ...     with bus.serve("tcp://127.0.0.1:0", lambda msg, client: None, cluster="chat"):
        ...         print(len(one.nodes(timeout=5, expected=2)))
        2
        """
        seconds = check_timeout(timeout)
        if seconds is None:
            raise TypeError("timeout must be a number of seconds, not None: nobody knows how many nodes there are")
        if expected is not None:
            check_positive(expected, "expected")
        if self._cluster is None:
            from actors.cluster import Node

            return [Node("", self._actor.local_address, len(self._actor.clients))]
        return self._cluster.nodes(seconds, expected)

    def count_all(self, timeout: float = NODES_TIMEOUT, *, expected: int | None = None) -> int:
        """How many clients the nodes of its cluster have in all: those of `nodes`, which see."""
        return sum(node.clients for node in self.nodes(timeout, expected=expected))

    def reload_certificates(self) -> None:
        """Read the files of `cert`, `key` and `ca` again, for handshakes from now on; running connections go on as they are.

        Raises OSError and ValueError as `serve` does, and then the old ones stay in force; TypeError if it was not given files.
        """
        self._actor.reload_certificates()

    def stop(self, linger: float = LINGER, *, drain: float | None = 0.0) -> StopReport:
        """Stop listening, close every client in order within `linger` seconds, free the port: `close`, with a report of what was cut off.

        With `drain`, finish first what has begun, for that many seconds at most (None: however long it takes). At once the port is free and
        nothing more is read from clients. Then what had come is handed to its callbacks, callbacks end, their replies go out, outboxes
        flush; a broadcast still reaches everybody. A session handler goes on with what it does; its `receive` gives what had come and then
        raises Closed (`for` ends), and when it has returned, its client is through. When all are through, or the time is over, it closes.

        In a callback it only asks: the report is false and empty, and the drain goes on without being waited for. So it is in a session
        handler, if there is a drain, which would else wait for itself. When the time of a `bus.deadline` is over, it asks too, and any
        drain is cut short; as it is by a second `stop` meanwhile, or `close`.

        Raises TypeError and ValueError for what is no time.

        >>> import bus
        >>> server = bus.serve("tcp://127.0.0.1:0", on_message=lambda msg, client: msg.text.upper())
        >>> with bus.connect(f"tcp://{server.address}") as conn:
        ...     conn.send("hello")
        ...     answer = conn.receive(timeout=5)
        ...     report = server.stop(drain=5)
        >>> for cut in report.cut:
        ...     print(f"{cut.client}: {cut.unsent} bytes and {cut.unhandled} messages are lost")
        """
        seconds, drain = check_timeout(linger, "linger"), check_timeout(drain, "drain")
        try:
            return self._actor.stop_serving(LINGER if seconds is None else seconds, drain)
        except DeadlinePassed:
            self._actor.close_soon()
            return StopReport(False)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server is stopped (True), or `timeout` seconds (False). Ctrl-C ends it with KeyboardInterrupt."""
        return bool(self._actor.stopped.wait(deadline_after(timeout)))

    def stats(self) -> ServerStats:
        """A snapshot of the counters."""
        actor = self._actor
        return ServerStats(
            clients=len(actor.clients),
            accepted=actor.accepted,
            refused=actor.refused,
            skipped=actor.skipped,
            unauthenticated=actor.unauthenticated,
        )

    def __del__(self) -> None:
        """A server works for its clients until it is stopped, whether or not the script keeps a name for it."""

    def _text(self) -> str:
        state = "stopped" if self._actor.mailbox.ended is not None else "draining" if self._actor.draining else "serving"
        cluster = "" if self._cluster is None else f", in cluster {self.cluster}{', cut off' * self.cut_off}"
        return f"{self.address} {state}, {len(self._actor.clients)} clients{cluster}"

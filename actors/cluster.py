"""Servers on several nodes that pass their broadcasts on to each other: those of one cluster name, over the topics of this process.

Guarantees
- A node serves its own clients first, and serves them whatever becomes of the others or of the server between them.
- There is one subscription for each node, whatever the number of its clients. What one node says reaches the clients of another in the
  order in which it was said, each once; between the messages of several nodes there is no order.
- A node drops its own messages by its id. (NATS could keep them back, and would keep back requests to this process as well.)

The other nodes' messages are handled on a thread of their own, behind a bounded mailbox: the oldest go if it cannot keep up, counted and
logged as with any subscription.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from actors import hosting
from actors.engine import Engine
from actors.errors import BusError, Closed
from actors.message import Message, Sendable, encode
from actors.subjects import check_queue
from actors.subscription import NoSocket, ResponderActor
from actors.topicbox import TopicBox
from actors.topics import ERROR, TopicMessage, check_size
from actors.waiting import deadline_after, remaining

if TYPE_CHECKING:
    from actors.server import ServerActor

__all__ = ["Cluster", "Node", "PassedOn", "check_cluster"]

log = logging.getLogger("actorbus.cluster")

SUBJECT = "$ACTORBUS.cluster"  # which no script's wildcard hears
NODES = "$ACTORBUS.cluster-nodes."  # where who asks for them is answered
NODE, TEXT, ASKED = "Actorbus-Node", "Actorbus-Text", "Actorbus-Asked"

PassedOn = Literal["taken", "queued", "skipped"]


@dataclass(frozen=True)
class Node:
    """One server of a cluster: its `id` (a new one each time it starts), where it listens, and how many clients it has.

    >>> Node("5f0c", "10.0.0.5:8080", 120).clients
    120
    """

    id: str
    address: str
    clients: int


def check_cluster(name: str) -> str:
    """The name, if it can be one: a single token of a topic. Raises TypeError and ValueError."""
    check_queue(name, "cluster")
    return name


def told_by(answer: TopicMessage) -> Node | None:
    """The node that answered; None if it could not, or what it said is none: who speaks there may be of another version, or anybody."""
    if ERROR in answer.headers:
        return None
    try:
        match answer.json():
            case {"id": str(id), "address": str(address), "clients": int(clients)} if clients >= 0 and clients is not True:
                return Node(id, address, clients)
    except (ValueError, RecursionError):
        pass
    log.warning("what was to be a node of %s says something else", answer.topic)
    return None


class Cluster:
    """One server's part in a cluster. See the module."""

    def __init__(self, name: str, server: ServerActor, engine: Engine) -> None:
        self.name = name
        self.id = os.urandom(8).hex()
        self._server = server
        self._engine = engine
        self._subject = f"{SUBJECT}.{name}"
        self._headers = {NODE: self.id}
        self._told = False  # that it is cut off
        self._unfit = 0  # broadcasts of others
        box = TopicBox(self._subject)
        self._ear = ResponderActor.open(NoSocket(), hosting.shared(), engine=engine, box=box, callback=self._heard)
        server.on_end = self.leave
        server.cluster = self

    @property
    def cut_off(self) -> bool:
        """Whether the other nodes cannot be reached this moment."""
        return not self._engine.up or self._ear.mailbox.ended is not None

    def node(self) -> Node:
        """This one."""
        return Node(self.id, self._server.local_address, len(self._server.clients))

    def check(self, message: Sendable) -> None:
        """Raises TooLarge for what could not be passed on: better nobody gets it than this node's clients alone."""
        check_size(self._subject, encode(message), self._headers | {TEXT: "1"}, self._engine.max_payload)

    def pass_on(self, message: Sendable) -> PassedOn:
        """Say it to the other nodes. Waits for nobody."""
        is_text = message.is_text if isinstance(message, Message) else isinstance(message, (str, dict))
        headers = self._headers | {TEXT: "1"} if is_text else self._headers
        cut_off = self.cut_off
        if cut_off != self._told:
            self._tell(cut_off)
        try:
            if self._ear.mailbox.ended is not None:
                raise Closed(self._subject)
            self._engine.publish(self._subject, encode(message), headers, None, 0.0)
        except BusError as exc:
            log.warning("a broadcast on %s reached its own clients only: %s", self._server.local_address, exc)
            return "skipped"
        return "queued" if cut_off else "taken"

    def _tell(self, cut_off: bool) -> None:
        self._told = cut_off
        if cut_off:
            log.warning("%s of cluster %s is cut off from the other nodes; it serves its own clients on", self.node().address, self.name)
        else:
            log.info("%s of cluster %s reaches the other nodes again", self.node().address, self.name)

    def nodes(self, timeout: float, expected: int | None) -> list[Node]:
        """This node, and the others that answer within `timeout` seconds, or as soon as `expected` are there in all."""
        found = [self.node()]
        deadline = deadline_after(timeout)
        if self.cut_off:
            return found
        inbox = f"{NODES}{os.urandom(8).hex()}"
        box = TopicBox(inbox)
        self._engine.subscribe(inbox, None, box)
        try:
            self._engine.publish(self._subject, b"", self._headers | {ASKED: "nodes"}, inbox, timeout)
            # The time is looked at, too: there may be somebody who does not stop answering.
            while len(found) != expected and remaining(deadline) != 0.0 and (answer := box.get(deadline)) is not None:
                if (node := told_by(answer)) is not None and node.id not in {known.id for known in found}:
                    found.append(node)
        except BusError as exc:
            log.warning("only those nodes of cluster %s are known that answered before this: %s", self.name, exc)
        finally:
            self._engine.unsubscribe(inbox, None, box)
        return found

    def _heard(self, message: TopicMessage) -> Sendable | None:
        """On the thread of the cluster."""
        if message.headers.get(NODE) == self.id:
            return None
        if ASKED in message.headers:
            return vars(self.node())
        try:
            frame = self._server.frame(Message(message.data, message.source, TEXT in message.headers))
        except ValueError as exc:  # larger than these clients take, or text that is none
            self._unfit += 1
            if str(self._unfit).strip("0") == "1":
                log.warning("%d broadcasts of cluster %s so far did not reach the clients of this node: %s", self._unfit, self.name, exc)
            return None
        self._server.broadcast(frame, None)
        return None

    def leave(self) -> None:
        """The server ends: nothing more is heard. On the reader thread, so this waits for nothing."""
        self._ear.close_from_outside(0.0)

"""After a fork, in the child: what was open before belongs to the parent alone.

The child has one thread, the one that forked. Locks of before may be held for ever by threads that it does not have; sockets, epoll and
eventfds are shared with the parent. So nothing here takes a lock of before, sets an eventfd or changes an epoll: each object gets fresh
locks and an end that says what has happened, and its descriptors are closed, in the child only. New objects work there as ever.

This is the one place that reaches into every object of the engine. It imports no kind of actor that may not be there yet: a module that a
thread of the parent was just importing is locked for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pykka

from actors.answer import Answer
from actors.errors import Broken
from actors.hosting import BEFORE_FORK, is_a
from actors.stream import State, StreamActor

if TYPE_CHECKING:
    from actors.datagram import DatagramActor
    from actors.link import LinkActor
    from actors.mailbox import Mailbox
    from actors.reader import Reader
    from actors.readerthread import ReaderThread

__all__ = ["disown"]



def disown(loops: Iterable[ReaderThread]) -> None:
    """End every actor of these loops, and the loops, for this process."""
    pykka.ActorRegistry._actor_refs_lock = threading.RLock()
    for loop in loops:
        for actor in list(loop.hosted):
            _disown_actor(actor)
        _disown_loop(loop)


def _disown_loop(loop: ReaderThread) -> None:
    loop._lock = threading.Lock()
    loop._token += 1  # a callback that has forked returns to a loop that ends
    loop._lane = None
    loop._readers.clear()
    loop._ready.clear()
    loop._tasks.clear()
    loop._timers.clear()
    loop.lent.clear()
    loop.hosted.clear()
    loop.stopped = threading.Event()
    loop.discard()


def _disown_actor(actor: Any) -> None:
    actor.closing = True
    actor.scope = None
    ref = actor.actor_ref
    actor.actor_stopped = ref.actor_stopped = threading.Event()
    actor.actor_stopped.set()
    pykka.ActorRegistry.unregister(ref)
    inbox = actor.actor_inbox
    inbox._lock = threading.Lock()
    inbox.close()
    if is_a(actor, "AlarmActor") or is_a(actor, "BridgeActor"):
        return
    if is_a(actor, "LinkActor"):
        _disown_link(actor)
        return
    if is_a(actor, "TopicActor"):
        _disown_topic(actor)
        return
    if is_a(actor, "ServerActor"):
        actor.clients.clear()
        actor.stopped = Answer()
        actor.stopped.set(True)
    if isinstance(actor, StreamActor):
        _disown_stream(actor, Broken(actor.remote_address, BEFORE_FORK))
    elif is_a(actor, "DatagramActor"):
        _disown_datagrams(actor, Broken(actor.remote_address or actor.local_address, BEFORE_FORK))
    else:
        assert is_a(actor, "ListenerActor"), actor
        _disown_mailbox(actor.mailbox, Broken(actor.local_address, BEFORE_FORK))
        _disown_reader(actor.reader, threading.Lock())


def _disown_link(link: LinkActor) -> None:
    """Its connection is an actor of its own."""
    link._lock = threading.Lock()
    link._waiters.clear()
    link.teller.after_fork()
    link._dialler = None
    link.closed = Broken(link.remote_address, BEFORE_FORK)
    _disown_mailbox(link.mailbox, link.closed)


def _disown_topic(actor: Any) -> None:
    """The engine's table is the parent's: the child has another."""
    _disown_mailbox(actor.mailbox, Broken(actor.address, BEFORE_FORK))
    actor.mailbox._room = threading.Lock()
    actor.mailbox._publishers.clear()
    if is_a(actor, "ResponderActor"):
        actor.through = Answer()
        actor.through.set(True)


def _disown_stream(actor: StreamActor, reason: Broken) -> None:
    actor.state = State.GONE
    actor.reason = reason
    outbox = actor.outbox
    outbox._lock = threading.Lock()
    outbox._waiters.clear()  # before the drop: they are threads of the parent
    outbox.drop(reason)
    _disown_reader(actor.reader, outbox._lock)
    if actor.lane is None:
        _disown_mailbox(actor.mailbox, reason)
    else:
        actor.lane.ended = reason
        actor.lane.pending = ()


def _disown_datagrams(actor: DatagramActor, reason: Broken) -> None:
    actor.ended_reason = reason
    actor._send_lock = threading.Lock()
    actor.outbox.after_fork(actor._send_lock)
    actor.intake.after_fork()
    _disown_mailbox(actor.mailbox, reason)
    for reader in actor.readers:
        _disown_reader(reader, actor._send_lock)


def _disown_mailbox(mailbox: Mailbox[Any], reason: Broken) -> None:
    mailbox._lock = threading.Lock()
    mailbox._waiters.clear()
    mailbox._bell = None
    mailbox._direct = None
    mailbox.ended = None  # whatever ended it before: the child is not told
    mailbox.close(reason)


def _disown_reader(reader: Reader, write_lock: threading.Lock) -> None:
    reader.mutex = threading.Lock()
    reader.read_lock = threading.Lock()
    reader.write_lock = write_lock
    reader.loan = None
    reader.closing = True
    reader.fd = -1  # so that no gate changes the parent's epoll
    reader.sock.close()

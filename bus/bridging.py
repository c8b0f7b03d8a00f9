"""The verb `bridge`: what one object receives, another sends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from actors import hosting
from actors.bridging import BridgeActor
from actors.errors import BusError
from actors.message import Message
from actors.subjects import check_topic
from actors.subscription import NoSocket
from actors.topics import NO_HEADERS, TopicMessage, refuse
from actors.waiting import check_timeout, current, deadline_after
from bus.connection import Connection
from bus.datagrams import Group, UdpSocket
from bus.server import Client, Server
from bus.subscription import Subscription
from bus.topics import publish, subscribe
from bus.websocket import Session

if TYPE_CHECKING:
    from actors.stats import Stats

__all__ = ["Bridge", "bridge"]

CLOSE_TIMEOUT = 5.0

Source: TypeAlias = "Connection | Session | UdpSocket | Group | Subscription | str"
Target: TypeAlias = "Connection | Client | Group | Server | str"


class Bridge:
    """Forwards messages until one of its ends ends, or it is closed: what `bridge` gives."""

    def __init__(self, actor: BridgeActor) -> None:
        self._actor = actor

    @property
    def reason(self) -> BusError | None:
        """Why it has ended; None while it works."""
        return self._actor.reason

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended (True), or `timeout` seconds (False)."""
        return bool(self._actor.over.wait(deadline_after(timeout)))

    def stats(self) -> Stats:
        """A snapshot of the counters: `messages_in` came, `messages_out` were taken by the target; `lost` could not be forwarded, or passed
        over a client of a server that did not read.
        """
        return self._actor.stats()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> bool:
        """Stop forwarding; source and target stay open. A message that the target has not taken yet is lost, and counted. Returns whether
        it has ended within `timeout` seconds; in a callback it does not wait. Closing twice is nothing.
        """
        seconds = check_timeout(timeout)
        self._actor.close()
        if current().host is not None:
            return False
        return bool(self._actor.over.wait(deadline_after(CLOSE_TIMEOUT if seconds is None else seconds)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        actor = self._actor
        state = "forwarding" if actor.reason is None else f"ended ({actor.reason})"
        return f"<Bridge {actor.name} {state}, {actor.messages_out} forwarded, {actor.lost} lost>"


def bridge(source: Source, target: Target) -> Bridge:
    """Forward every message from `source` to `target`, on a thread of the library's, until one of them ends or the bridge is closed.

    `source`: a connection, a WebSocket session, a UDP socket, a group, a subscription, or a topic (str), to which it subscribes. From then
    on the messages are the bridge's to receive. `target`: a connection, a server's client, a group, a server (all of its clients), or a
    topic (str). Give two bridges for both ways; topics with wildcards, and rings of bridges, are not looked through.

    It waits for the target, and so slows the source where that can be slowed: a stream, or `subscribe(…, overflow="wait")`. Of the others,
    and of a topic given by name, the mailbox drops and counts. What the target cannot take (too large for a datagram, for one) is counted
    in `Bridge.stats().lost` and logged. That the target has ended is noticed with the next message, which is lost then.
    It keeps its script alive. Headers go from topic to topic. What comes from a durable subscription is acknowledged when the target has
    taken it; what can never be sent (too large) is counted and logged as everything that is lost, and does not come again.

    Raises TypeError, BadTopic.

    >>> import bus
    >>> with bus.bind("udp://127.0.0.1:0") as sock, bus.subscribe("sensors") as sub, bus.bridge(sock, "sensors"):
    ...     sock.send_to(sock.address, "21.5")
    ...     print(sub.receive(timeout=5).text)
    21.5
    """
    send, to = _sending(target)
    owned: Subscription | None = None
    if isinstance(source, str):
        source = owned = subscribe(source)
    elif not isinstance(source, Connection | Session | UdpSocket | Group | Subscription):
        raise TypeError(f"source must be something to receive from, or a topic, not {type(source).__name__}")
    elif isinstance(source, Subscription) and source._actor.durable is not None:
        send = partial(_acknowledged, send)
    finish = _nothing if owned is None else owned.close
    name = f"bridge from {_named(source)} to {to}"
    try:
        return BridgeActor.open_for(
            Bridge, NoSocket(), hosting.shared(), name=name, receive=source.receive, send=send, finish=finish
        )
    except BaseException:
        finish()
        raise


def _sending(target: Any) -> tuple[Callable[[Message], int], str]:
    """What sends a message and tells how many it passed over, and what it is called."""
    if isinstance(target, str):
        check_topic(target)
        return partial(_publish, target), f"topic {target}"
    if isinstance(target, Server):
        return lambda message: len(target.send_to_all(message).skipped), f"the clients of {target.address}"
    if isinstance(target, Connection | Client | Group):
        return partial(_send, target), _named(target)
    hint = ": it has no peer, use connect" if isinstance(target, UdpSocket) else ""
    raise TypeError(f"target must be something to send to, or a topic, not {type(target).__name__}{hint}")


def _publish(topic: str, message: Message) -> int:
    publish(topic, message, timeout=None, headers=getattr(message, "headers", NO_HEADERS))
    return 0


def _send(target: Connection | Client | Group, message: Message) -> int:
    target.send(message, timeout=None)
    return 0


def _acknowledged(send: Callable[[Message], int], message: Message) -> int:
    assert isinstance(message, TopicMessage)
    try:
        passed_over = send(message)
    except (ValueError, TypeError):  # it can never be sent, and would come again for ever
        with contextlib.suppress(BusError):
            refuse(message)
        raise
    with contextlib.suppress(BusError):  # then it comes again, and is forwarded again
        message.ack()
    return passed_over


def _named(end: Any) -> str:
    if isinstance(end, Subscription):
        return f"topic {end.topic}"
    return str(getattr(end, "remote_address", "") or getattr(end, "address", ""))


def _nothing() -> None:
    pass

"""actorbus: blocking network objects for scripts. `connect`, `listen`, `bind`, `join`, `serve`; then `send`, `receive(timeout)`, `close`.
And topics: `publish`, `subscribe`, `request`, `respond`.

Behind each object a Pykka actor owns the socket, and its reader loop pushes messages into a mailbox.
"""

from __future__ import annotations

import bus._siblings  # noqa: F401  # before anything of `actors`

# isort: split
from typing import TYPE_CHECKING

from actors import ending as _ending  # noqa: F401  # now, so that what a script registers with `atexit` is done before it
from actors.errors import (
    BadAddress,
    BadTopic,
    Broken,
    BusError,
    Closed,
    ConnectFailed,
    ConnectTimeout,
    DeadlinePassed,
    EngineInUse,
    NoResponders,
    NotDurable,
    NotSent,
    PeerClosed,
    RequestTimeout,
    ResponderFailed,
    TooLarge,
)
from actors.message import Message

if TYPE_CHECKING:
    from actors.cluster import Node
    from actors.http import Request, Response
    from actors.reports import BroadcastReport, Cut, StopReport
    from actors.stats import ServerStats, Stats
    from actors.topics import TopicMessage
    from actors.waiting import deadline
    from bus._version import __version__
    from bus.anyof import receive_any
    from bus.bridging import Bridge, bridge
    from bus.connecting import connect
    from bus.connection import Connection
    from bus.datagrams import Group, UdpSocket
    from bus.listener import Listener
    from bus.opening import Topics, open
    from bus.server import Client, Server
    from bus.serving import serve
    from bus.subscription import Responder, Subscription
    from bus.topics import publish, request, respond, subscribe
    from bus.verbs import bind, explain, join, listen, shutdown
    from bus.websocket import Session, WebSocketClient

__all__ = [
    "BadAddress",
    "BadTopic",
    "Bridge",
    "BroadcastReport",
    "Broken",
    "BusError",
    "Client",
    "Closed",
    "ConnectFailed",
    "ConnectTimeout",
    "Connection",
    "Cut",
    "DeadlinePassed",
    "EngineInUse",
    "Group",
    "Listener",
    "Message",
    "NoResponders",
    "Node",
    "NotDurable",
    "NotSent",
    "PeerClosed",
    "Request",
    "RequestTimeout",
    "Responder",
    "ResponderFailed",
    "Response",
    "Server",
    "ServerStats",
    "Session",
    "Stats",
    "StopReport",
    "Subscription",
    "TooLarge",
    "TopicMessage",
    "Topics",
    "UdpSocket",
    "WebSocketClient",
    "__version__",
    "bind",
    "bridge",
    "connect",
    "deadline",
    "explain",
    "join",
    "listen",
    "open",
    "publish",
    "receive_any",
    "request",
    "respond",
    "serve",
    "shutdown",
    "subscribe",
]

# What a script catches and receives is there at once. Each verb brings its part of the engine when it is first asked for.
_LATE = {
    "actors.cluster": ("Node",),
    "actors.http": ("Request", "Response"),
    "actors.reports": ("BroadcastReport", "Cut", "StopReport"),
    "actors.stats": ("ServerStats", "Stats"),
    "actors.topics": ("TopicMessage",),
    "actors.waiting": ("deadline",),
    "bus._version": ("__version__",),
    "bus.anyof": ("receive_any",),
    "bus.bridging": ("Bridge", "bridge"),
    "bus.connecting": ("connect",),
    "bus.connection": ("Connection",),
    "bus.datagrams": ("Group", "UdpSocket"),
    "bus.listener": ("Listener",),
    "bus.opening": ("Topics", "open"),
    "bus.server": ("Client", "Server"),
    "bus.serving": ("serve",),
    "bus.subscription": ("Responder", "Subscription"),
    "bus.topics": ("publish", "request", "respond", "subscribe"),
    "bus.verbs": ("bind", "explain", "join", "listen", "shutdown"),
    "bus.websocket": ("Session", "WebSocketClient"),
}
if not TYPE_CHECKING:  # or a misspelt name would pass the type checker

    def __getattr__(name):
        from importlib import import_module

        for module, names in _LATE.items():
            if name in names:
                globals()[name] = value = getattr(import_module(module), name)
                return value
        raise AttributeError(f"module 'bus' has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})

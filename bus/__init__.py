"""actorbus: blocking network objects for scripts. `connect`, `listen`, `bind`, `join`, `serve`; then `send`, `receive(timeout)`, `close`.
And topics: `publish`, `subscribe`, `request`, `respond`.

Behind each object a Pykka actor owns the socket, and its reader loop pushes messages into a mailbox.
"""

from __future__ import annotations

import bus._siblings  # noqa: F401  # before anything of `actors`

# isort: split
from actors.cluster import Node
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
from actors.http import Request, Response
from actors.message import Message
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

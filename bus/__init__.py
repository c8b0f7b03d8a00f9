"""actorbus: blocking network objects for scripts. `connect`, `listen`, `bind`, `join`, `serve`; then `send`, `receive(timeout)`, `close`.

Behind each object a Pykka actor owns the socket, and its reader loop pushes messages into a mailbox.
"""

from __future__ import annotations

import bus._siblings  # noqa: F401  # before anything of `actors`

# isort: split
from actors.draining import Cut, StopReport
from actors.errors import (
    BadAddress,
    Broken,
    BusError,
    Closed,
    ConnectFailed,
    ConnectTimeout,
    DeadlinePassed,
    NotSent,
    PeerClosed,
    TooLarge,
)
from actors.http import Request, Response
from actors.message import Message
from actors.stats import BroadcastReport, ServerStats, Stats
from actors.waiting import deadline
from bus._version import __version__
from bus.anyof import receive_any
from bus.connecting import connect
from bus.connection import Connection
from bus.datagrams import Group, UdpSocket
from bus.listener import Listener
from bus.server import Client, Server
from bus.serving import serve
from bus.verbs import bind, explain, join, listen, shutdown
from bus.websocket import Session, WebSocketClient

__all__ = [
    "BadAddress",
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
    "Group",
    "Listener",
    "Message",
    "NotSent",
    "PeerClosed",
    "Request",
    "Response",
    "Server",
    "ServerStats",
    "Session",
    "Stats",
    "StopReport",
    "TooLarge",
    "UdpSocket",
    "WebSocketClient",
    "__version__",
    "bind",
    "connect",
    "deadline",
    "explain",
    "join",
    "listen",
    "receive_any",
    "serve",
    "shutdown",
]

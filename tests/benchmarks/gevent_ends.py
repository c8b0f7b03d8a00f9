"""gevent: a `StreamServer` with a greenlet per client, and a blocking client on gevent's sockets. By name: types are checked
without it, too.
"""

import contextlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

from . import wire
from .cell import Cell
from .end import REPLY_TIMEOUT, Gate


def server(announce: Callable[[str], None], cell: Cell) -> None:
    stream_server: Any = import_module("gevent.server").StreamServer

    def echo(sock: Any, address: Any) -> None:
        wire.no_delay(sock)
        sock.settimeout(REPLY_TIMEOUT)
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                wire.send_frame(sock, wire.read_frame(sock))

    server = stream_server(("127.0.0.1", 0), echo)
    server.start()
    announce(f"127.0.0.1:{server.server_port}")
    server.serve_forever()


def client(address: str, gate: Gate) -> None:
    host, _, port = address.rpartition(":")
    with import_module("gevent.socket").create_connection((host, int(port)), timeout=REPLY_TIMEOUT) as sock:
        wire.no_delay(sock)

        def trip(payload: bytes) -> bytes:
            wire.send_frame(sock, payload)
            return wire.read_frame(sock)

        gate.time(trip)

"""This library: proxies at both ends, and the callback server. Imported only where `bus` is."""

from collections.abc import Callable
from functools import partial

import bus

from . import tls
from .cell import Cell
from .end import REPLY_TIMEOUT, Gate

CONNECT_TIMEOUT = 10.0


def proxy_server(announce: Callable[[str], None], cell: Cell) -> None:
    with bus.listen(tls.url("127.0.0.1:0", cell), tls=tls.server_context(cell)) as listener:
        announce(listener.address)
        conn = listener.accept(timeout=CONNECT_TIMEOUT)
        if conn is None:
            raise TimeoutError("nobody connected")
        for msg in conn:
            conn.send(msg.data)


def proxy_client(address: str, gate: Gate) -> None:
    with bus.connect(tls.url(address, gate.cell), timeout=CONNECT_TIMEOUT, tls=tls.client_context(gate.cell)) as conn:
        gate.time(partial(trip, conn))


def trip(conn: bus.Connection, payload: bytes) -> bytes:
    """There and back, as a script does it."""
    conn.send(payload)
    msg = conn.receive(timeout=REPLY_TIMEOUT)
    if msg is None:
        raise TimeoutError("no echo")
    return msg.data


def callback_server(announce: Callable[[str], None], cell: Cell) -> None:
    with bus.serve(tls.url("127.0.0.1:0", cell), on_message=lambda msg, client: msg, tls=tls.server_context(cell)) as server:
        announce(server.address)
        server.wait()

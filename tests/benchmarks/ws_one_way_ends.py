"""Large WebSocket messages one way, binary, no compression, no pings."""

from typing import Any

from . import tls
from .cell import Cell
from .end import Announce, Gate
from .one_way_ends import Tally, stream
from .wire import MAX_SIZE


def sync_in(announce: Announce, cell: Cell) -> None:
    from websockets.sync.server import ServerConnection, serve

    tally = Tally(cell)

    def take(ws: ServerConnection) -> None:
        for message in ws:
            assert isinstance(message, bytes)
            tally.take(message)

    options: dict[str, Any] = {"compression": None, "max_size": MAX_SIZE, "ping_interval": None, "ssl": tls.server_context(cell)}
    with serve(take, "127.0.0.1", 0, **options) as server:
        announce("{}:{}".format(*server.socket.getsockname()), tally.so_far)
        server.serve_forever()


def sync_out(address: str, gate: Gate) -> None:
    from websockets.sync.client import connect

    options: dict[str, Any] = {"compression": None, "ping_interval": None, "ssl": tls.client_context(gate.cell)}
    with connect(tls.url(address, gate.cell, "ws"), **options) as ws:
        stream(gate, ws.send)


def bus_in(announce: Announce, cell: Cell) -> None:
    import bus

    tally = Tally(cell)
    options: dict[str, Any] = {"max_size": MAX_SIZE, "ping_interval": None, "tls": tls.server_context(cell)}
    with bus.serve(tls.url("127.0.0.1:0", cell, "ws"), lambda msg, client: tally.take(msg.data), **options) as server:
        announce(server.address, tally.so_far)
        server.wait()


def bus_out(address: str, gate: Gate) -> None:
    import bus

    with bus.connect(tls.url(address, gate.cell, "ws"), ping_interval=None, tls=tls.client_context(gate.cell)) as conn:
        stream(gate, conn.send)

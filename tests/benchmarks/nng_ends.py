"""pynng over TCP. NNG sets TCP_NODELAY itself; its threads are part of the CPU figures. By name: types are checked without it, too."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from .cell import Cell
from .end import REPLY_TIMEOUT, Gate

ANY = "tcp://127.0.0.1:0"


def address_of(sock: Any) -> str:
    """Of a socket that listens."""
    return str(sock.listeners[0].local_address)


def pair_server(announce: Callable[[str], None], cell: Cell) -> None:
    with import_module("pynng").Pair0(listen=ANY) as sock:
        announce(address_of(sock))
        while True:
            sock.send(sock.recv())


def pair_client(address: str, gate: Gate) -> None:
    with import_module("pynng").Pair0(dial=f"tcp://{address}", recv_timeout=int(REPLY_TIMEOUT * 1000)) as sock:

        def trip(payload: bytes) -> bytes:
            sock.send(payload)
            echo: bytes = sock.recv()
            return echo

        gate.time(trip)

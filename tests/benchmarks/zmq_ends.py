"""pyzmq over TCP. ZeroMQ sets TCP_NODELAY itself; its I/O threads are part of the CPU figures."""

from collections.abc import Callable

import zmq

from .cell import Cell
from .end import REPLY_TIMEOUT, Gate


def rep_server(announce: Callable[[str], None], cell: Cell) -> None:
    _echo(zmq.REP, announce)


def req_client(address: str, gate: Gate) -> None:
    _trips(zmq.REQ, address, gate)


def pair_server(announce: Callable[[str], None], cell: Cell) -> None:
    _echo(zmq.PAIR, announce)


def pair_client(address: str, gate: Gate) -> None:
    _trips(zmq.PAIR, address, gate)


def _echo(kind: int, announce: Callable[[str], None]) -> None:
    with zmq.Context() as context, context.socket(kind) as sock:
        announce(f"127.0.0.1:{sock.bind_to_random_port('tcp://127.0.0.1')}")
        while True:
            sock.send(sock.recv())


def _trips(kind: int, address: str, gate: Gate) -> None:
    with zmq.Context() as context, context.socket(kind) as sock:
        sock.setsockopt(zmq.RCVTIMEO, int(REPLY_TIMEOUT * 1000))
        sock.setsockopt(zmq.LINGER, 0)
        sock.connect(f"tcp://{address}")

        def trip(payload: bytes) -> bytes:
            sock.send(payload)
            answer: bytes = sock.recv()
            return answer

        gate.time(trip)

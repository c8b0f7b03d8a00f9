"""pyzmq REQ/REP over TCP. ZeroMQ sets TCP_NODELAY itself; its I/O threads are part of the CPU figures."""

from collections.abc import Callable

import zmq

from .cell import Cell
from .end import REPLY_TIMEOUT, Gate


def rep_server(announce: Callable[[str], None], cell: Cell) -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as sock:
        announce(f"127.0.0.1:{sock.bind_to_random_port('tcp://127.0.0.1')}")
        while True:
            sock.send(sock.recv())


def req_client(address: str, gate: Gate) -> None:
    with zmq.Context() as context, context.socket(zmq.REQ) as sock:
        sock.setsockopt(zmq.RCVTIMEO, int(REPLY_TIMEOUT * 1000))
        sock.setsockopt(zmq.LINGER, 0)
        sock.connect(f"tcp://{address}")

        def trip(payload: bytes) -> bytes:
            sock.send(payload)
            answer: bytes = sock.recv()
            return answer

        gate.time(trip)

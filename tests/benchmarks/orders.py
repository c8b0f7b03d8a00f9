"""Orders from one end to the other over a connection of their own, a byte each; what an order returns goes back as a line of JSON.

So the end by hand can have the other do things and time them, while the parent only watches.
"""

import asyncio
import inspect
import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from . import wire
from .end import REPLY_TIMEOUT

KNOWN = b"k"  # every end that takes orders says how many clients it has
LOOK_EVERY = 0.01

# None is no answer. For `obey_async` an order may be a coroutine function.
Acts = Mapping[bytes, Callable[[], Any]]


def obey(control: socket.socket, acts: Acts) -> None:
    """One after the other, on this thread, until the other end has gone."""
    orders, _ = control.accept()
    wire.no_delay(orders)
    while order := orders.recv(1):
        if (answer := acts[order]()) is not None:
            orders.sendall(json.dumps(answer).encode() + b"\n")


async def obey_async(control: socket.socket, acts: Acts) -> None:
    loop = asyncio.get_running_loop()
    control.setblocking(False)
    orders, _ = await loop.sock_accept(control)
    wire.no_delay(orders)
    while order := await loop.sock_recv(orders, 1):
        answer = acts[order]()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is not None:
            await loop.sock_sendall(orders, json.dumps(answer).encode() + b"\n")


class Orders:
    """The end that gives them. `timeout`: seconds after which no answer is one."""

    def __init__(self, address: str, timeout: float = REPLY_TIMEOUT) -> None:
        self._sock = wire.connect(address, timeout)

    def give(self, order: bytes) -> None:
        self._sock.sendall(order)

    def answer(self) -> Any:
        line = bytearray()
        while not line.endswith(b"\n"):
            line += wire.read_exactly(self._sock, 1)
        return json.loads(line)

    def ask(self, order: bytes) -> Any:
        """TimeoutError if there is no answer."""
        self.give(order)
        return self.answer()

    def until_known(self, count: int, seconds: float = REPLY_TIMEOUT) -> None:
        """TimeoutError if it does not come to that, or there is no answer."""
        deadline = time.monotonic() + seconds
        while (known := self.ask(KNOWN)) != count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server knows {known} clients, not {count}")
            time.sleep(LOOK_EVERY)

"""This library's server of many clients: by default, with more threads, and with callbacks one at a time. Imported only where `bus` is."""

from collections.abc import Callable
from functools import partial
from typing import Any

import bus

from .cell import Cell
from .many_work import work


def on_message(msg: bus.Message, client: Any) -> bytes:
    return work(msg.data)


def _serve(announce: Callable[[str], None], cell: Cell, *, scheme: str = "tcp", **options: Any) -> None:
    with bus.serve(f"{scheme}://127.0.0.1:0", on_message, **options) as server:
        announce(server.address)
        server.wait()


default_server = _serve
two_threads_server = partial(_serve, threads=2)
own_threads_server = partial(_serve, threads="own")
serial_server = partial(_serve, serial=True)
websocket_server = partial(_serve, scheme="ws", ping_interval=None)

"""What the suite is run against: our server and client, and those of the `websockets` package to compare with. All of them echo."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import websockets.exceptions
import websockets.sync.client
import websockets.sync.server

import bus

__all__ = ["CLIENTS", "SERVERS"]

MAX_SIZE = 64 * 1024 * 1024  # the largest message of section 9 has 16 MiB
SILENCE = 120.0  # seconds without a message, after which a client gives a case up


@contextmanager
def our_server(compression: bool) -> Iterator[str]:
    """Yields its "ip:port"."""
    with bus.serve(
        "ws://127.0.0.1:0", lambda msg, client: msg, max_size=MAX_SIZE, outbox_bytes=MAX_SIZE, compression=compression
    ) as server:
        yield server.address


def our_client(url: str, compression: bool) -> list[str]:
    """Echo until the end; the text messages that came, which are few where anybody looks at them."""
    texts: list[str] = []
    try:
        with bus.connect(url, max_size=MAX_SIZE, compression=compression, proxy=False) as conn:
            while (msg := conn.receive(timeout=SILENCE)) is not None:
                if msg.is_text and len(texts) < 2:
                    texts.append(msg.text)
                conn.send(msg)
    except bus.BusError:
        pass  # how it ended is for the suite to judge
    return texts


@contextmanager
def their_server(compression: bool) -> Iterator[str]:
    def echo(connection: Any) -> None:
        try:
            for message in connection:
                connection.send(message)
        except websockets.exceptions.ConnectionClosed:
            pass

    deflate = "deflate" if compression else None
    with websockets.sync.server.serve(echo, "127.0.0.1", 0, max_size=MAX_SIZE, compression=deflate) as server:
        host, port = server.socket.getsockname()[:2]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"{host}:{port}"
        finally:
            server.shutdown()
            thread.join(SILENCE)


def their_client(url: str, compression: bool) -> list[str]:
    texts: list[str] = []
    try:
        deflate = "deflate" if compression else None
        with websockets.sync.client.connect(url, max_size=MAX_SIZE, compression=deflate, proxy=None) as connection:
            while True:
                message = connection.recv(timeout=SILENCE)
                if isinstance(message, str) and len(texts) < 2:
                    texts.append(message)
                connection.send(message)
    except (websockets.exceptions.WebSocketException, OSError):
        pass
    return texts


Server = Callable[[bool], AbstractContextManager[str]]
Client = Callable[[str, bool], list[str]]

SERVERS: dict[str, Server] = {"actorbus": our_server, "websockets": their_server}
CLIENTS: dict[str, Client] = {"actorbus": our_client, "websockets": their_client}

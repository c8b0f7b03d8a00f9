"""The libraries under fault, each through the API that its documentation shows, with its defaults.

A server echoes what a client says; an end of a connection sends, receives and closes. What a library has no call for is not made up: it has
None there, and the row says –.
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

__all__ = ["LIBRARIES", "End", "Library", "Serving"]


class End(Protocol):
    """A client's end of a connection. `receive` gives None after its timeout, and raises when the connection has ended."""

    def send(self, data: bytes) -> None: ...
    def receive(self, timeout: float) -> bytes | None: ...
    def close(self) -> None: ...


class Serving(Protocol):
    """A server that echoes. `send_to_all` as the library does it, or a loop over its connections where it leaves that to the script."""

    port: int

    def send_to_all(self, data: bytes) -> None: ...
    def clients(self) -> int: ...
    def stop(self) -> None: ...


class Library:
    """`wire` names the peers by hand; without `connect` it is no client, without `serve` no server."""

    def __init__(
        self, title: str, wire: str, connect: Callable[[str, int], End] | None, serve: Callable[[str], Serving] | None, *packages: str
    ) -> None:
        self.title = title
        self.wire = wire
        self.connect = connect
        self.serve = serve
        self.packages = packages


def _in_background(call: Callable[[], object]) -> None:
    threading.Thread(target=call, daemon=True).start()


# -- actorbus -----------------------------------------------------------------------------------------------------------


class BusEnd:
    def __init__(self, scheme: str, host: str, port: int) -> None:
        import bus

        self._conn = bus.connect(f"{scheme}://{host}:{port}")

    def send(self, data: bytes) -> None:
        self._conn.send(data)

    def receive(self, timeout: float) -> bytes | None:
        message = self._conn.receive(timeout=timeout)
        return None if message is None else message.data

    def close(self) -> None:
        self._conn.close()


class BusServing:
    def __init__(self, scheme: str, host: str) -> None:
        import bus

        self._server = bus.serve(f"{scheme}://{host}:0", lambda message, client: message)
        self.port = int(self._server.address.rpartition(":")[2])

    def send_to_all(self, data: bytes) -> None:
        self._server.send_to_all(data)

    def clients(self) -> int:
        return len(self._server.clients)

    def stop(self) -> None:
        self._server.stop()


# -- websockets.sync ----------------------------------------------------------------------------------------------------


class SyncEnd:
    def __init__(self, host: str, port: int) -> None:
        from websockets.sync.client import connect

        self._ws = connect(f"ws://{host}:{port}/")

    def send(self, data: bytes) -> None:
        self._ws.send(data)

    def receive(self, timeout: float) -> bytes | None:
        try:
            data = self._ws.recv(timeout=timeout)
        except TimeoutError:
            return None
        return data.encode() if isinstance(data, str) else data

    def close(self) -> None:
        self._ws.close()


class SyncServing:
    def __init__(self, host: str) -> None:
        from websockets.sync.server import ServerConnection, serve

        def echo(ws: ServerConnection) -> None:
            self._open.add(ws)
            try:
                for message in ws:
                    ws.send(message)
            finally:
                self._open.discard(ws)

        self._open: set[Any] = set()
        self._server = serve(echo, host, 0)
        self.port = self._server.socket.getsockname()[1]
        _in_background(self._server.serve_forever)

    def send_to_all(self, data: bytes) -> None:
        for ws in list(self._open):
            ws.send(data)

    def clients(self) -> int:
        return len(self._open)

    def stop(self) -> None:
        self._server.shutdown()


# -- websocket-client ---------------------------------------------------------------------------------------------------


class WebSocketClientEnd:
    def __init__(self, host: str, port: int) -> None:
        self._module: Any = import_module("websocket")
        self._ws: Any = self._module.create_connection(f"ws://{host}:{port}/")

    def send(self, data: bytes) -> None:
        self._ws.send_binary(data)

    def receive(self, timeout: float) -> bytes | None:
        before = self._ws.gettimeout()
        self._ws.settimeout(timeout)
        try:
            data = self._ws.recv()
        except self._module.WebSocketTimeoutException:
            return None
        finally:
            if self._ws.sock is not None:
                self._ws.settimeout(before)
        if data in ("", b"") and not self._ws.connected:
            raise ConnectionError("closed")
        return data.encode() if isinstance(data, str) else bytes(data)

    def close(self) -> None:
        self._ws.close()


# -- pyzmq --------------------------------------------------------------------------------------------------------------


class ZmqEnd:
    """A DEALER in a context of its own; leaving it is closing both, as the `with` of its documentation does."""

    def __init__(self, host: str, port: int) -> None:
        zmq: Any = import_module("zmq")
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(f"tcp://{host}:{port}")

    def send(self, data: bytes) -> None:
        self._socket.send(data)

    def receive(self, timeout: float) -> bytes | None:
        return bytes(self._socket.recv()) if self._socket.poll(timeout * 1000) else None

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class ZmqServing:
    """A ROUTER that echoes on the thread that owns it; other threads hand it what to send."""

    def __init__(self, host: str) -> None:
        zmq: Any = import_module("zmq")
        self._host = host
        self._context = zmq.Context()
        self._orders = self._context.socket(zmq.PAIR)
        self._orders.bind("inproc://orders")
        self._known: set[bytes] = set()
        bound = threading.Event()
        self._thread = threading.Thread(target=self._echo, args=(zmq, bound), daemon=True)
        self._thread.start()
        bound.wait(30)

    def _echo(self, zmq: Any, bound: threading.Event) -> None:
        router, orders = self._context.socket(zmq.ROUTER), self._context.socket(zmq.PAIR)
        self.port = router.bind_to_random_port(f"tcp://{self._host}")
        orders.connect("inproc://orders")
        bound.set()
        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        poller.register(orders, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if orders in ready:
                data = orders.recv()
                if data == b"stop":
                    break
                for identity in self._known:
                    router.send_multipart([identity, data])
                orders.send(b"done")
            if router in ready:
                identity, *rest = router.recv_multipart()
                self._known.add(identity)
                router.send_multipart([identity, *rest])
        router.close()
        orders.close()

    def send_to_all(self, data: bytes) -> None:
        self._orders.send(data)
        self._orders.recv()

    def clients(self) -> int:
        return len(self._known)

    def stop(self) -> None:
        self._orders.send(b"stop")
        self._thread.join()
        self._orders.close()
        self._context.term()


# -- socketserver -------------------------------------------------------------------------------------------------------


class SocketServing:
    def __init__(self, host: str) -> None:
        class Echo(socketserver.StreamRequestHandler):
            def handle(handler) -> None:
                self._open.add(handler)
                try:
                    for line in handler.rfile:
                        handler.wfile.write(line)
                finally:
                    self._open.discard(handler)

        self._open: set[socketserver.StreamRequestHandler] = set()
        self._server = socketserver.ThreadingTCPServer((host, 0), Echo)
        self.port = self._server.server_address[1]
        _in_background(self._server.serve_forever)

    def send_to_all(self, data: bytes) -> None:
        for handler in list(self._open):
            handler.wfile.write(data + b"\n")

    def clients(self) -> int:
        return len(self._open)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _bus(scheme: str, wire: str) -> Library:
    title = f"actorbus, `{scheme}://`"
    return Library(title, wire, lambda host, port: BusEnd(scheme, host, port), lambda host: BusServing(scheme, host), "actorbus")


LIBRARIES: dict[str, Library] = {
    "bus-tcp": _bus("tcp", "length"),
    "bus-ws": _bus("ws", "ws"),
    "websockets": Library("`websockets.sync`", "ws", SyncEnd, SyncServing, "websockets"),
    "websocket-client": Library("websocket-client", "ws", WebSocketClientEnd, None, "websocket-client"),
    "pyzmq": Library("pyzmq", "zmtp", ZmqEnd, ZmqServing, "pyzmq"),
    "socketserver": Library("`socketserver`", "lines", None, SocketServing),
}

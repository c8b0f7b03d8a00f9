"""WebSocket ends of other makes, each talking to us and we to each: `websockets`, and where installed `websocket-client` and `aiohttp`."""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeAlias, TypeVar

import pytest
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server

import bus
from tests.bus.peers import WAIT

T = TypeVar("T")
Data: TypeAlias = "str | bytes"
Ended: TypeAlias = "tuple[int | None, str]"  # code and reason of the other side's close frame

MAX_SIZE = 16 * 1024 * 1024
SIZES = [0, 1, 125, 126, 65_535, 65_536, 1_000_000]
PLEASE_CLOSE = "please close"
CODE, REASON = 4321, "até amanhã"


def text_of(size: int) -> str:
    """That many bytes of UTF-8, with characters of every length in it where there is room."""
    piece = "a line, où ça 10 € 😀 "
    text = piece * (size // len(piece.encode()))
    return text + "x" * (size - len(text.encode()))


def binary_of(size: int) -> bytes:
    """Half of it can be compressed."""
    return random.Random(size).randbytes(size // 2) + bytes(size - size // 2)


class Client(Protocol):
    """A client of another make."""

    def send(self, data: Data) -> None: ...
    def receive(self) -> Data: ...
    def close(self, code: int, reason: str) -> None: ...

    def end(self) -> Ended:
        """Wait for the server's close frame."""
        ...


class Server(Protocol):
    """An echo server of another make, that closes with CODE and REASON when PLEASE_CLOSE comes."""

    url: str
    ended: queue.Queue[Ended]  # of each client's close frame
    compressed: bool | None  # as agreed with the last client


# --- websockets ---


class WebsocketsClient:
    def __init__(self, connection: websockets.sync.client.ClientConnection) -> None:
        self.connection = connection

    def send(self, data: Data) -> None:
        self.connection.send(data)

    def receive(self) -> Data:
        return self.connection.recv(timeout=WAIT)

    def close(self, code: int, reason: str) -> None:
        self.connection.close(code, reason)

    def end(self) -> Ended:
        with pytest.raises(websockets.exceptions.ConnectionClosed) as caught:
            self.connection.recv(timeout=WAIT)
        return said(caught.value)


def said(exc: websockets.exceptions.ConnectionClosed) -> Ended:
    return (exc.rcvd.code, exc.rcvd.reason) if exc.rcvd is not None else (None, "")


@contextmanager
def websockets_client(url: str, compression: bool) -> Iterator[Client]:
    deflate = "deflate" if compression else None
    with websockets.sync.client.connect(url, compression=deflate, max_size=MAX_SIZE, proxy=None, open_timeout=WAIT) as connection:
        assert bool(connection.protocol.extensions) is compression
        yield WebsocketsClient(connection)


class EchoServer:
    def __init__(self) -> None:
        self.url = ""
        self.ended: queue.Queue[Ended] = queue.Queue()
        self.compressed: bool | None = None


@contextmanager
def websockets_server(compression: bool) -> Iterator[Server]:
    made = EchoServer()

    def echo(connection: websockets.sync.server.ServerConnection) -> None:
        made.compressed = bool(connection.protocol.extensions)
        try:
            for message in connection:
                if message == PLEASE_CLOSE:
                    connection.close(CODE, REASON)
                else:
                    connection.send(message)
            connection.recv(timeout=WAIT)  # raises what iteration keeps for itself
        except websockets.exceptions.ConnectionClosed as exc:
            made.ended.put(said(exc))

    deflate = "deflate" if compression else None
    with websockets.sync.server.serve(echo, "127.0.0.1", 0, compression=deflate, max_size=MAX_SIZE) as server:
        host, port = server.socket.getsockname()[:2]
        made.url = f"ws://{host}:{port}/"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join(WAIT)


# --- websocket-client ---


class WebsocketClientClient:
    def __init__(self, package: Any, connection: Any) -> None:
        self.abnf = package.ABNF
        self.connection = connection

    def send(self, data: Data) -> None:
        self.connection.send(data, self.abnf.OPCODE_TEXT if isinstance(data, str) else self.abnf.OPCODE_BINARY)

    def receive(self) -> Data:
        opcode, data = self.connection.recv_data()
        assert opcode in (self.abnf.OPCODE_TEXT, self.abnf.OPCODE_BINARY)
        payload = bytes(data)
        return payload.decode() if opcode == self.abnf.OPCODE_TEXT else payload

    def close(self, code: int, reason: str) -> None:
        self.connection.close(code, reason.encode())

    def end(self) -> Ended:
        opcode, data = self.connection.recv_data(control_frame=True)
        assert opcode == self.abnf.OPCODE_CLOSE
        return int.from_bytes(data[:2], "big"), data[2:].decode()


@contextmanager
def websocket_client_client(url: str, compression: bool) -> Iterator[Client]:
    websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
    if compression:
        pytest.skip("websocket-client has no compression")
    # It would look at each byte of a text in Python, for many seconds; `receive` decodes strictly all the same.
    connection = websocket.create_connection(url, timeout=WAIT, http_no_proxy=["127.0.0.1"], skip_utf8_validation=True)
    try:
        yield WebsocketClientClient(websocket, connection)
    finally:
        connection.shutdown()


# --- aiohttp ---


class Loop:
    """An asyncio loop on a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WAIT)

    def close(self) -> None:
        self.run(self.loop.shutdown_asyncgens())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(WAIT)
        self.loop.close()


@contextmanager
def running_loop() -> Iterator[Loop]:
    loop = Loop()
    try:
        yield loop
    finally:
        loop.close()


class AiohttpClient:
    def __init__(self, package: Any, loop: Loop, connection: Any) -> None:
        self.kinds = package.WSMsgType
        self.loop = loop
        self.connection = connection

    def send(self, data: Data) -> None:
        self.loop.run(self.connection.send_str(data) if isinstance(data, str) else self.connection.send_bytes(data))

    def receive(self) -> Data:
        message = self.loop.run(self.connection.receive())
        assert message.type in (self.kinds.TEXT, self.kinds.BINARY)
        data: Data = message.data
        return data

    def close(self, code: int, reason: str) -> None:
        self.loop.run(self.connection.close(code=code, message=reason.encode()))

    def end(self) -> Ended:
        message = self.loop.run(self.connection.receive())
        assert message.type is self.kinds.CLOSE
        return message.data, message.extra


@contextmanager
def aiohttp_client(url: str, compression: bool) -> Iterator[Client]:
    aiohttp = pytest.importorskip("aiohttp")

    async def connect() -> tuple[Any, Any]:
        session = aiohttp.ClientSession()
        return session, await session.ws_connect(url, compress=15 if compression else 0, max_msg_size=MAX_SIZE)

    with running_loop() as loop:
        session, connection = loop.run(connect())
        try:
            assert bool(connection.compress) is compression
            yield AiohttpClient(aiohttp, loop, connection)
        finally:
            loop.run(connection.close())
            loop.run(session.close())


@contextmanager
def aiohttp_server(compression: bool) -> Iterator[Server]:
    aiohttp = pytest.importorskip("aiohttp")
    web = pytest.importorskip("aiohttp.web")
    made = EchoServer()

    async def echo(request: Any) -> Any:
        response = web.WebSocketResponse(compress=compression, max_msg_size=MAX_SIZE)
        await response.prepare(request)
        made.compressed = bool(response.compress)
        while True:
            message = await response.receive()
            if message.type is aiohttp.WSMsgType.TEXT and message.data == PLEASE_CLOSE:
                await response.close(code=CODE, message=REASON.encode())
                # Its API has the code of the client's answer, and not its reason.
                made.ended.put((response.close_code, REASON))
                return response
            if message.type is aiohttp.WSMsgType.TEXT:
                await response.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await response.send_bytes(message.data)
            else:
                made.ended.put((message.data, message.extra))
                return response

    async def start() -> Any:
        application = web.Application()
        application.router.add_get("/", echo)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    with running_loop() as loop:
        runner = loop.run(start())
        host, port = runner.addresses[0][:2]
        made.url = f"ws://{host}:{port}/"
        try:
            yield made
        finally:
            loop.run(runner.cleanup())


# --- what has to hold with all of them ---

ClientMaker: TypeAlias = Callable[[str, bool], AbstractContextManager[Client]]
ServerMaker: TypeAlias = Callable[[bool], AbstractContextManager[Server]]

every_client = pytest.mark.parametrize("their_client", [websockets_client, websocket_client_client, aiohttp_client])
every_server = pytest.mark.parametrize("their_server", [websockets_server, aiohttp_server])
every_size = pytest.mark.parametrize("sizes", [SIZES, pytest.param([10_000_000], marks=pytest.mark.slow)], ids=["small", "large"])
with_and_without = pytest.mark.parametrize("compression", [False, True], ids=["plain", "compressed"])


def echo(message: bus.Message, client: bus.WebSocketClient) -> bus.Message:
    return message


@with_and_without
@every_size
@every_client
def test_our_server_answers_their_client(their_client: ClientMaker, compression: bool, sizes: list[int]) -> None:
    with bus.serve("ws://127.0.0.1:0", echo, max_size=MAX_SIZE, compression=compression) as server:
        with their_client(f"ws://{server.address}/", compression) as client:
            for size in sizes:
                for data in (text_of(size), binary_of(size)):
                    client.send(data)
                    assert client.receive() == data, size


@with_and_without
@every_size
@every_server
def test_their_server_answers_our_client(their_server: ServerMaker, compression: bool, sizes: list[int]) -> None:
    with their_server(compression) as server, bus.connect(server.url, timeout=WAIT, max_size=MAX_SIZE, compression=compression) as conn:
        for size in sizes:
            for data in (text_of(size), binary_of(size)):
                conn.send(data)
                message = conn.receive(timeout=WAIT)
                assert message is not None
                assert message.is_text is isinstance(data, str)
                assert (message.text if message.is_text else message.data) == data, size
        assert server.compressed is compression


@with_and_without
@every_client
def test_our_server_learns_why_their_client_closed(their_client: ClientMaker, compression: bool) -> None:
    ended: queue.Queue[tuple[int | None, str | None]] = queue.Queue()

    def gone(client: bus.WebSocketClient, reason: bus.BusError) -> None:
        assert isinstance(reason, bus.PeerClosed)
        ended.put((client.close_code, client.close_reason))

    with bus.serve("ws://127.0.0.1:0", echo, on_disconnect=gone, compression=compression) as server:
        with their_client(f"ws://{server.address}/", compression) as client:
            client.close(CODE, REASON)
            assert ended.get(timeout=WAIT) == (CODE, REASON)


@with_and_without
@every_client
def test_their_client_learns_why_our_server_closed(their_client: ClientMaker, compression: bool) -> None:
    def close(message: bus.Message, client: bus.WebSocketClient) -> None:
        client.close(code=CODE, reason=REASON)

    with bus.serve("ws://127.0.0.1:0", close, compression=compression) as server:
        with their_client(f"ws://{server.address}/", compression) as client:
            client.send(PLEASE_CLOSE)
            assert client.end() == (CODE, REASON)


@every_client
def test_their_client_learns_that_our_server_stops(their_client: ClientMaker) -> None:
    with bus.serve("ws://127.0.0.1:0", echo) as server:
        with their_client(f"ws://{server.address}/", False) as client:
            client.send("here")
            assert client.receive() == "here"
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            code, _ = client.end()
            stopping.join(WAIT)
            assert code == 1001


@with_and_without
@every_server
def test_their_server_learns_why_our_client_closed(their_server: ServerMaker, compression: bool) -> None:
    with their_server(compression) as server:
        with bus.connect(server.url, timeout=WAIT, compression=compression) as conn:
            conn.send("here")
            assert conn.receive(timeout=WAIT) is not None
            assert conn.close(code=CODE, reason=REASON)
            assert server.ended.get(timeout=WAIT) == (CODE, REASON)


@with_and_without
@every_server
def test_our_client_learns_why_their_server_closed(their_server: ServerMaker, compression: bool) -> None:
    with their_server(compression) as server:
        with bus.connect(server.url, timeout=WAIT, compression=compression) as conn:
            conn.send(PLEASE_CLOSE)
            with pytest.raises(bus.PeerClosed):
                conn.receive(timeout=WAIT)
            assert (conn.close_code, conn.close_reason) == (CODE, REASON)
            # Our close frame repeats theirs.
            assert server.ended.get(timeout=WAIT)[0] == CODE

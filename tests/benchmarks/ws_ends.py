"""WebSocket ends of several makes, binary messages, no compression, no pings. Each imports its own library when it is called.

By name, where the library may be missing: the types are checked without it, too.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from .cell import Cell
from .end import REPLY_TIMEOUT, Gate

HOST = "127.0.0.1"
MAX_SIZE = 1 << 24


def bus_session_server(announce: Callable[[str], None], cell: Cell) -> None:
    import bus

    def echo(client: bus.Session) -> None:
        for msg in client:
            client.send(msg.data)

    with bus.serve(f"ws://{HOST}:0", routes={"/": echo}, ping_interval=None) as server:
        announce(server.address)
        server.wait()


def bus_callback_server(announce: Callable[[str], None], cell: Cell) -> None:
    import bus

    with bus.serve(f"ws://{HOST}:0", lambda msg, client: msg.data, ping_interval=None) as server:
        announce(server.address)
        server.wait()


def bus_client(address: str, gate: Gate) -> None:
    import bus

    from .bus_ends import trip

    with bus.connect(f"ws://{address}/", ping_interval=None) as conn:
        gate.time(partial(trip, conn))


def sync_server(announce: Callable[[str], None], cell: Cell) -> None:
    from websockets.sync.server import ServerConnection, serve

    def echo(ws: ServerConnection) -> None:
        for message in ws:
            ws.send(message)

    with serve(echo, HOST, 0, compression=None, max_size=MAX_SIZE, ping_interval=None) as server:
        announce("{}:{}".format(*server.socket.getsockname()))
        server.serve_forever()


def sync_client(address: str, gate: Gate) -> None:
    from websockets.sync.client import connect

    with connect(f"ws://{address}/", compression=None, max_size=MAX_SIZE, ping_interval=None) as ws:

        def trip(payload: bytes) -> bytes:
            ws.send(payload)
            return ws.recv(timeout=REPLY_TIMEOUT, decode=False)

        gate.time(trip)


def asyncio_server(announce: Callable[[str], None], cell: Cell) -> None:
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    async def run() -> None:
        async with serve(echo, HOST, 0, compression=None, max_size=MAX_SIZE, ping_interval=None) as server:
            announce("{}:{}".format(*next(iter(server.sockets)).getsockname()))
            await server.serve_forever()

    asyncio.run(run())


def asyncio_client(address: str, gate: Gate) -> None:
    from websockets.asyncio.client import connect

    async def run() -> None:
        async with connect(f"ws://{address}/", compression=None, max_size=MAX_SIZE, ping_interval=None) as ws:

            async def trip(payload: bytes) -> bytes:
                await ws.send(payload)
                return await ws.recv(decode=False)

            await gate.time_async(trip)

    asyncio.run(run())


def aiohttp_server(announce: Callable[[str], None], cell: Cell) -> None:
    aiohttp: Any = import_module("aiohttp")
    web: Any = import_module("aiohttp.web")

    async def echo(request: Any) -> Any:
        ws = web.WebSocketResponse(compress=False, max_msg_size=MAX_SIZE)
        await ws.prepare(request)
        async for message in ws:
            if message.type is aiohttp.WSMsgType.BINARY:
                await ws.send_bytes(message.data)
        return ws

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        announce("{}:{}".format(*runner.addresses[0][:2]))
        await asyncio.Event().wait()

    asyncio.run(run())


def aiohttp_client(address: str, gate: Gate) -> None:
    aiohttp: Any = import_module("aiohttp")

    async def run() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://{address}/", compress=0, max_msg_size=MAX_SIZE) as ws,
        ):

            async def trip(payload: bytes) -> bytes:
                await ws.send_bytes(payload)
                return bytes(await ws.receive_bytes())

            await gate.time_async(trip)

    asyncio.run(run())


def websocket_client(address: str, gate: Gate) -> None:
    websocket: Any = import_module("websocket")

    ws = websocket.create_connection(f"ws://{address}/", timeout=REPLY_TIMEOUT)

    def trip(payload: bytes) -> bytes:
        ws.send_binary(payload)
        _, data = ws.recv_data()
        return bytes(data)

    gate.time(trip)
    ws.close()


def picows_server(announce: Callable[[str], None], cell: Cell) -> None:
    picows: Any = import_module("picows")
    binary, close = picows.WSMsgType.BINARY, picows.WSMsgType.CLOSE

    def on_frame(self: Any, transport: Any, frame: Any) -> None:
        if frame.msg_type == binary:
            transport.send(binary, frame.get_payload_as_bytes())
        elif frame.msg_type == close:
            transport.disconnect()

    listener = type("Echo", (picows.WSListener,), {"on_ws_frame": on_frame})

    async def run() -> None:
        server = await picows.ws_create_server(lambda request: listener(), HOST, 0)
        announce("{}:{}".format(*server.sockets[0].getsockname()))
        await server.serve_forever()

    asyncio.run(run())


def picows_client(address: str, gate: Gate) -> None:
    picows: Any = import_module("picows")
    binary, close = picows.WSMsgType.BINARY, picows.WSMsgType.CLOSE

    async def run() -> None:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[bytes] = loop.create_future()

        def on_frame(self: Any, transport: Any, frame: Any) -> None:
            if frame.msg_type == binary:
                waiting.set_result(frame.get_payload_as_bytes())
            elif frame.msg_type == close:
                transport.disconnect()

        transport, _ = await picows.ws_connect(type("Waits", (picows.WSListener,), {"on_ws_frame": on_frame}), f"ws://{address}/")

        async def trip(payload: bytes) -> bytes:
            nonlocal waiting
            waiting = loop.create_future()
            transport.send(binary, payload)
            return await waiting

        await gate.time_async(trip)
        transport.send_close(picows.WSCloseCode.OK)
        await transport.wait_disconnected()

    asyncio.run(run())

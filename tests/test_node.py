"""The `ws` package of Node at the other end. Nothing is installed here: without Node or the package the tests are skipped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator

import pytest

import bus

WAIT = 60
NODE = shutil.which("node")
SIZES = [0, 1, 125, 126, 65_535, 65_536, 10_000_000]


def has_ws() -> bool:
    if NODE is None:
        return False
    found = subprocess.run([NODE, "-e", "require('ws')"], capture_output=True, timeout=WAIT, check=False)
    return found.returncode == 0


pytestmark = pytest.mark.skipif(not has_ws(), reason="Node's package ws is not installed (npm install ws; NODE_PATH names where)")

CLIENT = """
const WebSocket = require("ws"), [url, compression, sizes] = process.argv.slice(1);
const seen = [], wanted = JSON.parse(sizes);
const socket = new WebSocket(url, {perMessageDeflate: compression === "true"});
const next = () => {
    const size = wanted[seen.length >> 1];
    if (size === undefined) return socket.close(4002, "enough");
    seen.length % 2 ? socket.send(Buffer.alloc(size, 7)) : socket.send("y".repeat(size));
};
socket.on("open", next);
socket.on("message", (data, isBinary) => { seen.push([data.length, isBinary]); next(); });
socket.on("close", (code, reason) => console.log(JSON.stringify({seen, code, reason: reason.toString()})));
"""

SERVER = """
const {WebSocketServer} = require("ws");
const server = new WebSocketServer({host: "127.0.0.1", port: 0, perMessageDeflate: process.argv[1] === "true", maxPayload: 20000000});
server.on("listening", () => console.log(server.address().port));
server.on("connection", socket => {
    socket.on("message", (data, isBinary) => socket.send(data, {binary: isBinary}));
    socket.on("close", (code, reason) => { console.log(JSON.stringify([code, reason.toString()])); server.close(); });
});
"""


@pytest.mark.parametrize("compression", [False, True])
def test_its_client_at_our_server(compression: bool) -> None:
    assert NODE is not None
    codes: list[tuple[int | None, str | None]] = []

    def echo(client: bus.Session) -> None:
        for msg in client:
            client.send(msg)
        codes.append((client.close_code, client.close_reason))
        over.set()

    over = threading.Event()
    with bus.serve("ws://127.0.0.1:0", routes={"/": echo}, compression=compression, max_size=20_000_000) as server:
        program = [NODE, "-e", CLIENT, f"ws://{server.address}/", json.dumps(compression), json.dumps(SIZES)]
        ended = subprocess.run(program, capture_output=True, text=True, timeout=WAIT, check=True)
        assert over.wait(WAIT)
    told = json.loads(ended.stdout)
    assert told["seen"] == [[size, binary] for size in SIZES for binary in (False, True)]
    assert (told["code"], told["reason"]) == (4002, "enough")
    assert codes == [(4002, "enough")]


@pytest.fixture
def node_server(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    assert NODE is not None
    program = [NODE, "-e", SERVER, json.dumps(request.param)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=os.environ) as server:
        yield server
        server.kill()


@pytest.mark.parametrize("node_server", [False, True], indirect=True)
def test_our_client_at_its_server(node_server: subprocess.Popen[str], request: pytest.FixtureRequest) -> None:
    assert node_server.stdout is not None
    port = int(node_server.stdout.readline())
    compression = request.node.callspec.params["node_server"]
    with bus.connect(f"ws://127.0.0.1:{port}/", compression=compression) as conn:
        for size in SIZES:
            for payload in ("ü" * (size // 2), os.urandom(size)):
                conn.send(payload)
                echo = conn.receive(timeout=WAIT)
                assert echo is not None
                assert echo.is_text is isinstance(payload, str)
                assert (echo.text if isinstance(payload, str) else echo.data) == payload
        conn.close(code=4003, reason="done")
    assert json.loads(node_server.stdout.readline()) == [4003, "done"]

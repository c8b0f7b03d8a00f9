"""The stubs with which a type checker follows the dialects' original import names. The wheel may not claim these names for itself."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.documents import PROGRAMS

ROOT = Path(__file__).resolve().parents[2]
STUBS = ROOT / "adapters" / "stubs"
FILES = sorted(path.relative_to(STUBS).as_posix() for path in STUBS.rglob("*.pyi"))

SCRIPT = """
import scriptling.net.multicast as mc
import scriptling.net.unicast as uc
import scriptling.net.websocket
import scriptling.runtime as runtime
import scriptling.websocket as ws
from daystar_api.tcp_client import create_tcp_client
from daystar_api.tcp_server import create_tcp_server
from daystar_api.udp_socket import create_udp_socket

reveal_type(uc.listen("0.0.0.0", 8080))
reveal_type(uc.listen("0.0.0.0", 8080, protocol="udp"))
conn = uc.listen("0.0.0.0").accept(timeout=60)
if conn and (msg := conn.receive(timeout=5)):
    reveal_type(msg["data"])
reveal_type(mc.join("239.1.1.1", 9999).port)
with create_tcp_client("192.168.1.100", 70001) as client:
    reveal_type(client.receive(timeout=5.0))
create_tcp_server(70001, message_callback=lambda msg, client_addr: msg).stop()
if (result := create_udp_socket(70002).receive()):
    reveal_type(result)
reveal_type(ws.connect("ws://127.0.0.1:8000/chat").receive())
scriptling.net.websocket.connect("ws://127.0.0.1:8000/chat").send_binary([1, 2])
@runtime.http.websocket("/echo")
def echo(client: runtime.WebSocketClient) -> None:
    msg = client.receive()
    if ws.is_binary(msg):
        reveal_type(msg)
runtime.http.websocket("/chat", "handlers.chat_handler")
reveal_type(echo)
reveal_type(runtime.serve("127.0.0.1:8000"))
import hs
listener = hs.socket.udp.server(9001, lambda data, sockaddr: print(data))
reveal_type(listener.receive())
reveal_type(listener.send("x", "localhost", 9001).setTimeout(1).info()["localPort"])
if (address := hs.socket.parseAddress(b"")):
    reveal_type(address.addressFamily)
reveal_type(hs.timer.doAfter(1, hs.run).stop())
hs.socket.udp.timeout = 5
uc.connect("127.0.0.1", "8080")
"""
REVEALED = [
    "adapters.scriptling.net.unicast.TCPListener",
    "adapters.scriptling.net.unicast.UDPListener",
    "str",
    "int",
    "str | None",
    "tuple[str, tuple[str, int]]",
    "str | list[int] | None",
    "list[int]",
    "def (client: adapters.scriptling.runtime.client.WebSocketClient)",
    "bus.server.Server",
    "adapters.hs.udpsocket.UDPSocket | None",
    "Any",
    "int",
    "adapters.hs.timer.Timer",
]


def original(name: str) -> str:
    return name.removesuffix(".pyi").removesuffix("/__init__").replace("/", ".")


@pytest.mark.parametrize("name", FILES)
def test_a_stub_gives_what_the_module_exports(name: str) -> None:
    module = importlib.import_module(f"adapters.{original(name)}")
    given = set()
    for node in ast.parse((STUBS / name).read_text(encoding="utf-8")).body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module == module.__name__
        for alias in node.names:
            assert alias.asname == alias.name  # what is imported without `as` does not count as given
            given.add(alias.name)
    assert given == set(getattr(module, "__all__", ()))


def test_every_module_that_scripts_import_has_a_stub() -> None:
    imported = {
        line.split()[1]
        for program in PROGRAMS.values()
        for line in program.restored().splitlines()
        if line.startswith(("import scriptling", "from daystar_api"))
    }
    assert imported
    assert imported <= {original(name) for name in FILES}


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed (it comes with the extra 'dev')")
def test_mypy_follows_the_original_names(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    for name, program in PROGRAMS.items():
        (tmp_path / f"{name}.py").write_text(program.source(HOST="127.0.0.1", PORT=1, PEER=2), encoding="utf-8")
    # The documents' own functions have no annotations, and their empty list has none.
    allowed = ["--allow-untyped-defs", "--disable-error-code=var-annotated"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *allowed, "--config-file=", "--cache-dir=.cache", "."],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": f"{STUBS}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    notes = [line for line in done.stdout.splitlines() if "Revealed type" in line]
    assert [line.split('"')[1] for line in notes] == REVEALED, done.stdout + done.stderr
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1, done.stdout
    assert 'Argument 2 to "connect" has incompatible type "str"' in errors[0]

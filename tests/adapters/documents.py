"""Every code example of the documents, and what is done to it before it runs. In `documents/*.txt` they are as printed.

Nothing is done but this:
- Indentation that the page lost is restored (`Part.depths`).
- Two programs in one block are split at their comment (`Part.start`, `Part.stop`). Lines of the reference, which are no program by
  themselves, are put behind the example that makes the object they speak of; where the document has none, behind `Program.before`.
- The edits of `Kind`.
"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import NamedTuple

__all__ = ["DOCUMENTS", "PROGRAMS", "Edit", "Kind", "Part", "Program"]


class Kind(Enum):
    PLACE = "another host or port"
    BOUND = "an end for an endless loop"
    WAIT = "a wait, because nobody could connect before the example stops"


class Edit(NamedTuple):
    """`old` is replaced, wherever it stands. HOST, PORT and PEER in `new` are what the test chooses."""

    kind: Kind
    old: str
    new: str


class Part(NamedTuple):
    """A block of a document, from the line `start` on and up to the line `stop`; its imports are there in any case.

    `depths` says how deep each line is indented, a digit for each. Empty: as it is printed.
    """

    heading: str
    depths: str = ""
    start: str = ""
    stop: str = ""

    def numbers(self, block: list[str]) -> list[int]:
        """Which lines of the block these are."""
        first = block.index(self.start) if self.start else 0
        end = block.index(self.stop) if self.stop else len(block)
        imports = [number for number in range(first) if block[number].startswith(("import ", "from "))]
        return imports + list(range(first, end))


class Program(NamedTuple):
    document: str
    parts: tuple[Part, ...]
    edits: tuple[Edit, ...] = ()
    before: str = ""

    def restored(self) -> str:
        """As the document has it, indented."""
        lines = [self.before] if self.before else []
        for part in self.parts:
            block = DOCUMENTS[self.document][part.heading]
            taken = [block[number] for number in part.numbers(block)]
            depths = part.depths or "0" * len(taken)
            lines += [4 * int(depth) * " " + line for depth, line in zip(depths, taken, strict=True)]
        return "\n".join(lines) + "\n"

    def source(self, **chosen: object) -> str:
        """What runs, with `HOST=`, `PORT=`, `PEER=`."""
        text = self.restored()
        for edit in self.edits:
            text = text.replace(edit.old, edit.new)
        for name, value in chosen.items():
            text = text.replace(name, str(value))
        return text


def _read(path: Path) -> dict[str, list[str]]:
    """The blocks of a document by their headings."""
    _, *pieces = re.split(r"^=== (.+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {heading: block.splitlines() for heading, block in zip(pieces[::2], pieces[1::2], strict=True)}


DOCUMENTS = {path.stem: _read(path) for path in sorted((Path(__file__).parent / "documents").glob("*.txt"))}

UNICAST, MULTICAST, DAYSTAR = "scriptling-unicast", "scriptling-multicast", "daystar-communication"
WEBSOCKET = "scriptling-websocket"


def _place(old: str, new: str = '"HOST", PORT') -> Edit:
    return Edit(Kind.PLACE, old, new)


def _loops(turns: int) -> Edit:
    return Edit(Kind.BOUND, "while True:", f"for _ in range({turns}):")


ANY_8080 = _place('"0.0.0.0", 8080')
ANY_9090 = _place('"0.0.0.0", 9090')
OWN_8080 = _place('"127.0.0.1", 8080')
OWN_9090 = _place('"127.0.0.1", 9090')
FAR_8080 = _place('"192.168.1.1", 8080')
ROBOT = _place('"192.168.1.100"', '"127.0.0.1"')
EVERYBODY = _place('"255.255.255.255"', '"127.255.255.255"')
GROUP = _place('"239.1.1.1", 9999')
ECHO_ORG = _place('"wss://echo.websocket.org"', '"wss://HOST:PORT"')


def _example(name: str) -> Edit:
    return _place(f'"wss://{name}/ws"', '"wss://HOST:PORT/ws"')


PROGRAMS = {
    "connect": Program(UNICAST, (Part("connect", "00"),), (FAR_8080,)),
    "connection": Program(
        UNICAST,
        (
            Part("connect", "00"),
            Part("conn.send", "00"),
            Part("conn.receive", "001"),
            Part("conn.connected", "01"),
            Part("conn.close", "0"),
        ),
        (FAR_8080,),
    ),
    "listen": Program(UNICAST, (Part("listen", "000"),), (ANY_8080,)),
    "tcp_listener": Program(
        UNICAST,
        (Part("listen", "000"), Part("listener.accept", "001"), Part("listener.close", "0")),
        (ANY_8080,),
    ),
    "udp_listener": Program(
        UNICAST,
        (Part("listener.receive", "001"), Part("listener.send_to", "0")),
        (_place('"192.168.1.1:8080"', '"HOST:PEER"'),),
        before='import scriptling.net.unicast as uc\nudp_server = uc.listen("HOST", PORT, protocol="udp")',
    ),
    "tcp_echo_server": Program(UNICAST, (Part("TCP Echo Server", "00000111210"),), (ANY_8080,)),
    "tcp_client": Program(UNICAST, (Part("TCP Client", "0000010"),), (OWN_8080,)),
    "udp_server": Program(UNICAST, (Part("UDP Client/Server", "00000110", start="# Server", stop="# Client"),), (ANY_9090,)),
    "udp_client": Program(UNICAST, (Part("UDP Client/Server", "00000010", start="# Client"),), (OWN_9090,)),
    "multi_connection_server": Program(UNICAST, (Part("Multi-Connection Server", "0000112112342120"),), (ANY_8080, _loops(3))),
    "dict_messages": Program(UNICAST, (Part("Using Dict Messages", "0000001110"),), (OWN_8080,)),
    "error_handling": Program(UNICAST, (Part("Error Handling", "0001123342301"),), (ANY_8080,)),
    "join": Program(MULTICAST, (Part("join", "00"),), (GROUP,)),
    "group": Program(
        MULTICAST,
        (Part("join", "00"), Part("group.send", "00"), Part("group.receive", "00101"), Part("group.close", "0")),
        (GROUP,),
    ),
    "basic_multicast": Program(MULTICAST, (Part("Basic Multicast", "0000010"),), (GROUP,)),
    "service_discovery": Program(MULTICAST, (Part("Service Discovery", "00000000110"),), (GROUP,)),
    "continuous_listener": Program(MULTICAST, (Part("Continuous Listener", "0001120"),), (GROUP, _loops(3))),
    "group_dict_messages": Program(MULTICAST, (Part("Using Dict Messages", "00000011110"),), (GROUP,)),
    "group_error_handling": Program(MULTICAST, (Part("Error Handling", "000111201"),), (GROUP,)),
    "daystar_client": Program(DAYSTAR, (Part("TCP Client"),), (ROBOT,)),
    "daystar_server": Program(
        DAYSTAR,
        (Part("TCP Server"),),
        (Edit(Kind.WAIT, "# Proactively push", "input()\n# Proactively push"),),
    ),
    "daystar_receiver": Program(DAYSTAR, (Part("UDP Socket", start="# Receiver", stop="# Sender"),)),
    "daystar_sender": Program(DAYSTAR, (Part("UDP Socket", start="# Sender", stop="# UDP Broadcast"),), (ROBOT,)),
    "daystar_broadcaster": Program(DAYSTAR, (Part("UDP Socket", start="# UDP Broadcast"),), (EVERYBODY,)),
    "ws_connect": Program(WEBSOCKET, (Part("connect"),), (ECHO_ORG,)),
    "ws_connection": Program(
        WEBSOCKET,
        (
            Part("connect"),
            Part("conn.send"),
            Part("conn.send_binary"),
            Part("conn.receive"),
            Part("is_text"),
            Part("is_binary"),
            Part("conn.connected"),
            Part("conn.close"),
        ),
        (ECHO_ORG,),
    ),
    "ws_echo_client": Program(WEBSOCKET, (Part("Basic Echo Client"),), (ECHO_ORG,)),
    "ws_json": Program(WEBSOCKET, (Part("JSON Messaging"),), (_example("api.example.com"),)),
    "ws_binary": Program(WEBSOCKET, (Part("Binary Data"),), (_example("binary.example.com"),)),
    "ws_mixed": Program(WEBSOCKET, (Part("Handling Mixed Text and Binary"),), (_example("mixed.example.com"),)),
    "ws_headers": Program(WEBSOCKET, (Part("With Custom Headers"),), (_example("api.example.com"),)),
    "ws_errors": Program(WEBSOCKET, (Part("Error Handling"),), (_example("example.com"),)),
    "setup": Program(WEBSOCKET, (Part("Server Example: setup.py"),)),
    "handlers": Program(WEBSOCKET, (Part("Server Example: handlers.py"),)),
    "ws_typed_echo": Program(
        WEBSOCKET,
        (Part("WebSocketClient Object"),),
        before='import scriptling.runtime as runtime\nruntime.http.websocket("/echo", "ws_typed_echo.handler")',
    ),
}

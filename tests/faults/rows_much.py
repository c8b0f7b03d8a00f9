"""The rows about many connections, damaged bytes, and data that nobody takes."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time

from tests.faults.byhand import wires
from tests.faults.libraries import LIBRARIES, Library
from tests.faults.play import (
    BOUND,
    Call,
    Hangs,
    Row,
    Verdict,
    child,
    connected,
    descriptors,
    echoes,
    fails,
    guest,
    holds,
    is_client,
    is_server,
    name_of,
    resident,
    served,
    tells_of_ends,
    until,
    within,
)

SECONDS = 10.0
A_SECOND = 500
GROWTH = 8 * 2**20


def come_and_go(wire_name: str, port: str, seconds: str) -> None:
    """In a process of its own: connect, one round trip, leave; up to 500 times a second."""
    wire = wires[wire_name]
    began = time.monotonic()
    count = 0
    while (elapsed := time.monotonic() - began) < float(seconds):
        if count > elapsed * A_SECOND:
            time.sleep(count / A_SECOND - elapsed)
            continue
        with wire.visit(int(port)) as sock:
            echoes(sock, wire)
        count += 1
    print(count, flush=True)


def connects(library: Library) -> Verdict:
    with served(library) as (serving, _):

        def visits(seconds: float) -> int:
            with child("--come-and-go", library.wire, str(serving.port), str(seconds)) as (_, count):
                return int(count)

        visits(SECONDS / 2)
        until(lambda: not serving.clients(), 5)
        time.sleep(1)
        before = (threading.active_count(), descriptors(), resident())
        count = visits(SECONDS)
        until(lambda: threading.active_count() <= before[0] and descriptors() <= before[1])
        threads, files, memory = threading.active_count() - before[0], descriptors() - before[1], resident() - before[2]
        how = f"{count} connections: {threads:+} threads, {files:+} descriptors, {memory / 2**20:+.1f} MiB"
        return holds(how) if threads <= 0 and files <= 0 and memory <= GROWTH else fails(how)


def flipped_server(library: Library) -> Verdict:
    with served(library) as (serving, wire):
        session = wire.request(serving.port) + b"".join(wire.message(text, client=True) for text in (b"hello", b"x" * 200, b""))
        other = guest(serving, wire)
        for place in range(len(session)):
            changed = session[:place] + bytes([session[place] ^ 1 << place % 8]) + session[place + 1 :]
            with socket.create_connection(("127.0.0.1", serving.port)) as sock:
                sock.settimeout(BOUND)
                try:
                    sock.sendall(changed)
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(65_536):
                        pass
                except TimeoutError:
                    return fails(f"hangs at byte {place}")
                except OSError:
                    pass
        try:
            return holds() if within(BOUND, lambda: echoes(other, wire)) else fails("no echo")
        except (Hangs, OSError, EOFError) as exc:
            return fails(f"a neighbour: {name_of(exc)}")


def documented(library: Library) -> tuple[type[BaseException], ...]:
    """What a library's documentation says that connecting and receiving raise, besides OSError."""
    if library.wire == "length" or library is LIBRARIES["bus-ws"]:
        import bus

        return (OSError, bus.BusError)
    if library is LIBRARIES["websockets"]:
        from websockets.exceptions import WebSocketException

        return (OSError, WebSocketException)
    import websocket

    return (OSError, websocket.WebSocketException)


def flipped_client(library: Library) -> Verdict:
    wire = wires[library.wire]
    assert library.connect is not None
    connect = library.connect
    expected = documented(library)
    undocumented: dict[str, int] = {}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def visit() -> None:
            end = connect("127.0.0.1", port)
            try:
                while end.receive(BOUND) is not None:
                    pass
            finally:
                Call(end.close)

        place = size = 0
        while place < (size or 1):
            visiting = Call(visit)
            sock, _ = listening.accept()
            with sock:
                sock.settimeout(BOUND)
                session = wire.reply(sock) + b"".join(wire.message(text, client=False) for text in (b"hello", b"x" * 200, b""))
                size = len(session)
                try:
                    sock.sendall(session[:place] + bytes([session[place] ^ 1 << place % 8]) + session[place + 1 :])
                    sock.shutdown(socket.SHUT_WR)
                    visiting.result(BOUND)
                except Hangs:
                    return fails(f"hangs at byte {place}")
                except expected:
                    pass
                except Exception as exc:
                    undocumented[name_of(exc)] = undocumented.get(name_of(exc), 0) + 1
            place += 1
    if undocumented:
        return fails("raises " + ", ".join(f"{name} ({count} of {size})" for name, count in undocumented.items()))
    return holds()


FLOOD = 30_000


def flood(library: Library) -> Verdict:
    with connected(library) as (end, sock, wire):
        before = resident()

        def pour() -> None:
            began = time.monotonic()
            sock.settimeout(None)
            for number in range(FLOOD):
                sock.sendall(wire.message(struct.pack(">I", number) + b"x" * 996, client=False))
                time.sleep(max(0.0, number / 10_000 - (time.monotonic() - began)))

        pouring = Call(pour)
        until(pouring.over, 5)
        grown = resident() - before
        for number in range(FLOOD):
            message = within(BOUND, lambda: end.receive(BOUND))
            if message is None or message[:4] != struct.pack(">I", number):
                return fails(f"loses message {number}")
        how = f"{grown / 2**20:+.0f} MiB"
        return holds(how) if grown < 64 * 2**20 else fails(how)


def flood_datagrams(library: Library) -> Verdict:
    """Ten megabytes a second for three seconds, and then the script looks what is there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:

        def pour(port: int) -> None:
            began = time.monotonic()
            for number in range(FLOOD):
                plain.sendto(b"x" * 1000, ("127.0.0.1", port))
                time.sleep(max(0.0, number / 10_000 - (time.monotonic() - began)))

        received = 0
        if library is LIBRARIES["bus-tcp"]:
            import bus

            with bus.bind("udp://127.0.0.1:0") as sock:
                pour(int(sock.address.rpartition(":")[2]))
                while sock.receive(timeout=1) is not None:
                    received += 1
                lost = sock.stats().lost
        else:
            lost = 0

            class Count(socketserver.BaseRequestHandler):
                def handle(self) -> None:
                    nonlocal received
                    received += 1

            with socketserver.UDPServer(("127.0.0.1", 0), Count) as server:
                server.timeout = 1
                pour(server.server_address[1])
                before = -1
                while received > before:
                    before = received
                    server.handle_request()
        how = f"{received} received, {lost} counted as lost"
        return holds(how) if received + lost == FLOOD else fails(f"{how}, {FLOOD - received - lost} gone unseen")


ROWS = [
    Row(
        "connects",
        "500 connects a second for 10 s",
        "30 s later no more threads and descriptors than before, and at most 8 MiB more memory",
        connects,
        is_server,
    ),
    Row(
        "flipped-server",
        "one bit flipped at each byte of a client's session, then FIN",
        "each of these connections has ended within 30 s, and a neighbour gets its echo",
        flipped_server,
        is_server,
        300,
    ),
    Row(
        "flipped-client",
        "one bit flipped at each byte of a server's session, then FIN",
        "each client ends within 30 s with messages or an error that its documentation names (or an OSError)",
        flipped_client,
        lambda library: is_client(library) and tells_of_ends(library),
        300,
    ),
    Row(
        "flood",
        "10 MB/s for 3 s to a script that does not receive, over a stream",
        "afterwards it receives all of them in order, and had taken less than 64 MiB of memory",
        flood,
        is_client,
        200,
    ),
    Row(
        "flood-datagrams",
        "10 MB/s for 3 s to a script that does not receive, over UDP",
        "received and counted as lost are together what was sent",
        flood_datagrams,
        lambda library: library in (LIBRARIES["bus-tcp"], LIBRARIES["socketserver"]),
    ),
]

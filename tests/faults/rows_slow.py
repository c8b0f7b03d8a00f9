"""The rows about peers that do not read, or are slow."""

from __future__ import annotations

import socket
import socketserver
import threading
import time

from tests.faults.byhand import wires
from tests.faults.libraries import Library
from tests.faults.play import (
    BOUND,
    SMALL_BUFFER,
    Call,
    Hangs,
    Row,
    Verdict,
    connected,
    echoes,
    fails,
    guest,
    holds,
    is_client,
    is_server,
    name_of,
    repeat,
    served,
    shakes_hands,
    until,
    within,
)

HANDSHAKE_BOUND = 45.0  # the longest default of any of them is 30 s


def deaf_send(library: Library) -> Verdict:
    with connected(library, SMALL_BUFFER) as (end, _, _):
        for _ in range(3000):
            try:
                within(BOUND, lambda: end.send(b"x" * 65_536))
            except Hangs:
                return fails("send hangs")
            except Exception as exc:
                return holds(name_of(exc))
        return fails("takes without bound")


def deaf_neighbour(library: Library) -> Verdict:
    with served(library) as (serving, wire):
        guest(serving, wire, SMALL_BUFFER)
        reader = guest(serving, wire)
        payload = b"x" * 100_000
        for number in range(200):
            sending = Call(lambda: serving.send_to_all(payload))

            def heard() -> bool:
                while wire.next(reader) != payload:
                    pass
                return True

            try:
                within(BOUND, heard)
                sending.result()
            except (Hangs, TimeoutError):
                return fails(f"hangs at message {number}")
        return holds() if within(BOUND, lambda: echoes(reader, wire)) else fails("no echo")


def deaf_close(library: Library) -> Verdict:
    with connected(library, SMALL_BUFFER) as (end, _, _):
        Call(lambda: repeat(256, lambda: end.send(b"x" * 65_536)))  # on a thread of its own, which blocks if the library lets it
        time.sleep(2)
        try:
            within(BOUND, end.close)
        except Hangs:
            return fails("close hangs")
        return holds()


def deaf_stop(library: Library) -> Verdict:
    with served(library) as (serving, wire):
        guest(serving, wire, SMALL_BUFFER)
        Call(lambda: repeat(256, lambda: serving.send_to_all(b"x" * 65_536)))
        time.sleep(2)
        try:
            within(BOUND, serving.stop)
        except Hangs:
            return fails("stop hangs")
        return holds()  # and the process has to end by itself: who started it looks


def timeout_inside(library: Library) -> Verdict:
    if library.connect is None:
        return _timeout_inside_a_line()
    with connected(library) as (end, sock, wire):
        message = wire.message(b"first" * 100, client=False)
        sock.sendall(message[:250])
        for _ in range(3):
            if (got := end.receive(0.2)) is not None:
                return fails(f"gives {len(got)} bytes of 500 as a message")
        sock.sendall(message[250:] + wire.message(b"second", client=False))
        try:
            messages = [within(2 * BOUND, lambda: end.receive(BOUND)) for _ in range(2)]
        except Hangs:
            return fails("hangs")
        except Exception as exc:
            return fails(f"loses it: {name_of(exc)}")
        return holds() if messages == [b"first" * 100, b"second"] else fails("loses bytes")


def _timeout_inside_a_line() -> Verdict:
    """`timeout` is the attribute that StreamRequestHandler has for it."""
    got: list[bytes] = []
    errors: list[str] = []
    over = threading.Event()

    class Reading(socketserver.StreamRequestHandler):
        timeout = 0.2

        def handle(self) -> None:
            try:
                while len(got) < 2:
                    try:
                        if line := self.rfile.readline():
                            got.append(line)
                        else:
                            break
                    except TimeoutError:
                        sock.sendall(b"last\nsecond\n")
            except OSError as exc:
                errors.append(str(exc))
            finally:
                over.set()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Reading) as server:
        Call(server.serve_forever)
        sock = socket.create_connection(("127.0.0.1", server.server_address[1]))
        sock.sendall(b"first and ")
        over.wait(BOUND)
        sock.close()
        server.shutdown()
    if got == [b"first and last\n", b"second\n"]:
        return holds()
    return fails(f"loses it: {errors[0] if errors else got!r}")


def trickled_request(library: Library) -> Verdict:
    with served(library) as (serving, wire):
        slow = socket.create_connection(("127.0.0.1", serving.port))
        ended: list[float] = []
        began = time.monotonic()

        def trickle() -> None:
            try:
                for byte in wire.request(serving.port):
                    slow.sendall(bytes([byte]))
                    slow.settimeout(1)
                    try:
                        while slow.recv(4096):
                            pass
                        break
                    except TimeoutError:
                        pass
            except OSError:
                pass
            ended.append(time.monotonic() - began)

        Call(trickle)
        other = guest(serving, wire)
        served_meanwhile = within(BOUND, lambda: echoes(other, wire))
        if not until(lambda: ended, HANDSHAKE_BOUND):
            return fails("is never sent away")
        return holds() if served_meanwhile else fails("others wait")


def trickled_reply(library: Library) -> Verdict:
    """A client by the library, whose server trickles."""
    wire = wires[library.wire]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        left = threading.Event()

        def trickle() -> None:
            sock, _ = listening.accept()
            try:
                reply = wire.reply(sock) if library.wire == "ws" else wire.request(0)
                for byte in reply:
                    sock.sendall(bytes([byte]))
                    time.sleep(1)
            except (OSError, EOFError):
                left.set()

        Call(trickle)
        assert library.connect is not None
        connect = library.connect
        connecting = Call(lambda: connect("127.0.0.1", listening.getsockname()[1]))
        if library.wire == "zmtp":  # its connect only begins one
            return holds() if left.wait(HANDSHAKE_BOUND) else fails("never gives up")
        try:
            connecting.result(HANDSHAKE_BOUND)
        except Hangs:
            return fails("connect hangs")
        except Exception as exc:
            return holds(name_of(exc))
        return fails("connects")


ROWS = [
    Row(
        "deaf-send",
        "`send` to a peer that never reads",
        "every `send` returns or raises within 30 s",
        deaf_send,
        is_client,
    ),
    Row(
        "deaf-neighbour",
        "a message to all, one of whom never reads",
        "200 messages of 100 kB, sent to all: who reads gets each within 30 s",
        deaf_neighbour,
        is_server,
        240,
    ),
    Row(
        "deaf-close",
        "`close` while 16 MB are being sent to a peer that never reads",
        "the close returns within 30 s",
        deaf_close,
        is_client,
    ),
    Row(
        "deaf-stop",
        "stop and exit while 16 MB are being sent to a client that never reads",
        "stopping returns within 30 s, and the process ends by itself within 30 s more",
        deaf_stop,
        is_server,
    ),
    Row(
        "timeout-inside",
        "a receive that times out inside a message",
        "when the rest comes, this message and the next one are whole",
        timeout_inside,
        lambda library: True,
    ),
    Row(
        "trickled-request",
        "a client whose handshake trickles, a byte a second",
        "it is sent away within 45 s, and another client is served meanwhile",
        trickled_request,
        lambda library: is_server(library) and shakes_hands(library),
    ),
    Row(
        "trickled-reply",
        "a server whose handshake trickles, a byte a second",
        "connecting is given up within 45 s",
        trickled_reply,
        lambda library: is_client(library) and shakes_hands(library),
    ),
]

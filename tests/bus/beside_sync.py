"""One fault, played to `websockets.sync` or to us: `python -m tests.bus.beside_sync theirs never_reads 0.3`.

It prints what came of it, as JSON. `seconds` is every timeout that the end has an option for. A call that has not come back by three times
all of theirs together is told by where it stands: the functions on its thread's stack, the innermost first.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from time import monotonic
from typing import Any

import websockets.exceptions
import websockets.sync.client
from websockets.sync.server import Server as TheirServer
from websockets.sync.server import ServerConnection, broadcast
from websockets.sync.server import serve as their_serve

import bus
from tests.actors.test_wsframes import CLOSE, PING, PONG, TEXT, wire
from tests.bus.peers import WAIT, until
from tests.bus.test_websocket import WebPeer, accept_key, upgrade

BIG = bytes(16 * 2**20)  # more than the kernel's buffers hold on both sides together
MESSAGES = 200  # to the consumer that sleeps; they fit into the kernel's buffers, so that the peer has nothing left to do
PINGS = 4  # to its peer, until it wakes up
BROADCASTS = 3

kept: list[object] = []  # to the end of the process: a peer that never reads is not to close either


class Call(threading.Thread):
    """`outcome`: what it gave or raised."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.outcome: object = None
        self._call = call
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self._call()
        except BaseException as exc:
            self.outcome = exc


def stands(thread: threading.Thread) -> str:
    """Where it has not come back from; "" if it has."""
    with tempfile.TemporaryFile("w+") as dump:
        faulthandler.dump_traceback(dump)
        dump.seek(0)
        stacks = re.split(r"^(?:Current t|T)hread 0x", dump.read(), flags=re.MULTILINE)
    stack = next((stack for stack in stacks if thread.is_alive() and stack.startswith(f"{thread.ident:016x}")), "")
    return " < ".join(re.findall(r"line \d+ in (\S+)", stack))


def never_reading(address: str, *, first_byte: bool = True) -> None:
    """A peer that shakes hands and never reads. On return the first byte of a message may lie before it."""
    peer = WebPeer.to(address, receive_buffer=4096)
    kept.append(peer)
    peer.sock.sendall(upgrade(address))
    assert b" 101 " in peer.head()
    if first_byte:
        peer.sock.recv(1, socket.MSG_PEEK)


def ctrl_c_for_a_script_with(address: str, bound: float) -> None:
    """Have a peer come that never reads, and then the end. After `bound` seconds the stacks are shown and the status is 1."""

    def come() -> None:
        never_reading(address)
        faulthandler.dump_traceback_later(bound, exit=True)
        # To the process, any of its threads might take it, and the main thread sleep on.
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    Call(come)


class Healthy(threading.Thread):
    """A server for one client. Its MESSAGES go out with the handshake's answer; then it has time for pings alone, and answers each.

    `left`: the client has said goodbye.
    """

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(daemon=True)
        self.pings = 0
        self.left = False
        self._listening = listening
        self.start()

    def run(self) -> None:
        with WebPeer(self._listening.accept()[0]) as peer, contextlib.suppress(OSError):
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            key = re.search(r"Sec-WebSocket-Key: (\S+)", peer.head().decode(), re.IGNORECASE)
            assert key is not None
            answer = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
            answer += [f"Sec-WebSocket-Accept: {accept_key(key[1])}", "", ""]
            messages = [wire(TEXT, f"{number} {'x' * 500}".encode()) for number in range(MESSAGES)]
            peer.sock.sendall("\r\n".join(answer).encode() + b"".join(messages))
            while (frame := peer.get()) is not None and frame.first & 0x0F != CLOSE:
                if frame.first & 0x0F == PING:
                    peer.put(PONG, frame.payload)
                    self.pings += 1
        self.left = True


@contextlib.contextmanager
def healthy_peer() -> Iterator[tuple[str, Callable[[], object]]]:
    """Its URL, and what sleeps for several of its pings, or until it has heard a goodbye."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = Healthy(listening)
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}/", lambda: until(lambda: peer.pings >= PINGS or peer.left)


class Others:
    """Two clients that read, beside one that does not. `heard`: how many messages each has."""

    def __init__(self, address: str) -> None:
        never_reading(address, first_byte=False)
        self.heard = [0, 0]
        for number in range(2):
            conn = bus.connect(f"ws://{address}/", timeout=WAIT, max_size=len(BIG), proxy=False)
            kept.append(Call(lambda conn=conn, number=number: self._listen(conn, number)))  # type: ignore[misc]

    def _listen(self, conn: bus.Connection, number: int) -> None:
        for _ in conn:
            self.heard[number] += 1

    def hear(self, send: Callable[[], object]) -> object:
        """Each message is sent when both have heard the one before."""
        outcome = None
        for count in range(BROADCASTS):
            outcome = send()
            until(lambda count=count: min(self.heard) > count)  # type: ignore[misc]
        return outcome


# --- theirs ---


@contextlib.contextmanager
def theirs(
    seconds: float, handler: Callable[[ServerConnection], object], *, threaded: bool = True
) -> Iterator[tuple[str, TheirServer]]:
    server = their_serve(handler, "127.0.0.1", 0, ping_interval=seconds, ping_timeout=seconds, close_timeout=seconds)  # type: ignore[arg-type]
    if threaded:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    host, port = server.socket.getsockname()
    yield f"{host}:{port}", server


def stuck_in_theirs(seconds: float) -> tuple[TheirServer, ServerConnection, threading.Thread]:
    """A server, its connection to a peer that never reads, and its handler's thread, which sends to it."""
    begun: SimpleQueue[tuple[ServerConnection, threading.Thread]] = SimpleQueue()

    def handler(connection: ServerConnection) -> None:
        begun.put((connection, threading.current_thread()))
        connection.send(BIG)

    with theirs(seconds, handler) as (address, server):
        never_reading(address)
        return server, *begun.get()


def their_never_reads(seconds: float) -> dict[str, str]:
    def keepalive(server: TheirServer, connection: ServerConnection, sending: threading.Thread) -> threading.Thread:
        assert connection.keepalive_thread is not None
        return connection.keepalive_thread

    calls: dict[str, Callable[[TheirServer, ServerConnection, threading.Thread], threading.Thread]] = {
        "send": lambda server, connection, sending: sending,
        "keepalive": keepalive,
        "broadcast": lambda server, connection, sending: Call(lambda: broadcast([connection], "to all")),
        "close": lambda server, connection, sending: Call(connection.close),
        "stop": lambda server, connection, sending: Call(server.shutdown),
    }
    threads = {name: call(*stuck_in_theirs(seconds)) for name, call in calls.items()}
    deadline = monotonic() + limit(seconds)
    for thread in threads.values():
        thread.join(max(0.0, deadline - monotonic()))
    return {name: stands(thread) for name, thread in threads.items()}


def their_exit(seconds: float) -> str:
    with theirs(seconds, lambda connection: connection.send(BIG), threaded=False) as (address, server), server:
        try:
            ctrl_c_for_a_script_with(address, limit(seconds))
            server.serve_forever()
        except KeyboardInterrupt:
            pass
    return "ended"


def their_sleeps(seconds: float) -> dict[str, Any]:
    with healthy_peer() as (url, sleep):
        conn = websockets.sync.client.connect(url, ping_interval=seconds, ping_timeout=seconds, close_timeout=seconds, proxy=None)
        sleep()
        heard = 0
        try:
            while heard < MESSAGES:
                conn.recv(timeout=WAIT)
                heard += 1
        except (websockets.exceptions.ConnectionClosed, TimeoutError) as exc:
            return {"heard": heard, "end": str(exc)}
        return {"heard": heard, "end": ""}


def their_broadcast(seconds: float) -> dict[str, Any]:
    def handler(connection: ServerConnection) -> None:
        for _ in connection:
            pass

    with theirs(seconds, handler) as (address, server):
        others = Others(address)
        until(lambda: len(server.connections) == 3)
        call = Call(lambda: others.hear(lambda: broadcast(server.connections, BIG)))
        call.join(limit(seconds))
        return {"call": stands(call), "heard": others.heard}


# --- ours ---


def stuck_in_ours(**options: Any) -> tuple[bus.Server, bus.Session]:
    begun: SimpleQueue[bus.Session] = SimpleQueue()

    def handler(client: bus.Session) -> None:
        begun.put(client)
        client.send(BIG)  # one larger message fits into an empty outbox
        threading.Event().wait()

    server = bus.serve("ws://127.0.0.1:0", routes={"/": handler}, max_size=len(BIG), **{"stall_timeout": None, **options})
    never_reading(server.address)
    return server, begun.get()


def our_never_reads(seconds: float) -> dict[str, str]:
    ended: SimpleQueue[bus.BusError] = SimpleQueue()

    def keepalive() -> bus.BusError:
        options = {"ping_interval": seconds, "ping_timeout": seconds, "stall_timeout": seconds}
        stuck_in_ours(on_disconnect=lambda client, reason: ended.put(reason), **options)
        return ended.get()

    calls: dict[str, Callable[[], object]] = {
        "send": lambda: stuck_in_ours()[1].send(BIG, timeout=seconds),
        "keepalive": keepalive,
        "broadcast": lambda: len(stuck_in_ours()[0].send_to_all("to all").skipped),
        "close": lambda: stuck_in_ours()[1].close(linger=seconds),
        "stop": lambda: bool(stuck_in_ours()[0].stop(linger=seconds)),
    }
    threads = {name: Call(call) for name, call in calls.items()}
    deadline = monotonic() + WAIT
    for thread in threads.values():
        thread.join(max(0.0, deadline - monotonic()))
    return {name: stands(thread) or in_words(thread.outcome) for name, thread in threads.items()}


def in_words(outcome: object) -> str:
    return type(outcome).__name__ if isinstance(outcome, BaseException) else str(outcome)


def our_exit(seconds: float) -> str:
    def handler(client: bus.Session) -> None:
        while True:
            client.send(BIG, timeout=None)

    server = bus.serve("ws://127.0.0.1:0", routes={"/": handler}, max_size=len(BIG), stall_timeout=None)
    try:
        ctrl_c_for_a_script_with(server.address, WAIT)
        server.wait()
    except KeyboardInterrupt:
        server.stop(linger=seconds)
    return "ended"


def our_sleeps(seconds: float) -> dict[str, Any]:
    with healthy_peer() as (url, sleep):
        with bus.connect(url, timeout=WAIT, ping_interval=seconds, ping_timeout=seconds, mailbox_messages=16, proxy=False) as conn:
            sleep()
            heard = 0
            try:
                while heard < MESSAGES and conn.receive(timeout=WAIT):
                    heard += 1
            except bus.BusError as exc:
                return {"heard": heard, "end": str(exc)}
            conn.close(linger=0)
            return {"heard": heard, "end": ""}


def our_broadcast(seconds: float) -> dict[str, Any]:
    server = bus.serve("ws://127.0.0.1:0", lambda message, client: None, max_size=len(BIG), stall_timeout=None)
    others = Others(server.address)
    until(lambda: len(server.clients) == 3)
    call = Call(lambda: len(others.hear(lambda: server.send_to_all(BIG)).skipped))  # type: ignore[attr-defined]
    call.join(2 * WAIT)
    return {"call": stands(call) or in_words(call.outcome), "heard": others.heard}


def limit(seconds: float) -> float:
    return 3 * 3 * seconds  # ping interval, ping timeout, close timeout


FAULTS: dict[tuple[str, str], Callable[[float], Any]] = {
    ("theirs", "never_reads"): their_never_reads,
    ("theirs", "sleeps"): their_sleeps,
    ("theirs", "broadcast"): their_broadcast,
    ("theirs", "exit"): their_exit,
    ("ours", "never_reads"): our_never_reads,
    ("ours", "sleeps"): our_sleeps,
    ("ours", "broadcast"): our_broadcast,
    ("ours", "exit"): our_exit,
}

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in a shell's background ignores
    whose, fault, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    sys.stdout.write(json.dumps(FAULTS[whose, fault](seconds)) + "\n")
    sys.stdout.flush()
    if fault != "exit":
        os._exit(0)

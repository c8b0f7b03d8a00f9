"""Peers of other makes: netcat, socat, plain sockets, asyncio streams, against our TCP and UDP, both ways."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

import bus
from tests.bus.peers import WAIT, InThread, Peer, frame, inet, until

T = TypeVar("T")


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def nc() -> str:
    path = program("nc")
    usage = subprocess.run([path, "-h"], capture_output=True, text=True, timeout=WAIT, check=False)
    if "OpenBSD" not in usage.stdout + usage.stderr:
        pytest.skip("this netcat is not OpenBSD's; others name their options differently")
    return path


@pytest.fixture
def socat() -> str:
    return program("socat")


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def say(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


def hear(process: subprocess.Popen[bytes], size: int) -> bytes:
    stdout = process.stdout
    assert stdout is not None
    return InThread(lambda: stdout.read(size)).result()


def free_port(kind: socket.SocketKind) -> int:
    """A port that was free a moment ago, for a program that can not tell which one it was given."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def connect_once_it_listens(port: int, **options: Any) -> bus.Connection:
    found: list[bus.Connection] = []

    def connected() -> bool:
        try:
            found.append(bus.connect(f"tcp://127.0.0.1:{port}", **options))
        except bus.ConnectFailed:
            return False
        return True

    until(connected)
    return found[0]


def shout(message: bus.Message, client: bus.Client) -> str:
    return message.text.upper()


# --- netcat ---


@pytest.mark.parametrize("framing", ["lines", "raw"])
def test_netcat_pipes_lines_through_a_server(nc: str, framing: Any) -> None:
    # nc -N sends FIN when its input ends, and reads on: everything before has to be answered.
    with bus.serve("tcp://127.0.0.1:0", shout, framing=framing) as server:
        host, port = inet(server.address)
        lines = "".join(f"line {number}\n" for number in range(2000))
        done = subprocess.run([nc, "-N", host, str(port)], input=lines, capture_output=True, text=True, timeout=WAIT, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == lines.upper()


def test_netcat_half_closes_before_slow_answers(nc: str) -> None:
    def slowly(message: bus.Message, client: bus.Client) -> str:
        threading.Event().wait(0.05)  # so that the end of input is known long before the answers are
        return message.text.upper()

    with bus.serve("tcp://127.0.0.1:0", slowly, framing="lines", serial=True) as server:
        host, port = inet(server.address)
        done = subprocess.run([nc, "-N", host, str(port)], input=b"a\nb\nc\n", capture_output=True, timeout=WAIT, check=False)
        assert done.stdout == b"A\nB\nC\n"


def test_netcat_half_closes_and_a_script_answers(nc: str) -> None:
    with bus.listen("tcp://127.0.0.1:0", framing="lines") as listener:
        host, port = inet(listener.address)
        with running(nc, "-N", host, str(port)) as process, listener.accept() as conn:
            say(process, b"one\ntwo\n")
            assert process.stdin is not None
            process.stdin.close()
            assert [conn.receive().text for _ in range(2)] == ["one", "two"]
            conn.send("both heard")
            assert hear(process, 11) == b"both heard\n"
            with pytest.raises(bus.PeerClosed):
                conn.receive()
            assert process.wait(WAIT) == 0


def test_a_half_close_right_after_connecting_is_told_at_once(nc: str) -> None:
    with bus.listen("tcp://127.0.0.1:0", framing="lines") as listener:
        host, port = inet(listener.address)
        done = InThread(lambda: subprocess.run([nc, "-N", host, str(port)], input=b"", capture_output=True, timeout=WAIT, check=False))
        with listener.accept() as conn:
            assert list(conn) == []
        assert done.result().stdout == b""


def test_netcat_listens_and_we_connect(nc: str) -> None:
    port = free_port(socket.SOCK_STREAM)
    with running(nc, "-l", "-N", "127.0.0.1", str(port)) as process:
        with connect_once_it_listens(port, framing="lines") as conn:
            conn.send("to netcat")
            assert hear(process, 10) == b"to netcat\n"
            say(process, b"from netcat\n")
            message = conn.receive(timeout=WAIT)
            assert message is not None
            assert message.text == "from netcat"
            assert conn.close()


def test_netcat_over_udp_both_ways(nc: str) -> None:
    with bus.bind("udp://127.0.0.1:0") as sock:
        host, port = inet(sock.address)
        with running(nc, "-u", host, str(port)) as process:
            say(process, b"ping\n")
            message = sock.receive(timeout=WAIT)
            assert message is not None
            assert message.data == b"ping\n"
            sock.send_to(message.source, "pong\n")
            assert hear(process, 5) == b"pong\n"


def test_netcat_on_a_unix_socket(nc: str, tmp_path: Path) -> None:
    with bus.serve(f"unix://{tmp_path}/s", shout, framing="lines"):
        done = subprocess.run([nc, "-N", "-U", f"{tmp_path}/s"], input=b"hello\n", capture_output=True, timeout=WAIT, check=False)
        assert done.stdout == b"HELLO\n"


# --- socat ---


def test_socat_pipes_a_megabyte_through_an_echo(socat: str) -> None:
    # -t: how long it waits for the answer once its input has ended.
    payload = b"0123456789abcdef" * 65_536
    with bus.serve("tcp://127.0.0.1:0", lambda message, client: message, framing="raw") as server:
        command = [socat, "-t", str(WAIT), "STDIO", f"TCP:{server.address}"]
        done = subprocess.run(command, input=payload, capture_output=True, timeout=2 * WAIT, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == payload


def test_socat_listens_and_echoes_frames(socat: str) -> None:
    port = free_port(socket.SOCK_STREAM)
    with running(socat, f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr", "EXEC:cat"), connect_once_it_listens(port) as conn:
        for size in (0, 1, 1000, 300_000):
            conn.send(b"x" * size)
            message = conn.receive(timeout=WAIT)
            assert message is not None
            assert message.data == b"x" * size


def test_socat_over_udp_both_ways(socat: str) -> None:
    with bus.bind("udp://127.0.0.1:0") as sock:
        with running(socat, "STDIO", f"UDP:{sock.address}") as process:
            say(process, b"ping")
            message = sock.receive(timeout=WAIT)
            assert message is not None
            sock.send_to(message.source, message.text + " pong")
            assert hear(process, 9) == b"ping pong"


def test_socat_on_a_unix_socket(socat: str, tmp_path: Path) -> None:
    with bus.listen(f"unix://{tmp_path}/s", framing="raw") as listener:
        with running(socat, "STDIO", f"UNIX:{tmp_path}/s") as process, listener.accept() as conn:
            say(process, b"hello")
            assert conn.receive().data == b"hello"
            conn.send("back")
            assert hear(process, 4) == b"back"


# --- plain sockets ---


def test_a_plain_client_of_a_server() -> None:
    with bus.serve("tcp://127.0.0.1:0", shout) as server, socket.create_connection(inet(server.address), timeout=WAIT) as plain:
        plain.sendall(b"\x00\x00\x00\x05hello" + b"\x00\x00\x00\x00" + b"\x00\x00\x00\x02ab")
        received = b""
        while len(received) < 19:
            received += plain.recv(100)
        assert received == b"\x00\x00\x00\x05HELLO\x00\x00\x00\x00\x00\x00\x00\x02AB"


def test_a_plain_client_that_half_closes_gets_every_answer() -> None:
    with bus.serve("tcp://127.0.0.1:0", shout) as server, Peer.to(server.address) as plain:
        plain.send(*(b"number %d" % number for number in range(5000)))
        plain.finish()
        assert plain.receive_all() == [b"NUMBER %d" % number for number in range(5000)]


def test_a_plain_server_for_our_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with bus.connect("tcp://{}:{}".format(*listening.getsockname())) as conn:
            plain, address = listening.accept()
            with plain:
                assert conn.local_address == "{}:{}".format(*address)
                conn.send({"a": 1})
                assert plain.recv(100) == b'\x00\x00\x00\x07{"a":1}'
                plain.sendall(b"\x00\x00\x00\x02ok")
                assert conn.receive().text == "ok"
                plain.sendall(b"\x00\x00\x00\x03bye")
                plain.shutdown(socket.SHUT_WR)
                assert conn.receive().text == "bye"
                conn.send("and bye")
                assert plain.recv(100) == b"\x00\x00\x00\x07and bye"


# --- asyncio streams ---


def in_asyncio(main: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(WAIT):
            return await main()

    return asyncio.run(bounded())


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


def test_asyncio_clients_of_our_server() -> None:
    with bus.serve("tcp://127.0.0.1:0", shout) as server:

        async def one(number: int) -> list[bytes]:
            reader, writer = await asyncio.open_connection(*inet(server.address))
            replies = []
            for trip in range(20):
                writer.write(frame(b"client %d trip %d" % (number, trip)))
                await writer.drain()
                replies.append(await read_frame(reader))
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            return replies

        async def main() -> list[list[bytes]]:
            return await asyncio.gather(*(one(number) for number in range(20)))

        replies = in_asyncio(main)
        assert replies == [[b"CLIENT %d TRIP %d" % (number, trip) for trip in range(20)] for number in range(20)]


def test_our_clients_of_an_asyncio_server() -> None:
    async def main() -> list[str]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    writer.write(frame((await read_frame(reader)).upper()))
                    await writer.drain()
            except asyncio.IncompleteReadError:
                writer.close()
                await writer.wait_closed()

        def script(address: str) -> list[str]:
            with ExitStack() as stack:
                conns = [stack.enter_context(bus.connect(f"tcp://{address}")) for _ in range(10)]
                for trip in range(20):
                    for number, conn in enumerate(conns):
                        conn.send(f"client {number} trip {trip}")
                return [conn.receive().text for _ in range(20) for conn in conns]

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            return await asyncio.to_thread(script, f"{host}:{port}")

    assert in_asyncio(main) == [f"CLIENT {number} TRIP {trip}" for trip in range(20) for number in range(10)]


def test_asyncio_datagrams_both_ways() -> None:
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data.upper(), addr)

    async def main() -> list[str]:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        host, port = transport.get_extra_info("sockname")

        def script() -> list[str]:
            heard = []
            with bus.bind("udp://127.0.0.1:0") as sock, bus.connect(f"udp://{host}:{port}") as conn:
                for number in range(20):
                    sock.send_to(f"{host}:{port}", f"bound {number}")
                    conn.send(f"connected {number}")
                    for each in (sock, conn):
                        message = each.receive(timeout=WAIT)
                        assert message is not None
                        heard.append(message.text)
            return heard

        try:
            return await asyncio.to_thread(script)
        finally:
            transport.close()

    expected = [f"{kind} {number}" for number in range(20) for kind in ("BOUND", "CONNECTED")]
    assert in_asyncio(main) == expected


def test_an_asyncio_script_may_poll_ours() -> None:
    # fileno() for add_reader: our objects inside somebody else's loop.
    with bus.listen("tcp://127.0.0.1:0") as listener, Peer.to(listener.address) as peer, listener.accept() as conn:

        async def main() -> list[bytes]:
            heard: list[bytes] = []
            done = asyncio.Event()

            def readable() -> None:
                while (message := conn.receive(timeout=0)) is not None:
                    heard.append(message.data)
                if len(heard) == 100:
                    done.set()

            loop = asyncio.get_running_loop()
            loop.add_reader(conn, readable)
            for number in range(100):
                peer.send(b"%d" % number)
                await asyncio.sleep(0)
            await done.wait()
            loop.remove_reader(conn)
            return heard

        assert in_asyncio(main) == [b"%d" % number for number in range(100)]


def test_another_python_without_this_library() -> None:
    """The wire as its documentation tells it, in ten lines of another process."""
    code = """
import socket, struct, sys
host, _, port = sys.argv[1].rpartition(":")
with socket.create_connection((host, int(port)), timeout=30) as sock, sock.makefile("rwb") as stream:
    for word in ("a", "bb", "ccc"):
        stream.write(struct.pack(">I", len(word)) + word.encode())
    stream.flush()
    for _ in range(3):
        size, = struct.unpack(">I", stream.read(4))
        print(stream.read(size).decode())
"""
    with bus.serve("tcp://127.0.0.1:0", shout) as server:
        done = subprocess.run([sys.executable, "-I", "-c", code, server.address], capture_output=True, text=True, timeout=WAIT, check=False)
    assert (done.stdout, done.stderr) == ("A\nBB\nCCC\n", "")

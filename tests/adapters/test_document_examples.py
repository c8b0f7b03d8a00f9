"""Every code example of the Scriptling and Daystar documents runs under `actorbus run`, against the document's other example or by hand."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

import pytest

import bus
from tests.adapters.command import Command, Ended
from tests.adapters.documents import DOCUMENTS, PROGRAMS, Kind
from tests.bus.peers import WAIT, Peer, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8, and /proc/net to see who is bound")

# Not the seeded one: the workers of a run would all throw the same.
dice = random.SystemRandom()

Test = TypeVar("Test", bound=Callable[..., None])

run_here: set[str] = set()


def runs(*names: str) -> Callable[[Test], Test]:
    """Names the programs that a test runs."""
    run_here.update(names)
    return lambda test: test


# --- the table ---


@pytest.mark.parametrize(
    "document, blocks, programs",
    # How many blocks of code the document has, and how many of them begin with an import of ours.
    [("scriptling-unicast", 16, 8), ("scriptling-multicast", 9, 6), ("scriptling-websocket", 17, 8), ("daystar-communication", 3, 3)],
)
def test_the_documents_are_complete(document: str, blocks: int, programs: int) -> None:
    held = DOCUMENTS[document].values()
    assert len(held) == blocks
    assert sum(block[0].startswith(("import scriptling.", "from daystar_api.")) for block in held) == programs


@pytest.mark.parametrize("document", sorted(DOCUMENTS))
def test_every_line_of_every_example_is_in_a_program(document: str) -> None:
    covered: dict[str, set[int]] = {heading: set() for heading in DOCUMENTS[document]}
    for program in PROGRAMS.values():
        if program.document == document:
            for part in program.parts:
                covered[part.heading].update(part.numbers(DOCUMENTS[document][part.heading]))
    for heading, block in DOCUMENTS[document].items():
        assert covered[heading] >= {number for number, line in enumerate(block) if line}


def test_every_program_is_run_here() -> None:
    assert run_here == set(PROGRAMS)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_nothing_else_is_edited(name: str) -> None:
    program = PROGRAMS[name]
    for kind, old, new in program.edits:
        assert program.restored().count(old) == 1
        match kind:
            case Kind.PLACE:
                # Strings and numbers stand for places, and nothing but these differs.
                literals = r'"[^"]*"|\b(\d+|PORT|PEER)\b'
                assert re.sub(literals, "_", old) == re.sub(literals, "_", new)
            case Kind.BOUND:
                assert old == "while True:"
                assert re.fullmatch(r"for _ in range\(\d+\):", new)
            case Kind.WAIT:
                assert new == f"input()\n{old}"
    assert len([edit for edit in program.edits if edit.kind is not Kind.PLACE]) <= 1
    compile(program.source(HOST="127.0.0.1", PORT=1, PEER=2), name, "exec")


# --- running them ---


class Stage:
    """A directory, and an address that no other test has."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # All of 127.0.0.0/8 is this machine, and the ports are below those that the system gives away.
        self.host = "127." + ".".join(str(dice.randint(1, 254)) for _ in range(3))
        self.port, self.peer = dice.sample(range(10_000, 32_000), 2)
        self.offset = 70_000 - self._free_stretch()
        self.environment = {"ACTORBUS_MULTICAST_INTERFACE": "lo", "ACTORBUS_DAYSTAR_PORT_OFFSET": str(self.offset)}

    def _free_stretch(self) -> int:
        """Where the ports 70000, 70001 and 70002 can be."""
        for _ in range(100):
            first = dice.randint(10_000, 31_000)
            if not any(is_bound(kind, first + number) for kind in ("tcp", "udp") for number in range(3)):
                return first
        raise AssertionError("no free ports")

    def start(self, *names: str) -> Command:
        return Command("run", "--listen", str(self), *map(self.write, names), env=self.environment)

    def run(self, *names: str) -> Ended:
        with self.start(*names) as command:
            return ended(command)

    def write(self, name: str) -> str:
        path = self.directory / f"{name}.py"
        path.write_text(PROGRAMS[name].source(HOST=self.host, PORT=self.port, PEER=self.peer), encoding="utf-8")
        return str(path)

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def os_port(self, port: int) -> int:
        return port - self.offset


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def ended(command: Command) -> Ended:
    result = command.end()
    assert (result.status, result.stderr) == (0, ""), result
    return result


def is_bound(protocol: str, port: int) -> bool:
    """Whether somebody has the port on this machine (Linux tells)."""
    for table in (Path(f"/proc/net/{protocol}"), Path(f"/proc/net/{protocol}6")):
        if table.exists() and any(line.split()[1].endswith(f":{port:04X}") for line in table.read_text().splitlines()[1:]):
            return True
    return False


@contextmanager
def listening(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_server(address) as sock:
        sock.settimeout(WAIT)
        yield sock


@contextmanager
def datagrams(address: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(WAIT)
        sock.bind(address)
        yield sock


@runs("connect")
def test_connect(stage: Stage) -> None:
    with listening(stage.address) as server, stage.start("connect") as script:
        with Peer(server.accept()[0]) as peer:
            assert peer.receive() is None  # the runner closes what the script left open
        assert ended(script).stdout == ""


@runs("connection")
def test_the_methods_of_a_connection(stage: Stage) -> None:
    with listening(stage.address) as server, stage.start("connection") as script:
        with Peer(server.accept()[0]) as peer:
            assert [peer.receive(), peer.receive()] == [b"Hello!", b'{"action":"ping"}']
            peer.send(b"pong")
            assert [peer.receive(), peer.receive()] == [b"Still here!", None]
        assert ended(script).lines == [f"From {stage}: pong"]


@runs("listen")
def test_listen(stage: Stage) -> None:
    assert stage.run("listen").lines == [f"Listening on {stage}"]


@runs("tcp_listener")
def test_the_methods_of_a_tcp_listener(stage: Stage) -> None:
    with stage.start("tcp_listener") as script:
        script.read_until(f"Listening on {stage}")
        with Peer.to(str(stage)) as peer:
            address = peer.address
            assert peer.receive() is None
        assert ended(script).lines == [f"Listening on {stage}", f"Connection from {address}"]


@runs("udp_listener")
def test_the_methods_of_a_udp_listener(stage: Stage) -> None:
    with datagrams((stage.host, stage.peer)) as peer, stage.start("udp_listener") as script:
        until(lambda: is_bound("udp", stage.port))
        peer.sendto(b"anybody?", stage.address)
        assert peer.recvfrom(100) == (b"Reply!", stage.address)
        assert ended(script).lines == [f"From {stage.host}:{stage.peer}: anybody?"]


@runs("tcp_echo_server", "tcp_client")
def test_the_echo_server_and_its_client(stage: Stage) -> None:
    with stage.start("tcp_echo_server") as server:
        server.read_until(f"Listening on {stage}")
        assert stage.run("tcp_client").lines == ["Server said: Echo: Hello, server!"]
        (_, line) = ended(server).lines
        assert re.fullmatch(r"Connection from 127\.\d+\.\d+\.\d+:\d+", line)


@runs("tcp_echo_server", "tcp_client")
@pytest.mark.parametrize("names", [("tcp_echo_server", "tcp_client"), ("tcp_client", "tcp_echo_server")])
def test_both_in_one_command_in_either_order(stage: Stage, names: Sequence[str]) -> None:
    result = stage.run(*names)
    assert result.lines_of("tcp_client") == ["Server said: Echo: Hello, server!"]
    assert result.lines_of("tcp_echo_server")[0] == f"Listening on {stage}"
    assert len(result.lines) == 3


@runs("tcp_echo_server")
def test_the_echo_server_and_a_real_client(stage: Stage) -> None:
    with stage.start("tcp_echo_server") as server:
        server.read_until(f"Listening on {stage}")
        with Peer.to(str(stage)) as peer:
            peer.send("Grüße".encode())
            assert peer.receive_all() == ["Echo: Grüße".encode()]
        ended(server)


@runs("udp_server", "udp_client")
def test_the_udp_server_and_its_client(stage: Stage) -> None:
    with stage.start("udp_server") as server:
        until(lambda: is_bound("udp", stage.port))
        assert stage.run("udp_client").lines == ["Reply: Got it!"]
        (line,) = ended(server).lines
        assert re.fullmatch(r"From 127\.\d+\.\d+\.\d+:\d+: Hello UDP!", line)


@runs("multi_connection_server", "tcp_client")
def test_the_server_of_many_connections(stage: Stage) -> None:
    # Whoever connects is sent what the later ones say. The first two hear the next, the third nobody, until the server ends.
    result = stage.run("multi_connection_server", "tcp_client", "tcp_client", "tcp_client")
    said = [line.partition(" | ")[2] for line in result.lines]
    assert said == ["Server said: Hello, server!"] * 2


@runs("dict_messages")
def test_dict_messages(stage: Stage) -> None:
    with listening(stage.address) as server, stage.start("dict_messages") as script:
        with Peer(server.accept()[0]) as peer:
            assert peer.receive() == b'{"action":"register","name":"worker-1"}'
            peer.send(b'{"welcome": "worker-1"}')
            assert peer.receive() is None
        assert ended(script).lines == ["{'welcome': 'worker-1'}"]


@runs("error_handling", "tcp_client")
def test_the_server_that_closes_whatever_happens(stage: Stage) -> None:
    result = stage.run("error_handling", "tcp_client")
    assert result.lines == ["tcp_client | Server said: Echo: Hello, server!"]


# --- multicast ---


@pytest.fixture
def group_stage(stage: Stage) -> Stage:
    stage.host = stage.host.replace("127.", "239.", 1)
    return stage


@runs("join")
def test_join(group_stage: Stage) -> None:
    assert group_stage.run("join").stdout == ""


@runs("group")
def test_the_methods_of_a_group(group_stage: Stage) -> None:
    assert group_stage.run("group").lines == [f"From 127.0.0.1:{group_stage.port}: Hello group!"]


@runs("basic_multicast")
def test_basic_multicast(group_stage: Stage) -> None:
    assert group_stage.run("basic_multicast").lines == [f"From 127.0.0.1:{group_stage.port}: Hello group!"]


@runs("service_discovery")
def test_service_discovery(group_stage: Stage) -> None:
    assert group_stage.run("service_discovery").lines == ["Found api at 10.0.0.5:8080"]


@runs("group_dict_messages")
def test_dict_messages_to_a_group(group_stage: Stage) -> None:
    assert group_stage.run("group_dict_messages").lines == ["heartbeat"]


@runs("group_error_handling")
def test_the_group_that_is_left_whatever_happens(group_stage: Stage) -> None:
    assert group_stage.run("group_error_handling").lines == ["Received: Hello!"]


@runs("continuous_listener")
def test_the_continuous_listener(group_stage: Stage) -> None:
    with group_stage.start("continuous_listener") as script, datagrams() as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        over = threading.Event()

        def send_on_and_on() -> None:
            while not over.wait(0.02):  # nothing announces that it has joined
                sender.sendto(b"tick", group_stage.address)

        thread = threading.Thread(target=send_on_and_on)
        thread.start()
        try:
            assert ended(script).lines == [f"[127.0.0.1:{sender.getsockname()[1]}] tick"] * 3
        finally:
            over.set()
            thread.join()


# --- WebSocket, over TLS with a certificate of the test's own ---


@contextmanager
def secure_server(stage: Stage, path: str, talk: Callable[[bus.Session], object]) -> Iterator[bus.Server]:
    """A server for one client, whose certificate the scripts of the stage trust. What `talk` raises comes out at the end."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    certificate, key = stage.directory / "certificate.pem", stage.directory / "key.pem"
    words = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    files = ["-addext", f"subjectAltName=IP:{stage.host}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*words.split(), *files], check=True, capture_output=True, timeout=WAIT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    stage.environment["SSL_CERT_FILE"] = str(certificate)
    outcome: SimpleQueue[BaseException | None] = SimpleQueue()

    def serve_one(client: bus.Session) -> None:
        try:
            talk(client)
            outcome.put(None)
        except BaseException as exc:
            outcome.put(exc)

    with bus.serve(f"wss://{stage}", routes={path: serve_one}, tls=context) as server:
        yield server
        failure = outcome.get(timeout=WAIT)
        if failure is not None:
            raise failure


def text_from(client: bus.Session) -> str:
    msg = client.receive(WAIT)
    assert msg is not None
    assert msg.is_text
    return msg.text


def bytes_from(client: bus.Session) -> bytes:
    msg = client.receive(WAIT)
    assert msg is not None
    assert msg.is_text is False
    return msg.data


def has_left(client: bus.Session) -> bool:
    """Whether the next thing it does is to close in order: itself (1000), or because its script is over (1001)."""
    with pytest.raises(bus.PeerClosed):
        client.receive(WAIT)
    return client.close_code in (1000, 1001)


@runs("ws_connect")
def test_connect_to_a_websocket(stage: Stage) -> None:
    def talk(client: bus.Session) -> None:
        assert has_left(client)  # the runner closes what the script left open

    with secure_server(stage, "/", talk):
        assert stage.run("ws_connect").stdout == ""


@runs("ws_connection")
def test_the_methods_of_a_websocket(stage: Stage) -> None:
    def talk(client: bus.Session) -> None:
        assert text_from(client) == "Hello, WebSocket!"
        assert json.loads(text_from(client)) == {"type": "ping", "data": "test"}
        assert bytes_from(client) == b"\x01\x02\x03\xff"
        client.send("pong")
        client.send("grüße")
        client.send(b"\x00\xff")
        client.send("are you there?")
        assert text_from(client) == "Echo: are you there?"

    with secure_server(stage, "/", talk):
        assert stage.run("ws_connection").lines == ["Received: pong", "Text: grüße", "Binary: 2 bytes"]


@runs("ws_echo_client")
def test_the_websocket_echo_client(stage: Stage) -> None:
    def talk(client: bus.Session) -> None:
        client.send(text_from(client))
        assert has_left(client)

    with secure_server(stage, "/", talk):
        assert stage.run("ws_echo_client").lines == ["Received: Hello, WebSocket!"]


@runs("ws_json")
def test_json_over_a_websocket(stage: Stage) -> None:
    def talk(client: bus.Session) -> None:
        assert json.loads(text_from(client)) == {"action": "subscribe", "channel": "updates"}
        client.send({"update": 1})
        client.send("")  # is falsy, and no end
        client.send({"update": 2})

    with secure_server(stage, "/ws", talk):
        assert stage.run("ws_json").lines == ['Update: {"update":1}', 'Update: {"update":2}']


@runs("ws_binary")
def test_bytes_over_a_websocket(stage: Stage) -> None:
    def talk(client: bus.Session) -> None:
        client.send(bytes_from(client) + b"\x05")
        assert has_left(client)

    with secure_server(stage, "/ws", talk):
        assert stage.run("ws_binary").lines == ["Received 5 bytes"]


@runs("ws_mixed")
def test_text_and_bytes_mixed(stage: Stage) -> None:
    def talk(client: bus.Session) -> None:
        client.send("one")
        client.send(b"12")
        client.send({})

    with secure_server(stage, "/ws", talk):
        assert stage.run("ws_mixed").lines == ["Text message: one", "Binary message: 2 bytes", "Text message: {}"]


@runs("ws_headers")
def test_headers_of_ones_own(stage: Stage) -> None:
    def talk(client: bus.Session) -> None:
        assert client.headers["Authorization"] == "Bearer my-token"
        assert client.headers["X-Custom-Header"] == "value"
        client.send(f"got: {text_from(client)}")
        assert has_left(client)

    with secure_server(stage, "/ws", talk):
        assert stage.run("ws_headers").lines == ["got: Hello with auth!"]


@runs("ws_errors")
@pytest.mark.parametrize("answer, line", [("Hi!", "Received: Hi!"), (None, "Connection lost")])
def test_the_websocket_that_closes_whatever_happens(stage: Stage, answer: str | None, line: str) -> None:
    def talk(client: bus.Session) -> None:
        assert text_from(client) == "Hello"
        if answer is not None:
            client.send(answer)
            assert has_left(client)

    with secure_server(stage, "/ws", talk):
        assert stage.run("ws_errors").lines == [line]


@runs("ws_errors")
def test_the_websocket_whose_server_says_nothing(stage: Stage) -> None:
    def talk(client: bus.Session) -> None:
        assert text_from(client) == "Hello"
        assert has_left(client)

    with secure_server(stage, "/ws", talk):
        assert stage.run("ws_errors").lines == ["Timeout - no message received"]


@runs("setup", "handlers")
def test_the_chat_server_broadcasts_to_three_clients(stage: Stage) -> None:
    stage.write("handlers")
    with stage.start("setup") as server:
        server.read_until(f"serving /chat on ws://{stage}")
        with ExitStack() as stack:
            clients = [stack.enter_context(bus.connect(f"ws://{stage}/chat", timeout=WAIT)) for _ in range(3)]
            for client in clients:
                message = client.receive(WAIT)
                assert message is not None
                assert message.text == "Welcome to the chat!"  # it is in the list by then
            for number, speaker in enumerate(clients):
                speaker.send(f"I am {number}")
                speaker.send(bytes([number]))
                for client in clients:
                    heard = [client.receive(WAIT), client.receive(WAIT)]
                    assert [(message.data, message.is_text) for message in heard if message] == [
                        (f"I am {number}".encode(), True),
                        (bytes([number]), False),
                    ]
            server.signal(signal.SIGINT)
            for client in clients:
                with pytest.raises(bus.PeerClosed):
                    client.receive(WAIT)
                assert client.close_code == 1001
        result = server.end()
        assert (result.status, result.stderr) == (130, "")


@runs("ws_typed_echo")
def test_the_server_that_tells_text_from_bytes(stage: Stage) -> None:
    with stage.start("ws_typed_echo") as server:
        server.read_until(f"serving /echo on ws://{stage}")
        with bus.connect(f"ws://{stage}/echo", timeout=WAIT) as conn:
            conn.send("hello")
            conn.send(b"\x00\xff")
            heard = [conn.receive(WAIT), conn.receive(WAIT)]
            assert [message.data for message in heard if message] == [b"Echo text: hello", b"\x00\xff"]
        server.signal(signal.SIGTERM)
        result = server.end()
        assert (result.status, result.stderr) == (143, "")


# --- Daystar, whose ports stay as they are: the environment says which of the system's they stand for ---


class EndedByEtx(NamedTuple):
    """A blocking socket whose messages end with 0x03."""

    sock: socket.socket

    def send(self, message: bytes) -> None:
        self.sock.sendall(message + b"\x03")

    def receive(self) -> bytes:
        message = b""
        while (byte := self.sock.recv(1)) != b"\x03":
            assert byte, f"the stream ends behind {message!r}"
            message += byte
        return message


@runs("daystar_client")
def test_the_tcp_client(stage: Stage) -> None:
    with listening(("127.0.0.1", stage.os_port(70_001))) as server, stage.start("daystar_client") as script:
        sock, _ = server.accept()
        with sock:
            sock.settimeout(WAIT)
            peer = EndedByEtx(sock)
            assert peer.receive() == b"Hello Server"
            peer.send("schön".encode())
            assert sock.recv(1) == b""
        assert ended(script).lines == ["Received reply: schön"]


@runs("daystar_server", "daystar_client")
def test_the_tcp_server_and_its_client(stage: Stage) -> None:
    with stage.start("daystar_server") as server:
        until(lambda: is_bound("tcp", stage.os_port(70_001)))
        assert stage.run("daystar_client").lines == ["Received reply: Echo: Hello Server"]
        with socket.create_connection(("127.0.0.1", stage.os_port(70_001)), timeout=WAIT) as sock:
            peer = EndedByEtx(sock)
            peer.send(b"hello")
            assert peer.receive() == b"Echo: hello"
            server.tell("")
            assert peer.receive() == b"Broadcast message"
            assert sock.recv(1) == b""
            own_address = sock.getsockname()
        first, second = ended(server).lines
        assert re.fullmatch(r"Received from \('127\.0\.0\.1', \d+\): Hello Server", first)
        assert second == f"Received from {own_address!r}: hello"


@runs("daystar_receiver", "daystar_sender")
def test_the_udp_receiver_and_the_sender(stage: Stage) -> None:
    with stage.start("daystar_receiver") as receiver:
        until(lambda: is_bound("udp", stage.os_port(70_002)))
        assert stage.run("daystar_sender").stdout == ""
        assert ended(receiver).lines == ["Received: Hello UDP from: ('127.0.0.1', 70001)"]


@runs("daystar_receiver")
def test_the_udp_receiver_answers(stage: Stage) -> None:
    with stage.start("daystar_receiver") as receiver, datagrams() as peer:
        until(lambda: is_bound("udp", stage.os_port(70_002)))
        peer.sendto(b"anybody?", ("127.0.0.1", stage.os_port(70_002)))
        assert peer.recvfrom(100) == (b"Reply: anybody?", ("127.0.0.1", stage.os_port(70_002)))
        assert ended(receiver).lines == [f"Received: anybody? from: {peer.getsockname()!r}"]


@runs("daystar_receiver", "daystar_broadcaster")
def test_the_udp_receiver_and_the_broadcaster(stage: Stage) -> None:
    with stage.start("daystar_receiver") as receiver:
        until(lambda: is_bound("udp", stage.os_port(70_002)))
        assert stage.run("daystar_broadcaster").stdout == ""
        assert ended(receiver).lines == ["Received: Broadcast message from: ('127.0.0.1', 70001)"]

"""TlsSocket over a wire that takes and gives as much as the test says: what the kernel of a busy machine does once in a long while."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

import pytest

from actors.tls import TlsSocket
from tests.certificates import Certificate


class Wire:
    """A non-blocking socket in name. `room`: bytes that it takes; `broken`: what a write meets instead."""

    family = socket.AF_INET
    fileno = getsockopt = setsockopt = getsockname = getpeername = setblocking = close = staticmethod(lambda *_: 0)

    def __init__(self) -> None:
        self.room = 2**30
        self.broken: OSError | None = None
        self.sent = b""
        self.coming = b""
        self.ended = False

    def send(self, data: bytes) -> int:
        if self.broken is not None:
            raise self.broken
        if not self.room:
            raise BlockingIOError
        taken = data[: self.room]
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def recv(self, size: int) -> bytes:
        data, self.coming = self.coming[:size], self.coming[size:]
        if not data and not self.ended:
            raise BlockingIOError
        return data

    def shutdown(self, how: int) -> None:
        self.sent += b"FIN"


class Loop:
    """A reader thread in name: timers are run when the test says."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], object]] = []

    def is_current(self) -> bool:
        return True

    def call_later(self, delay: float, call: Callable[[], object]) -> None:
        self.timers.append(call)

    def run(self) -> None:
        timers, self.timers = self.timers, []
        for call in timers:
            call()


class Far:
    """The other end: an SSLObject, by hand."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "127.0.0.1"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side, server_hostname=name)

    def carry(self, wire: Wire) -> None:
        self.incoming.write(wire.sent)
        wire.sent = b""
        wire.coming += self.outgoing.read()

    def shake(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True


def pair(certificate: Certificate, *, server_side: bool) -> tuple[TlsSocket, Wire, Far, Loop]:
    """Ours, as a server or a client, and the other; their hands not shaken yet."""
    wire, loop = Wire(), Loop()
    context = certificate.server() if server_side else certificate.client()
    near = TlsSocket(cast(Any, wire), context, server_side=server_side, server_hostname=None if server_side else "127.0.0.1")
    near.loop = cast(Any, loop)
    return near, wire, Far(certificate.client() if server_side else certificate.server(), server_side=not server_side), loop


def shaken(certificate: Certificate, *, server_side: bool = False) -> tuple[TlsSocket, Wire, Far, Loop]:
    near, wire, far, loop = pair(certificate, server_side=server_side)
    for _ in range(4):
        far.shake()
        far.carry(wire)
        with pytest.raises(BlockingIOError):
            near.recv(100)
        far.carry(wire)
    assert far.shake()
    return near, wire, far, loop


@pytest.mark.parametrize("server_side", [True, False])
def test_a_round_trip(server_side: bool, certificate: Certificate) -> None:
    near, wire, far, _ = shaken(certificate, server_side=server_side)
    assert near.send(b"hello") == 5
    far.carry(wire)
    assert far.tls.read(100) == b"hello"
    far.tls.write(b"answer")
    far.carry(wire)
    assert near.recv(100) == b"answer"


def test_a_handshake_goes_on_although_the_kernel_took_a_part_of_it(certificate: Certificate) -> None:
    """A long chain of certificates, a small send buffer: no poller calls for what waits in no outbox."""
    near, wire, far, loop = pair(certificate, server_side=True)

    def read_on() -> None:
        with pytest.raises(BlockingIOError):
            near.recv(100)

    near.read_on = read_on
    assert not far.shake()
    far.carry(wire)
    wire.room = 100
    with pytest.raises(BlockingIOError):
        near.recv(100)
    far.carry(wire)
    assert not far.shake()
    steps = 0
    while loop.timers:
        wire.room += 100
        assert len(loop.timers) == 1
        loop.run()
        steps += 1
    assert steps > 3
    far.carry(wire)
    assert far.shake()


def test_the_end_waits_until_the_kernel_has_room(certificate: Certificate) -> None:
    near, wire, far, _ = shaken(certificate)
    near.send(b"all there is")
    wire.room = 0
    for _ in range(3):
        with pytest.raises(BlockingIOError):
            near.shutdown(socket.SHUT_WR)
    wire.room = 2**30
    near.shutdown(socket.SHUT_WR)
    assert wire.sent.endswith(b"FIN")
    far.incoming.write(wire.sent.removesuffix(b"FIN"))
    far.incoming.write_eof()
    assert far.tls.read(100) == b"all there is"
    assert far.tls.read(100) == b""  # and not SSLEOFError: close_notify has come


def test_behind_our_end_nothing_is_decrypted(certificate: Certificate) -> None:
    near, wire, _, _ = shaken(certificate)
    near.shutdown(socket.SHUT_WR)
    wire.coming = b"whatever it is"
    assert near.recv(100) == b"whatever it is"
    wire.ended = True
    assert near.recv(100) == b""


def test_a_link_that_breaks_while_writing_still_tells_why_and_what_came_before(certificate: Certificate) -> None:
    near, wire, far, _ = shaken(certificate)
    far.tls.write(b"before")
    far.carry(wire)
    far.incoming.write(b"\x17\x03\x03\x00\x20" + b"x" * 32)  # the other end meets a forged record, and says so in an alert
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        far.tls.read(100)
    far.carry(wire)
    wire.broken, wire.ended = BrokenPipeError(32, "Broken pipe"), True
    with pytest.raises(ssl.SSLError, match="^TLS failed: a record reached it damaged, or forged$"):
        near.send(b"too late")
    assert near.recv(100) == b"before"
    for call in (lambda: near.recv(100), lambda: near.send(b"x")):
        with pytest.raises(ssl.SSLError, match="^TLS failed: a record reached it damaged, or forged$"):
            call()


def test_a_link_that_breaks_without_a_word_is_a_broken_link(certificate: Certificate) -> None:
    near, wire, far, _ = shaken(certificate)
    far.tls.write(b"before")
    far.carry(wire)
    wire.broken = ConnectionResetError(104, "reset")
    with pytest.raises(ConnectionResetError):
        near.send(b"too late")
    assert near.recv(100) == b"before"


def test_what_has_come_is_read_before_the_break_that_writing_met(certificate: Certificate) -> None:
    near, wire, far, _ = pair(certificate, server_side=True)
    for room in (2**30, 2**30, 0):  # at last its tickets wait
        far.shake()
        far.carry(wire)
        wire.room = room
        with pytest.raises(BlockingIOError):
            near.recv(100)
    assert near.wants_to_write
    far.tls.write(b"before")
    far.carry(wire)
    wire.broken = ConnectionResetError(104, "reset")
    assert near.recv(100) == b"before"
    wire.broken = None  # the kernel tells it once
    with pytest.raises(ConnectionResetError):
        near.recv(100)


def test_what_is_decrypted_is_not_lost_by_an_error_behind_it(certificate: Certificate) -> None:
    near, wire, far, _ = shaken(certificate)
    again: list[int] = []
    near.read_on = lambda: again.append(1)
    far.tls.write(b"good")
    good = far.outgoing.read()
    far.tls.write(b"forged")
    forged = far.outgoing.read()
    wire.coming = good + forged[:-1] + bytes([forged[-1] ^ 1])
    assert near.recv(100) == b"good"
    assert again  # no poller will say that there is more
    with pytest.raises(ssl.SSLError, match="damaged on its way, or forged"):
        near.recv(100)


def test_a_peer_that_only_talks_tls_keeps_nobody_waiting(certificate: Certificate) -> None:
    """Parts of records without a message in them: one read of the socket, and then the next one has its turn."""
    near, wire, far, _ = shaken(certificate)
    far.tls.write(b"x" * 16_000)
    record = far.outgoing.read()
    trickle = [bytes([byte]) for byte in record]
    wire.recv = lambda size: trickle.pop(0)  # type: ignore[method-assign]
    for count in range(1, 10):
        with pytest.raises(BlockingIOError):
            near.recv(100)
        assert len(trickle) == len(record) - count


def deliver(near: TlsSocket, wire: Wire, data: bytes, chance: random.Random) -> bytes:
    """What comes out of the bytes, which come in pieces of whatever size."""
    out = b""
    while data:
        size = chance.choice((1, 2, 5, 17, 300, 70_000))
        wire.coming, data = wire.coming + data[:size], data[size:]
        try:
            while more := near.recv(chance.choice((1, 100, 65_536))):
                out += more
        except BlockingIOError:
            pass
    return out


@pytest.mark.parametrize("server_side", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_however_the_bytes_are_cut_the_same_comes_out(seed: int, server_side: bool, certificate: Certificate) -> None:
    chance = random.Random(seed)
    near, wire, far, _ = pair(certificate, server_side=server_side)
    sent = chance.randbytes(50_000)
    for _ in range(3):
        if not server_side:
            with pytest.raises(BlockingIOError):
                near.recv(100)
        far.carry(wire)
        far.shake()
        assert deliver(near, wire, far.outgoing.read(), chance) == b""
    far.carry(wire)
    assert far.shake()
    far.tls.write(sent)
    assert deliver(near, wire, far.outgoing.read(), chance) == sent


@pytest.mark.parametrize("server_side", [True, False])
@pytest.mark.parametrize("seed", range(30))
def test_whatever_bit_is_flipped_nothing_false_comes_out(seed: int, server_side: bool, certificate: Certificate) -> None:
    chance = random.Random(seed)
    near, wire, far, _ = pair(certificate, server_side=server_side)
    sent = chance.randbytes(3000)
    spoilt = chance.randrange(2500 if server_side else 4500)  # of all that comes: the handshake, and then the messages
    got, count = b"", 0
    try:
        for step in range(5):
            if not server_side and not step:
                with pytest.raises(BlockingIOError):
                    near.recv(100)
            far.carry(wire)
            if far.shake():
                far.tls.write(sent[count : count + 600])
                count += 600
            data = bytearray(wire.coming + far.outgoing.read())
            wire.coming = b""
            if 0 <= spoilt < len(data):
                data[spoilt] ^= 1 << chance.randrange(8)
            spoilt -= len(data)  # below 0 from then on
            got += deliver(near, wire, bytes(data), chance)
    except ssl.SSLError:  # ours, or that of the other end, which saw another handshake
        assert spoilt < 0
    assert sent.startswith(got)
    assert spoilt < 0 or got == sent[:count]

"""TLS on a non-blocking socket, made to look like one: `recv`, `send`, `shutdown`.

An `ssl.SSLSocket` wants the same bytes again after a partial write and hides what it has decrypted from a poller; an `SSLObject` between
two memory buffers does neither. Its state must not be torn by an interrupt, so once a reader thread works for the socket only that thread
encrypts and decrypts; for every other the socket is never ready, and what is sent is queued.

What it raises is an `ssl.SSLError` with the words of `actors.tlswords` for its text, or the OSError of the socket; if a write fails, the
alert in which the peer has said why comes first.
"""

from __future__ import annotations

import socket
import ssl
import time
from time import monotonic
from typing import TYPE_CHECKING, Any

from actors.errors import BadAddress, ConnectFailed, ConnectTimeout
from actors.framing import looks_like_tls
from actors.tlswords import MAX_SHOWN, NO_TLS_THERE, in_words
from actors.waiting import READ, WRITE, current

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.readerthread import ReaderThread

__all__ = ["TlsSocket", "connect_tls"]

READ_SIZE = 64 * 1024
RECORD = 16 * 1024  # what a TLS record holds at most (RFC 8446, section 5.1)
NO_TLS = b"\x15\x03\x03\0\2\2\x46"  # the alert protocol_version; who does not speak TLS may still know it when he sees it
RETRY = 0.02  # seconds until TLS's own words are tried again that the kernel had no room for


def _nothing() -> None:
    pass


class TlsSocket:
    """See the module. Takes over `sock`, which has to be non-blocking. `loop` is set by the actor that owns it.

    `peer_certificate` (as `ssl.SSLSocket.getpeercert` gives it) and `version` are known once the handshake is over, to any thread.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname)
        self._first = b""  # how the peer began, until that is known to be TLS
        self._kept: list[bytes] = []  # decrypted when the link was found broken, and not read yet
        self._unsent = b""  # encrypted, and not with the kernel
        self._ahead = 0  # 1: the first byte of the next `send` is encrypted already, see `send`
        self._retrying = False
        self._over = False  # nothing more will come, in order or not
        self._said_end = False
        self._parted = False  # what comes is not decrypted any more
        self._failure: OSError | None = None  # what TLS ended with; its state is of no use any more
        self._shaken = False
        self.on_shaken: Callable[[], object] = _nothing  # called once, by a `recv` in which the handshake came to its end
        self.read_on: Callable[[], object] = _nothing  # asks for another `recv` although nothing more will come from the kernel
        self.loop: ReaderThread | None = None
        self.truncated = False  # the stream ended without TLS's own end
        self.peer_certificate: dict[str, Any] | None = None
        self.version: str | None = None
        self.family = sock.family
        self.fileno = sock.fileno
        self.getsockopt = sock.getsockopt
        self.setsockopt = sock.setsockopt
        self.getsockname = sock.getsockname
        self.getpeername = sock.getpeername
        self.setblocking = sock.setblocking
        self.close = sock.close

    def do_handshake(self) -> bool:
        """Go on with the handshake; True when it is over, else it read once. Raises ssl.SSLError, BlockingIOError, OSError."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            self._receive()
            return False
        except ssl.SSLError as exc:
            self._fail(exc)
            raise
        self.peer_certificate = self._tls.getpeercert()
        self.version = self._tls.version()
        self._shaken = True
        self._flush()
        return True

    @property
    def wants_to_write(self) -> bool:
        return bool(self._unsent)

    @property
    def waiting(self) -> int:
        """Bytes that are encrypted and not with the kernel."""
        return len(self._unsent) + self._outgoing.pending

    def _flush(self) -> bool:
        """Hand what is encrypted to the kernel. False when it does not take all of it."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        while self._unsent:
            try:
                sent = self._sock.send(self._unsent)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self._hear_why()
                raise
            self._unsent = self._unsent[sent:]
        return True

    def _receive(self) -> None:
        """Bytes from the kernel to the decrypting side. Raises BlockingIOError when there are none."""
        data = self._sock.recv(READ_SIZE)
        if not data:
            self._incoming.write_eof()
        elif self._shaken or self._first:
            self._incoming.write(data)
        else:
            self._first = data[:MAX_SHOWN]
            # OpenSSL waits for the five bytes of a record's head. What is none is refused at once, however short.
            self._incoming.write(data if looks_like_tls(data) else bytes(5))

    def _fail(self, exc: ssl.SSLError) -> None:
        """Put what is wrong into words, and tell the peer of it, if that is still possible."""
        if self._failure is None:
            server = self._tls.server_side
            name = self._tls.server_hostname or ""
            chain = self._shown_chain() if isinstance(exc, ssl.SSLCertVerificationError) else []
            exc.strerror = in_words(exc, server=server, shaken=self._shaken, first=self._first, name=name, chain=chain, now=time.time())
            self._failure = exc
            if server and self._first and not looks_like_tls(self._first):
                self._outgoing.write(NO_TLS)
            try:
                self._flush()
            except OSError:
                pass

    def _shown_chain(self) -> list[dict[str, Any]]:
        """What the peer showed and we did not accept. Python 3.11 has it, but under no public name."""
        try:
            return [certificate.get_info() for certificate in self._tls._sslobj.get_unverified_chain() or ()]  # type: ignore[attr-defined]
        except (AttributeError, ValueError, ssl.SSLError):
            return []

    def _hear_why(self) -> None:
        """The kernel takes nothing more. If the peer has said why (it refuses our certificate, say), raise that; keep what came before."""
        if self._failure is not None:
            return
        try:
            while data := self._sock.recv(READ_SIZE):
                self._incoming.write(data)
        except OSError:
            pass
        try:
            if not self._shaken:
                self._tls.do_handshake()
            while chunk := self._tls.read(READ_SIZE):
                self._kept.append(chunk)
        except (ssl.SSLWantReadError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            pass
        except ssl.SSLError as exc:
            self._fail(exc)
            raise

    def _check_thread(self) -> None:
        if self.loop is not None and not self.loop.is_current():
            raise BlockingIOError("only the reader thread encrypts")

    def recv(self, size: int, /) -> bytes:
        """Decrypted bytes, all that there are, so that none hides from the poller; b"" at the end. Raises BlockingIOError, OSError."""
        self._check_thread()
        if self._parted:
            return self._sock.recv(size)
        chunks, self._kept = self._kept, []
        try:
            if self._failure is not None:
                raise self._failure
            if not self._shaken:
                while not self.do_handshake():
                    pass
                self.on_shaken()
            self._decrypt(size, chunks)
            if not self._over:
                self._flush()
        except OSError as exc:
            chunks += self._kept  # by `_hear_why`, if it was writing that failed
            self._kept = []
            if not chunks:
                raise
            if not isinstance(exc, (BlockingIOError, InterruptedError)):
                self._failure = exc
        finally:
            if self._unsent:
                self._flush_later()
        if chunks and (self._over or self._failure is not None):
            self.read_on()  # the end is for the next one, and no poller will call it
        return b"".join(chunks)

    def _decrypt(self, size: int, chunks: list[bytes]) -> None:
        """Add what there is to `chunks`; read once more from the kernel if that is nothing. Raises BlockingIOError if it still is."""
        received = False
        while not self._over:
            try:
                chunk = self._tls.read(size)
            except ssl.SSLWantReadError:
                if chunks:
                    return
                if received:  # and no message yet: a peer that sends nothing but TLS's own talk keeps nobody waiting
                    raise BlockingIOError("no message yet") from None
                self._flush()
                self._receive()
                received = True
            except ssl.SSLZeroReturnError:
                self._over = True
            except ssl.SSLEOFError:
                self._over = self.truncated = True
            except ssl.SSLError as exc:
                self._fail(exc)
                raise
            else:
                self._over = not chunk
                if chunk:
                    chunks.append(chunk)

    def _flush_later(self) -> None:
        """TLS's own words (a long chain of certificates, the answer to a KeyUpdate) wait in no outbox, so no poller calls for them."""
        if self.loop is not None and not self._retrying:
            self._retrying = True
            self.loop.call_later(RETRY, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        self.read_on()

    def send(self, data: bytes | memoryview, /) -> int:
        """Encrypt and send some. Raises BlockingIOError when the kernel takes nothing now.

        When it takes only a part of what was encrypted, one byte less is reported than was: so the caller comes back with at least that
        byte, and finds the rest of the way open or not.
        """
        self._check_thread()
        if self._failure is not None:
            raise self._failure
        if not self._flush():
            raise BlockingIOError("the kernel takes nothing now")
        taken = 0
        view = memoryview(data)
        if self._ahead:
            self._ahead = 0
            taken = 1
        while taken < len(view):
            try:
                taken += self._tls.write(view[taken : taken + RECORD])
            except ssl.SSLWantReadError:  # the handshake is not over
                if not taken:
                    raise BlockingIOError("the TLS handshake is not over") from None
                break
            if not self._flush():
                self._ahead = 1
                return taken - 1
        return taken

    def shutdown(self, how: int, /) -> None:
        """TLS's own end (close_notify, RFC 8446, section 6.1), then the socket's. Raises BlockingIOError if it has to be called again."""
        self._say_end()
        self._parted = True
        self._end(how)

    def end_output(self) -> None:
        """The same for what we say, and go on decrypting what the peer says. Raises BlockingIOError if it has to be called again."""
        self._check_thread()
        self._say_end()
        self._end(socket.SHUT_WR)

    def _say_end(self) -> None:
        if not self._said_end and self._failure is None:
            try:
                self._tls.unwrap()
            except (ssl.SSLError, ValueError):
                pass  # the peer's is not awaited, and a handshake that never ended has none
        self._said_end = True

    def _end(self, how: int) -> None:
        try:
            flushed = self._flush()
        except OSError:
            flushed = True  # as far as it can be
        if not flushed:
            raise BlockingIOError("the kernel takes nothing now")
        self._sock.shutdown(how)


def connect_tls(sock: socket.socket, context: ssl.SSLContext, name: str, where: str, deadline: float | None) -> TlsSocket:
    """Shake hands as a client, in the calling thread. `name`: whose certificate it has to be. Raises ConnectFailed, ConnectTimeout."""
    try:
        wrapped = TlsSocket(sock, context, server_side=False, server_hostname=name.partition("%")[0] if ":" in name else name)
    except ValueError as exc:
        raise BadAddress(where, f"TLS can't be spoken to it: {exc}") from exc
    while True:
        try:
            if wrapped.do_handshake():
                return wrapped
        except (BlockingIOError, InterruptedError):
            if deadline is not None and monotonic() >= deadline:
                raise ConnectTimeout(where, f"no TLS handshake within the timeout ({NO_TLS_THERE})") from None
            current().wait(deadline, sock.fileno(), WRITE if wrapped.wants_to_write else READ)
        except ssl.SSLError as exc:
            raise ConnectFailed(where, str(exc)).because(exc) from exc
        except OSError as exc:
            raise ConnectFailed(where, f"the connection broke during the TLS handshake ({NO_TLS_THERE}): {exc}").because(exc) from exc

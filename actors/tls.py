"""TLS on a non-blocking socket, made to look like one: `recv`, `send`, `shutdown`.

An `ssl.SSLSocket` wants the same bytes again after a partial write and hides what it has decrypted from a poller; an `SSLObject` between
two memory buffers does neither. Its state must not be torn by an interrupt, so once a reader thread works for the socket only that thread
encrypts and decrypts; for every other the socket is never ready, and what is sent is queued.
"""

from __future__ import annotations

import socket
import ssl
from time import monotonic
from typing import TYPE_CHECKING

from actors.errors import BadAddress, ConnectFailed, ConnectTimeout
from actors.waiting import READ, WRITE, current

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.readerthread import ReaderThread

__all__ = ["TlsSocket", "client_context", "connect_tls", "tls_phrase"]

READ_SIZE = 64 * 1024
RECORD = 16 * 1024  # what a TLS record holds at most (RFC 8446, section 5.1)


def _nothing() -> None:
    pass


def client_context(tls: ssl.SSLContext | None) -> ssl.SSLContext:
    """The given context, or one that trusts the system's roots and checks the name; TLS 1.2 at least."""
    return ssl.create_default_context() if tls is None else tls


class TlsSocket:
    """See the module. Takes over `sock`, which has to be non-blocking. `loop` is set by the actor that owns it."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname)
        self._unsent = b""  # encrypted, and not with the kernel
        self._ahead = 0  # 1: the first byte of the next `send` is encrypted already, see `send`
        self._over = False
        self._shaken = False
        self.on_shaken: Callable[[], object] = _nothing  # called once, by a `recv` in which the handshake came to its end
        self.read_on: Callable[[], object] = _nothing  # asks for another `recv` although nothing more will come from the kernel
        self.loop: ReaderThread | None = None
        self.truncated = False  # the stream ended without TLS's own end
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
            self._shaken = True
        except ssl.SSLWantReadError:
            pass
        finally:
            self._flush()  # also what is to be said about a failure
        if not self._shaken:
            self._receive()
        return self._shaken

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
            self._unsent = self._unsent[sent:]
        return True

    def _receive(self) -> None:
        """Bytes from the kernel to the decrypting side. Raises BlockingIOError when there are none."""
        data = self._sock.recv(READ_SIZE)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _check_thread(self) -> None:
        if self.loop is not None and not self.loop.is_current():
            raise BlockingIOError("only the reader thread encrypts")

    def recv(self, size: int, /) -> bytes:
        """Decrypted bytes, all that there are, so that none hides from the poller; b"" at the end. Raises BlockingIOError, OSError."""
        self._check_thread()
        if self._over:
            return b""
        if not self._shaken:
            while not self.do_handshake():
                pass
            self.on_shaken()
        chunks: list[bytes] = []
        while True:
            try:
                chunk = self._tls.read(size)
                if not chunk:
                    self._over = True
                    break
                chunks.append(chunk)
            except ssl.SSLWantReadError:
                if chunks:
                    break
                self._flush()
                self._receive()
            except ssl.SSLZeroReturnError:
                self._over = True
                break
            except ssl.SSLEOFError:
                self._over = self.truncated = True
                break
            except ssl.SSLError:
                self._flush()  # the alert, if it can be said
                raise
        self._flush()
        if chunks and self._over:
            self.read_on()  # the end is for the next one, and no poller will call it
        return b"".join(chunks)

    def send(self, data: bytes | memoryview, /) -> int:
        """Encrypt and send some. Raises BlockingIOError when the kernel takes nothing now.

        When it takes only a part of what was encrypted, one byte less is reported than was: so the caller comes back with at least that
        byte, and finds the rest of the way open or not.
        """
        self._check_thread()
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
        """TLS's own end (close_notify, RFC 8446, section 6.1), then the socket's."""
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # the peer's is not awaited, and a handshake that never ended has none
        try:
            self._flush()
        finally:
            self._sock.shutdown(how)


def tls_phrase(exc: OSError) -> str:
    """What is wrong with an ssl.SSLError, in words."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {exc.verify_message}"
    what = str(getattr(exc, "reason", None) or exc).replace("_", " ").lower()
    return f"TLS failed: {what}"


def connect_tls(sock: socket.socket, context: ssl.SSLContext, name: str, where: str, deadline: float | None) -> TlsSocket:
    """Shake hands as a client, in the calling thread. `name`: whose certificate it has to be. Raises ConnectFailed, ConnectTimeout."""
    try:
        wrapped = TlsSocket(sock, context, server_side=False, server_hostname=name)
    except ValueError as exc:
        raise BadAddress(where, f"TLS can't be spoken to it: {exc}") from exc
    while True:
        try:
            if wrapped.do_handshake():
                return wrapped
        except (BlockingIOError, InterruptedError):
            if deadline is not None and monotonic() >= deadline:
                raise ConnectTimeout(where, "no TLS handshake within the timeout") from None
            current().wait(deadline, sock.fileno(), WRITE if wrapped.wants_to_write else READ)
        except ssl.SSLError as exc:
            raise ConnectFailed(where, tls_phrase(exc)).because(exc) from exc
        except OSError as exc:
            raise ConnectFailed(where, f"the connection broke during the TLS handshake: {exc}").because(exc) from exc

"""The server's side of a WebSocket's opening handshake (RFC 6455, section 4.2): HTTP in, HTTP out, and then a WebSocket.

A `Guest` is a client's actor from its first byte on. Until its request is whole it counts against the server's limits, has a deadline, and
is heard by nobody. Then the hook `on_request` may answer it as plain HTTP, and what it asks for is judged; only who is admitted becomes a
client.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from actors import crew, scope
from actors.actor import Close
from actors.callbacks import Callbacks
from actors.errors import Broken, BusError
from actors.framing import Parsed, Unparsed, count_chunks, left_over, tls_hint
from actors.http import HEAD_END, MAX_HEAD, Answer, Request, Response, encode_answer
from actors.reader import SPECIAL
from actors.stream import LINGER, State
from actors.tls import TlsSocket
from actors.websocket import WebSocketActor

if TYPE_CHECKING:
    from websockets.http11 import Request as HttpRequest

    from actors.certificates import Credentials
    from actors.readerthread import ReaderThread

__all__ = ["Door", "Guest", "is_loopback"]

log = logging.getLogger("actorbus.websocket")



@dataclass(frozen=True)
class Door:
    """Who may come in. `admit(actor, request, protocol)` gives the callbacks and what they show for the client, or None if there is
    nothing at that path.
    """

    admit: Callable[[Guest, Request, ServerProtocol], tuple[Callbacks, Any] | None]
    on_request: Callable[[Request], Answer] | None = None
    origins: Sequence[str] | None = None
    subprotocols: Sequence[str] | None = None
    compression: bool = False
    tls: Credentials | None = None
    on_loopback: bool = True

    def protocol(self, max_size: int) -> ServerProtocol:
        names = None if self.subprotocols is None else [cast(Subprotocol, name) for name in self.subprotocols]
        extensions = [ServerPerMessageDeflateFactory()] if self.compression else None
        return ServerProtocol(extensions=extensions, subprotocols=names, select_subprotocol=_select, max_size=max_size)

    def objection(self, request: Request) -> str | None:
        """Why a page from the request's origin may not connect; None if it may, or if no page asks."""
        try:
            return self._objection(request)
        except (LookupError, ValueError):  # one of the two headers twice, or not what a URL has there
            return "its Origin or its Host is not understood"

    def _objection(self, request: Request) -> str | None:
        origin = request.headers.get("Origin")
        if origin is None:
            return None
        if self.origins is not None:
            return None if origin in self.origins or "*" in self.origins else f"the origin {origin} is not among those allowed"
        host = request.headers.get("Host", "")
        page = urlsplit(origin)
        here = urlsplit(f"{'http' if self.tls is None else 'https'}://{host}")
        same = (page.hostname, page.port or _default_port(page.scheme)) == (here.hostname, here.port or _default_port(here.scheme))
        if not same:
            return f"a page of {origin} may not connect to {host}"
        if self.on_loopback and not is_loopback(here.hostname or ""):
            return f"{host} is not a name of this machine for itself"  # DNS rebinding: a foreign name that leads to loopback
        return None


def is_loopback(host: str) -> bool:
    """Whether it names this machine for itself. Numbers do; a name that only leads there does not count."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _default_port(scheme: str) -> int:
    return 443 if scheme in ("https", "wss") else 80


def _may_be_http(data: bytes) -> bool:
    """Whether it begins as a request does; TLS, for one, does not."""
    return data[:1].isalpha() or data[:1] in (b"\r", b"\n")


def _select(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The first of ours that the client offers; none is no reason to refuse it (RFC 6455, section 4.2.2)."""
    return next((name for name in protocol.available_subprotocols or () if name in offered), None)


class Hello:
    """The framing of what comes before the WebSocket: one HTTP request head. `asked(head, rest)` is told of it."""

    name = "http"
    delimited = True
    marks_text = False
    parted = True
    judged = 0
    close_code = None
    close_reason = None

    def __init__(self, asked: Callable[[bytes, bytes], None]) -> None:
        self._asked = asked

    def frame(self, payload: bytes) -> bytes:
        raise AssertionError("nothing is sent before the handshake")

    def sole(self, data: bytes, max_size: int) -> bytes | None:
        return None

    def parse(self, unparsed: Unparsed, max_size: int) -> Parsed:
        unparsed = count_chunks(unparsed)
        data = b"".join(unparsed.chunks)
        return Parsed([], left_over(data, special=HEAD_END in data or len(data) > MAX_HEAD or not _may_be_http(data)))

    def feed(self, unparsed: Unparsed) -> tuple[Parsed, BusError | None]:
        data = b"".join(unparsed.chunks)
        end = data.find(HEAD_END) + len(HEAD_END) if HEAD_END in data[:MAX_HEAD] else len(data)
        self._asked(data[:end], data[end:])
        return Parsed([], Unparsed([])), None

    def goodbye(self, code: int, reason: str) -> bytes:
        return b""

    def cut_off(self, left: int) -> BusError | None:
        return Broken("a visitor", "it left during the opening handshake")

    def begin(self, stream: object) -> None:
        pass


class Guest(WebSocketActor):
    """See the module. `door` says who is admitted."""

    def __init__(self, sock: Any, loop: ReaderThread, *, door: Door, **options: Any) -> None:
        if door.tls is not None:
            sock = TlsSocket(sock, door.tls.context, server_side=True)
        self._door = door
        self.request: Request | None = None
        options["framing"] = Hello(self._asked)
        super().__init__(sock, loop, **options)

    def _enter(self) -> None:
        self.silence.expect("WebSocket handshake")

    def on_receive(self, message: Any) -> None:
        if isinstance(message, Close) and self.being_answered and self.state is State.OPEN:
            self._respond(Response(503, "this server is stopping\n"))
        super().on_receive(message)

    def _asked(self, head: bytes, rest: bytes) -> None:
        # Decided behind this turn, which still works with the framing of before.
        self.reader.shut(SPECIAL)
        self.being_answered = True
        self.loop.call_soon(partial(self._consider, head, rest))

    def _consider(self, head: bytes, rest: bytes) -> None:
        protocol = self._door.protocol(self.max_size)
        if not _may_be_http(head):
            log.info("%s asks for nothing in HTTP%s", self.remote_address, tls_hint(head))
            self._respond(Response(400, "this is an HTTP and WebSocket server\n"))
            return
        if not head.endswith(HEAD_END):
            self._respond(Response(431, "the request's headers are too long\n"))
            return
        protocol.receive_data(head)
        events = protocol.events_received()
        if not events:
            self._respond(Response(400, f"not a valid HTTP request: {protocol.handshake_exc}\n"))
            return
        asked = cast("HttpRequest", events[0])
        request = Request(asked.path, asked.headers, self.remote_address, asked.method)
        decide = partial(self._decide, protocol, asked, request, rest)
        if self._door.on_request is None:
            decide(None)
        elif not crew.run(partial(self._ask, request, decide)):
            decide(encode_answer(503))

    def _ask(self, request: Request, decide: Callable[[bytes | None], None]) -> None:
        assert self._door.on_request is not None
        previous = scope.enter(self.scope)
        answer = encode_answer(500)
        try:
            answer = encode_answer(self._door.on_request(request))
        except BaseException:
            log.exception("on_request raised for %s %s", self.remote_address, request.path)
        finally:
            scope.enter(previous)
        self.loop.call_soon(partial(decide, answer))

    def _decide(self, protocol: ServerProtocol, asked: HttpRequest, request: Request, rest: bytes, answer: bytes | None) -> None:
        if self.state is not State.OPEN:
            return
        if self.closing or (answer is None and self.draining is not None):
            self._respond(Response(503, "this server is stopping\n"))
            return
        if answer is not None:
            self._respond_with(answer)
            return
        objection = self._door.objection(request)
        if objection is not None:
            self._respond(Response(403, objection + "\n"))
            return
        try:
            admitted = self._door.admit(self, request, protocol)
        except Exception:
            log.exception("what serves %s cannot serve %s", request.path, self.remote_address)
            self._respond(Response(500, "what serves this is no function\n"))
            return
        if admitted is None:
            self._respond(Response(404, f"there is nothing at {request.path}\n"))
            return
        response = protocol.accept(asked)
        if response.status_code != 101:
            log.info("%s refused: %s", self.remote_address, protocol.handshake_exc)
            self._respond_with(response.serialize())
            return
        assert self.lane is not None
        self.being_answered = False
        self.request = request
        protocol.send_response(response)
        self.outbox.append(b"".join(protocol.data_to_send()))
        self.lane.admit(*admitted)
        self.begin(protocol, rest)
        self.lane.settle()

    def _respond(self, response: Response) -> None:
        if response.status >= 400:
            log.info("%s refused with HTTP %d", self.remote_address, response.status)
        self._respond_with(response.encoded())

    def _respond_with(self, data: bytes) -> None:
        self.outbox.append(data)
        self._close(Close(Broken(self.remote_address, "it was answered in plain HTTP"), LINGER))
        if self.draining is not None:
            self.draining.through()

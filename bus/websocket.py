"""WebSocket: what `connect` and `serve` do for `ws://`, and the clients of such a server."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from actors import crew, scope
from actors.callbacks import Callbacks
from actors.errors import Broken, BusError, Closed, PeerClosed
from actors.lane import STARTING
from actors.mailbox import Mailbox
from actors.message import Message, Sendable, weigh
from actors.reader import FULL
from actors.stream import LINGER
from actors.waiting import deadline_after
from bus.arguments import check_callable
from bus.server import Client

if TYPE_CHECKING:
    from actors.http import Answer, Request
    from actors.wshandshake import Door, Guest

__all__ = ["Route", "Session", "WebSocketClient", "make_door"]

log = logging.getLogger("actorbus.server")

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]+|null|\*")  # "null": a page without one, such as a file

OnMessage: TypeAlias = "Callable[[Message, WebSocketClient], Sendable | None]"
SessionHandler: TypeAlias = "Callable[[Session], object]"
Route: TypeAlias = "OnMessage | SessionHandler"


class WebSocketClient(Client):
    """A WebSocket server's client, as callbacks see it."""

    __slots__ = ("_protocol", "request")

    def __init__(self, actor: Guest, home: object, request: Request, protocol: Any) -> None:
        super().__init__(actor, home)
        self.request = request
        self._protocol = protocol

    @property
    def path(self) -> str:
        """What it asked for, without the query."""
        return self.request.path.partition("?")[0]

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of its request; names in any case."""
        return self.request.headers

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol agreed on, if any."""
        subprotocol: str | None = self._protocol.subprotocol
        return subprotocol

    @property
    def latency(self) -> float | None:
        """Seconds from the last ping that was answered to its pong; None before the first."""
        latency: float | None = self._actor.latency  # type: ignore[attr-defined]
        return latency

    @property
    def close_code(self) -> int | None:
        """The code of the closing handshake (RFC 6455, section 7.4), the client's own if it sent one; None before."""
        code: int | None = self._actor.framing.close_code  # type: ignore[attr-defined]
        return code

    @property
    def close_reason(self) -> str | None:
        """The text beside that code."""
        reason: str | None = self._actor.framing.close_reason  # type: ignore[attr-defined]
        return reason

    def close(self, linger: float = LINGER, code: int = 1000, reason: str = "") -> bool:
        """Close this client's connection in order, with that code and reason. In a callback it does not wait, and returns False."""
        self._actor.say_goodbye_with(code, reason)  # type: ignore[attr-defined]
        return super().close(linger)


class Session(WebSocketClient):
    """A client whose messages a session handler receives, in the manner of a Connection.

    >>> import bus
    >>> def shout(client: bus.Session) -> None:
    ...     for msg in client:
    ...         client.send(msg.text.upper())
    >>> with bus.serve("ws://127.0.0.1:0", routes={"/": shout}) as server:
    ...     with bus.connect(f"ws://{server.address}/") as conn:
    ...         conn.send("hello")
    ...         print(conn.receive(timeout=5).text)
    HELLO
    """

    __slots__ = ("_get", "_mailbox")

    def __init__(self, actor: Guest, home: object, request: Request, protocol: Any) -> None:
        super().__init__(actor, home, request, protocol)
        self._mailbox: Mailbox[Message] = Mailbox(
            weigh=weigh, pause=lambda: actor.reader.shut(FULL), resume=lambda: actor.reader.open(FULL)
        )
        if not actor.encrypted:
            self._mailbox.use_direct(actor.reader.direct)
        assert actor.lane is not None
        actor.lane.deliver_to(self._mailbox)
        self._get: Callable[[float | None], Message | None] = actor.reader.get

    def receive(self, timeout: float | None = None) -> Message | None:
        """The next message; None after `timeout` seconds without one. PeerClosed, Broken or Closed at the end, as `Connection.receive`.

        While the server drains (`Server.stop`), it gives the messages that had come, and then that is the end: Closed. Sending goes on.
        """
        lane = self._actor.lane
        assert lane is not None
        lane.receiving = True
        try:
            return self._get(None if timeout is None else deadline_after(timeout))
        finally:
            lane.receiving = False

    def __iter__(self) -> Self:
        """The messages until the client closes in order, or this server does or drains."""
        return self

    def __next__(self) -> Message:
        try:
            message = self.receive()
        except (PeerClosed, Closed):
            raise StopIteration from None
        assert message is not None
        return message

    def connected(self) -> bool:
        """True until the connection has ended, or the server drains, and the last message before that was received."""
        mailbox = self._mailbox
        if mailbox.idle:
            self._actor.reader.look()
        return mailbox.ended is None or len(mailbox) > 0

    def close(self, linger: float = LINGER, code: int = 1000, reason: str = "") -> bool:
        self._mailbox.close(Closed(self.remote_address))
        return super().close(linger, code, reason)

    # -- called by the lane -------------------------------------------------------------------------------------------

    def _serve(self, handler: SessionHandler) -> None:
        """The whole life of the connection, on a thread of its own."""
        actor = self._actor
        lane = actor.lane
        assert lane is not None
        lane.handling = get_ident()
        previous = scope.enter(actor.scope)
        try:
            handler(self)
        except (PeerClosed, Broken, Closed) as exc:
            if self._mailbox.ended is None and actor.outbox.ended is None:  # of another connection
                self._failed(exc)
        except BaseException as exc:
            self._failed(exc)
        else:
            if self._mailbox.ended is None:
                actor.close_from_outside(LINGER)
        finally:
            scope.enter(previous)
            lane.handler_returned()

    def _failed(self, exc: BaseException) -> None:
        actor = self._actor
        what = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        log.error("the handler of %s raised %s", self.remote_address, what, exc_info=exc)
        reason = Broken(self.remote_address, f"its handler raised {what}").because(exc)
        actor.loop.call_soon(lambda: actor.fail(reason))


def _is_session_handler(route: Any, path: str) -> bool:
    """Whether it takes a client alone, or a message and a client."""
    import inspect

    try:
        signature = inspect.signature(route)
    except (TypeError, ValueError):
        raise TypeError(f"what serves {path!r} must be a function of a client, or of a message and a client") from None
    for arguments in ((None,), (None, None)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return len(arguments) == 1
    raise TypeError(f"what serves {path!r} must take a client, or a message and a client: {signature}")


def make_door(
    host: str,
    path: str,
    home: object,
    *,
    on_message: OnMessage | None,
    routes: Mapping[str, Route] | None,
    on_connect: Callable[[Any], object] | None,
    on_disconnect: Callable[[Any, BusError], object] | None,
    on_request: Callable[[Request], Answer] | None,
    origins: Sequence[str] | None,
    **options: Any,
) -> Door:
    """Who comes in where. Raises TypeError and ValueError for routes and origins that are none."""
    from actors.wshandshake import Door, is_loopback

    if on_message is None and not routes:
        raise TypeError("serve needs on_message, or routes")
    check_callable(on_request, "on_request")
    if origins is not None:
        check_origins(origins)
    table: Mapping[str, Any] = {} if routes is None else routes
    where: Any
    for where, route in table.items():
        if not isinstance(where, str) or not where.startswith("/") or "?" in where:
            raise ValueError(f"a route is a path like '/chat', not {where!r}")
        _is_session_handler(route, where)

    def admit(actor: Guest, request: Request, protocol: Any) -> tuple[Callbacks, Any] | None:
        asked = request.path.partition("?")[0]
        route: Any = table.get(asked)  # now, because the caller may add to it while the server runs
        is_session = route is not None and _is_session_handler(route, asked)
        if route is None:
            if on_message is None or (asked != path and (path != "/" or table)):
                return None
            route = on_message
        if not is_session:
            return Callbacks(route, on_connect, on_disconnect), WebSocketClient(actor, home, request, protocol)
        session = Session(actor, home, request, protocol)

        def begin(client: Session) -> None:
            if on_connect is not None:
                on_connect(client)
            assert actor.lane is not None
            actor.lane.handling = STARTING
            if not crew.run(lambda: client._serve(route)):
                actor.lane.handling = None
                raise RuntimeError("no thread to be had for its handler")

        return Callbacks(lambda message, client: None, begin, on_disconnect), session

    return Door(admit, on_request, origins, on_loopback=is_loopback(host), **options)


def check_origins(origins: Sequence[str]) -> None:
    """Raises TypeError for one str, and ValueError for what no browser says of a page (RFC 6454, section 6.2)."""
    if isinstance(origins, str):
        raise TypeError("origins must be a sequence of str, not one str")
    origin: Any
    for origin in origins:
        if not isinstance(origin, str) or not ORIGIN.fullmatch(origin):
            raise ValueError(f"an origin is like 'https://page.example', in lower case and without a path, or '*', not {origin!r}")

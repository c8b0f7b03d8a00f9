"""The client's side of a WebSocket's opening handshake (RFC 6455, section 4.1), on the calling script's thread, before there is an actor.

One deadline covers name lookup, connecting, a proxy's answer and the handshake. Whatever interrupts it closes the socket.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidProxy, InvalidStatus, InvalidURI
from websockets.extensions import ClientExtensionFactory
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.headers import validate_subprotocols
from websockets.http11 import USER_AGENT, Response
from websockets.proxy import get_proxy, parse_proxy, prepare_connect_request
from websockets.typing import Origin, Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from actors.connecting import connect_stream, ends
from actors.errors import BadAddress, ConnectFailed, ConnectTimeout
from actors.framing import tls_hint
from actors.http import HEAD_END, MAX_HEAD, check_header
from actors.waiting import READ, WRITE, current

if TYPE_CHECKING:
    import ssl

__all__ = ["Opened", "open_websocket", "parse_url"]

MAX_BODY = 64 * 1024  # of a refusal, for its text
OURS = ("connection", "sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-key", "sec-websocket-version", "upgrade")


class Opened(NamedTuple):
    """A connection whose handshake is over. `rest`: bytes that came behind it."""

    sock: socket.socket
    protocol: ClientProtocol
    rest: bytes
    response: Response
    remote_address: str
    local_address: str


def parse_url(url: str) -> WebSocketURI:
    """The parts of `ws://host:port/path?query` or `wss://…`. Raises BadAddress, never showing a password."""
    shown = f"{url.partition('://')[0]}://…@{url.rpartition('@')[2]}" if "@" in url else url
    if "#" in url:
        raise BadAddress(shown, "a WebSocket URL has no fragment (RFC 6455, section 3)")
    if any(character <= " " or character == "\x7f" for character in url):
        raise BadAddress(shown, "a URL has no spaces, line breaks or control characters; write them as %20 and so on")
    try:
        uri = parse_uri(url)
    except (InvalidURI, ValueError) as exc:
        raise BadAddress(shown, "it is no WebSocket URL; write for example ws://127.0.0.1:8080/path") from exc
    if not uri.host or not 0 < uri.port < 65536 or urlsplit(url).port == 0:  # for 0 they take the default
        raise BadAddress(shown, "it needs a host, and a port from 1 to 65535 if it names one")
    return uri


def open_websocket(
    url: str,
    deadline: float | None,
    *,
    max_size: int,
    headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] | None = None,
    origin: str | None = None,
    compression: bool = False,
    proxy: str | bool = True,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
) -> Opened:
    """Connect and shake hands; `tls` is for `wss://`, and needed there.

    Raises BadAddress, ConnectFailed (with the server's status in the text), ConnectTimeout, ValueError.
    """
    uri = parse_url(url)
    protocol = _protocol(uri, max_size, subprotocols, origin, compression)
    request = protocol.connect()
    for name, value in (headers or {}).items():
        check_header(name, value)
        if name.lower() in OURS:
            raise ValueError(f"the header {name} belongs to the handshake and can't be set")
        if name.lower() in request.headers and name.lower() != "user-agent":
            del request.headers[name]
        request.headers[name] = value
    request.headers.setdefault("User-Agent", USER_AGENT)
    where = f"{uri.host}:{uri.port}"
    sock = _connect(uri, deadline, proxy)
    try:
        if tls is not None:
            from actors.tls import connect_tls

            sock = cast(socket.socket, connect_tls(sock, tls, server_hostname or uri.host, where, deadline))
        remote, local = ends(sock)
        protocol.send_request(request)
        dialog = _Dialog(sock, where, deadline)
        dialog.send(b"".join(protocol.data_to_send()))
        head, rest = dialog.head()
        response, rest = _response(protocol, dialog, head, rest)
    except BaseException:
        sock.close()
        raise
    return Opened(sock, protocol, rest, response, remote, local)


def _protocol(
    uri: WebSocketURI, max_size: int, subprotocols: Sequence[str] | None, origin: str | None, compression: bool
) -> ClientProtocol:
    extensions: list[ClientExtensionFactory] | None = [ClientPerMessageDeflateFactory(client_max_window_bits=True)] if compression else None
    offered = None
    if subprotocols is not None:
        if isinstance(subprotocols, str):
            raise TypeError("subprotocols must be a sequence of str, not one str")
        offered = [cast(Subprotocol, name) for name in subprotocols]
        validate_subprotocols(offered)
    return ClientProtocol(
        uri, origin=cast(Origin, origin) if origin else None, extensions=extensions, subprotocols=offered, max_size=max_size
    )


def _connect(uri: WebSocketURI, deadline: float | None, proxy: str | bool) -> socket.socket:
    url = get_proxy(uri) if proxy is True else proxy or None
    if url is None:
        return connect_stream(uri.host, uri.port, deadline)
    try:
        parsed = parse_proxy(url)
    except InvalidProxy as exc:
        raise BadAddress(url.rpartition("@")[2], "it is no proxy URL; write for example http://proxy:3128") from exc
    where = f"{parsed.host}:{parsed.port}"
    if parsed.scheme != "http":
        raise BadAddress(f"{parsed.scheme}://{where}", "of proxies only http:// is spoken (CONNECT); proxy=False goes without")
    sock = connect_stream(parsed.host, parsed.port, deadline)
    try:
        dialog = _Dialog(sock, f"the proxy {where}", deadline)
        dialog.send(prepare_connect_request(parsed, uri))
        head, rest = dialog.head()
        status = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        if len(status) < 2 or not status[0].startswith("HTTP/1.") or not status[1].startswith("2") or rest:
            raise ConnectFailed(f"{uri.host}:{uri.port}", f"the proxy {where} answered: {' '.join(status)[:200]}")
    except BaseException:
        sock.close()
        raise
    return sock


class _Dialog:
    """Question and answer on a non-blocking socket, within a deadline."""

    def __init__(self, sock: socket.socket, where: str, deadline: float | None) -> None:
        self._sock = sock
        self._where = where
        self._deadline = deadline

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except (BlockingIOError, InterruptedError):
                self._wait(WRITE)
            except OSError as exc:
                raise self._failed(f"the connection broke during the handshake: {exc}") from exc

    def read(self) -> bytes:
        """What has come, at least a byte; nothing at the end."""
        while True:
            try:
                return self._sock.recv(MAX_HEAD)
            except (BlockingIOError, InterruptedError):
                self._wait(READ)
            except OSError as exc:
                raise self._failed(f"the connection broke during the handshake: {exc}") from exc

    def head(self) -> tuple[bytes, bytes]:
        """An HTTP head with its empty line, and what came behind it."""
        data = b""
        while HEAD_END not in data:
            more = self.read()
            if not more:
                raise self._failed("it closed the connection during the handshake" + (": not a WebSocket server?" if data else ""))
            data += more
            if len(data) > MAX_HEAD:
                raise self._failed("its answer to the handshake is too long: not a WebSocket server?")
            if not b"HTTP/".startswith(data[:5]) and not data.startswith(b"HTTP/"):
                raise self._failed(f"it is not a WebSocket server; it says {data[:40]!r}{tls_hint(data)}")
        end = data.index(HEAD_END) + len(HEAD_END)
        return data[:end], data[end:]

    def _wait(self, events: int) -> None:
        if self._deadline is not None and monotonic() >= self._deadline:
            raise ConnectTimeout(self._where, "it did not answer the WebSocket handshake within the timeout")
        current().wait(self._deadline, self._sock.fileno(), events)

    def _failed(self, reason: str) -> ConnectFailed:
        return ConnectFailed(self._where, reason)


def _response(protocol: ClientProtocol, dialog: _Dialog, head: bytes, rest: bytes) -> tuple[Response, bytes]:
    protocol.receive_data(head)
    events = protocol.events_received()
    if not events and protocol.handshake_exc is None:  # a refusal with a body, which is worth waiting for, but not for long
        size = len(rest)
        while rest or size < MAX_BODY:
            if rest:
                protocol.receive_data(rest)
            events = protocol.events_received()
            if events or protocol.handshake_exc is not None:
                break
            rest = dialog.read()
            size += len(rest)
            if not rest:
                protocol.receive_eof()
                events = protocol.events_received()
                break
        rest = b""
    error = protocol.handshake_exc
    if isinstance(error, InvalidStatus):
        raise dialog._failed(_refusal(error.response)) from error
    if error is not None or not events:
        raise dialog._failed(f"it is not a WebSocket server: {error or 'no answer'}") from error
    return cast(Response, events[0]), rest


def _refusal(response: Response) -> str:
    text = f"it refused the WebSocket: HTTP {response.status_code} {response.reason_phrase}"
    location = next(iter(response.headers.get_all("Location")), None)
    body = (response.body or b"")[:200].decode("utf-8", "replace").strip()
    return text + (f", which points to {location}" if location else "") + (f" ({body})" if body.isprintable() and body else "")

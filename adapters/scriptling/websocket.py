"""`scriptling.websocket`: a WebSocket client. Text messages are str, binary ones lists of the bytes' values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

import bus
from adapters.dialect import Link, Linked, Payload, decode

__all__ = ["Connection", "connect", "is_binary", "is_text"]

MAX_SIZE = 16 * 1024 * 1024

Sendable: TypeAlias = "str | bytes | bytearray | memoryview | dict[str, Any] | list[int]"


class Connection(Linked):
    """A WebSocket: what `connect` gives, and what a server's handler gets as its `client`. Safe to use from several threads.

    Beyond the document: `stats()`, and `dropped`, the number of messages given to `send` after the peer had left unnoticed.
    """

    __slots__ = ("remote_addr",)

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self.remote_addr = link.connection.remote_address

    def send(self, message: Sendable) -> None:
        """Send a string, or a dict as JSON, as a text message. Bytes, and a list as `receive` gives it, go out as a binary one.

        After `connected()` said True it never raises because of the peer. Otherwise PeerClosed, Broken or NotSent (it does not read) tell.
        Raises Closed after `close()`, TooLarge over 16 MiB, TypeError and ValueError for what can't be sent (a lone surrogate is no text).
        """
        self._link.send(_payload(message))

    def send_binary(self, data: list[int] | bytes | bytearray | memoryview) -> None:
        """Send a list of byte values (0-255), or bytes, as a binary message. Raises as `send` does."""
        if not isinstance(data, (list, bytes, bytearray, memoryview)):
            raise TypeError(f"send_binary takes a list of ints from 0 to 255, or bytes, not {type(data).__name__}")
        self._link.send(_binary(data))

    def receive(self, timeout: float | None = 30) -> str | list[int] | None:
        """The next message: str for text, a list of ints for binary.

        None after `timeout` seconds (0 polls, None waits), and when the peer has left and nothing remains. Raises Closed after `close()`.
        """
        try:
            return receive_message(self._link.connection, timeout)
        except (bus.PeerClosed, bus.Broken, bus.Closed) as exc:
            self._link.keep_pace(exc, timeout)
            return None


def connect(url: str, timeout: float | None = 10, headers: Mapping[str, str] | None = None) -> Connection:
    """Connect to `ws://host:port/path` or `wss://…`; `headers` go into the opening handshake. `timeout`: seconds, None sets no limit.

    `wss` trusts the system's roots; the environment variable SSL_CERT_FILE names others.

    Raises ConnectionError naming the address (refused, no such name, no WebSocket there: with the status it answered; a TimeoutError as
    well when it took too long), ValueError and TypeError for arguments that can't be meant.

    >>> def echo(client: bus.Session) -> None:
    ...     for message in client:
    ...         client.send(message)
    >>> with bus.serve("ws://127.0.0.1:0", routes={"/echo": echo}) as server:
    ...     conn = connect(f"ws://{server.address}/echo")
    ...     conn.send({"action": "ping"})
    ...     conn.send_binary([1, 2, 255])
    ...     print(conn.receive(timeout=5), conn.receive(timeout=5))
    ...     conn.close()
    {"action":"ping"} [1, 2, 255]
    """
    _check(url)
    plain, subprotocols = _sorted(headers)
    return Connection(Link(bus.connect(url, timeout=timeout, headers=plain, subprotocols=subprotocols, max_size=MAX_SIZE)))


def is_text(message: object) -> TypeGuard[str]:
    """Whether a received message is a text message.

    >>> is_text("hello"), is_text([104])
    (True, False)
    """
    return isinstance(message, str)


def is_binary(message: object) -> TypeGuard[list[int]]:
    """Whether a received message is a binary message, a list of byte values.

    >>> is_binary("hello"), is_binary([104])
    (False, True)
    """
    return isinstance(message, list)


def receive_message(source: bus.Connection | bus.Session, timeout: float | None) -> str | list[int] | None:
    """The next message as a script gets it. Raises what `source.receive` raises."""
    taken: list[bytes] = []
    texts, lists = map(decode, taken), map(list, taken)
    message = source.receive(timeout)
    # No call of ours between taking a message and returning it, so that Ctrl-C loses none.
    if message is None:
        return None
    taken[:] = (message.data,)
    if message.is_text:
        (text,) = texts
        return text
    (numbers,) = lists
    return numbers


def _check(url: Any) -> None:
    if not isinstance(url, str):
        raise TypeError(f"url must be a string, not {url!r}")
    if not url.startswith(("ws://", "wss://")):
        shown = f"…@{url.rpartition('@')[2]}" if "@" in url else url
        raise bus.BadAddress(shown, "it is no WebSocket URL; write for example ws://127.0.0.1:8080/path")


def _payload(message: Sendable) -> Payload:
    if isinstance(message, (str, dict)):
        return message
    if isinstance(message, (list, bytes, bytearray, memoryview)):
        return _binary(message)
    raise TypeError(f"message must be a string, bytes or dict, not {type(message).__name__}")


def _binary(data: Any) -> bytes:
    try:
        return bytes(data)
    except (TypeError, ValueError):
        at, value = next((at, value) for at, value in enumerate(data) if not isinstance(value, int) or not 0 <= value <= 255)
        kind = ValueError if isinstance(value, int) else TypeError
        raise kind(f"a list of bytes holds ints from 0 to 255, not {value!r} (at index {at})") from None


def _sorted(headers: Any) -> tuple[dict[str, str] | None, Sequence[str] | None]:
    """The headers apart from the subprotocols, which the handshake has to know of: what the server chooses must be among them."""
    if headers is None:
        return None, None
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a dict, not {type(headers).__name__}")
    plain = dict(headers)
    for name in headers:
        if isinstance(name, str) and name.lower() == "sec-websocket-protocol" and isinstance(headers[name], str):
            return plain, [offered.strip() for offered in plain.pop(name).split(",")]
    return plain, None

"""What `actorbus cat` talks over: one peer, a group, or those who come to a listener. Each is a `Wire`, whatever carries it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import bus
from actors.stream import MAX_SIZE
from bus.arguments import VERBS
from bus.connection import SEND_TIMEOUT
from bus.endpoints import parse

__all__ = ["DATAGRAM", "Door", "Wire", "is_group", "reach", "scheme_of"]

# A datagram that fits one Ethernet frame: what is larger is cut into several by IP, and lost whole when one of them is.
DATAGRAM = 1400
BATCH = 64 * 1024  # bytes that change threads together, and 64 times the messages
STREAMS = ("tcp", "tls", "unix")


class Wire:
    """Somebody to send to and to receive from. `says_end`: over it the end of what we send can be told, while receiving goes on."""

    def __init__(self, name: str, proxy: Any, send: Callable[[bytes], object], *, says_end: bool = False) -> None:
        self.name = name
        self.says_end = says_end
        self._proxy = proxy
        self._send = send

    def receive(self) -> list[bus.Message]:
        """The next message, and those that are there already. Raises PeerClosed, Broken or Closed at the end."""
        messages: list[bus.Message] = [self._proxy.receive()]
        size = len(messages[0].data)
        with contextlib.suppress(bus.BusError):  # the end: it is raised again by the next call
            while size < BATCH and len(messages) < BATCH // 64 and (more := self._proxy.receive(0)) is not None:
                messages.append(more)
                size += len(more.data)
        return messages

    def send_many(self, messages: Sequence[bytes]) -> None:
        """Send them in order. Raises what `Connection.send` does, behind the messages before the one that could not be sent."""
        for message in messages:
            self._send(message)

    def end_output(self) -> None:
        if self.says_end:
            self._proxy.send_eof()

    def close(self, linger: float) -> bool:
        """Whether everything that was sent has reached the peer's system."""
        return bool(self._proxy.close(linger))

    def stats(self) -> bus.Stats:
        """Its counters: datagrams that this machine dropped, or that nobody took."""
        stats: bus.Stats = self._proxy.stats()
        return stats


def is_group(url: str) -> bool:
    """Whether an address is that of a multicast group, which everybody joins alike."""
    import ipaddress

    if not url.startswith("udp://"):
        return False
    try:
        return ipaddress.ip_address(parse(url, "connect", VERBS).host.partition("%")[0]).is_multicast
    except ValueError:
        return False


def as_message(data: bytes, raw: bool) -> str | bytes:
    """For a transport that marks text: what is text goes out as such."""
    try:
        return data if raw else data.decode()
    except UnicodeDecodeError:
        return data


def reach(url: str, *, raw: bool, timeout: float, options: Mapping[str, Any], broadcast: bool = False) -> Wire:
    """Connect, or join a group. `options` are those of the verb that it takes. Raises as `bus.connect` and `bus.join` do."""
    if is_group(url):
        group = bus.join(url, **options)
        return Wire(group.address, group, lambda data: group.send(data, None))
    if broadcast:
        return broadcasting(url, options)
    scheme = scheme_of(url)
    conn = bus.connect(url, timeout=timeout, stall_timeout=None, half_open=scheme in STREAMS, **options)
    return connected(conn, raw=raw, scheme=scheme)


def scheme_of(url: str) -> str:
    return url.partition("://")[0]


class Stream(Wire):
    """A connection whose messages are bytes."""

    def __init__(self, conn: bus.Connection, timeout: float | None) -> None:
        super().__init__(conn.remote_address, conn, lambda data: conn.send(data, timeout), says_end=True)
        self._timeout = timeout

    def send_many(self, messages: Sequence[bytes]) -> None:
        try:
            self._proxy.send_many(messages, self._timeout)
        except ValueError:  # one of them can't be sent, and so none was
            super().send_many(messages)


def connected(conn: bus.Connection | bus.Session, *, raw: bool, scheme: str, timeout: float | None = None) -> Wire:
    if isinstance(conn, bus.Connection) and scheme in STREAMS:
        return Stream(conn, timeout)
    return Wire(conn.remote_address, conn, lambda data: conn.send(as_message(data, raw), timeout))


def broadcasting(url: str, options: Mapping[str, Any]) -> Wire:
    """To all who listen on that port of a network, and from whom of them answers."""
    target = parse(url, "bind", VERBS)
    sock = bus.bind("udp://0.0.0.0:0", broadcast=True, **options)
    address = f"{target.host}:{target.port}"
    return Wire(address, sock, lambda data: sock.send_to(address, data, None))


class Answering(Wire):
    """A UDP socket that sends to whom it heard last, and waits for the first one."""

    def __init__(self, sock: bus.UdpSocket) -> None:
        super().__init__(sock.address, sock, self._answer)
        self._heard = threading.Event()

    def _answer(self, data: bytes) -> None:
        self._heard.wait()
        self._proxy.send_to(self.name, data, None)

    def receive(self) -> list[bus.Message]:
        messages = super().receive()
        self.name = messages[-1].source
        self._heard.set()
        return messages

    def close(self, linger: float) -> bool:
        closed = super().close(linger)
        self._heard.set()
        return closed


class Door:
    """A listener of any kind. `address` is where it listens. Calls `talk(wire)` on a thread for each who comes, until `close`."""

    def __init__(self, url: str, talk: Callable[[Wire], None], *, raw: bool, keep_open: bool, options: Mapping[str, Any]) -> None:
        scheme = scheme_of(url)
        self._talk = talk
        self._keep_open = keep_open
        self._connected = partial(connected, raw=raw, scheme=scheme, timeout=SEND_TIMEOUT if keep_open else None)
        self._proxy: Any
        work: Callable[[], None] | None
        if scheme in ("ws", "wss"):
            path = parse(url, "serve", VERBS).path or "/"
            most: dict[str, Any] = {} if keep_open else {"max_clients": 1, "stall_timeout": None}
            self._proxy = bus.serve(url, routes={path: self._session}, max_size=MAX_SIZE, **most, **options)
            work = None
        elif scheme == "udp":
            self._proxy = bus.bind(url, **options)
            work = self._hear
        else:
            patience: dict[str, Any] = {} if keep_open else {"stall_timeout": None, "half_open": True}
            self._proxy = bus.listen(url, **patience, **options)
            work = self._accept
        self.address: str = f"{scheme}://{self._proxy.address}"
        if work is not None:
            threading.Thread(target=work, name="actorbus-cat-door", daemon=True).start()

    def _session(self, client: bus.Session) -> None:
        self._talk(self._connected(client))

    def _hear(self) -> None:
        self._talk(Answering(self._proxy))

    def _accept(self) -> None:
        with contextlib.suppress(bus.Closed):
            for conn in self._proxy:
                if not self._keep_open:
                    self._proxy.close()
                    self._talk(self._connected(conn))
                    return
                threading.Thread(target=self._talk, args=(self._connected(conn),), name="actorbus-cat-peer", daemon=True).start()

    def close(self) -> None:
        self._proxy.close()

"""A TCP server that answers through a callback: `create_tcp_server(port, message_callback)`."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

import bus
from actors import waiting
from actors.mailbox import Mailbox
from adapters.daystar_api.ports import Address, bind_error, both, chosen_offset, logical_address, to_os_port
from adapters.daystar_api.wire import MAX_SIZE, frameable
from adapters.dialect import decode

__all__ = ["TCPServer", "create_tcp_server"]

log = logging.getLogger("actorbus.daystar")

MessageCallback = Callable[[str, Address], str | None]

NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def create_tcp_server(
    port: int,
    message_callback: MessageCallback | None = None,
    *,
    concurrent: bool = False,
    max_size: int = MAX_SIZE,
    port_offset: int | None = None,
) -> TCPServer:
    """Serve a port from 70000 to 71000 on all interfaces, IPv4 and IPv6. Returns at once; the server works in the background.

    `message_callback(msg, client_addr)` is called for one message at a time; the str that it returns is the reply. What it raises, and a
    result that is no str, is logged, and serving goes on. Without a callback, `TCPServer.receive` gives the messages.

    Ours: with `concurrent=True` the callbacks of different clients run at once (those of one client never); `max_size`, the bytes of one
    message, over which a client is disconnected; `port_offset`, see `ports`. Raises TypeError and ValueError for the arguments, OSError
    with both numbers of the port when it cannot be had.
    """
    offset = chosen_offset(port_offset)
    number = to_os_port(port, offset)
    if message_callback is not None and not callable(message_callback):
        raise TypeError(f"message_callback must be callable or None, not {type(message_callback).__name__}")
    if not isinstance(concurrent, bool):
        raise TypeError(f"concurrent must be a bool, not {type(concurrent).__name__}")
    return TCPServer(port, number, offset, message_callback, concurrent, max_size)


class TCPServer:
    """A server and its clients: what `create_tcp_server` gives. Safe to use from several threads, and in its own callback.

    A client is known by its address, the `(ip, port)` tuple that the callback gets and `get_connected_clients` lists.
    """

    def __init__(
        self,
        port: int,
        number: int,
        offset: int,
        callback: MessageCallback | None,
        concurrent: bool,
        max_size: int,
    ) -> None:
        self._port = both(port, offset)
        self._offset = offset
        self._callback = callback
        self._max_size = max_size
        # Lossy, because a script that only broadcasts never takes a message, and its clients are not to stall for that.
        self._waiting: Mailbox[tuple[bytes, Address]] = Mailbox(weigh=lambda item: len(item[0]), lossy=True)
        self._told_of_loss = False
        # Replaced as a whole by whoever misses somebody in it.
        self._clients: WeakValueDictionary[Address, bus.Client] = WeakValueDictionary()
        on_message = self._keep if callback is None else self._call
        serial = callback is not None and not concurrent
        try:
            self._server = _serve_everywhere(number, on_message, serial, max_size)
        except OSError as exc:
            raise bind_error(exc, port, offset) from exc

    # -- messages, on the engine's threads ----------------------------------------------------------------------------

    def _call(self, message: bus.Message, client: bus.Client) -> bytes | None:
        """The reply of the callback, if it has one. Never raises: the engine would break that client's connection off."""
        assert self._callback is not None
        address = self._address(client)
        try:
            reply = self._callback(decode(message.data), address)
            return None if reply is None else frameable(reply, self._max_size, client.remote_address)
        except BaseException:  # sys.exit() in a callback ends no server either
            log.exception("the callback for a message from %s:%d failed; there is no reply, and serving goes on", *address)
            return None

    def _keep(self, message: bus.Message, client: bus.Client) -> None:
        self._waiting.put(((message.data, self._address(client)),), len(message.data))
        if self._waiting.lost and not self._told_of_loss:
            self._told_of_loss = True
            log.warning("nobody takes the messages on port %s: the oldest are dropped from here on", self._port)

    def _address(self, client: bus.Client) -> Address:
        known: Address | None = getattr(client.state, "address", None)
        if known is None:
            known = client.state.address = logical_address(client.remote_address, self._offset)
        return known

    # -- for the script -----------------------------------------------------------------------------------------------

    def send(self, message: str, client: Address) -> None:
        """Send to one client. ConnectionError if it is unknown or has gone, ValueError for what cannot be a message.

        Waits while the client does not read, and raises TimeoutError when that takes too long. A callback never waits: a client that is
        behind is then disconnected, unless it is the very one whose message is being handled; that one gets the TimeoutError.
        """
        data = frameable(message, self._max_size, str(client))
        found = self._find(client)
        own = getattr(waiting.current().host, "client", None) is found
        # Whoever has only ended its own sending is still there for what answers its messages.
        if found is None or (_has_left(found) and not own):
            raise ConnectionError(f"no client {client!r} is connected to port {self._port}")
        try:
            found.send(data)
        except bus.NotSent:
            if own or waiting.current().host is None:
                raise
            log.warning("%s:%d reads too slowly for what is sent to it in a callback, and is disconnected", *client)
            found.close(0)

    def send_to_all(self, message: str) -> int:
        """Send to every connected client, waiting for none. Returns how many took it: a client that is far behind, or leaving, does not.

        ConnectionError after `stop()`, ValueError for what cannot be a message.
        """
        data = frameable(message, self._max_size, "all clients")
        report = self._server.send_to_all(data, to=self._present())
        return len(report.taken) + len(report.queued)

    def get_connected_clients(self) -> list[Address]:
        """The addresses of the clients connected now, in the order they came."""
        return [self._address(client) for client in self._present()]

    def receive(self, timeout: float | None = None) -> tuple[str, Address] | None:
        """Ours, for a server without callback: the oldest message and its client's address; None after `timeout` seconds without one
        (0 polls, None waits).

        When nobody takes them, the oldest messages go beyond 10,000 or 4 MiB: see `lost`. ConnectionError after `stop()`, RuntimeError
        for a server with a callback.
        """
        if self._callback is not None:
            raise RuntimeError("this server gives its messages to message_callback; receive() is for one without")
        taken: list[bytes] = []
        texts = map(decode, taken)  # no call of ours between taking a message and returning it, so that Ctrl-C loses none
        item = self._waiting.get(waiting.deadline_after(timeout))
        if item is None:
            return None
        taken[:] = (item[0],)
        (text,) = texts
        return text, item[1]

    @property
    def lost(self) -> int:
        """Ours: how many messages were dropped because nobody took them with `receive`."""
        return self._waiting.lost

    def wait(self, timeout: float | None = None) -> bool:
        """Ours: wait until `stop()` (True), or `timeout` seconds (False). Ctrl-C ends it with KeyboardInterrupt."""
        return self._server.wait(timeout)

    def stop(self) -> None:
        """Stop listening and disconnect every client in order; the port is free. In a callback it does not wait for any of that.

        Doing so twice is nothing.
        """
        self._waiting.close(bus.Closed(f"port {self._port}"))
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<TCPServer port {self._port} over {self._server!r}>"

    # -- who is there -------------------------------------------------------------------------------------------------

    def _present(self) -> list[bus.Client]:
        return [client for client in self._server.clients if not _has_left(client)]

    def _find(self, address: Address) -> bus.Client | None:
        if not isinstance(address, tuple):
            raise TypeError(f"a client is an (ip, port) tuple, as get_connected_clients() lists them, not {type(address).__name__}")
        found = self._clients.get(address)
        if found is None or _has_left(found):
            # A later client at the same address comes later in the list, and counts.
            self._clients = WeakValueDictionary((self._address(client), client) for client in self._server.clients)
            found = self._clients.get(address)
        return found


def _has_left(client: bus.Client) -> bool:
    """Whether the end of its connection was seen, however much of what it sent before still waits for the callback."""
    return client.ended is not None


def _serve_everywhere(
    number: int, on_message: Callable[[bus.Message, bus.Client], bytes | None], serial: bool, max_size: int
) -> bus.Server:
    """A server on one socket for IPv6 and IPv4, or for IPv4 alone on a system without IPv6."""
    try:
        return bus.serve(f"tcp://[::]:{number}", on_message, framing="etx", max_size=max_size, serial=serial)
    except bus.ConnectFailed:
        pass  # the resolver knows no such addresses
    except OSError as exc:
        if exc.errno not in NO_IPV6:
            raise
    return bus.serve(f"tcp://0.0.0.0:{number}", on_message, framing="etx", max_size=max_size, serial=serial)

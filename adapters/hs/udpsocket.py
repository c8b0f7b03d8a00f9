"""The object that `hs.socket.udp.new` and `server` give.

Guarantees
- Every callback runs later, in the script's turn (`dispatcher`), never inside the call that caused it. After `close()` has returned none
  of what was before comes: each carries the number of the opening it belongs to (`_opening`), and `close` begins a new one.
- A wrong argument raises before anything has happened. What cannot be done is logged, and the result is None. What fails later is logged.
- While callbacks can come (it receives and has a callback, or something that was posted is under way) the script lives on for it, and so
  does the object itself, also when the script has no reference to it. Otherwise dropping it closes it.

`_lock` owns every field. It is taken in the script's calls, in the turns of callbacks, and where the engine tells what became of a
datagram; so nothing may wait for the engine while it is held. What is read is taken one datagram a turn, so that callbacks of other kinds
and of other objects keep their place in the queue.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import bus
from adapters.dialect import decode
from adapters.hs import arguments, dispatcher
from adapters.hs.addresses import Unreachable, described, sockaddr_of
from adapters.hs.arguments import UNSET, ReadCallback, Unset
from adapters.hs.configured import Configured
from adapters.hs.failures import BIND_AFTER_CONNECT, BIND_TWICE, BOTH_DISABLED, CONNECT_TWICE, NOT_BOUND, phrase

__all__ = ["UDPSocket"]

log = logging.getLogger("actorbus.hs")

CONTINUOUS, ONE = "continuous", "one"
MAX_CALLBACKS = 100_000  # write callbacks that wait for their turn; a send with one more is refused


class _Write:
    """A send's callback. `gone`: what became of the datagram, None so far; `missed`: its place in the queue came before that was known."""

    __slots__ = ("fn", "gone", "missed", "tag")

    def __init__(self, fn: Callable[[int], object], tag: int) -> None:
        self.fn = fn
        self.tag = tag
        self.gone: bool | None = None
        self.missed = False


class UDPSocket(Configured):
    """Up to two sockets of the system, for IPv4 and IPv6, made when they are first needed. Methods give the object itself, so they chain.

    Ours: `stats()`.
    """

    keeps_alive = True  # it is filed in the scope only while it does

    def __init__(self, fn: ReadCallback | None, timeout: float) -> None:
        super().__init__(timeout)
        self._callback: ReadCallback | None = None if fn is None else arguments.function(fn)
        self._owner = dispatcher.home()
        self._opening = 0
        self._waiting_callbacks = 0  # of sends that are done
        self._finalizer: Any = None
        self._filed = False
        self._last_stats = bus.Stats()
        self._begin()

    def _begin(self) -> None:
        self._opening += 1
        self._bound = False
        self._connected = False
        self._connecting = False
        self._connect_callback: Callable[[], object] | None = None
        self._peer = ""
        self._role = ""
        self._mode = ""
        self._armed = False
        self._under_way = 0  # posted and not yet told of
        self._file()

    def _forget(self) -> bus.UdpSocket | None:
        if self._sock is not None:
            self._last_stats = self._sock.stats()
            self._finalizer.detach()
        sock = super()._forget()
        self._begin()
        return sock

    def _file(self) -> None:
        """Keep the script alive, or do so no longer."""
        wanted = self._under_way > 0 or (self._sock is not None and self._mode != "" and self._callback is not None)
        if wanted != self._filed:
            self._filed = wanted
            if wanted:
                self._owner.add(self)
            else:
                self._owner.discard(self)

    def close_soon(self) -> None:
        """The script is over. Its sockets are closed apart from this."""

    # -- opening and closing ------------------------------------------------------------------------------------------

    def _opened(self, port: int = 0) -> bus.UdpSocket:
        """The socket, bound now if it was not. Raises OSError."""
        if (open_ := self._live()) is not None:
            return open_
        if not self._versions():
            raise OSError(BOTH_DISABLED)
        sock = self._sock = self._bind(port)
        self._finalizer = weakref.finalize(self, sock.close_soon)
        self._finalizer.atexit = False
        self._flow()
        return sock

    def listen(self, port: int) -> Self | None:
        """Bind to a port (0: one that is free for both families). None if that fails."""
        number = arguments.port(port)
        with self._lock:
            self._live()
            problem = BIND_TWICE if self._bound else BIND_AFTER_CONNECT if self._connecting else "" if self._versions() else BOTH_DISABLED
            try:
                if problem:
                    raise OSError(problem)
                self._opened(number)
            except OSError as exc:
                if not problem:
                    self._forget()
                log.error("Unable to bind port: %s", phrase(exc))
                return None
            self._bound = True
            self._role = "SERVER"
            return self

    def close(self) -> Self:
        """Close at once; what waits to be sent is discarded. The object can be used again."""
        with self._lock:
            existed = not self.closed()
            sock = self._forget()
        if sock is not None:
            sock.close(0)
        if existed:
            log.debug("UDP socket closed: (null)")
        return self

    # -- one peer -----------------------------------------------------------------------------------------------------

    def connect(self, host: str, port: int, fn: Callable[[], object] | Unset = UNSET) -> Self | None:
        """Have one peer. `fn()` is called once that is so. None if it fails at once; what fails later is logged."""
        arguments.text(host, "host")
        number = arguments.port(port)
        callback = None if fn is UNSET else arguments.function(fn)
        with self._lock:
            self._live()
            try:
                if self._connecting or self._connected or not self._versions():
                    raise OSError(CONNECT_TWICE if self._connecting or self._connected else BOTH_DISABLED)
                sock = self._opened()
            except OSError as exc:
                self._connect_callback = None
                log.error("Unable to connect: %s", phrase(exc))
                return None
            self._connecting = True
            self._connect_callback = callback
            self._under_way += 1
            try:
                address, choose = self._towards(host, number)
                sock.post_connect(address, tag=self._opening, done=self._connect_done, choose=choose)
            except (OSError, ValueError, Unreachable) as exc:
                self._connect_done(self._opening, exc)
            self._file()
            return self

    def _connect_done(self, opening: int, error: Exception | None) -> None:
        with self._lock:
            if opening != self._opening or self._sock is None:
                return
            self._connecting = False
            self._under_way -= 1
            callback, self._connect_callback = self._connect_callback, None
            if error is None:
                self._bound = self._connected = True
                self._peer = self._sock.remote_address
                self._families = tuple(self._local())
                self._role = "DEFAULT"
                log.debug("UDP socket connected")
                if callback is not None:
                    dispatcher.post(self._owner, partial(self._call, opening, "hs.socket.udp:connect", callback))
            elif self._live() is not None:
                log.error("UDP socket did not connect: %s", phrase(error))
                if not self._bound:  # the socket was for this alone: a later `listen` binds one to a port of its own
                    self._finalizer()
                    self._sock, self._armed = None, False
            self._file()

    def connected(self) -> bool:
        """Whether `connect` has succeeded, until `close`."""
        return self._connected and not self.closed()

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, message: str | bytes, *rest: Any, **named: Any) -> Self:
        """`send(message, host, port[, tag][, fn])`; on a connected socket `send(message[, tag][, fn])`.

        `fn(tag)` is called once the system has taken the datagram. Gives the object in any case; why a datagram was not sent is logged.
        """
        with self._lock:
            self._live()
            wanted = arguments.sending(self._connected, message, rest, named)
            if not wanted.data:
                return self
            self._under_way += 1
            write = None if wanted.fn is None else _Write(wanted.fn, wanted.tag)
            told = partial(self._sent, self._opening, write)
            try:
                sock = self._opened()
                if write is not None:
                    if self._waiting_callbacks >= MAX_CALLBACKS:
                        raise OSError(f"{MAX_CALLBACKS} write callbacks wait to be called already")
                    # Takes its place in the queue before the datagram leaves: no answer to that can come first.
                    self._waiting_callbacks += 1
                    dispatcher.post(self._owner, partial(self._written, self._opening, write))
                self._bound = True
                address, choose = (None, None) if wanted.host is None else self._towards(wanted.host, wanted.port)
                timeout = None if self._timeout < 0 else self._timeout
                sock.post(address, wanted.data, timeout=timeout, tag=wanted.tag, done=told, choose=choose)
            except bus.NotSent as exc:
                told(wanted.tag, OSError(exc.reason))
            except (OSError, ValueError, Unreachable) as exc:
                told(wanted.tag, exc)
            self._file()
            return self

    write = send

    def _sent(self, opening: int, write: _Write | None, tag: int, error: Exception | None) -> None:
        with self._lock:
            if write is not None:
                write.gone = error is None
                if write.missed:
                    dispatcher.post(self._owner, partial(self._written, opening, write))
            if opening != self._opening:
                return
            self._under_way -= 1
            if error is None:
                log.debug("Data written to UDP socket")
            elif self._live() is not None or not isinstance(error, bus.Closed):
                log.error("Data not sent on UDP socket: %s", phrase(error))
            self._file()

    def _written(self, opening: int, write: _Write) -> None:
        with self._lock:
            if write.gone is None:
                write.missed = True
                return
            self._waiting_callbacks -= 1
        if write.gone:
            self._call(opening, "hs.socket.udp:write callback", write.fn, write.tag)

    # -- receiving ----------------------------------------------------------------------------------------------------

    def receive(self, fn: ReadCallback | Unset = UNSET) -> Self | None:
        """Call `fn(data, sockaddr)` for every datagram from now on. None without a callback, and before anything has opened the sockets."""
        return self._receive(CONTINUOUS, fn)

    def receiveOne(self, fn: ReadCallback | Unset = UNSET) -> Self | None:
        """The same for one datagram; those behind it wait in the system's buffer."""
        return self._receive(ONE, fn)

    readOne = receiveOne

    def read(self, fn: ReadCallback | Unset = UNSET, *tag: object) -> Self | None:
        """`receive`. TypeError for a delimiter or a tag, which are for TCP."""
        if tag or not (fn is UNSET or callable(fn)):
            raise TypeError("read takes a function: there is no delimiter and no tag on UDP, where each datagram is a message")
        return self.receive(fn)

    def _receive(self, mode: str, fn: ReadCallback | Unset) -> Self | None:
        with self._lock:
            if fn is not UNSET:
                self._callback = arguments.function(fn)
            if self._callback is None:
                log.error("No callback defined!")
                return None
            if self.closed():
                log.error("Unable to read from UDP socket: %s", NOT_BOUND)
                return None
            if mode != self._mode:
                self._mode = mode
                self._flow()
            return self

    def pause(self) -> Self:
        """Call no more: what arrives waits in the system's buffer for the next `receive`."""
        with self._lock:
            self._mode = ""
            if (sock := self._live()) is not None:
                sock.pause()
            self._file()
        return self

    def setCallback(self, fn: ReadCallback | None = None) -> Self:
        """Another callback for what is read, or none: then what arrives is discarded."""
        with self._lock:
            self._callback = None if fn is None else arguments.function(fn)
            self._file()
        return self

    def _flow(self) -> None:
        """Have read what the mode asks for. What was read ahead of a switch to one at a time comes before anything else."""
        sock = self._live()
        if sock is not None and self._mode:
            if self._mode == CONTINUOUS:
                sock.resume()
            else:
                sock.pause()
                if not sock.stats().waiting_in:
                    sock.resume(1)
            self._arm(sock)
        self._file()

    def _arm(self, sock: bus.UdpSocket) -> None:
        """Have a turn once there is a datagram. The engine does not hold us for it."""
        if not self._armed:
            self._armed = True
            turn = partial(_post_turn, weakref.ref(self), self._opening)
            if not sock.when_ready(turn):
                turn()

    def _turn(self, opening: int) -> None:
        with self._lock:
            sock, fn = self._sock, self._callback
            if opening != self._opening or sock is None:
                return
            self._armed = False
            if not self._mode:
                return
            try:
                message = sock.receive(0)
            except bus.BusError as exc:
                log.log(logging.DEBUG if isinstance(exc, bus.Closed) else logging.ERROR, "UDP socket closed: %s", phrase(exc))
                self._forget()
                return
            # A datagram of no bytes, or cut to none, is none; it does not count as the one either.
            data = b"" if message is None else message.data
            if self._mode == CONTINUOUS:
                self._arm(sock)
            elif not data:
                self._flow()
            else:
                self._mode = ""
                self._file()
        if message is not None and data and fn is not None:
            log.debug("Data read from UDP socket")
            dispatcher.call("hs.socket.udp:read callback", fn, decode(data), sockaddr_of(message.source))

    def _call(self, opening: int, what: str, fn: Callable[..., object], *given: object) -> None:
        if opening == self._opening:
            dispatcher.call(what, fn, *given)

    # -- what it is ---------------------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Everything about it, under the document's 25 keys. What there is not is empty or 0."""
        with self._lock:
            told: dict[str, Any] = {"isClosed": self.closed(), "isConnected": self._connected, "userData": self._role}
            local = self._local() if self._bound else {}
            first = local.get(4) or local.get(6, "")
            told |= self._configuration() | described("connected", self._peer) | described("local", first)
            return told | described("local", local.get(4, ""), "_IPv4") | described("local", local.get(6, ""), "_IPv6")

    def stats(self) -> bus.Stats:
        """Ours: the counters of its sockets, or of the last ones it had. `lost` counts datagrams that were dropped on this machine."""
        with self._lock:
            return self._last_stats if self._sock is None else self._sock.stats()

    def __str__(self) -> str:
        told = self.info()
        side = "local" if self._role == "SERVER" else "connected"
        host, port = told[f"{side}Host"] or "(null)", told[f"{side}Port"]
        return f"hs.socket.udp: {host}:{port} (0x{id(self):x})"

    __repr__ = __str__


def _post_turn(ref: weakref.ref[UDPSocket], opening: int) -> None:
    this = ref()
    if this is not None:
        dispatcher.post(this._owner, partial(this._turn, opening))

"""One connection with one server, as long as it lasts. nats-py speaks the protocol; the next connection is another Wire.

nats-py's own reconnecting is off. With it the true cause of a failure hides behind "no servers available", a first connect may never
return, and an error of the server's ends the client for good all the same; so somebody has to start anew anyway (`Transport` does).

Everything here runs on the transport's loop. Of nats-py's insides it needs what `REQUIRED_INSIDES` lists: commands of many messages are
written in one go, where its `publish` takes twice the time for each, and what comes is taken apart by `incoming`. A test asserts that they
are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic
from typing import Any

from nats.aio.client import Client, RawCredentials
from nats.aio.subscription import Subscription
from nats.errors import Error, SlowConsumerError

from actors.errors import BusError
from adapters.nats import causes
from adapters.nats.credentials import read_creds
from adapters.nats.incoming import Incoming, Parser
from adapters.nats.loop import Loop
from adapters.nats.servers import Servers

__all__ = ["REQUIRED_INSIDES", "Wire", "end_all"]

log = logging.getLogger("actorbus.nats")

REQUIRED_INSIDES = (
    "_build_message",
    "_close",
    "_connect_command",
    "_flush_pending",
    "_pending",
    "_pending_data_size",
    "_process_err",
    "_process_headers",
    "_process_info",
    "_process_msg",
    "_process_ping",
    "_process_pong",
    "_ps",
    "_send_command",
)

PING_SECONDS = 10  # two that are not answered, and the connection is lost: nothing else finds a server that hangs, or a cut cable
CLOSE_SECONDS = 1.0  # its socket is closed before; what asyncio thinks of that is not waited for longer
FLUSH_SECONDS = 3600  # longer than any wait; a server that hangs is found by pings
CANCEL_SECONDS = 0.05
WINDOW_BYTES = 128 * 1024  # twice as much may be on its way to the server: that is what a lost connection costs
PENDING_BYTES = 256 * 1024  # that nats-py holds before it waits for the socket; what is over it waits in our own queue, which is bounded


async def end_all(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel them until they are over. Once is not enough: nats-py swallows a cancellation that strikes while it writes, and
    asyncio.wait_for loses one that comes with its result (before Python 3.12).
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=CANCEL_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)  # looked at: asyncio need not tell that nobody did


class Wire(Client):
    """See the module. `lost` is done, with the reason, when the connection is no more."""

    def __init__(
        self, loop: Loop, address: str, servers: Servers, tls: ssl.SSLContext | None, refused: Callable[[str], object]
    ) -> None:
        super().__init__()
        self._ps: Any = Parser(self)
        self.address = address  # "host:port"
        self.url = str(servers._replace(addresses=(address,)))
        self.lost: asyncio.Future[BusError] = loop.create_future()
        self._loop = loop
        self._must_encrypt = servers.encrypted
        self._credentials = servers.credentials
        self._context = tls
        self._refused = refused
        self._shaking = False
        self._trouble: asyncio.Future[BaseException] = loop.create_future()
        self._socket: asyncio.WriteTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.misses: dict[Subscription, Callable[[int], object]] = {}  # what is called for a message that nats-py had no room for
        self._unreadable = 0  # messages
        self._unconfirmed = 0  # bytes
        self._confirmed: asyncio.Future[None] | None = None  # of those before

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """nats-py asks for it when the server wants TLS, and in no other case."""
        self._shaking = True
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context

    async def dial(self, deadline: float | None, *, name: str, hostname: str | None = None) -> None:
        """Connect until the deadline (of `time.monotonic`). Raises ConnectFailed or ConnectTimeout with the cause."""
        left = 86_400.0 if deadline is None else max(0.0, deadline - monotonic())
        self._loop.connection = None
        made = False
        connecting = self._loop.create_task(self._connect(left, name, hostname))
        try:
            # nats-py goes on after the first failure, and tells it to its error callback only.
            watched: set[asyncio.Future[Any]] = {connecting, self._trouble}
            await asyncio.wait(watched, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if connecting.done():
                await connecting
                if not self.is_connected:  # nats-py takes the end of the stream for an answer
                    raise ConnectionResetError
                made = True
                return
            if self._trouble.done():
                raise self._trouble.result()
            raise causes.too_slow(self.url, self.is_connecting, self._shaking)
        except Exception as exc:
            raise causes.no_connection(self.url, exc, self._credentials, shaken=self._shaking) from exc
        finally:
            if not made:
                await self._give_up(connecting)

    async def _connect(self, left: float, name: str, hostname: str | None) -> None:
        who = self._credentials
        await self.connect(
            servers=[f"nats://{self.address}"],
            name=name,
            user=who.user,
            password=who.password,
            token=who.token,
            nkeys_seed=who.nkey,
            user_credentials=None if who.creds is None else RawCredentials(read_creds(who.creds)),
            tls=self._context,
            tls_hostname=hostname,
            connect_timeout=left,  # type: ignore[arg-type]  # any number does
            allow_reconnect=False,
            max_reconnect_attempts=1,
            ping_interval=PING_SECONDS,
            pending_size=PENDING_BYTES,
            error_cb=self._error,
        )
        self._socket = self._loop.connection

    def _connect_command(self) -> bytes:
        """Asked for when the server has said whether it wants TLS: to one without it, where that is a must, nothing is shown. (Not a
        signature either: it would let who asks for it in elsewhere.)
        """
        if self._must_encrypt and not self._shaking:
            raise causes.no_tls(self.url)
        return super()._connect_command()

    async def _give_up(self, connecting: asyncio.Task[None]) -> None:
        await end_all([connecting])
        if self.is_connected:
            await self.close()
        elif self._loop.connection is not None:
            self._loop.connection.abort()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Have that done beside everything else. It ends with the connection."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Nothing is left of it."""
        await end_all(list(self._tasks))
        with contextlib.suppress(Exception):
            await self.close()

    async def _error(self, exc: Exception) -> None:
        if not self._trouble.done():
            self._trouble.set_result(exc)
        if "permissions violation" in str(exc):
            log.warning("%s: %s", self.url, exc)
            self._refused(str(exc).removeprefix("nats: "))
        elif isinstance(exc, SlowConsumerError):
            self.misses[exc.sub](1)
        elif isinstance(exc, (Error, OSError)):
            log.debug("%s: %s", self.url, exc)  # the connection's end, which is told elsewhere
        else:
            log.error("%s: a message is lost", self.url, exc_info=exc)  # in what takes it

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """Whatever ends the connection comes through here. nats-py would write what it still has, and wait for a server that may hang, or
        fail at a socket that is gone and leave its tasks behind.
        """
        if not self.lost.done():
            self.lost.set_result(causes.lost(self.url, self.last_error, self._credentials))
        socket = self._socket or self._loop.connection
        if socket is not None:
            socket.abort()
        self._pending.clear()
        self._pending_data_size = 0
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await super()._close(status, do_cbs)

    # -- what has come: `data` is counted as long as it waits, so it is all of a message, and taken apart when that is taken ------------

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        await super()._process_msg(sid, subject, reply, headers + data if headers else data, headers)

    async def _process_headers(self, headers: bytes) -> Any:
        return headers

    def _build_message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> Incoming | None:
        try:
            return Incoming(subject.decode(), reply.decode(), data, len(headers))
        except UnicodeDecodeError:
            self._unreadable += 1
            if str(self._unreadable).strip("0") == "1":
                log.warning("%s: %d messages passed over so far, whose topics are no UTF-8", self.url, self._unreadable)
            return None

    async def flush(self, timeout: float = FLUSH_SECONDS) -> None:
        """Return when the server has done all that was said before. nats-py's ping overtakes commands that still wait to be written."""
        await self._flush_pending(force_flush=True)
        await super().flush(timeout)  # type: ignore[arg-type]  # any number does

    async def write(self, commands: bytes) -> None:
        """Send what was put together elsewhere. Returns when the server has taken nearly all that was sent before, and our subscriptions
        have read what of it was for them: a process that publishes faster than it reads would be thrown out.
        """
        await self._send_command(commands)
        await self._flush_pending(force_flush=True)
        self._unconfirmed += len(commands)
        if self._unconfirmed >= WINDOW_BYTES:
            self._unconfirmed = 0
            before, self._confirmed = self._confirmed, self._loop.create_future()
            self.start(self._confirm(self._confirmed))
            if before is not None:
                await before

    async def _confirm(self, confirmed: asyncio.Future[None]) -> None:
        try:
            with contextlib.suppress(Error):  # the connection's end, which is told elsewhere
                await self.flush()
        finally:
            if not confirmed.done():
                confirmed.set_result(None)

    def neighbours(self) -> list[str]:
        """The addresses of the other servers of its cluster, as far as it told them."""
        return [found.netloc.rpartition("@")[2] for found in self.discovered_servers]

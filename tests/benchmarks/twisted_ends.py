"""Twisted's Int32StringReceiver, which has our length framing, on its epoll reactor. By name: types are checked without it, too."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from .cell import Cell
from .end import REPLY_TIMEOUT, Gate
from .wire import MAX_SIZE


def _reactor() -> Any:
    return import_module("twisted.internet.reactor")


def _protocol(name: str, **methods: Callable[..., Any]) -> Any:
    def connected(self: Any) -> None:
        self.transport.setTcpNoDelay(True)

    base = import_module("twisted.protocols.basic").Int32StringReceiver
    return type(name, (base,), {"MAX_LENGTH": MAX_SIZE, "connectionMade": connected, **methods})


def server(announce: Callable[[str], None], cell: Cell) -> None:
    reactor = _reactor()
    factory = import_module("twisted.internet.protocol").Factory.forProtocol(
        _protocol("Echo", stringReceived=lambda self, data: self.sendString(data))
    )
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    announce(f"127.0.0.1:{port.getHost().port}")
    # The process's signals and its end are the parent's business.
    reactor.run(installSignalHandlers=False)


def client(address: str, gate: Gate) -> None:
    reactor = _reactor()
    endpoints = import_module("twisted.internet.endpoints")
    defer = import_module("twisted.internet.defer")
    host, _, port = address.rpartition(":")
    waiting: Any = None

    def received(self: Any, data: bytes) -> None:
        waiting.callback(data)

    async def measure() -> None:
        protocol = await endpoints.connectProtocol(endpoints.TCP4ClientEndpoint(reactor, host, int(port)), caller())

        async def trip(payload: bytes) -> bytes:
            nonlocal waiting
            waiting = defer.Deferred().addTimeout(REPLY_TIMEOUT, reactor)
            protocol.sendString(payload)
            data: bytes = await waiting
            return data

        await gate.time_async(trip)

    caller = _protocol("Caller", stringReceived=received)
    failures: list[Any] = []

    def start() -> None:
        defer.Deferred.fromCoroutine(measure()).addErrback(failures.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run(installSignalHandlers=False)
    if failures:
        failures[0].raiseException()

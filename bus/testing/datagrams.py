"""The UDP side of a `FaultProxy`: a socket towards the target for each client. Everything here runs on the proxy's thread."""

from __future__ import annotations

import socket
from functools import partial
from selectors import EVENT_READ, BaseSelector
from time import monotonic
from typing import Any, NamedTuple

from actors.resolving import Resolved
from bus.testing.faults import DatagramLine
from bus.testing.streams import Settings, Way, forget, watch

__all__ = ["Exchanges"]

CLIENTS = 1000  # known at a time; the one that came first is forgotten for the next
READS = 64  # datagrams of one socket in one turn
LARGEST = 65_535
RECEIVE_BUFFER = 4 * 1024 * 1024  # asked for; the kernel gives up to net.core.rmem_max


class Exchange(NamedTuple):
    """What one client and the target say to each other."""

    address: Any
    sock: socket.socket
    up: DatagramLine
    down: DatagramLine


class Exchanges:
    """All clients of the proxy."""

    def __init__(self, selector: BaseSelector, targets: tuple[Resolved, ...], settings: Settings) -> None:
        self._selector = selector
        self._target = targets[0]
        self._settings = settings
        self.passed: dict[Way, int] = {"up": 0, "down": 0}
        self.count = 0
        self.lost = 0  # here and below: on the lines of clients that were forgotten, and what the kernel refused
        self.duplicated = 0
        self.reordered = 0
        self.exchanges: dict[Any, Exchange] = {}
        self._sock = _socket(socket.AF_INET)
        try:
            self._sock.bind(("127.0.0.1", 0))
        except BaseException:
            self._sock.close()
            raise
        self.sockname = self._sock.getsockname()
        self.settle()

    def settle(self) -> None:
        """Say to the selector what to wait for now."""
        watch(self._selector, self._sock, self._wanted("up"), self._from_clients)
        for exchange in self.exchanges.values():
            watch(self._selector, exchange.sock, self._wanted("down"), partial(self._from_target, exchange))

    def _wanted(self, way: Way) -> int:
        return 0 if way in self._settings.stalled else EVENT_READ

    def _from_clients(self, mask: int) -> None:
        for _ in range(READS):
            try:
                datagram, address = self._sock.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except OSError:
                continue  # a report that an earlier one was not wanted
            exchange = self.exchanges.get(address) or self._new(address)
            if exchange is None:
                self.lost += 1
            else:
                exchange.up.put(datagram, monotonic(), self._settings.faults["up"])

    def _new(self, address: Any) -> Exchange | None:
        if len(self.exchanges) >= CLIENTS:
            self._forget(next(iter(self.exchanges.values())))
        try:
            sock = _socket(self._target.family)
        except OSError:
            return None
        try:
            sock.connect(self._target.sockaddr)
        except OSError:
            sock.close()
            return None
        self.count += 1
        chances = (self._settings.chance(self.count, "up"), self._settings.chance(self.count, "down"))
        exchange = Exchange(address, sock, DatagramLine(chances[0]), DatagramLine(chances[1]))
        self.exchanges[address] = exchange
        watch(self._selector, sock, self._wanted("down"), partial(self._from_target, exchange))
        return exchange

    def _forget(self, exchange: Exchange) -> None:
        del self.exchanges[exchange.address]
        for line in (exchange.up, exchange.down):
            self.lost += line.lost + line.waiting
            self.duplicated += line.duplicated
            self.reordered += line.reordered
        forget(self._selector, exchange.sock)
        exchange.sock.close()

    def _from_target(self, exchange: Exchange, mask: int) -> None:
        for _ in range(READS):
            try:
                datagram = exchange.sock.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError:
                continue  # nobody listens there: as lost as on a network, and reported once
            exchange.down.put(datagram, monotonic(), self._settings.faults["down"])

    def tick(self, now: float) -> float | None:
        """Do what is due; when it is time again."""
        times = []
        for exchange in self.exchanges.values():
            if "up" not in self._settings.stalled:
                for datagram in exchange.up.take(now):
                    self._send("up", exchange.sock, datagram, None)
                times.append(exchange.up.next_time())
            if "down" not in self._settings.stalled:
                for datagram in exchange.down.take(now):
                    self._send("down", self._sock, datagram, exchange.address)
                times.append(exchange.down.next_time())
        return min((time for time in times if time is not None), default=None)

    def _send(self, way: Way, sock: socket.socket, datagram: bytes, address: Any) -> None:
        for _ in range(2):  # the first may only report that an earlier one was not wanted
            try:
                if address is None:
                    sock.send(datagram)
                else:
                    sock.sendto(datagram, address)
            except ConnectionError:
                continue
            except OSError:
                break  # the kernel's buffer is full
            self.passed[way] += len(datagram)
            return
        self.lost += 1

    def close(self) -> None:
        for exchange in self.exchanges.values():
            exchange.sock.close()
        self.exchanges.clear()
        self._sock.close()


def _socket(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return sock

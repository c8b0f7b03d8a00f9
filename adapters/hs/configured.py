"""What a script sets on a socket. `close()` leaves IP versions, buffer sizes and the timeout as they are, and ends the two options."""

from __future__ import annotations

import logging
from threading import RLock
from typing import Any, Literal, Self

import bus
from actors.sockets import has_ipv6
from adapters.hs import arguments
from adapters.hs.addresses import Reach, loopback, split
from adapters.hs.arguments import UNSET, Unset
from adapters.hs.failures import BOTH_DISABLED, NO_IPV4, phrase

__all__ = ["Configured"]

log = logging.getLogger("actorbus.hs")

LARGEST = {4: 65_535, 6: 4_294_967_295}
DEFAULT_SIZE = 65_535
LOOPBACK = ("localhost", "loopback")


class Configured:
    """`_lock` owns every field. `_sock` is the socket these settings are for, if it is open."""

    def __init__(self, timeout: float) -> None:
        self._lock = RLock()
        self._sock: bus.UdpSocket | None = None
        self._timeout = timeout
        self._enabled = {4: True, 6: True}
        self._prefers = 0
        self._sizes = {4: DEFAULT_SIZE, 6: DEFAULT_SIZE}
        self._families: tuple[int, ...] = ()  # the versions of the socket
        self._exists = False  # the sockets of the document; ours is made by what binds it
        self._broadcast = False
        self._reuse = False

    def _forget(self) -> bus.UdpSocket | None:
        """Back to what a new object is, but for its configuration. Returns the socket, to be closed without the lock."""
        sock, self._sock = self._sock, None
        self._exists = self._broadcast = self._reuse = False
        return sock

    def _live(self) -> bus.UdpSocket | None:
        """The socket. One that has ended without our doing is forgotten: the program shut everything down, or the system broke it."""
        if self._sock is not None and self._sock.closed:
            self._forget()
            log.debug("UDP socket closed: by the system, or with the program's other sockets")
        return self._sock

    def closed(self) -> bool:
        """Whether it has no sockets. Sending opens them, too."""
        with self._lock:
            self._live()
            return not self._exists

    def enableIPv(self, version: int, flag: bool = True) -> Self | None:
        """Enable IP version 4 or 6, or disable it, for the sockets that are made from now on. None for another version."""
        number, on = arguments.integer(version, "version"), arguments.flag(flag)
        if number not in (4, 6):
            log.error("Invalid IP version: %d", number)
            return None
        with self._lock:
            self._enabled[number] = on
        return self

    def preferIPv(self, version: int | Unset = UNSET) -> Self:
        """Prefer version 4 or 6 where a host has both; anything else, or nothing: whichever the lookup names first."""
        number = 0 if version is UNSET else arguments.integer(version, "version")
        with self._lock:
            self._prefers = number if number in (4, 6) else 0
        return self

    def setBufferSize(self, size: int, version: int | Unset = UNSET) -> Self:
        """How many bytes of a datagram to receive at most; the rest of it is lost. For IP version 4 or 6; for any other, or none, both.

        A negative size means the largest.
        """
        wanted = arguments.integer(size, "size")
        number = 0 if version is UNSET else arguments.integer(version, "version")
        versions = (number,) if number in (4, 6) else (4, 6)
        sizes = {each: LARGEST[each] if wanted < 0 else min(wanted, LARGEST[each]) for each in versions}
        with self._lock:
            self._sizes.update(sizes)
            if (sock := self._live()) is not None:
                self._apply_sizes(sock)
        return self

    def setTimeout(self, timeout: float) -> Self:
        """Seconds that a datagram sent from now on may wait for room in the system's buffer; negative: any time."""
        seconds = arguments.number(timeout, "timeout")
        with self._lock:
            self._timeout = seconds
        return self

    def broadcast(self, flag: bool = True) -> Self | None:
        """Allow sending to IPv4's broadcast addresses, or forbid it. None without IPv4."""
        return self._option("broadcasting", "_broadcast", arguments.flag(flag), "" if self._enabled[4] else NO_IPV4)

    def reusePort(self, flag: bool = True) -> Self | None:
        """Let all who ask for it share a port, from `listen` on, or forbid it."""
        return self._option("port reuse", "_reuse", arguments.flag(flag), "")

    def _option(self, what: str, name: str, flag: bool, problem: str) -> Self | None:
        with self._lock:
            try:
                if problem or not self._versions():
                    raise OSError(problem or BOTH_DISABLED)
                if (sock := self._live()) is not None:
                    (sock.set_broadcast if name == "_broadcast" else sock.set_reuse_port)(flag)
            except OSError as exc:
                log.error("Unable to enable %s: %s", what, phrase(exc))
                return None
            setattr(self, name, flag)
            self._exists = True
            return self

    def _bind(self, port: int) -> bus.UdpSocket:
        versions = self._versions()
        host = "*" if len(versions) == 2 else "0.0.0.0" if versions == [4] else "[::]"
        broadcast = self._broadcast and 4 in versions
        sock = bus.bind(f"udp://{host}:{port}", broadcast=broadcast, reuse_port=self._reuse, paused=True, mapped=True)
        self._apply_sizes(sock)
        self._families = tuple(versions if len(sock.local_addresses) == len(versions) else [4])
        self._exists = True
        return sock

    def _versions(self) -> list[int]:
        return [version for version in (4, 6) if self._enabled[version]]

    def _local(self) -> dict[int, str]:
        """The address of each socket there is, by its version."""
        sock = self._live()
        addresses = () if sock is None else sock.local_addresses
        return {6 if ":" in split(address)[0] else 4: address for address in addresses}

    def _configuration(self) -> dict[str, Any]:
        """Its part of `info()`."""
        there = self._local() or self._versions()
        told: dict[str, Any] = {"isIPVersionNeutral": self._prefers == 0, "timeout": self._timeout}
        for version in (4, 6):
            told[f"isIPv{version}"] = version in there
            told[f"isIPv{version}Enabled"] = self._enabled[version]
            told[f"isIPv{version}Preferred"] = self._prefers == version
            told[f"maxReceiveIPv{version}BufferSize"] = self._sizes[version]
        return told

    def _apply_sizes(self, sock: bus.UdpSocket) -> None:
        versions: tuple[Literal[4, 6], ...] = (4, 6)
        for version in versions:
            sock.set_buffer_size(self._sizes[version], version)

    def _towards(self, host: str, port: int) -> tuple[str, Any]:
        """Address and `choose` for the socket. Raises Unreachable."""
        versions = self._versions()
        reach = Reach(frozenset(versions), frozenset(self._families), self._prefers)
        if host.lower() in LOOPBACK:
            # Asked only where it matters, because it takes a socket to find out.
            six = (self._prefers == 6 or 4 not in versions or 4 not in self._families) and has_ipv6()
            host = reach.choose(loopback(port, six))[0]
        return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), reach.choose

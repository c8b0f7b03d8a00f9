"""Socket addresses as Hammerspoon's scripts see them, and which address of a host a datagram goes to. Pure.

A `sockaddr` is opaque bytes in macOS's layout: a length, the family (2 or 30), the port big-endian, then 4 bytes of IPv4 address and 8 of
nothing; or 4 bytes of flow label, 16 of IPv6 address, 4 of scope.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from actors.resolving import Resolved

__all__ = ["INET", "INET6", "Address", "Reach", "Unreachable", "described", "loopback", "parseAddress", "sockaddr_of", "split"]

INET = 2
INET6 = 30
MIN_INET = 16
MIN_INET6 = 28


@dataclass(frozen=True)
class Address:
    """What `parseAddress` gives: also by `address["host"]`."""

    host: str
    port: int
    addressFamily: int

    def __getitem__(self, name: str) -> Any:
        if name not in ("host", "port", "addressFamily"):
            raise KeyError(name)
        return getattr(self, name)


def parseAddress(sockaddr: bytes | str) -> Address | None:
    """Host, port and family (2 for IPv4, 30 for IPv6) of a socket address that a callback or `info()` gave; None for anything else.

    >>> parseAddress(bytes([16, 2, 0, 80, 216, 58, 218, 110, *[0] * 8]))
    Address(host='216.58.218.110', port=80, addressFamily=2)
    """
    if isinstance(sockaddr, str):
        sockaddr = sockaddr.encode("utf-8", "surrogateescape")
    if not isinstance(sockaddr, (bytes, bytearray)):
        raise TypeError(f"sockaddr must be bytes, not {sockaddr!r}")
    if len(sockaddr) < MIN_INET:
        return None
    family, port = struct.unpack_from(">xBH", sockaddr)
    if family == INET:
        return Address(str(ipaddress.IPv4Address(bytes(sockaddr[4:8]))), port, INET)
    if family == INET6 and len(sockaddr) >= MIN_INET6:
        address = ipaddress.IPv6Address(bytes(sockaddr[8:24]))
        mapped = address.ipv4_mapped
        return Address(f"::ffff:{mapped}" if mapped is not None else str(address), port, INET6)
    return None


def split(address: str) -> tuple[str, int, int]:
    """Host, scope and port of an "ip:port" of ours.

    >>> split("[fe80::1%2]:9001")
    ('fe80::1', 2, 9001)
    """
    host, _, port = address.rpartition(":")
    host, _, scope = host.strip("[]").partition("%")
    return host, _scope(scope), int(port)


def _scope(name: str) -> int:
    if not name or name.isdigit():
        return int(name or 0)
    try:
        return socket.if_nametoindex(name)
    except OSError:  # the interface has gone since
        return 0


@lru_cache(maxsize=1024)
def sockaddr_of(address: str) -> bytes:
    """The socket address of an "ip:port" of ours; empty for an empty one."""
    if not address:
        return b""
    host, scope, port = split(address)
    if ":" in host:
        # The scope is a number of the machine's own, in its own order of bytes.
        return struct.pack(">BBHI16s", MIN_INET6, INET6, port, 0, ipaddress.IPv6Address(host).packed) + struct.pack("<I", scope)
    return struct.pack(">BBH4s8x", MIN_INET, INET, port, ipaddress.IPv4Address(host).packed)


def described(side: str, address: str, suffix: str = "") -> dict[str, Any]:
    """An address as `info()` has it, with these names; an empty one too.

    >>> described("connected", "")
    {'connectedAddress': b'', 'connectedHost': '', 'connectedPort': 0}
    """
    host, _, port = split(address) if address else ("", 0, 0)
    return {f"{side}Address{suffix}": sockaddr_of(address), f"{side}Host{suffix}": host, f"{side}Port{suffix}": port}


def loopback(port: int, ipv6: bool) -> tuple[Resolved, ...]:
    """What "localhost" means, whatever the resolver has: IPv4 first."""
    four = Resolved(socket.AF_INET, ("127.0.0.1", port))
    return (four, Resolved(socket.AF_INET6, ("::1", port, 0, 0))) if ipv6 else (four,)


class Unreachable(Exception):
    """No address of the host is of a family that the socket has."""


@dataclass(frozen=True)
class Reach:
    """Which families a socket may use (`enableIPv`), which it has open, and which it prefers (0: the first that the resolver names)."""

    enabled: frozenset[int]
    open: frozenset[int]
    prefers: int = 0

    def choose(self, addresses: Iterable[Resolved]) -> Any:
        """The socket address to use. Raises Unreachable.

        A family that is disabled or not open is left out, whatever is preferred and whatever the resolver names first.
        """
        found: dict[int, Any] = {}
        for address in addresses:
            found.setdefault(6 if address.family == socket.AF_INET6 else 4, address.sockaddr)
        for version in (self.prefers, *found):
            if version in found and version in self.enabled and version in self.open:
                return found[version]
        lacking, other = (4, 6) if 4 in found else (6, 4)
        state = "disabled" if lacking not in self.enabled else "deactivated due to bind/connect,"
        raise Unreachable(f"IPv{lacking} has been {state} and DNS lookup found no IPv{other} address(es).")

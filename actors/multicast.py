"""Making sockets that are members of a multicast group."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import struct
import sys

from actors.binding import RECEIVE_BUFFER, bind_to
from actors.errors import BadAddress
from actors.resolving import Resolved, format_address

__all__ = ["join_group"]

log = logging.getLogger("actorbus.multicast")


def join_group(host: str, port: int, *, interface: str | None, ttl: int, loopback: bool) -> tuple[socket.socket, str]:
    """A UDP socket that is a member of a group, and the address that it sends from.

    It is bound to the group's own address, which alone keeps unicast datagrams and other groups' out on Linux; several members on one
    machine share the port. `interface` is a name or one of its addresses; None lets the route decide, and where there is none, loopback
    serves. Raises BadAddress, and OSError when the interface does not exist or the system refuses.
    """
    group = _group_address(host)
    if not 1 <= port <= 65535:
        raise BadAddress(f"{host}:{port}", "a multicast group needs a port from 1 to 65535")
    family = socket.AF_INET if group.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform != "linux" and hasattr(socket, "SO_REUSEPORT"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        bound = str(group) if os.name == "posix" else ""
        index, own = _find_interface(interface, group.version, str(group), port) if interface else _default_interface(group, port)
        sockaddr = (bound, port) if family == socket.AF_INET else (bound, port, 0, index)
        bind_to(sock, Resolved(family, sockaddr))
        if family == socket.AF_INET:
            member = struct.pack("@4s4si", group.packed, b"\0\0\0\0", index)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            sender = struct.pack("@4s4si", b"\0\0\0\0", socket.inet_aton(own), index)  # with the address, or the kernel picks another
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, sender)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, int(loopback))
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group.packed + struct.pack("@I", index))
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, int(loopback))
    except BaseException:
        sock.close()
        raise
    return sock, format_address((own, port))


def _group_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        group = ipaddress.ip_address(host)
    except ValueError:
        raise BadAddress(host, "not an IP address; a multicast group has no name") from None
    if not group.is_multicast:
        raise BadAddress(host, "not a multicast address (IPv4: 224.0.0.0 to 239.255.255.255, IPv6: ff00::/8)")
    return group


def _source_for(version: int, target: str, port: int) -> str | None:
    """The address from which this machine would send there; None without a route."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target, port))  # UDP: nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return None


def _find_interface(interface: str, version: int, group: str, port: int) -> tuple[int, str]:
    """Index and address of an interface given by name or by address."""
    names = {name: index for index, name in socket.if_nameindex()}
    if interface in names:
        return names[interface], _address_of(interface, names[interface], version, group, port)
    try:
        address = ipaddress.ip_address(interface.strip("[]"))
    except ValueError:
        raise BadAddress(interface, f"no such network interface; there are {', '.join(sorted(names))}") from None
    for name, index in names.items():
        if str(address) in _addresses_of(name, index, address.version):
            return index, str(address)
    raise BadAddress(interface, "no network interface of this machine has that address")


def _addresses_of(name: str, index: int, version: int) -> list[str]:
    """The addresses of an interface, without a library: Linux tells them through ioctl (IPv4) and /proc (IPv6)."""
    if version == 6:
        try:
            with open("/proc/net/if_inet6", encoding="ascii") as table:
                rows = [line.split() for line in table]
        except OSError:
            return ["::1"] if name.startswith("lo") else []
        return [str(ipaddress.IPv6Address(bytes.fromhex(row[0]))) for row in rows if row[5] == name]
    if sys.platform != "linux":
        return ["127.0.0.1"] if name.startswith("lo") else []
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            raw = fcntl.ioctl(probe.fileno(), 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
        except OSError:
            return []
        return [socket.inet_ntoa(raw[20:24])]


def _address_of(name: str, index: int, version: int, group: str, port: int) -> str:
    addresses = _addresses_of(name, index, version)
    if addresses:
        return addresses[0]
    if sys.platform == "linux":
        raise BadAddress(name, f"the interface has no IPv{version} address, so it can't send to {group}")
    return _source_for(version, group, port) or ("0.0.0.0" if version == 4 else "::")


def _default_interface(group: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> tuple[int, str]:
    version, target = group.version, str(group)
    own = _source_for(version, target, port)
    if own is not None:
        for index, name in socket.if_nameindex():
            if own in _addresses_of(name, index, version):
                return index, own
        return 0, own
    if version == 6:
        raise OSError(f"no route to the multicast group {target}: name an interface")
    for index, name in socket.if_nameindex():
        if name.startswith("lo"):
            log.warning("no route to the multicast group %s: only this machine (%s) will hear and be heard", target, name)
            return index, "127.0.0.1"
    raise OSError(f"no route to the multicast group {target}, and no loopback interface")

"""`scriptling.net.multicast`: messages from one to many over UDP, on local networks."""

from __future__ import annotations

import bus
from adapters.dialect import endpoint, receive_text
from adapters.scriptling.messages import Received, Sendable, encode

__all__ = ["Group", "join"]


class Group:
    """Membership of a group: what `join` gives. It hears its own messages, unless it was joined with `loopback=False`.

    `group_addr` and `port` are the group's; `local_addr` is the address that it sends from, "ip:port".
    """

    __slots__ = ("_group", "group_addr", "local_addr", "port")

    def __init__(self, group: bus.Group) -> None:
        self._group = group
        host, _, port = group.address.rpartition(":")
        self.group_addr = host.strip("[]").partition("%")[0]  # IPv6: without the zone, which is of this machine only
        self.port = int(port)
        self.local_addr = group.local_address

    def send(self, message: Sendable) -> None:
        """Send a string, bytes, or a dict as JSON, to every member.

        Raises ValueError over 65,507 bytes, TypeError for what can't be sent, OSError as the system gives it, Closed after `close()`.
        """
        self._group.send(encode(message))

    def receive(self, timeout: float | None = 30) -> Received | None:
        """The next message; None after `timeout` seconds (0 polls, None waits). Raises Closed after `close()`."""
        message = receive_text(self._group, timeout)
        # No call from here on: Ctrl-C would strike there, and lose the message.
        return None if message is None else {"data": message[0], "source": message[1]}

    def close(self) -> None:
        """Leave the group. Twice is nothing."""
        self._group.close()

    def stats(self) -> bus.Stats:
        return self._group.stats()

    def __repr__(self) -> str:
        return repr(self._group)


def join(group_addr: str, port: int, interface: str | None = "", *, ttl: int = 1, loopback: bool = True) -> Group:
    """Join the group `group_addr`, 224.0.0.0 to 239.255.255.255 or IPv6.

    `interface` is the name or an address of one; without it the route decides, or the environment variable ACTORBUS_MULTICAST_INTERFACE.
    `ttl` is how many routers a message may cross. Raises ValueError and TypeError for arguments that can't be meant (not a multicast
    address, no such interface), OSError when the system refuses.
    """
    if interface is not None and not isinstance(interface, str):
        raise TypeError(f"interface must be a name or an address, not {interface!r}")
    url = endpoint("udp", group_addr, port, lowest=1, name="group_addr")
    return Group(bus.join(url, interface=interface or None, ttl=ttl, loopback=loopback))

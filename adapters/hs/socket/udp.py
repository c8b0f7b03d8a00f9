"""`hs.socket.udp`: asynchronous UDP sockets.

`timeout` is what new sockets start with, in seconds; negative means none. One number for the process: scripts that run together share it.
"""

from __future__ import annotations

from adapters.hs.addresses import parseAddress
from adapters.hs.arguments import ReadCallback, is_number
from adapters.hs.udpsocket import UDPSocket

__all__ = ["UDPSocket", "new", "parseAddress", "server", "timeout"]

timeout: float = -1


def new(fn: ReadCallback | None = None) -> UDPSocket:
    """An unconnected socket. `fn(data, sockaddr)` is its callback for what it reads."""
    return UDPSocket(fn, float(timeout) if is_number(timeout) else 0.0)


def server(port: int, fn: ReadCallback | None = None) -> UDPSocket:
    """A socket that is bound to a port, 0 to 65535. Also when the port can't be had: `closed()` tells."""
    made = new(fn)
    made.listen(port)
    return made

"""`hs.socket`: the part of it that is about UDP, `hs.socket.udp`. Its TCP sockets are not here."""

from __future__ import annotations

from typing import NoReturn

from adapters.hs.addresses import parseAddress
from adapters.hs.socket import udp

__all__ = ["new", "parseAddress", "server", "udp"]


def new(*arguments: object) -> NoReturn:
    """Not here: it makes a TCP socket. Raises NotImplementedError that says what to use."""
    raise NotImplementedError('hs.socket.new makes a TCP socket, which is not here: use bus.connect("tcp://host:port", framing="raw")')


def server(*arguments: object) -> NoReturn:
    """Not here: it makes a TCP server. Raises NotImplementedError that says what to use."""
    raise NotImplementedError('hs.socket.server makes a TCP server, which is not here: use bus.serve("tcp://0.0.0.0:port", on_message)')

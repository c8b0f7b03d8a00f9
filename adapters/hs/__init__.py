"""Hammerspoon's asynchronous UDP for Python scripts: `hs.socket.udp`, and `hs.timer.doAfter`. Callbacks do the work.

These are its document's names, arguments and results. A script imports them as `hs` under `actorbus run` or after `adapters.install()`.

>>> from adapters import hs
>>> def heard(data, sockaddr):
...     print(data, hs.socket.parseAddress(sockaddr).host)
...     server.close()
>>> server = hs.socket.udp.server(0, heard).receive()
>>> client = hs.socket.udp.new().send("hello", "localhost", server.info()["localPort"])
>>> hs.run()
hello 127.0.0.1
>>> client = client.close()
"""

from adapters.hs import socket, timer
from adapters.hs.dispatcher import run

__all__ = ["run", "socket", "timer"]

"""The communication interfaces of Daystar task scripts: `create_tcp_client`, `create_tcp_server`, `create_udp_socket`.

A script imports them from `daystar_api.tcp_client`, `daystar_api.tcp_server` and `daystar_api.udp_socket`, as the document has it, under
`actorbus run` or after `adapters.install()`.
"""

from adapters.daystar_api.tcp_client import TCPClient, create_tcp_client
from adapters.daystar_api.tcp_server import TCPServer, create_tcp_server
from adapters.daystar_api.udp_socket import UDPSocket, create_udp_socket

__all__ = ["TCPClient", "TCPServer", "UDPSocket", "create_tcp_client", "create_tcp_server", "create_udp_socket"]

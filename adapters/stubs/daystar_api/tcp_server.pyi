from adapters.daystar_api.tcp_server import TCPServer as TCPServer
from adapters.daystar_api.tcp_server import create_tcp_server as create_tcp_server

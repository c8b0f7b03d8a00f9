from adapters.daystar_api.tcp_client import TCPClient as TCPClient
from adapters.daystar_api.tcp_client import create_tcp_client as create_tcp_client

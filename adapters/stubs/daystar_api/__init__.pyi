from adapters.daystar_api import TCPClient as TCPClient
from adapters.daystar_api import TCPServer as TCPServer
from adapters.daystar_api import UDPSocket as UDPSocket
from adapters.daystar_api import create_tcp_client as create_tcp_client
from adapters.daystar_api import create_tcp_server as create_tcp_server
from adapters.daystar_api import create_udp_socket as create_udp_socket

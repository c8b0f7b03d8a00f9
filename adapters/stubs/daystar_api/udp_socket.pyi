from adapters.daystar_api.udp_socket import UDPSocket as UDPSocket
from adapters.daystar_api.udp_socket import create_udp_socket as create_udp_socket

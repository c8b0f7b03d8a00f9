from adapters.hs.socket.udp import UDPSocket as UDPSocket
from adapters.hs.socket.udp import new as new
from adapters.hs.socket.udp import parseAddress as parseAddress
from adapters.hs.socket.udp import server as server
from adapters.hs.socket.udp import timeout as timeout

from adapters.scriptling.net.unicast import Connection as Connection
from adapters.scriptling.net.unicast import TCPListener as TCPListener
from adapters.scriptling.net.unicast import UDPListener as UDPListener
from adapters.scriptling.net.unicast import connect as connect
from adapters.scriptling.net.unicast import listen as listen

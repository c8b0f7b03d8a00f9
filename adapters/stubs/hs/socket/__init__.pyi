from adapters.hs.socket import new as new
from adapters.hs.socket import parseAddress as parseAddress
from adapters.hs.socket import server as server
from adapters.hs.socket import udp as udp

from adapters.hs import run as run
from adapters.hs import socket as socket
from adapters.hs import timer as timer

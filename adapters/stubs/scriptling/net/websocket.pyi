from adapters.scriptling.net.websocket import Connection as Connection
from adapters.scriptling.net.websocket import connect as connect
from adapters.scriptling.net.websocket import is_binary as is_binary
from adapters.scriptling.net.websocket import is_text as is_text

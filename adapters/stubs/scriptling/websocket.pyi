from adapters.scriptling.websocket import Connection as Connection
from adapters.scriptling.websocket import connect as connect
from adapters.scriptling.websocket import is_binary as is_binary
from adapters.scriptling.websocket import is_text as is_text

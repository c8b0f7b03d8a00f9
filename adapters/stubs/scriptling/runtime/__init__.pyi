from adapters.scriptling.runtime import WebSocketClient as WebSocketClient
from adapters.scriptling.runtime import http as http
from adapters.scriptling.runtime import serve as serve

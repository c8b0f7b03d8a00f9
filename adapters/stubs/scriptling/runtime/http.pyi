from adapters.scriptling.runtime.http import websocket as websocket

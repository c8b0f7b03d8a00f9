"""`scriptling.runtime`: WebSocket routes. `http.websocket` registers them, `serve` serves them, and so does `actorbus run` by itself."""

from __future__ import annotations

from adapters.scriptling.runtime import http
from adapters.scriptling.runtime.client import WebSocketClient
from adapters.scriptling.runtime.serving import serve

__all__ = ["WebSocketClient", "http", "serve"]

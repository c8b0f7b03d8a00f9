"""`scriptling.net.websocket`: what `scriptling.websocket` is called since Scriptling 0.5.6."""

from __future__ import annotations

from adapters.scriptling.websocket import Connection, connect, is_binary, is_text

__all__ = ["Connection", "connect", "is_binary", "is_text"]

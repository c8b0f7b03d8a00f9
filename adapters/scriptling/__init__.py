"""Scriptling's network libraries for Python scripts: `net.unicast`, `net.multicast`, `websocket`, and `runtime` with `http.websocket`.

These are its documents' names, signatures and results, and its bytes on the wire. Where it has defects we differ; the README lists how.
"""

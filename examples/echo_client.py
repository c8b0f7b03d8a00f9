"""Talks to echo_server.py. Run both with `actorbus run examples/echo_server.py examples/echo_client.py`, in any order."""

import sys

import bus

ADDRESS = "tcp://" + (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7007")

with bus.connect(ADDRESS, timeout=10) as conn:
    for text in ("hello", "how are you", "goodbye"):
        conn.send(text)
        msg = conn.receive(timeout=5)
        print("echoed:", msg.text if msg else "nothing in 5 seconds")

"""Service discovery over multicast: announce a service, collect what others announce.

`actorbus run examples/discovery.py examples/discovery.py` plays two hosts. To stay on this machine set ACTORBUS_MULTICAST_INTERFACE=lo.
"""

import os
import sys
import threading
import time

import bus

GROUP = "udp://" + (sys.argv[1] if len(sys.argv) > 1 else "239.1.1.1:9999")
me = f"service-{os.getpid()}-{threading.get_ident() % 10_000}"
found: set[str] = set()

with bus.join(GROUP) as group:
    until = time.monotonic() + 3
    while not found and time.monotonic() < until:
        group.send({"service": me, "port": 8080})
        while (msg := group.receive(timeout=0.2)) is not None:
            name = msg.json()["service"]
            if name != me and name not in found:
                found.add(name)
                print(f"found {name} at {msg.source.rpartition(':')[0]}")
    group.send({"service": me, "port": 8080})  # once more, for whoever joined after our last

print("found", len(found), "other services")

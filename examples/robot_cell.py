"""The controller of a robot cell: a callback server that hands out work. Run it with its two robots:

actorbus run examples/robot_cell.py examples/robot_arm.py examples/robot_cart.py
"""

import queue
import sys

import bus

ADDRESS = "tcp://" + (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7020")
PARTS = 5

parts = iter(range(1, PARTS + 1))
carried: queue.Queue[int] = queue.Queue()


def on_message(msg: bus.Message, client: bus.Client) -> dict[str, object]:
    request = msg.json()
    if request["robot"] == "arm":
        number = next(parts, None)
        if number is None:
            server.send_to_all({"stop": True})
            return {"done": True}
        return {"pick": number}
    carried.put(request["delivered"])
    return {"ok": True}


# serial=True: the callback touches shared things without a lock, so it runs one call at a time.
with bus.serve(ADDRESS, on_message, serial=True) as server:
    for _ in range(PARTS):
        print("delivered: part", carried.get(timeout=30))

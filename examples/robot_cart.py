"""The cart of the robot cell: takes parts from the arm, reports each one delivered. See robot_cell.py."""

import sys

import bus

ADDRESS = "tcp://" + (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7020")
RADIO = "udp://" + (sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:7021")

delivered: set[int] = set()

with bus.bind(RADIO) as radio, bus.connect(ADDRESS) as cell:
    while True:
        source, msg = bus.receive_any([radio, cell], timeout=20)
        if source is None or msg is None:
            break  # nothing for a while, or the cell has closed
        if source is cell:
            if msg.json() == {"stop": True}:
                break
        else:
            part = msg.json()["part"]
            radio.send_to(msg.source, {"got": part})
            if part not in delivered:
                delivered.add(part)
                print("carried part", part)
                cell.send({"robot": "cart", "delivered": part})
print("parked")

"""The arm of the robot cell: asks for work, picks the part, hands it to the cart by UDP. See robot_cell.py."""

import sys

import bus

ADDRESS = "tcp://" + (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7020")
CART = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:7021"



def work(cell: bus.Connection, radio: bus.UdpSocket) -> None:
    cell.send({"robot": "arm"})
    for msg in cell:  # until the cell closes
        part = msg.json().get("pick")
        if part is None:
            return
        print("picked part", part)
        while True:  # a datagram may be lost: say it again until the cart has it
            radio.send_to(CART, {"part": part})
            answer = radio.receive(timeout=0.5)
            if answer and answer.json() == {"got": part}:
                break
        cell.send({"robot": "arm"})


with bus.connect(ADDRESS) as cell, bus.bind("udp://127.0.0.1:0") as radio:
    work(cell, radio)
print("no more work")

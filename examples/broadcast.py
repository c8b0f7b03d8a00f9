"""UDP broadcast: one sender, every host on the network hears it. Here on loopback, whose broadcast address is 127.255.255.255."""

import sys

import bus

TARGET = sys.argv[1] if len(sys.argv) > 1 else "127.255.255.255"

with bus.bind("udp://0.0.0.0:0") as listener, bus.bind("udp://0.0.0.0:0", broadcast=True) as sender:
    port = listener.address.rpartition(":")[2]
    sender.send_to(f"{TARGET}:{port}", "anybody there?")
    heard = listener.receive(timeout=5)
    print("heard:", heard.text if heard else "nothing")

with bus.bind("udp://0.0.0.0:0") as careless:
    try:
        careless.send_to(f"{TARGET}:{port}", "anybody there?")
    except PermissionError:
        print("without broadcast=True the system refuses, so that nobody floods a network by mistake")

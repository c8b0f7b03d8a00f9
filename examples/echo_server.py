"""An echo server that three clients may use, then it ends. Run it with `actorbus run examples/echo_server.py examples/echo_client.py`."""

import sys
import threading

import bus

ADDRESS = "tcp://" + (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7007")
all_served = threading.Event()


def echo(msg: bus.Message, client: bus.Client) -> bus.Message:
    print(f"{client.remote_address} says {msg.text!r}")
    return msg


def left(client: bus.Client, reason: bus.BusError) -> None:
    print(f"{client.remote_address} left")
    all_served.set()


with bus.serve(ADDRESS, on_message=echo, on_disconnect=left) as server:
    print(f"listening on {server.address}")
    all_served.wait(timeout=60)

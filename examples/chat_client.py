"""Chat from the terminal: `python examples/chat_client.py NAME [HOST:PORT]`. What others say is shown while you type."""

import sys
import threading

import bus

NAME = sys.argv[1] if len(sys.argv) > 1 else "somebody"
ADDRESS = "tcp://" + (sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:7010")


def show(conn: bus.Connection) -> None:
    try:
        for msg in conn:
            print(msg.text, flush=True)
        print("* the server has gone", flush=True)
    except bus.BusError:
        pass  # we have left, or the link broke: either way there is nothing more to show


with bus.connect(ADDRESS, framing="lines") as conn:
    conn.send(NAME)
    threading.Thread(target=show, args=(conn,), daemon=True).start()
    for line in sys.stdin:
        conn.send(line.rstrip("\n"))

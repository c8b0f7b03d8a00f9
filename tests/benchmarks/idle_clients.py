"""Clients that say nothing: they come, stay, half of them leave, and the others see the server end."""

import gc
import select
import socket
import sys
import time
from functools import partial

from . import wire
from .end import Gate, say
from .idle_servers import FACTS, STOP
from .many_wires import WIRES, visit, ws_frame
from .orders import Orders

EACH = 2_500  # from one address: a machine has some 28,000 ports for each, and those of the last round linger
AT_ONCE = 100  # come before the server has to have accepted them
PATIENCE = 30.0
CLOSED = 0x88


def come(wire_name: str, address: str, clients: int, orders: Orders) -> list[socket.socket]:
    socks = []
    for sock in visit(WIRES[wire_name], address, clients, each=EACH):
        socks.append(sock)
        if len(socks) % AT_ONCE == 0:
            orders.until_known(len(socks))
    orders.until_known(clients)
    return socks


def see_them_end(socks: list[socket.socket]) -> None:
    """Answer the close frame of a WebSocket, and close when the server has."""
    left = {sock.fileno(): sock for sock in socks}
    poller = select.epoll()
    for number in left:
        poller.register(number, select.EPOLLIN)
    while left:
        ready = poller.poll(PATIENCE)
        if not ready:
            raise TimeoutError(f"the server left {len(left)} connections open")
        for number, _ in ready:
            data = left[number].recv(wire.CHUNK)
            if data and data[0] == CLOSED:
                left[number].sendall(ws_frame(data[2:4], first=CLOSED, mask=True))
            elif not data:
                left.pop(number).close()


def visitors(address: str, gate: Gate, wire_name: str = "tcp") -> None:
    gc.disable()
    cell = gate.cell
    served, control = address.split()
    orders = Orders(control, PATIENCE)
    gate.wait_to_start()
    empty = orders.ask(FACTS)
    socks = come(wire_name, served, cell.clients, orders)
    full = orders.ask(FACTS)
    time.sleep(cell.seconds)
    idle = orders.ask(FACTS)
    half = len(socks) // 2
    for sock in socks[:half]:
        sock.close()
    orders.until_known(len(socks) - half, PATIENCE)
    fewer = orders.ask(FACTS)
    orders.give(STOP)
    see_them_end(socks[half:])
    orders.answer()
    ended = orders.ask(FACTS)
    say(
        {
            "accept_cpu": (full["cpu"] - empty["from_here"]) / len(socks),
            "resident": (full["resident"] - empty["resident"]) / len(socks),
            "traced": (full["traced"] - empty["traced"]) / len(socks),
            "threads": full["threads"],
            "idle_cpu": (idle["cpu"] - full["from_here"]) / cell.seconds,
            "leave_cpu": (fewer["cpu"] - idle["from_here"]) / half,
            "stop_cpu": (ended["cpu"] - fewer["from_here"]) / (len(socks) - half),
        }
    )
    sys.stdin.readline()


visitors_ws = partial(visitors, wire_name="ws")

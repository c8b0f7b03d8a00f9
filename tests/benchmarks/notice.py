"""How long until one learns that the other is gone, or has it back: who takes part, how it is measured, and the table."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from statistics import median

from .cell import Cell
from .notice_clients import RESTARTED, SENDS
from .notice_servers import BIND
from .part import Figures, Part, Peer
from .process import ROOT, End, EndFailed
from .table import NOTHING, Results, shown

PEERS = (
    Peer("bus-tcp", "**actorbus**, TCP", "notice_servers:bus_tcp_server", "notice_clients:bus_tcp", needs="bus"),
    Peer("bus-ws", "**actorbus**, WebSocket", "notice_servers:bus_ws_server", "notice_clients:bus_ws", needs="bus"),
    Peer("sockets", "blocking sockets", "notice_servers:socket_server", "notice_clients:sockets"),
    Peer("streams", "asyncio streams", "notice_servers:socket_server", "notice_clients:streams"),
    Peer("sync", "`websockets.sync`", "notice_servers:sync_server", "notice_clients:sync", needs="websockets"),
    Peer("websockets", "websockets asyncio", "notice_servers:websockets_server", "notice_clients:websockets", needs="websockets"),
    Peer(
        "websocket-client",
        "websocket-client",
        "notice_servers:sync_server",
        "notice_clients:websocket_client",
        needs="websocket websockets",
    ),
    Peer("zmq", "pyzmq DEALER/ROUTER", "notice_servers:zmq_server", "notice_clients:zmq", needs="zmq"),
    Peer(
        "socketio",
        "python-socketio",
        "notice_servers:socketio_server",
        "notice_clients:socketio",
        needs="socketio aiohttp requests websocket",
    ),
)

KILLED = "a server is killed"
PULLED = "a cable is pulled, nothing is sent"
PULLED_SENDING = f"a cable is pulled, {SENDS}"
CELLS = (
    Cell(variant=KILLED, seconds=2.0, placement="free"),
    Cell(variant=RESTARTED, seconds=12.0, placement="free"),
    Cell(variant=PULLED, seconds=60.0, placement="free"),
    Cell(variant=PULLED_SENDING, seconds=60.0, placement="free"),
)
RECONNECTS = {"bus-tcp", "bus-ws", "websockets", "zmq", "socketio"}
WAITING = 0.2  # until a client that was told to start is waiting
AWAY = 1.0  # how long there is no server, and the time that one takes to start
LOOK_EVERY = 0.005


def measure(peer: Peer, cell: Cell) -> Figures:
    """`took` is missing if it had not happened within `bound` seconds."""
    if cell.variant == KILLED:
        took = killed(peer, cell)
    elif cell.variant == RESTARTED:
        if peer.name not in RECONNECTS:
            return {}
        took = restarted(peer, cell)
    else:
        took = pulled(cell.seconds)[cell.variant].get(peer.name)
    return {"bound": cell.seconds} if took is None else {"bound": cell.seconds, "took": took}


def killed(peer: Peer, cell: Cell) -> float | None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, BIND).write_text("127.0.0.1:0")
        plan = cell.changed(files=directory)
        with End(peer.server, plan) as server, End(peer.client, plan, address=server.hear()["address"]) as client:
            client.hear()
            client.nudge()
            time.sleep(WAITING)
            began = time.monotonic()
            server.kill()
            try:
                told: float = client.hear_until(began + cell.seconds)["told"]
            except EndFailed:
                return None
            finally:
                client.kill()
    return told - began


def restarted(peer: Peer, cell: Cell) -> float | None:
    """From the moment the new server listens."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory, BIND)
        place.write_text("127.0.0.1:0")
        plan = cell.changed(files=directory)
        with End(peer.server, plan) as first:
            address = first.hear()["address"]
            place.write_text(address)
            with End(peer.client, plan, address=address) as client:
                client.hear()
                client.nudge()
                time.sleep(WAITING)
                first.kill()
                time.sleep(AWAY)
                with End(peer.server, plan) as second:
                    second.hear()
                    began = now = time.monotonic()
                    while not (arrived := second.ask()["received"]) and now - began < cell.seconds:
                        time.sleep(LOOK_EVERY)
                        now = time.monotonic()
                    client.kill()
                    second.kill()
    return now - began if arrived else None


@cache
def pulled(seconds: float) -> dict[str, dict[str, float]]:
    """All peers in both variants, once: it takes a minute, and does not depend on what else the machine does."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        raise EndFailed("there is no unshare or no ip here to make network namespaces with")
    peers = {peer.name: (peer.server, peer.client) for peer in PEERS if not peer.lacks()}
    order = json.dumps({"peers": peers, "variants": [PULLED, PULLED_SENDING], "seconds": seconds})
    command = ["unshare", "-rn", sys.executable, "-m", f"{__package__}.notice_cable", order]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=seconds + 90, check=True)
    except (subprocess.SubprocessError, OSError) as exc:
        raise EndFailed(f"no network namespaces are to be had here, or they were not enough: {exc}") from exc
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def took(results: Results, cell: str, peer: str) -> str:
    """The median, least and greatest, or the bound where it did not happen each time."""
    bounds, seconds = results.figures(cell, peer, "bound"), sorted(results.figures(cell, peer, "took"))
    if not bounds:
        return NOTHING
    if len(seconds) < len(bounds):
        return f"not within {max(bounds):.0f}" + (f" in {len(bounds) - len(seconds)} of {len(bounds)}" if seconds else "")
    if len(seconds) == 1:
        return shown(seconds[0])
    return f"{shown(median(seconds))} ({shown(seconds[0])}–{shown(seconds[-1])})"


PART = Part(
    "notice",
    "How long until a client that waits for a message is told that there is no server any more; and how long until the first message "
    "arrives at one that was away for some 1.5 s. Each has its defaults, the second is for those that reconnect by themselves: actorbus "
    "with `reconnect=True`, websockets by `async for`. Beyond a pulled cable nothing comes back, no error either; that is measured once.",
    CELLS,
    PEERS,
    measure,
    (("seconds", took),),
)

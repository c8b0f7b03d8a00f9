"""Many busy clients at one server: who takes part, how it is measured, and the table."""

from .cell import Cell
from .load import BY_CHANCE, SAME_CLIENTS
from .part import Bars, Figures, Part, Peer
from .table import MICRO, MILLI, growth, middle, ratio, share, spread
from .trips import exchange

FLOOR = "epoll"
FEW = Cell(128, clients=10, count=10_000, warm=3_000, placement="free")

PEERS = (
    Peer(FLOOR, "**floor**: one thread, an epoll loop by hand", "many_servers:epoll_server", "load:load"),
    Peer("asyncio", "asyncio `Protocol`", "many_asyncio:protocol_server", "load:load"),
    Peer("executor", "the same, each callback in `run_in_executor`", "many_asyncio:executor_server", "load:load"),
    Peer("uvloop", "uvloop, the first `Protocol`", "many_asyncio:uvloop_server", "load:load", needs="uvloop"),
    Peer("socketserver", "`socketserver.ThreadingTCPServer`, a thread per client", "many_servers:socketserver_server", "load:load"),
    Peer("bus", "**actorbus**, `bus.serve`", "many_bus:default_server", "load:load", needs="bus"),
    Peer("bus-2", "actorbus, `threads=2`", "many_bus:two_threads_server", "load:load", needs="bus"),
    Peer("bus-own", 'actorbus, `threads="own"`', "many_bus:own_threads_server", "load:load", needs="bus"),
    Peer("bus-serial", "actorbus, `serial=True`", "many_bus:serial_server", "load:load", needs="bus"),
    Peer("bus-ws", "**actorbus**, WebSocket", "many_bus:websocket_server", "load:load_websocket", needs="bus"),
    Peer(
        "sync",
        "`websockets.sync`, over WebSocket, two threads per client",
        "many_servers:websockets_server",
        "load:load_websocket",
        needs="websockets",
    ),
)

CELLS = (
    Cell(128, clients=1, count=2_000, warm=500, placement="free"),
    FEW,
    Cell(128, clients=50, count=10_000, warm=2_000, placement="free"),
    Cell(128, clients=1000, count=20_000, warm=1_000, seconds=1.0, placement="free"),
    Cell(128, clients=50, variant=BY_CHANCE, count=20_000, warm=2_000, seconds=0.5, placement="free"),
    Cell(128, clients=1000, variant=BY_CHANCE, count=60_000, warm=10_000, seconds=1.0, placement="free"),
    Cell(128, clients=1000, variant=SAME_CLIENTS, count=30_000, warm=5_000, seconds=1.0, placement="free"),
)
# The others would tell nothing there that they do not tell elsewhere, and take minutes.
ELSEWHERE_ONLY = {
    CELLS[0].name: {"executor"},
    FEW.name: {"executor", "socketserver", "bus-2", "bus-own", "bus-serial", "sync"},
    CELLS[2].name: {"executor"},
    CELLS[3].name: {"executor"},
    CELLS[4].name: {FLOOR, "bus-2", "bus-own"},
    CELLS[5].name: {FLOOR, "bus-own", "bus-serial", "sync"},
    CELLS[6].name: {FLOOR, "executor", "uvloop", "socketserver", "bus-2", "bus-own", "bus-serial", "sync"},
}


def measure(peer: Peer, cell: Cell) -> Figures:
    """CPU is per echo. Where callbacks sleep, the times are those of the clients whose own callbacks never do."""
    if peer.name in ELSEWHERE_ONLY.get(cell.name, ()):
        return {}
    before, found, after = exchange(peer, cell)
    count = found["received"]
    return {
        **{name: found[name] for name in ("p50", "p99", "p999", "sent", "received")},
        "rate": count / found["wall"],
        "server_cpu": (after["cpu"] - before["cpu"]) / count,
        "client_busy": found["cpu"] / found["wall"],
    }


COLUMNS = (
    ("CPU µs per echo", spread("server_cpu", MICRO)),
    ("CPU : floor", ratio("server_cpu", FLOOR)),
    ("CPU : uvloop", ratio("server_cpu", "uvloop")),
    ("CPU : asyncio", ratio("server_cpu", "asyncio")),
    (f"CPU : {FEW.name}", growth("server_cpu", FEW.name)),
    ("echoes/s", spread("rate")),
    ("p50 ms", middle("p50", MILLI)),
    ("p99 ms", middle("p99", MILLI)),
    ("p99.9 ms", middle("p999", MILLI)),
    ("p99 : asyncio", ratio("p99", "asyncio")),
    ("received", share("received", "sent")),
    ("generator busy", middle("client_busy", form="{:.0%}")),
)

LABELS = {
    FLOOR: "epoll by hand",
    "asyncio": "asyncio Protocol",
    "uvloop": "uvloop Protocol",
    "bus": "actorbus",
    "bus-serial": "actorbus, serial",
    "bus-ws": "actorbus, WebSocket",
}

PART = Part(
    "many",
    "Busy clients at one server, each with one message under way at all times. CPU is the server's alone; a generator that is always busy "
    "bounds the rate, not the CPU. Where 1 % of the callbacks sleep, they are those of half of the clients; the times are those of clients "
    "whose own callbacks never sleep.",
    CELLS,
    PEERS,
    measure,
    COLUMNS,
    bars=(Bars(CELLS[3].name, "server_cpu", "1,000 busy clients: server's CPU for an echo, µs", MICRO, LABELS),),
)

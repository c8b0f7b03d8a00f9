"""Many busy clients at one server: who takes part, and the table."""

from .cell import Cell
from .part import Part, Peer
from .table import MICRO, MILLI, middle, ratio, share, spread
from .trips import round_trips

FLOOR = "epoll"

PEERS = (
    Peer(FLOOR, "**floor**: one thread, an epoll loop by hand", "many_servers:epoll_server", "load:load"),
    Peer("asyncio", "asyncio `Protocol`", "asyncio_ends:protocol_server", "load:load"),
    Peer("uvloop", "uvloop, the same `Protocol`", "asyncio_ends:uvloop_server", "load:load", needs="uvloop"),
    Peer("threads", "a thread per client, blocking sockets, read buffer", "many_servers:threads_server", "load:load"),
    Peer("bus", "actorbus, `bus.serve`", "bus_ends:callback_server", "load:load", needs="bus"),
)

COLUMNS = (
    ("CPU µs per echo", spread("server_cpu", MICRO)),
    ("CPU : floor", ratio("server_cpu", FLOOR)),
    ("echoes/s", spread("rate")),
    ("p50 ms", middle("p50", MILLI)),
    ("p99 ms", middle("p99", MILLI)),
    ("received", share("received", "sent")),
    ("generator busy", middle("client_busy", form="{:.0%}")),
)

PART = Part(
    "many",
    "Busy clients. CPU is the server's alone; a generator that is always busy bounds the rate, not the CPU.",
    (Cell(128, clients=1000, count=50_000, warm=10_000, placement="free"),),
    PEERS,
    round_trips,
    COLUMNS,
)

"""What the verbs have in common: which schemes there are, and checks of arguments."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from actors import hosting
from actors.actor import Closable
from actors.errors import BadAddress
from actors.framing import FRAMINGS, Framing
from actors.readerthread import ReaderThread
from actors.waiting import check_timeout
from bus.endpoints import Endpoint

if TYPE_CHECKING:
    import ssl

    from actors.certificates import Credentials, Path

__all__ = [
    "VERBS",
    "WEBSOCKET",
    "FramingName",
    "Own",
    "check_backoff",
    "check_callable",
    "check_choice",
    "check_counts",
    "check_duration",
    "check_framing",
    "check_half_open",
    "check_liveness",
    "check_pings",
    "check_positive",
    "check_rate",
    "check_server_hostname",
    "check_threads",
    "check_tls",
    "loop_for",
    "unix_path",
]

VERBS = {
    "tcp": "connect, listen, serve",
    "unix": "connect, listen, serve",
    "udp": "connect, bind, join",
    "tls": "connect, listen, serve",
    "ws": "connect, serve",
    "wss": "connect, serve",
}
WEBSOCKET = ("ws", "wss")
ENCRYPTED = ("tls", "wss")
MAX_RATE = 1e12  # a second; what is over that is no limit

FramingName = Literal["length", "etx", "lines", "raw"]
Own = Literal["own"] | None


def check_framing(name: str) -> Framing:
    if name not in FRAMINGS:
        raise ValueError(f"framing must be one of {', '.join(FRAMINGS)}, not {name!r}")
    return FRAMINGS[name]


def check_positive(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return value


def check_liveness(scheme: str, framing: Framing, heartbeat: float | None, user_timeout: float | None) -> None:
    """Seconds over 0, or None, where they can mean something."""
    for value, name in ((heartbeat, "heartbeat"), (user_timeout, "user_timeout")):
        check_duration(value, name)
    if heartbeat is not None:
        if scheme in WEBSOCKET:
            raise ValueError(f"a WebSocket has a heartbeat of its own: ping_interval, ping_timeout; heartbeat is not for {scheme}://")
        if scheme == "udp" or framing.name == "raw":
            raise ValueError("heartbeat is for framed streams: it is an empty message that no script sees")
    if user_timeout is not None:
        if scheme in ("udp", "unix"):
            raise ValueError(f"user_timeout is TCP's, not for {scheme}://")
        if not hasattr(socket, "TCP_USER_TIMEOUT"):
            raise ValueError("this system has no TCP_USER_TIMEOUT")


def check_half_open(half_open: bool, scheme: str, reconnect: bool = False) -> None:
    if half_open and (reconnect or scheme in ("udp", *WEBSOCKET)):
        where = "with reconnect=True" if reconnect else f"for {scheme}://"
        raise ValueError(f"half_open is for tcp://, tls:// and unix://, whose two directions end one by one; not {where}")


def check_callable(value: Any, name: str, *, optional: bool = True) -> Any:
    """Something to call, or None where that may be."""
    if not callable(value) and not (optional and value is None):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")
    return value


def check_backoff(backoff: tuple[float, float]) -> tuple[float, float]:
    """Seconds of the first pause and of the longest."""
    try:
        first, longest = backoff
    except (TypeError, ValueError):
        raise TypeError(f"backoff must be two numbers of seconds, the first pause and the longest, not {backoff!r}") from None
    for value in (first, longest):
        if check_timeout(value, "backoff") is None:
            raise TypeError("backoff must be two numbers of seconds, and neither None")
    if not 0 < first <= longest:
        raise ValueError(f"backoff must be the first pause and the longest, over 0 and not falling, not {backoff!r}")
    return first, longest


def check_choice(value: str, choices: Sequence[str], name: str) -> str:
    if value not in choices:
        raise ValueError(f"{name} must be {' or '.join(repr(choice) for choice in choices)}, not {value!r}")
    return value


def check_counts(**counts: int) -> dict[str, Any]:
    """The same mapping, if each is an int of at least 1."""
    for name, value in counts.items():
        check_positive(value, name)
    return counts


def check_duration(seconds: float | None, name: str) -> float | None:
    """Seconds that take a while, or None."""
    if check_timeout(seconds, name) == 0:
        raise ValueError(f"{name} must be over 0, or None for none")
    return seconds


def check_rate(rate: float | None, name: str) -> float | None:
    """The rate as given, if it is a number that can be counted in a second, or None."""
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise TypeError(f"{name} must be a number or None, not {type(rate).__name__}")
    if not 0 < rate <= MAX_RATE:  # also catches NaN
        raise ValueError(f"{name} must be over 0, at most {MAX_RATE:g}, or None for no limit, not {rate!r}")
    return rate


def check_pings(ping_interval: float | None, ping_timeout: float | None) -> None:
    check_duration(ping_interval, "ping_interval")
    check_duration(ping_timeout, "ping_timeout")


def check_threads(threads: Own) -> None:
    if threads is not None and threads != "own":
        raise ValueError(f'threads must be None or "own" here, not {threads!r}')


def loop_for(threads: Own, sock: Closable) -> tuple[ReaderThread, bool]:
    """The reader thread for a socket, and whether it is this one's own. Closes the socket when there is none to be had."""
    try:
        loop = hosting.shared() if threads is None else hosting.dedicated()
    except BaseException:
        sock.close()
        raise
    return loop, not hosting.is_shared(loop)


def check_tls(
    scheme: str, *, server: bool, tls: ssl.SSLContext | None, cert: Path | None, key: Path | None, ca: Path | None
) -> Credentials | None:
    """What TLS is spoken with; None for a scheme without. Reads the files, before any socket is open."""
    files = {"cert": cert, "key": key, "ca": ca}
    given = [name for name, path in files.items() if path is not None]
    if scheme not in ENCRYPTED:
        if tls is not None or given:
            raise ValueError(f"{given[0] if given else 'tls'} is for tls:// and wss://, not {scheme}://")
        return None
    if tls is not None and not hasattr(tls, "wrap_bio"):
        raise TypeError(f"tls must be an ssl.SSLContext, not {type(tls).__name__}; paths of files are cert=, key= and ca=")
    for name in given:
        if not isinstance(files[name], (str, os.PathLike)):
            raise TypeError(f"{name} must be the path of a file (str or os.PathLike), not {type(files[name]).__name__}")
    if tls is not None and given:
        raise ValueError(f"{given[0]} and tls can't be given together: an SSLContext holds its own certificates")
    if cert is None and key is not None:
        raise ValueError("key is the private key of a certificate: give cert, too")
    if tls is None and cert is None and server:
        raise TypeError(f"{scheme}:// needs the server's certificate: cert= and key=, paths of files, or tls=, an ssl.SSLContext")
    from actors.certificates import Credentials, load_context

    if tls is not None:
        return Credentials(tls)
    load = partial(load_context, server=server, cert=cert, key=key, ca=ca)
    return Credentials(load(), load)


def check_server_hostname(server_hostname: str | None, scheme: str) -> None:
    if server_hostname is None:
        return
    if scheme not in ENCRYPTED:
        raise ValueError(f"server_hostname is for tls:// and wss://, not {scheme}://")
    if not isinstance(server_hostname, str):
        raise TypeError(f"server_hostname must be a str, not {type(server_hostname).__name__}")
    if not server_hostname:
        raise ValueError("server_hostname must name somebody; a tls= with check_hostname = False goes without a name")


def unix_path(endpoint: Endpoint) -> str:
    if os.name != "posix":
        raise BadAddress(str(endpoint), "this system has no Unix sockets")
    return endpoint.path

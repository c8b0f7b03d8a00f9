"""Two connections with each other, without a port."""

from __future__ import annotations

import socket
from itertools import count
from typing import Any

from actors.framing import Framing, with_heartbeat
from actors.mailbox import MAX_BYTES, MAX_MESSAGES
from actors.outbox import MAX_BYTES as OUTBOX_BYTES
from actors.outbox import MAX_MESSAGES as OUTBOX_MESSAGES
from actors.stream import MAX_SIZE, STALL_TIMEOUT, StreamActor
from actors.waiting import check_timeout
from bus.arguments import FramingName, Own, check_counts, check_framing, check_liveness, check_threads, loop_for
from bus.connection import Connection

__all__ = ["pair"]

_numbers = count(1)


def pair(
    *,
    framing: FramingName = "length",
    max_size: int = MAX_SIZE,
    mailbox_messages: int = MAX_MESSAGES,
    mailbox_bytes: int = MAX_BYTES,
    outbox_bytes: int = OUTBOX_BYTES,
    outbox_messages: int = OUTBOX_MESSAGES,
    stall_timeout: float | None = STALL_TIMEOUT,
    threads: Own = None,
    heartbeat: float | None = None,
    half_open: bool = False,
) -> tuple[Connection, Connection]:
    """Two connections that are each other's peer, joined in memory: nothing listens, nobody else can connect.

    They are connections as `bus.connect` gives them, with the same engine, framing and limits, over the system's socket pair. The arguments
    are those of `connect`, for both ends. Close both. Raises OSError (out of descriptors), TypeError, ValueError.

    >>> import bus.testing
    >>> ours, theirs = bus.testing.pair(framing="lines", max_size=1000)
    >>> with ours, theirs:
    ...     ours.send_many(["one", "two"])
    ...     print([theirs.receive(timeout=5).text for _ in range(2)])
    ['one', 'two']
    """
    framing_ = check_framing(framing)
    check_liveness("pair", framing_, heartbeat, None)
    options = check_counts(
        max_size=max_size,
        mailbox_messages=mailbox_messages,
        mailbox_bytes=mailbox_bytes,
        outbox_bytes=outbox_bytes,
        outbox_messages=outbox_messages,
    )
    options["stall_timeout"] = check_timeout(stall_timeout, "stall_timeout")
    options["half_open"] = half_open
    check_threads(threads)
    number = next(_numbers)
    names = (f"pair {number}, first end", f"pair {number}, second end")
    one, other = socket.socketpair()
    try:
        first = _connection(one, names[0], names[1], threads, with_heartbeat(framing_, heartbeat), options)
    except BaseException:
        other.close()
        raise
    try:
        return first, _connection(other, names[1], names[0], threads, with_heartbeat(framing_, heartbeat), options)
    except BaseException:
        first.close_soon()
        raise


def _connection(sock: socket.socket, local: str, remote: str, threads: Own, framing: Framing, options: dict[str, Any]) -> Connection:
    loop, dedicated = loop_for(threads, sock)
    options = options | {"local_address": local, "remote_address": remote, "framing": framing}
    return StreamActor.open_for(Connection, sock, loop, dedicated=dedicated, **options)

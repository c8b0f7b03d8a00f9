"""Waiting until what was sent has got out: to the kernel, or to the peer's TCP."""

from __future__ import annotations

from time import monotonic

from actors import sockets
from actors.ackwatch import ACK_LOOKS
from actors.errors import Closed
from actors.stream import State, StreamActor
from actors.waiting import current

__all__ = ["flush"]


def _left(stream: StreamActor, acked: bool) -> int:
    """Bytes that have not got so far."""
    outbox = stream.outbox
    with outbox.lock:  # so that the descriptor stays ours while it is asked
        left = len(outbox)
        if acked and stream.reader.fd >= 0:
            left += max(0, sockets.unacknowledged(stream.reader.sock)) + getattr(stream.reader.sock, "waiting", 0)
        return left


def flush(stream: StreamActor, deadline: float | None, acked: bool) -> bool:
    """Wait until nothing is left. False at the deadline, and at once in a callback. Raises the reason when the connection ended before."""
    waiter = current()
    looks = 0
    while True:
        # Nothing announces an acknowledgement, so this looks, at longer and longer intervals.
        left = _left(stream, acked)
        if stream.state is State.GONE and not stream.acknowledged:
            raise (stream.outbox.ended or stream.reason or Closed(stream.remote_address)).again()
        if not left:
            return True
        now = monotonic()
        if waiter.host is not None or (deadline is not None and now >= deadline):
            return False
        pause = ACK_LOOKS[min(looks, len(ACK_LOOKS) - 1)]
        waiter.wait(now + pause if deadline is None else min(deadline, now + pause), on=stream.outbox)
        looks += 1

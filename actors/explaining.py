"""What every live object is doing, in one text: the first thing to look at when something hangs.

It only looks and takes no lock, so it answers in whatever state the rest is, in a signal handler too; what it says may differ by a few
microseconds from line to line. It prints no payload and no password. Nor does it import a kind of object that there is none of: the signal
may have come in the middle of that very import.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any

from actors import hosting, sockets, waiting
from actors.hosting import is_a
from actors.lane import Lane
from actors.reader import DELAYED, ENDED, FULL, SERVING
from actors.resolving import format_address
from actors.stream import StreamActor
from actors.waiting import Waiter

if TYPE_CHECKING:
    from actors.actor import SocketActor
    from actors.datagram import DatagramActor
    from actors.engine import Engine
    from actors.link import LinkActor
    from actors.server import ServerActor
    from actors.stats import Stats
    from actors.subscription import ResponderActor

__all__ = ["explain"]

OURS = tuple(str(Path(__file__).resolve().parent.parent / package) for package in ("actors", "bus", "adapters"))
PASSED_OVER = (*OURS, str(Path(threading.__file__).parent))  # the script's own line is the one that helps
MAX_CLIENTS = 20  # of a server that are shown; the busiest
WAITS = (Waiter.wait.__code__, Waiter.doze.__code__)
LOSSES = ("lost", "dropped", "unsent", "unconfirmed", "refused")


def explain() -> str:
    """What there is, in a text of a few lines for each object. See the module."""
    now = monotonic()
    actors = hosting.live_actors()
    answering = {id(actor.mailbox) for actor in _those(actors, "ResponderActor")}  # none but its own thread waits there
    waiters = [waiter for waiter in waiting.waiters() if id(waiter.on) not in answering]
    within = {id(client) for server in _those(actors, "ServerActor") for client in server.clients}
    within |= {id(link.stream) for link in _those(actors, "LinkActor")}
    lines = [f"actorbus: open objects: {len(actors)}, on reader threads: {len({id(actor.loop) for actor in actors})}"]
    topics = sys.modules.get("actors.topics")
    if topics is not None and getattr(topics, "engine", None) is not None:
        lines.append(_engine(topics.engine, now))
    for actor in actors:
        if id(actor) not in within:
            lines += _one(actor, now, waiters)
    elsewhere = [f"  {who}" for waiter in waiters if (who := _inside_a_wait(waiter)) and not any(line.endswith(who) for line in lines)]
    if elsewhere:
        lines += ["waiting for something else (connecting, a name, the answer to a request, a close):", *elsewhere]
    return "\n".join(lines)


def _engine(engine: Engine, now: float) -> str:
    state = "connected" if engine.up else "not connected"
    return f"topics by {engine.url}, {state} for {_age(engine.since, now)}{': ' * bool(engine.why)}{engine.why}"


def _those(actors: list[SocketActor], kind: str) -> list[Any]:
    return [actor for actor in actors if is_a(actor, kind)]


def _one(actor: Any, now: float, waiters: list[Waiter]) -> list[str]:
    if is_a(actor, "ServerActor"):
        return _server(actor, now, waiters)
    if is_a(actor, "LinkActor"):
        return _link(actor, now, waiters)
    if isinstance(actor, StreamActor):
        return _stream(actor, now, waiters)
    if is_a(actor, "DatagramActor"):
        return _datagrams(actor, now, waiters)
    if is_a(actor, "ListenerActor"):
        waits = _waits((actor.mailbox,), waiters)
        return [f"listener {actor.local_address}, for {_age(actor.since, now)}: {len(actor.mailbox)} accepted and not taken", *waits]
    if is_a(actor, "TopicActor"):
        return _topic(actor, now, waiters)
    if is_a(actor, "BridgeActor"):
        lines = [f"{actor.name}, for {_age(actor.since, now)}: {actor.messages_out} forwarded", *_losses(actor.stats())]
        return lines + _waits((actor.over,), waiters)
    return [f"{type(actor).__name__}, for {_age(actor.since, now)}"]


def _server(server: ServerActor, now: float, waiters: list[Waiter]) -> list[str]:
    state = "draining" if server.draining and server.mailbox.ended is None else "stopping" if server.closing else "serving"
    counted = {"clients": len(server.clients), "accepted": server.accepted, "refused": server.refused, "skipped": server.skipped}
    counted["unauthenticated"] = server.unauthenticated
    counts = ", ".join(f"{count} {name}" for name, count in counted.items() if count or name == "clients")
    cluster = "" if server.cluster is None else f" of cluster {server.cluster.name}{' (cut off)' * server.cluster.cut_off}"
    lines = [f"server {server.local_address}{cluster}, {state} for {_age(server.since, now)}: {counts}"]
    lines += _waits((server.stopped, server.mailbox), waiters)
    clients = sorted(server.clients, key=lambda client: (client.lane is not None and client.lane.running, _queued(client)), reverse=True)
    for client in clients[:MAX_CLIENTS]:
        lines += ["  " + line for line in _stream(client, now, waiters, "client")]
    if len(clients) > MAX_CLIENTS:
        lines.append(f"  and {len(clients) - MAX_CLIENTS} clients more, with less to do")
    return lines


def _link(link: LinkActor, now: float, waiters: list[Waiter]) -> list[str]:
    if link.up:
        lines = _stream(link.stream, now, waiters, "connection (reconnect)")
    else:
        lines = [f"connection (reconnect) to {link.remote_address}: none at present, {link.why}"]
        lines += [f"  in: {len(link.mailbox)} messages waiting"] * bool(len(link.mailbox))
    return lines + _waits((link,), waiters) + _losses(link.stats())


def _stream(actor: StreamActor, now: float, waiters: list[Waiter], kind: str = "connection") -> list[str]:
    lane, outbox, reader, stats = actor.lane, actor.outbox, actor.reader, actor.stats()
    over = "TLS, " * actor.encrypted + actor.framing.name
    reason = outbox.ended or actor.reason
    lines = [f"{kind} {actor.local_address} to {actor.remote_address} ({over}), {actor.state.value} for {_age(actor.since, now)}"]
    lines[0] += "" if reason is None else f": {reason}"
    lines[0] += f"; no {actor.silence.awaited} yet" if actor.silence.awaited else ""
    silent = sockets.silence(reader.sock) if reader.fd >= 0 else None
    heard, said = silent if silent is not None else (None, None)
    came = f"  in: {stats.messages_in} messages, {stats.waiting_in} of them waiting"
    lines.append(came + _last(heard, stats.bytes_in) + _why_unread(actor))
    left = f", {stats.waiting_out} bytes waiting, the oldest for {_age(oldest, now)}" if (oldest := outbox.oldest()) is not None else ""
    lines.append(f"  out: {stats.messages_out} messages" + left + _last(said, stats.bytes_out))
    if lane is not None and lane.running:
        lines.append(f"  a callback runs{_where_callback(lane, waiters)}")
    mailboxes = [mailbox for mailbox in (getattr(actor, "mailbox", None), reader._mailbox) if mailbox is not None]
    return lines + _waits((*mailboxes, outbox), waiters) + _losses(stats)


def _datagrams(actor: DatagramActor, now: float, waiters: list[Waiter]) -> list[str]:
    what = f"UDP socket {actor.local_address}" if actor.group is None else f"group {format_address(actor.group)}"
    stats = actor.stats()
    peer = f" to {actor.remote_address}" if actor.remote_address else ""
    lines = [f"{what}{peer}, open for {_age(actor.since, now)}"]
    heard = now - actor.intake.heard_at if actor.intake.heard_at else None
    said = now - actor.said_at if actor.said_at else None
    lines.append(f"  in: {stats.messages_in} datagrams, {stats.waiting_in} of them waiting" + _last(heard, stats.messages_in))
    left = f", {stats.waiting_out} bytes waiting" if stats.waiting_out else ""
    lines.append(f"  out: {stats.messages_out} datagrams" + left + _last(said, stats.messages_out))
    return lines + _waits((actor.mailbox, actor.outbox), waiters) + _losses(stats)


def _topic(actor: Any, now: float, waiters: list[Waiter]) -> list[str]:
    box, stats = actor.mailbox, actor.stats()
    kind = "responder" if is_a(actor, "ResponderActor") else "subscription"
    queue = f" in queue {box.queue}" if box.queue else ""
    away = "" if actor.up else f"; {actor.engine.url} is away"
    lines = [f"{kind} to {box.topic}{queue} ({actor.engine.url}), open for {_age(actor.since, now)}{away}"]
    full = "; publishers wait, because the mailbox is full" if box.full else ""
    lines.append(f"  in: {stats.messages_in} messages, {stats.waiting_in} of them waiting{full}")
    if is_a(actor, "ResponderActor"):
        lines.append(f"  out: {stats.messages_out} answers" + (f", {actor.failures} failures" if actor.failures else ""))
        lines += [f"  {line}" for line in _where_answering(actor)]
    return lines + _waits((box,), waiters) + _losses(stats)


def _where_answering(actor: ResponderActor) -> list[str]:
    if not actor.answering:
        return []
    return [f"a callback runs, in {_script_line(sys._current_frames().get(actor.thread))}"]


def _queued(client: StreamActor) -> int:
    return len(client.outbox) + (client.lane.waiting if client.lane is not None else 0)


def _why_unread(actor: StreamActor) -> str:
    gates = actor.reader.gates
    if gates & ENDED:
        return "; nothing more comes in"
    if gates & FULL:
        return "; not read, because the mailbox is full"
    if gates & SERVING:
        return "; not read, because its callback runs or its replies wait"
    return "; not read for a moment, because it sent more than its rate" if gates & DELAYED else ""


def _losses(stats: Stats) -> list[str]:
    counted = [f"{name} {getattr(stats, name)}" for name in LOSSES if getattr(stats, name)]
    return [f"  losses: {', '.join(counted)}"] if counted else []


def _last(seconds: float | None, count: int) -> str:
    return f", the last {_seconds(seconds)} ago" if seconds is not None and count else ""


def _age(since: float, now: float) -> str:
    return _seconds(max(0.0, now - since))


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"


# -- who waits, and where -------------------------------------------------------------------------------------------------


def _waits(things: tuple[object, ...], waiters: list[Waiter]) -> list[str]:
    """A line for each thread that waits for one of these."""
    return [f"  {_where(waiter, 'waits')}" for waiter in waiters if any(on is thing for on in _each(waiter.on) for thing in things)]


def _each(on: object) -> Iterator[object]:
    if isinstance(on, tuple):
        yield from on
    elif on is not None:
        yield on


def _where_callback(lane: Lane, waiters: list[Waiter]) -> str:
    for waiter in waiters:
        if waiter.host is lane:
            return f": {_where(waiter, 'is')}"
    return ""


def _inside_a_wait(waiter: Waiter) -> str:
    """Where the thread waits, if it does."""
    thread = waiter.thread
    frame = sys._current_frames().get(thread.ident or 0) if thread is not None else None
    while frame is not None:
        if frame.f_code in WAITS and waiter.host is None:
            return _where(waiter, "waits")
        frame = frame.f_back
    return ""


def _where(waiter: Waiter, verb: str) -> str:
    thread = waiter.thread
    if thread is None:
        return "a thread that has ended"
    return f"{thread.name} {verb} in {_script_line(sys._current_frames().get(thread.ident or 0))}"


def _script_line(frame: FrameType | None) -> str:
    """The innermost line that is the script's, and what it called."""
    called = ""
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(PASSED_OVER) and not code.co_filename.startswith("<frozen"):
            return f"{called or code.co_name}, {code.co_filename}:{frame.f_lineno} ({code.co_name})"
        called = code.co_name if code.co_filename.startswith(OURS) else called
        frame = frame.f_back
    return "the library itself" if called.startswith("_") else called or "a place unknown"

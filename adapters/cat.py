"""`actorbus cat`: stdin to an endpoint, and what comes from there to stdout.

One loop, on the main thread, prints, says what there is to say, and ends when `adapters.ending` does.
"""

from __future__ import annotations

import os
import queue
from argparse import Namespace
from functools import partial
from time import monotonic

import bus
from actors.stream import LINGER, MAX_SIZE
from adapters.complaints import FAILED, complaint, say, status_of
from adapters.ending import Ending
from adapters.lines import ByLines, Raw, printed
from adapters.options import fitting
from adapters.progress import make_progress
from adapters.screen import Screen
from adapters.talk import READ_SIZE, Came, Event, Got, InputOver, Left, Talk, start
from adapters.wires import DATAGRAM, Door, is_group, reach

__all__ = ["cat"]

CONNECT_TIMEOUT = 10.0
LEAVE = 1.0  # after Ctrl-C, or when nobody reads what we print: what was accepted still gets that long


def cat(wanted: Namespace, source: int | None) -> int:
    """Do what `adapters.options` understood of the command line. `source`: the descriptor to read from, None for none. The exit status.

    On the main thread. KeyboardInterrupt, and BrokenPipeError of stdout, end it and come out.
    """
    url: str = wanted.endpoint
    raw = wanted.framing == "raw"
    try:
        group = is_group(url)
        scheme = url.partition("://")[0]
        options = fitting(wanted, scheme, group)
        talk = Talk(Raw(DATAGRAM if scheme == "udp" else READ_SIZE) if raw else ByLines(MAX_SIZE), source, many=wanted.keep_open)
        door = wire = None
        if wanted.listen and not group:
            door = Door(url, talk.listen_to, raw=raw, keep_open=wanted.keep_open, options=options)
            say(f"listening on {door.address}")
        else:
            wire = reach(url, raw=raw, timeout=wanted.timeout or CONNECT_TIMEOUT, broadcast=wanted.broadcast, options=options)
    except (bus.BusError, OSError, ValueError) as exc:
        say(complaint(exc, url))
        return status_of(exc)
    ending = Ending(
        monotonic(),
        count=wanted.count,
        timeout=wanted.timeout,
        linger=wanted.linger,
        stays=wanted.keep_open or (wanted.listen and scheme == "udp"),
        waits_for_input=source is not None and not os.isatty(source),
    )
    if wire is not None:
        ending.came(monotonic(), wire.says_end)
        start(partial(talk.listen_to, wire))
    if source is not None:
        start(talk.read_input)
    screen = Screen(printed(json=wanted.json, raw=raw), make_progress(source))
    linger = LEAVE
    try:
        converse(talk, ending, screen, wanted.framing or "length", announce=door is not None)
        screen.close()
        linger = LINGER
    finally:
        wires = talk.end()
        taken = [wire.close(linger) for wire in wires]
        if door is not None:
            door.close()
    if lost := sum(wire.stats().lost for wire in wires):
        say(f"{lost} datagrams were lost on this machine: they came faster than they were printed")
    failure = ending.failure
    if failure is None and not all(taken) and not ending.peer_over:
        failure = f"{wires[0].name} has not acknowledged all that was sent"
    if failure is None and not ending.messages and any(wire.stats().refused for wire in wires):
        failure = f"nobody listens on {wires[0].name}: start the server first, or look whether the port is right"
    if failure is not None:
        say(failure)
    return FAILED if failure is not None else 0


def converse(talk: Talk, ending: Ending, screen: Screen, framing: str, *, announce: bool) -> None:
    """Until it is over. `announce`: say who comes and goes."""
    received = 0
    while not ending.over:
        try:
            event: Event | None = talk.events.get(timeout=screen.patience(ending.deadline()))
        except queue.Empty:
            event = None
        now = monotonic()
        screen.count(sent=talk.sent_bytes, received=received)
        ending.moved(talk.sent_at)
        match event:
            case Got(messages, when):
                for message in messages:
                    screen.put(message, when)
                    received += len(message.data)
                    ending.got(now)
                    if ending.over:
                        break
                if talk.events.empty():
                    screen.flush()
            case Came(wire):
                if announce:
                    say(f"{wire.name} is there")
                ending.came(now, wire.says_end)
            case Left(wire, reason):
                in_order = isinstance(reason, bus.PeerClosed)
                if announce:
                    say(complaint(reason, framing=framing))
                ending.left(wire.name, None if in_order else complaint(reason, framing=framing), still_hears=in_order and wire.says_end)
            case InputOver(None):
                if not ending.stays:
                    for wire in talk.peers:
                        wire.end_output()
                ending.input_over(now)
            case InputOver(Exception() as failure):
                ending.input_over(now, complaint(failure, framing=framing))
            case None:
                ending.passed(now, talk.sending)

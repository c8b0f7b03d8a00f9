"""The commands that talk themselves: what they have in common before the first and behind the last message."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from types import FrameType

from adapters.complaints import FAILED, NO_READER, say

__all__ = ["main"]


def main(wanted: Namespace) -> int:
    """Run the command that was asked for. Its exit status. KeyboardInterrupt ends it, and comes out."""
    logging.getLogger("actorbus").addHandler(logging.NullHandler())  # what there is to say, the command says in one line
    try:
        with ended_by_sigterm():
            if sys.stdout is None:
                say("stdout is closed, where to print?")
                return FAILED
            source = None if sys.stdin is None or getattr(wanted, "no_stdin", False) else sys.stdin.fileno()
            if wanted.command == "cat":
                from adapters.cat import cat as work
            else:
                from adapters.pubsub import pubsub as work
            return work(wanted, source)
    except BrokenPipeError:
        return NO_READER


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within: SIGTERM lets what was accepted still go out, as Ctrl-C does; the status is 143."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

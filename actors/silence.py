"""How long a peer may be silent: until a visitor has shown what it is let in for, and afterwards between any two bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.errors import Broken
from actors.reader import LENT
from actors.states import State

if TYPE_CHECKING:
    from actors.readerthread import Timer
    from actors.stream import StreamActor

__all__ = ["HANDSHAKE_TIMEOUT", "LOOKS", "PING_INTERVAL", "PING_TIMEOUT", "Quiet", "SilenceWatch"]

HANDSHAKE_TIMEOUT = 10.0  # seconds, of every server
PING_INTERVAL = PING_TIMEOUT = 20.0  # seconds, of every WebSocket

LOOKS = 4  # in an idle time: noting the time of each byte would cost every read, so it ends up to a quarter late


class Quiet:
    """Counts the looks at a peer between which there was no sign of life. Pure."""

    __slots__ = ("_before", "_looks")

    def __init__(self) -> None:
        self._before: object = None
        self._looks = 0

    def look(self, signs: object, reading: bool) -> int:
        """How many looks in a row, up to this one, found what the one before had found. While we do not read, silence is our own doing,
        and counts from the look behind the next one on.
        """
        if not reading:
            self._looks = -1
        elif signs != self._before:
            self._looks = 0
        else:
            self._looks += 1
        self._before = signs
        return max(0, self._looks)


class SilenceWatch:
    """Gives a visitor up that has not shown within `handshake_timeout` seconds what is expected of it, and one that was admitted when no
    byte came from it for `idle_timeout` seconds (and up to a quarter more). None is no limit. `expect` and `admitted` are for any thread,
    the rest is on the reader thread.
    """

    __slots__ = ("_actor", "_begun", "_handshake_timeout", "_idle_timeout", "_quiet", "_timer", "awaited")

    def __init__(self, actor: StreamActor, handshake_timeout: float | None, idle_timeout: float | None) -> None:
        self._actor = actor
        self._handshake_timeout = handshake_timeout
        self._idle_timeout = idle_timeout
        self._begun = False
        self._timer: Timer | None = None
        self._quiet = None if idle_timeout is None else Quiet()
        self.awaited = ""  # what is expected of it

    def expect(self, what: str) -> None:
        """It has to show that. There is one deadline for all that is expected, one after the other."""
        self.awaited = what
        if not self._begun:
            self._begun = True
            self._actor.loop.call_soon(self._begin)

    def admitted(self) -> None:
        """It has shown all: from now on it may be idle for so long."""
        self.awaited = ""
        if self._idle_timeout is not None:
            self._actor.loop.call_soon(self._look)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
        if self._actor.state is State.OPEN and self._handshake_timeout is not None and self.awaited:
            self._timer = self._actor.loop.call_later(self._handshake_timeout, self._late)

    def _late(self) -> None:
        actor = self._actor
        if self.awaited and actor.state is State.OPEN and not actor.reader.messages_in:  # one that waits for its verdict came in time
            actor.break_off(Broken(actor.remote_address, f"no {self.awaited} within {self._handshake_timeout:g} s"))

    def _look(self) -> None:
        actor = self._actor
        timeout = self._idle_timeout
        if actor.state is not State.OPEN or timeout is None or self._quiet is None:
            return
        self.cancel()
        quiet = self._quiet.look(actor.reader.signs_of_life, not (actor.reader.gates & ~LENT or actor.outbox.congested))
        if quiet > LOOKS:
            actor.expel(Broken(actor.remote_address, f"nothing came from it for {timeout:g} s (idle_timeout)"))
        elif quiet == LOOKS:
            actor.loop.call_soon(self._look)  # behind the next poll: what has come meanwhile is seen
        else:
            self._timer = actor.loop.call_later(timeout / LOOKS, self._look)

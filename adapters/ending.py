"""When `actorbus cat` is over, and whether it did what it was told. Pure: events and times in, a verdict out.

========================  =========================================================================================================
what happens              what follows
========================  =========================================================================================================
`count` messages came     over
nothing moved for         over; a failure if `count` was asked for, if what we send is not taken, or if nobody has come at all
`timeout`
our input ended           a stream says so and waits for the peer's end; where that can't be said it is over after `linger` quiet
                          seconds; a server that keeps open goes on
the peer ended in order   over if our input has ended, or comes from a person; else the rest of it is sent first, if the peer can
                          still hear it, and it is a failure if not
the link broke            over, a failure
========================  =========================================================================================================
"""

from __future__ import annotations

__all__ = ["Ending"]


class Ending:
    """See the module. Times are seconds of one clock. `over`: it is; `failure`: what to say of it, None if all went well.

    `stays`: no end of a peer, or of our input, is the end of it. `waits_for_input`: there is an input that ends by itself, which a person's
    does not.
    """

    def __init__(
        self,
        now: float,
        *,
        count: int | None = None,
        timeout: float | None = None,
        linger: float = 1.0,
        stays: bool = False,
        waits_for_input: bool = True,
    ) -> None:
        self.over = False
        self.failure: str | None = None
        self.messages = 0
        self._count = count
        self._timeout = timeout
        self._linger = linger
        self.stays = stays
        self._waits_for_input = waits_for_input
        self._moved = now
        self._came = False
        self._input_over = False
        self._says_end = True  # whether the end of our input reaches the peer as such
        self.peer_over = False

    def came(self, now: float, says_end: bool) -> None:
        """There is somebody to talk to. `says_end`: the end of our input can be told to it."""
        self._came = True
        self._moved = now
        self._says_end = says_end

    def moved(self, now: float) -> None:
        """Something was sent."""
        self._moved = max(self._moved, now)

    def got(self, now: float) -> None:
        """A message came."""
        self.moved(now)
        self.messages += 1
        if self._count is not None and self.messages >= self._count:
            self._end(None)

    def input_over(self, now: float, failure: str | None = None) -> None:
        """Everything was sent, or could not be."""
        self.moved(now)
        self._input_over = True
        if failure is not None or self.peer_over:
            self._end(failure)

    def left(self, peer: str, failure: str | None = None, still_hears: bool = False) -> None:
        """The peer has ended in order, or not. `still_hears`: what we send may reach it all the same."""
        self.peer_over = True
        if self.stays:
            return
        if failure is not None or self._input_over or not self._waits_for_input:
            self._end(failure)
        elif not still_hears:
            self._end(f"{peer} closed the connection before all of the input was sent")

    def deadline(self) -> float | None:
        """When to call `passed`, if nothing happens before."""
        ends = [] if self._timeout is None else [self._moved + self._timeout]
        if self._input_over and not self._says_end and not self.stays:
            ends.append(self._moved + self._linger)
        return min(ends, default=None)

    def passed(self, now: float, sending: bool) -> None:
        """Time has passed. `sending`: a message of ours is not taken yet."""
        deadline = self.deadline()
        if deadline is None or now < deadline:
            return
        if self._timeout is None or now < self._moved + self._timeout:
            self._end(self._missing(f"{self._linger:g} s after the end of the input"))
        elif not self._came:
            self._end(f"nobody came within {self._timeout:g} s")
        elif sending and not self.stays:
            self._end(f"nothing of the input was taken for {self._timeout:g} s")
        else:
            self._end(self._missing(f"nothing more came for {self._timeout:g} s"))

    def _missing(self, why: str) -> str | None:
        return None if self._count is None else f"{self.messages} of {self._count} messages came: {why}"

    def _end(self, failure: str | None) -> None:
        if failure is None and self._count is not None and self.messages < self._count:
            failure = self._missing("that was the end")
        if not self.over:
            self.over, self.failure = True, failure

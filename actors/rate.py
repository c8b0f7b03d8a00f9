"""How much may come in a second: a token bucket. Pure: times in, tokens and seconds to wait out."""

from __future__ import annotations

__all__ = ["TokenBucket"]

STEP = 0.05  # seconds; who has used up everything goes on with this much at once, not with a byte at a time
ROUNDING = 1e-6  # of a token: a wait that is over is over, whatever floating point makes of it


class TokenBucket:
    """`rate` tokens a second (over 0). Those not taken are saved up to one second's worth, and to one token at least; it begins full.

    Times are seconds of one clock that never goes back. In any span of `t` seconds no more than `rate * (t + 1)` tokens (or one, with a
    rate under 1) are available in all, as long as nobody takes more than there are and nothing is added.

    >>> bucket = TokenBucket(10, now=0.0)
    >>> bucket.take(bucket.available(0.0), 0.0)
    10
    >>> round(bucket.wait(0.0), 3)
    0.1
    >>> bucket.available(0.5)
    5
    """

    __slots__ = ("_at", "_most", "_tokens", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._most = max(1.0, rate)
        self._tokens = self._most
        self._at = now

    def _fill(self, now: float) -> None:
        if self._tokens < self._most:  # what was added beyond that stays
            self._tokens = min(self._most, self._tokens + self.rate * (now - self._at))
        self._at = now

    def available(self, now: float) -> int:
        """How many there are: 0 or more."""
        self._fill(now)
        return max(0, int(self._tokens + ROUNDING))

    def take(self, count: int, now: float) -> int:
        """Take that many, and return it. Those that are not there are owed, and waited for."""
        self._fill(now)
        self._tokens -= count
        return count

    def add(self, seconds: float) -> None:
        """Give so many seconds' worth on top, however full it is: for a time that was not its owner's fault."""
        self._tokens += self.rate * seconds

    def wait(self, now: float) -> float:
        """Seconds until there are some; 0 if there are."""
        self._fill(now)
        if self._tokens + ROUNDING >= 1:
            return 0.0
        return (max(1.0, self.rate * STEP) - self._tokens) / self.rate

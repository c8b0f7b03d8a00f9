"""Inputs for Hypothesis: what a fuzzer begins with, spoilt a little, and plain noise."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

__all__ = ["spoilt"]


@st.composite
def spoilt(draw: st.DrawFn, seeds: Sequence[bytes], tokens: Sequence[bytes] = ()) -> bytes:
    """One of the seeds with a few pieces replaced by one of the tokens, by noise, or by nothing; or noise alone."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    data = draw(st.sampled_from(seeds))
    noise = st.binary(max_size=3) | st.sampled_from([*tokens, b"", b"\0", b"\xff", data[-20:]])
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 8)))
        data = data[:start] + draw(noise) + data[end:]
    return data

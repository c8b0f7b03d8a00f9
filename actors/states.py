"""How a stream connection ends. Each end learns a reason, once; the first one stays.

    OPEN       messages in, messages out. The peer's FIN ends input only: what came before can still be answered.
    FLUSHING   closed here: takes nothing more, writes what was taken, reads and throws away.
    LINGERING  all is written and our FIN is sent; waits for the peer's TCP to acknowledge and for its FIN, so that no unread byte
               makes the kernel send a reset that would destroy what is still on its way.
    GONE       the descriptor is closed.

`MOVES` is the table of what may follow what.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["MOVES", "State"]


class State(Enum):
    OPEN = "open"
    FLUSHING = "flushing"
    LINGERING = "lingering"
    GONE = "closed"

    __hash__ = object.__hash__  # as good, and in C: `MOVES` is asked three times in each close


MOVES = {
    State.OPEN: (State.FLUSHING, State.GONE),
    State.FLUSHING: (State.LINGERING, State.GONE),
    State.LINGERING: (State.GONE,),
    State.GONE: (),
}

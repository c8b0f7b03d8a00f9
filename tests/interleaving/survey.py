"""Where in the code under test the explorer has to try a switch, and where it need not."""

from __future__ import annotations

import dis
import sys
from types import CodeType, FrameType

__all__ = ["Survey", "look_up"]


class Survey:
    """Where in a piece of code another thread could notice, or make, a difference.

    Moving locals about commutes with whatever the others do, so a switch there is the same as one a line later. (A
    local's truth is another matter: it may be a shared deque.) Unknown opcodes count as noticeable, so that another
    Python costs runs and not findings.
    """

    QUIET = (
        "CACHE",
        "COPY",
        "EXTENDED_ARG",
        "JUMP_FORWARD",
        "KW_NAMES",
        "LOAD_CONST",
        "LOAD_FAST",
        "MAKE_CELL",
        "NOP",
        "POP_EXCEPT",
        "POP_TOP",
        "PRECALL",
        "PUSH_EXC_INFO",
        "PUSH_NULL",
        "RERAISE",
        "RESUME",
        "RETURN_",
        "STORE_FAST",
        "SWAP",
    )

    # A `with` calls, going in and coming out; an iterator, `in` and the operators may run code of somebody's, so they are calls here.
    SWITCHING = (
        "BEFORE_WITH",
        "CALL",
        "COMPARE_OP",
        "CONTAINS_OP",
        "FOR_ITER",
        "JUMP_BACKWARD",
        "POP_JUMP_BACKWARD",
        "WITH_EXCEPT",
        "YIELD",
    )

    def __init__(self, code: CodeType) -> None:
        line_at = {offset: line for start, end, line in code.co_lines() for offset in range(start, end, 2)}
        self.offsets: dict[int, str] = {}
        self.lines: set[int] = set()
        self.calls: set[int] = set()  # lines after which CPython may switch, having its global lock
        self.locks: dict[int, list[str]] = {}  # line of a `with a.b:`, and ["a", "b"]
        path: list[str] = []
        for instruction in dis.get_instructions(code):
            name, line = instruction.opname, line_at.get(instruction.offset)
            if name == "STORE_DEREF" and instruction.argval in code.co_freevars and sys.version_info < (3, 13):
                # Before 3.13 a traced frame writes its snapshot of every cell back when its trace function returns,
                # here: when it has the turn again. What others stored in between would be undone.
                raise TypeError(f"{code.co_qualname} rebinds {instruction.argval}: share an attribute, not a nonlocal")
            if not name.startswith(self.QUIET) and not name.endswith(("_IF_NONE", "_IF_NOT_NONE")):
                self.offsets[instruction.offset] = name
                if line is not None:
                    self.lines.add(line)
            if line is not None and name.startswith(self.SWITCHING):
                self.calls.add(line)
            if name == "BEFORE_WITH" and path and line is not None:
                self.locks.setdefault(line, path)
            if name == "LOAD_ATTR" and path:
                path = [*path, instruction.argval]
            else:
                path = [instruction.argval] if name in ("LOAD_FAST", "LOAD_DEREF", "LOAD_GLOBAL") else []


def look_up(frame: FrameType, path: list[str]) -> object:
    found = frame.f_locals.get(path[0], frame.f_globals.get(path[0]))
    for name in path[1:]:
        found = getattr(found, name, None)
    return found

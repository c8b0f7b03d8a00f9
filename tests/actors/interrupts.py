"""Ctrl-C at a place of one's choice.

CPython looks for signals after a call of a C function, on entering a Python function and at a loop's end; not on returning from a Python
function. The first two can be had from a profiler, one after the other, so that a test can try them all.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType, ModuleType

__all__ = ["interrupted"]


def interrupted(number: int, module: ModuleType, call: Callable[[], object], *, entering: bool = True) -> bool:
    """Run `call` with Ctrl-C at the number-th place in the module where one can come. False when there were fewer.

    Without `entering`, functions are entered undisturbed.
    """
    places = 0

    def profile(frame: FrameType, event: str, arg: object) -> None:
        nonlocal places
        if event == "c_return":
            inside = frame.f_code.co_filename == module.__file__
        elif event == "call" and entering and frame.f_code.co_name != "__del__":  # a finalizer's exceptions lead nowhere
            inside = module.__file__ in (frame.f_code.co_filename, frame.f_back and frame.f_back.f_code.co_filename)
        else:
            return
        if inside:
            places += 1
            if places == number:
                sys.setprofile(None)
                raise KeyboardInterrupt

    collecting = gc.isenabled()
    gc.disable()  # nor do those of what the collector calls
    sys.setprofile(profile)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
        if collecting:
            gc.enable()
    return False

"""Where callbacks run: one after the other, on one thread for each script, as on Hammerspoon's main run loop.

Under the runner that is the script's own thread, once its code has returned. In a program it is the thread that calls `run()`; without
that, one of the engine's spare threads works while there are callbacks.

The queue is the scope's: the script's, or one for the whole program. `_lock` owns `_running` and `_background`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from actors import crew, scope
from actors.scope import Scope

__all__ = ["call", "home", "post", "run"]

log = logging.getLogger("actorbus.hs")

_program = Scope("program")
_lock = threading.Lock()
_turn = threading.Lock()  # held by who runs the program's callbacks
_background = False  # a spare thread runs them, or is about to
_running = False  # `run` does, or waits for its turn


class _Here(threading.local):
    dispatching = False


_here = _Here()


def home() -> Scope:
    """The queue of the script for which the calling thread works."""
    return scope.current() or _program


def post(owner: Scope, job: Callable[[], object]) -> bool:
    """Have `job()` run in its turn, never within this call. False when the script is over."""
    global _background
    if not owner.post(job):
        return False
    if owner is _program:
        with _lock:
            if _background or _running:
                return True
            _background = True
        if not crew.run(_work):
            with _lock:
                _background = False
    return True


def call(what: str, fn: Callable[..., object], *arguments: object) -> None:
    """Call the script's function. What it raises is logged and ends nothing; SystemExit and KeyboardInterrupt are the script's own."""
    _here.dispatching = True
    try:
        fn(*arguments)
    except Exception:
        log.exception("%s", what)
    finally:
        _here.dispatching = False


def _work() -> None:
    global _background
    while True:
        with _turn:
            _run_posted()
        with _lock:
            if _running or _program.idle:
                _background = False
                return


def _run_posted() -> None:
    try:
        while not _running and _program.run_posted():
            pass
    except BaseException:  # a callback left by sys.exit(); this thread is not the program
        log.exception("a callback on the background thread")


def run() -> None:
    """Give the calling thread to the callbacks, until none can come any more: no socket receives, no send with a function is under way, no
    timer is set. KeyboardInterrupt ends it.

    RuntimeError in a callback, and while another thread is in it.
    """
    global _running
    if _here.dispatching:
        raise RuntimeError("hs.run() was called in a callback, which runs inside it already")
    owner = home()
    if owner is not _program:
        owner.wait()
        return
    with _lock:
        if _running:
            raise RuntimeError("hs.run() runs on another thread already")
        _running = True
    try:
        with _turn:
            _program.wait()
    finally:
        with _lock:
            _running = False
        if not _program.idle:  # came too late, or was left by an exception
            post(_program, _nothing)


def _nothing() -> None:
    pass


def _after_fork() -> None:
    global _program, _lock, _turn, _background, _running
    _program = Scope("program")
    _lock = threading.Lock()
    _turn = threading.Lock()
    _background = _running = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""Runs two or three functions on real threads, one at a time, in every order within a bound.

What it guarantees. Exactly one thread runs between two *points*; a point is a line (or an opcode) of the traced files that may touch
something shared, or a blocking operation of the primitives. The same schedule gives the same run, as long as the code under test does not
depend on real time, hash order or identity. Every schedule with at most `preemptions` preemptions is played once, those with the fewest
first, unless `max_runs` ends it earlier; the report says which.

What a preemption is. Taking the turn from a thread that could go on costs one, and so does letting a deadline pass while somebody could
still run. Choosing who goes on when the running thread waits or has ended is free. Two are enough for nearly every known bug of this
kind, and keep the number of runs quadratic in the length of a run.

What it does not see. A line is one step: a race inside a line needs `opcodes=True`. Code outside the traced files is never interrupted. A
real lock, socket or sleep blocks for real, and is reported as a hang. A loop that polls without waiting is reported as a livelock, since
nothing obliges the scheduler to be fair to it; if it may, let it `give_way`.

Time is virtual: it stands still but for deadlines that pass, see `primitives.monotonic` and `primitives.sleep`.

Who owns what: whoever has the turn (`_Scheduler.turn`) owns every field of the scheduler and of its threads; the turn is passed by
releasing the raw lock on which the other one sleeps. Between runs the turn is the main thread's (None).
"""

from __future__ import annotations

import gc
import linecache
import os
import random
import sys
import threading
import traceback
from _thread import allocate_lock, get_ident
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, NoReturn, TypeVar
from unittest import mock

from tests.interleaving import primitives
from tests.interleaving.primitives import Awaited, Lock, Parking
from tests.interleaving.survey import Survey, look_up

__all__ = ["OPCODES_REPORTED", "Report", "Schedule", "ScheduleFailed", "explore"]

State = TypeVar("State")

# At decision n the turn went to thread t, or (~t) thread t's wait timed out; every other decision was the default one.
Schedule = Sequence[tuple[int, int]]

START_OF_TIME = 1000.0  # not zero, so that "no deadline" and "at once" cannot be mistaken for each other
LATENESS = 1e-6  # a wait never ends exactly at its deadline; this also gets a loop past rounding errors
OPCODES_REPORTED = sys.version_info < (3, 12)  # from 3.12 on some are left out, now these and now those: nothing runs twice the same
HANG = 20.0  # real seconds after which a thread that neither ends nor reaches a point is given up
SHOWN_AROUND_A_SWITCH = 6
NOT_SHOWN = frozenset((__file__, str(primitives.__file__), threading.__file__))  # frames that explain nothing


class ScheduleFailed(AssertionError):
    """A schedule under which the code under test fails: `explore(..., replay=failure.schedule)` plays it again."""

    def __init__(self, reason: str, schedule: Schedule, trace: str) -> None:
        super().__init__(reason, schedule, trace)
        self.reason = reason
        self.schedule = list(schedule)
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.reason}\n\nto see it again: explore(..., replay={self.schedule})\n\n{self.trace}"


@dataclass(frozen=True)
class Report:
    runs: int
    by_preemptions: tuple[int, ...]  # runs with 0, 1, 2... preemptions
    complete: bool  # False: `max_runs` was reached, and schedules within the bound were left out
    longest: int  # decisions in the longest run


class _Unwind(GeneratorExit):
    """Thrown into a thread of a failed run, so that it ends and can be used for the next."""


class _Thread:
    """One of the functions and the real thread that runs it, in every run anew."""

    def __init__(self, index: int, body: Callable[[Any], object]) -> None:
        name = getattr(body, "__name__", "")
        self.index = index
        self.name = f"{index}" if name in ("", "<lambda>") else f"{index}:{name}"
        self.body = body
        self.go = allocate_lock()  # it sleeps on this while it does not have the turn
        self.go.acquire()
        self.ident = 0
        self.reset()

    def reset(self) -> None:
        self.started = self.finished = False
        self.called = True  # since its last point
        self.untouched = True  # has not come to its first point
        self.wants: Awaited | None = None
        self.deadline: float | None = None
        self.waited = False  # what it wants was not there when it came for it
        self.timed_out = False
        self.holds = 0  # locks
        self.parking = Parking()

    def can_go_on(self) -> bool:
        return not self.finished and (self.wants is None or self.wants.ready())

    def can_time_out(self) -> bool:
        return self.deadline is not None and self.wants is not None and (self.waited or not self.wants.ready())

    def __repr__(self) -> str:
        return f"thread {self.name}"


class _Others:
    """What a thread that gives way waits for: a turn of another one, or that nobody else can go on."""

    def __init__(self, scheduler: _Scheduler, thread: _Thread) -> None:
        self.scheduler = scheduler
        self.thread = thread
        self.turns = scheduler.turns

    def ready(self) -> bool:
        others = [thread for thread in self.scheduler.threads if thread is not self.thread]
        return self.scheduler.turns != self.turns or not any(other.can_go_on() for other in others if not isinstance(other.wants, _Others))

    def __repr__(self) -> str:
        return "<a turn of somebody else>"


@dataclass(frozen=True)
class _Step:
    thread: str
    decision: int
    file: str
    line: int
    note: str

    def __str__(self) -> str:
        source = linecache.getline(self.file, self.line).strip()
        note = f"   # {self.note}" if self.note else ""
        return f"  {self.decision:4} {self.thread:12} {Path(self.file).name}:{self.line:<4} {source}{note}"


class _Scheduler:
    def __init__(
        self,
        bodies: Sequence[Callable[[Any], object]],
        files: frozenset[str],
        opcodes: bool,
        atomic_sections: bool,
        between_calls: bool,
    ) -> None:
        self.threads = [_Thread(index, body) for index, body in enumerate(bodies)]
        self.outside = _Thread(-1, lambda state: None)  # stands for setup and check
        self.outside.name = "setup or check"
        self.files = files
        self.opcodes = opcodes
        self.atomic_sections = atomic_sections
        self.between_calls = between_calls
        self.seen: set[str] = set()
        self.tracers: dict[CodeType, Callable[[FrameType, str, Any], Any] | None] = {}
        self.done = allocate_lock()  # the main thread sleeps on this while a run is on
        self.done.acquire()
        self.closing = False
        self.prepare((), 0, 0)
        self.real = [
            threading.Thread(target=self._work, args=(thread,), name=f"explored {thread.name}", daemon=True) for thread in self.threads
        ]
        for real in self.real:
            real.start()

    def prepare(self, plan: Schedule, spare: int, max_decisions: int, record: bool = False) -> None:
        """Makes ready for a run; `spare` is how many preemptions its variations may cost."""
        for thread in (*self.threads, self.outside):
            thread.reset()
        self.turn: _Thread | None = None
        self.now = START_OF_TIME
        self.failure: str | None = None
        self.cause: BaseException | None = None
        self.decision = 0
        self.turns = 0
        self.plan = dict(plan)
        self.planned = plan[-1][0] if plan else 0
        self.spare = spare
        self.max_decisions = max_decisions
        self.variations: list[tuple[int, int, int]] = []  # decision, choice, cost: what could have been done instead
        self.steps: list[_Step] | None = [] if record else None

    def play(self, state: object) -> None:
        self.state = state
        try:
            self._give_turn(self._who_goes_on())
        except _Unwind:
            return
        self._await_done()
        for thread in self.threads:
            if thread.started and not thread.finished:
                self.turn = thread
                thread.go.release()
                self._await_done()
        self.turn = None

    def _await_done(self) -> None:
        if not self.done.acquire(timeout=HANG):
            stacks = self._stacks()
            self.real.clear()  # they are beyond joining
            raise RuntimeError(f"{self.me()} blocks for real, or runs for ever without a point\n{stacks}")

    def close(self) -> None:
        self.closing = True
        self.failure = self.failure or "closed"
        for thread in self.threads:
            if thread.go.locked():
                thread.go.release()
        for real in self.real:
            real.join(HANG)

    def me(self) -> _Thread:
        return self.turn or self.outside

    # What the running thread comes to.

    def _may_switch(self, calls: bool) -> bool:
        """Before the line that the thread comes to now, which calls something or not."""
        me = self.turn
        if me is None or not self.between_calls:
            return True
        called, me.called = me.called, calls
        return called

    def traced_point(self) -> None:
        if self.turn is not None and not (self.atomic_sections and self.turn.holds):
            self.point()

    def point(self) -> None:
        """The running thread can go on; shall it?"""
        me = self.turn
        if me is None or self.failure is not None:
            return
        if me.untouched:  # to take its turn away before it did anything is not to have given it
            me.untouched = False
            return
        self.decision = decision = self.decision + 1
        if decision <= self.planned:
            choice = self.plan.get(decision)
            if choice is not None:
                self._pass_turn(me, choice)
        elif decision > self.max_decisions:
            self._fail(f"livelock: no end after {self.max_decisions} decisions")
        elif self.spare:
            for thread in self.threads:
                if thread is not me:
                    if thread.can_go_on():
                        self.variations.append((decision, thread.index, 1))
                    if thread.can_time_out():
                        self.variations.append((decision, ~thread.index, 1))

    def wait(self, thing: Awaited, deadline: float | None) -> bool:
        """Until `thing` is ready: True; or the deadline has passed: False."""
        me = self.turn
        if me is None:
            return self._wait_outside(thing, deadline)
        if self.failure is not None:
            raise _Unwind
        if get_ident() != me.ident:
            raise RuntimeError("a thread that is not the explorer's uses an explored object")
        if deadline is not None and deadline <= self.now:
            self.point()
            ready = thing.ready()
            self.now += 0 if ready else LATENESS
        else:
            me.wants, me.deadline, me.timed_out = thing, deadline, False
            me.waited = not thing.ready()
            if me.waited:
                me.untouched = False
                self._pass_turn(me, self._who_goes_on())
            else:
                self.point()
            me.wants = me.deadline = None
            ready = not me.timed_out
        self.note("goes on" if ready else "timed out", thing)
        return ready

    def _wait_outside(self, thing: Awaited, deadline: float | None) -> bool:
        if thing.ready():
            return True
        if deadline is None:
            raise AssertionError(f"setup or check would wait for ever for {thing!r}")
        self.now = max(self.now, deadline + LATENESS)
        return False

    def give_way(self) -> None:
        """Somebody else first, if there is anybody."""
        if self.turn is not None:
            self.wait(_Others(self, self.turn), None)

    # Decisions.

    def _who_goes_on(self) -> int:
        """A choice that costs nothing, as the running thread cannot go on."""
        self.decision = decision = self.decision + 1
        if decision > self.max_decisions:
            self._fail(f"livelock: no end after {self.max_decisions} decisions")
        count = len(self.threads)
        first = 0 if self.turn is None else self.turn.index + 1
        in_turn = [self.threads[(first + offset) % count] for offset in range(count)]
        ready = [thread.index for thread in in_turn if thread.can_go_on()]
        deadlines = {~thread.index: thread.deadline or 0.0 for thread in in_turn if thread.can_time_out()}
        nearest = min(deadlines.values(), default=0.0)
        free = ready or [choice for choice, deadline in deadlines.items() if deadline == nearest]
        if not free:
            self._fail("deadlock: nobody can go on")
        if decision > self.planned:
            # After a give_way the next one in turn goes on: were the choice free, two that give way had endless schedules.
            price = 1 if self.turn is not None and isinstance(self.turn.wants, _Others) else 0
            if self.spare >= price:
                self.variations += [(decision, choice, price) for choice in free[1:]]
            if self.spare:
                self.variations += [(decision, choice, 1) for choice in deadlines if choice not in free]
        return self.plan.get(decision, free[0])

    def _pass_turn(self, me: _Thread, choice: int) -> None:
        if self._give_turn(choice) is not me:
            me.go.acquire()
            if self.failure is not None:
                raise _Unwind

    def _give_turn(self, choice: int) -> _Thread:
        thread = self.threads[choice if choice >= 0 else ~choice]
        if not (thread.can_go_on() if choice >= 0 else thread.can_time_out()):
            self._fail(f"the schedule does not fit at decision {self.decision}: the code ran differently")
        if choice < 0:
            assert thread.deadline is not None
            thread.timed_out = True
            self.now = max(self.now, thread.deadline + LATENESS)
        self.turns += 1
        before, self.turn = self.turn, thread
        thread.started = True
        if thread is not before:
            thread.go.release()
        return thread

    # Failures.

    def _fail(self, reason: str) -> NoReturn:
        self.failure = f"{reason}\n{self._stacks()}"
        raise _Unwind

    def _stacks(self) -> str:
        frames = sys._current_frames()
        lines = []
        for thread in self.threads:
            if thread.finished or not thread.started:
                lines.append(f"{thread}: {'finished' if thread.finished else 'not started'}")
                continue
            lines.append(f"{thread}: " + ("can go on" if thread.wants is None else f"waits for {thread.wants!r}"))
            stack = traceback.extract_stack(frames[thread.ident])
            lines += [
                f"    {frame.filename}:{frame.lineno} {frame.name}: {frame.line}" for frame in stack if frame.filename not in NOT_SHOWN
            ]
        return "\n".join(lines)

    def note(self, what: str, thing: object = None) -> None:
        if self.steps is not None:
            frame = sys._getframe(1)
            while frame.f_code.co_filename in NOT_SHOWN and frame.f_back is not None:
                frame = frame.f_back
            self._record(frame, what if thing is None else f"{what}: {thing!r}")

    def _record(self, frame: FrameType, note: str = "") -> None:
        if self.steps is not None:
            step = _Step(self.me().name, self.decision, frame.f_code.co_filename, frame.f_lineno, note)
            self.steps.append(step)

    # The real threads.

    def _work(self, thread: _Thread) -> None:
        thread.ident = get_ident()
        while not self.closing:
            thread.go.acquire()
            if self.closing:
                return
            try:
                sys.settrace(self._on_call)
                thread.body(self.state)
            except _Unwind:
                pass
            except BaseException as error:
                if self.failure is None:
                    self.failure = f"{thread} raised {type(error).__name__}: {error}"
                    self.cause = error
            finally:
                sys.settrace(None)
            thread.finished = True
            self._pass_on()

    def _pass_on(self) -> None:
        """Called by a thread that has finished."""
        if self.failure is None and not all(thread.finished for thread in self.threads):
            try:
                self._give_turn(self._who_goes_on())
                return
            except _Unwind:
                pass
        if self.done.locked():
            self.done.release()

    def _on_call(self, frame: FrameType, event: str, arg: object) -> Callable[[FrameType, str, Any], Any] | None:
        code = frame.f_code
        try:
            tracer = self.tracers[code]
        except KeyError:
            tracer = self.tracers[code] = self._tracer(code) if code.co_filename in self.files else None
        if tracer is not None and self.opcodes:
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        return tracer

    def _tracer(self, code: CodeType) -> Callable[[FrameType, str, Any], Any]:
        self.seen.add(code.co_filename)
        survey = Survey(code)

        def on_line(frame: FrameType, event: str, arg: object) -> Any:
            if event == "line":
                line = frame.f_lineno
                path = survey.locks.get(line)
                if path is not None and isinstance(look_up(frame, path), Lock):
                    return on_line  # going in, the acquire is the point; going out, the next one will do
                if line in survey.lines and self._may_switch(line in survey.calls):
                    self.traced_point()
                if self.steps is not None:
                    self._record(frame)
            return on_line

        def on_opcode(frame: FrameType, event: str, arg: object) -> Any:
            if event == "opcode" and frame.f_lasti in survey.offsets:
                self.traced_point()
                if self.steps is not None:
                    self._record(frame, survey.offsets[frame.f_lasti])
            return on_opcode

        return on_opcode if self.opcodes else on_line


def explore(
    setup: Callable[[], State],
    threads: Sequence[Callable[[State], object]],
    check: Callable[[State], object] | None = None,
    *,
    trace_files: Iterable[str | os.PathLike[str] | ModuleType],
    preemptions: int = 2,
    max_runs: int = 20_000,
    max_decisions: int = 2_000,
    opcodes: bool = False,
    atomic_sections: bool = False,
    between_calls: bool = False,
    replace: Mapping[str, object] | None = None,
    replay: Schedule | None = None,
) -> Report:
    """Plays the threads in every order within the bounds, each time on a new state; raises ScheduleFailed.

    A run fails when a thread raises, when nobody can go on, when there is no end, and when `check`, called after the last thread ended,
    raises. `atomic_sections` takes what a thread does while it holds a lock for one step, unless it waits there: far fewer runs, and as
    good wherever all that is shared belongs to a lock, and the lock is not `observed`. `between_calls` takes the lines up to and with the
    next one that calls something for one step: CPython with its global lock does, and code may rely on it. `replace` names what the
    primitives stand in for meanwhile, {"package.module.Lock": Lock}. `replay` plays one schedule only. The threads are the same in every
    run: so are their thread-locals.
    """
    if opcodes and not OPCODES_REPORTED:
        raise NotImplementedError("this Python does not report every opcode of a call each time")
    files = frozenset(str(file.__file__) if isinstance(file, ModuleType) else os.fspath(file) for file in trace_files)
    with ExitStack() as undo:
        for target, stand_in in (replace or {}).items():
            undo.enter_context(mock.patch(target, stand_in))
        if gc.isenabled():  # a finaliser in the middle of a run would be a step no schedule knows of
            gc.disable()
            undo.callback(gc.enable)
        scheduler = _Scheduler(threads, files, opcodes, atomic_sections, between_calls)
        undo.callback(scheduler.close)
        primitives.bind(scheduler)
        undo.callback(primitives.bind, None)

        def failed(plan: Schedule, spare: int, record: bool) -> str | None:
            scheduler.prepare(plan, spare, max_decisions, record)
            state = setup()
            scheduler.play(state)
            if scheduler.failure is None and check is not None:
                try:
                    check(state)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:
                    scheduler.failure = f"check raised {type(error).__name__}: {error}"
                    scheduler.cause = error
            return scheduler.failure

        def explain(plan: Schedule, reason: str) -> ScheduleFailed:
            if failed(plan, 0, record=True) is None:
                return ScheduleFailed(f"{reason}\nbut not the second time: more than the schedule decides", plan, "")
            failure = ScheduleFailed(scheduler.failure or reason, plan, _render(scheduler.steps or []))
            failure.__cause__ = scheduler.cause
            return failure

        if replay is not None:
            reason = failed(tuple(replay), 0, record=False)
            if reason is not None:
                raise explain(tuple(replay), reason)
            return Report(1, (), False, scheduler.decision)

        # A schedule is known by what is not default in it. Its variations differ from it once more, and later: so each
        # is reached on one way only. In each pile the next one is drawn by lot (always the same lot), so that a search
        # which the limit cuts short has looked everywhere a little, and not everything at one end.
        lot = random.Random(0)
        piles: list[list[Schedule]] = [[] for _ in range(preemptions + 1)]
        piles[0].append(())
        runs = [0] * (preemptions + 1)
        complete, longest = True, 0
        for cost, pile in enumerate(piles):
            while pile:
                if sum(runs) >= max_runs:
                    complete = False
                    break
                drawn = lot.randrange(len(pile))
                pile[drawn], pile[-1] = pile[-1], pile[drawn]
                plan = pile.pop()
                reason = failed(plan, preemptions - cost, record=False)
                if reason is not None:
                    raise explain(plan, reason)
                runs[cost] += 1
                longest = max(longest, scheduler.decision)
                for decision, choice, price in scheduler.variations:
                    variation = (*plan, (decision, choice))
                    if len(piles[cost + price]) < max_runs:
                        piles[cost + price].append(variation)
                    else:
                        complete = False
                        piles[cost + price][lot.randrange(max_runs)] = variation
                if sum(runs) % 256 == 0:
                    gc.collect(1)
        unseen = files - scheduler.seen
        if unseen:
            raise ValueError(f"no code of {', '.join(sorted(unseen))} was run: nothing was interleaved there")
        return Report(sum(runs), tuple(runs), complete, longest)


def _render(steps: Sequence[_Step]) -> str:
    """Every step of a thread's turn, or its first and last ones: where the turn changes is what matters."""
    lines: list[str] = []
    start = 0
    for end in range(1, len(steps) + 1):
        if end == len(steps) or steps[end].thread != steps[start].thread:
            turn = [str(step) for step in steps[start:end]]
            left_out = len(turn) - 2 * SHOWN_AROUND_A_SWITCH
            if left_out > 1:
                turn[SHOWN_AROUND_A_SWITCH:-SHOWN_AROUND_A_SWITCH] = [f"       ... {left_out} more"]
            lines += [*turn, "       " + "-" * 40]
            start = end
    return "\n".join(lines[:-1])

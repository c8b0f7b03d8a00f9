"""The outbox under every order of senders, the reader thread and a peer that reads now and then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

import actors.outbox
from actors.broadcast import offer_to_all
from actors.errors import Broken, BusError, Closed, NotSent
from actors.outbox import Outbox
from tests.interleaving.explorer import Report, explore
from tests.interleaving.primitives import Lock, Parking, monotonic
from tests.interleaving.stand_ins import current

CLOSED = Closed("tcp://peer")
BROKEN = Broken("tcp://peer", "reset")
RESET = ConnectionResetError(104, "reset by peer")


class Kernel:
    """The socket, whose buffer has `room` bytes free."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.gone = bytearray()  # what it took
        self.broken = False

    def send(self, data: bytes | memoryview, /) -> int:
        if self.broken:
            raise RESET
        if not self.room:
            raise BlockingIOError
        taken = min(self.room, len(data))
        self.gone += data[:taken]
        self.room -= taken
        return taken


class Wire:
    """An outbox, the kernel behind it, and what the reader thread is asked to do."""

    def __init__(self, *, room: int, max_bytes: int = 8) -> None:
        self.kernel = Kernel(room)
        self.behind = False
        self.failures: list[OSError] = []
        self.drained = 0
        self.sent: list[bytes] = []
        self.refused: list[tuple[bytes, BusError | None]] = []
        self.loop = Parking()  # the reader thread's poll
        self.finished = 0
        self.outbox = Outbox(
            self.kernel,
            address="tcp://peer",
            backlog=self.backlog,
            failed=self.failed,
            drained=self.count_drained,
            max_bytes=max_bytes,
        )

    def backlog(self, behind: bool) -> None:
        assert self.outbox.lock.locked()
        assert behind is not self.behind, "the poller is told of changes only"
        self.behind = behind
        self.loop.unpark()

    def failed(self, failure: OSError) -> BusError:
        self.failures.append(failure)
        return BROKEN

    def count_drained(self) -> None:
        self.drained += 1

    # The threads' parts.

    def send(self, *frames: bytes, timeout: float | None = None) -> None:
        for frame in frames:
            try:
                if not self.outbox.try_send(frame):
                    self.outbox.send(frame, None if timeout is None else monotonic() + timeout)
                self.sent.append(frame)
            except BusError as reason:
                self.refused.append((frame, reason))
        self.finish()

    def send_many(self, *frames: bytes, timeout: float | None = None) -> None:
        try:
            self.outbox.send_many(frames, None if timeout is None else monotonic() + timeout)
            self.sent += frames
        except NotSent as reason:
            self.sent += frames[: reason.accepted]
            self.refused += [(frame, reason) for frame in frames[reason.accepted :]]
        self.finish()

    def offer(self, *frames: bytes) -> None:
        for frame in frames:
            if self.outbox.offer(frame) == "skipped":
                self.refused.append((frame, None))
            else:
                self.sent.append(frame)
        self.finish()

    def finish(self) -> None:
        self.finished += 1
        self.loop.unpark()

    def flush_until(self, senders: int) -> None:
        """The reader thread, until so many senders have finished and all is written. The peer reads a little each time."""
        while self.finished < senders or self.behind:
            if self.behind:
                self.kernel.room = max(self.kernel.room, 6)
                self.outbox.flush()
            else:
                self.loop.park()

    # What must hold in the end.

    def check_frames(self) -> None:
        """The kernel has exactly the frames that were accepted, each whole."""
        gone = bytes(self.kernel.gone)
        for frame in self.sent:
            assert gone.count(frame) == 1, f"{frame!r} in {gone!r}"
        for frame, _ in self.refused:
            assert frame[:1] not in gone, f"{frame!r} was refused, and is in {gone!r}"
        assert len(gone) == sum(map(len, self.sent))
        assert self.outbox.written == self.outbox.bytes == len(gone)
        assert self.outbox.messages == len(self.sent)

    def check_settled(self) -> None:
        self.check_frames()
        assert not len(self.outbox)
        assert not self.behind
        assert not self.outbox.congested


def play(
    setup: Callable[[], Wire],
    threads: Sequence[Callable[[Wire], object]],
    check: Callable[[Wire], object],
    *,
    preemptions: int = 2,
    atomic_sections: bool | None = None,
) -> Report:
    report = explore(
        setup,
        threads,
        check,
        trace_files=[actors.outbox],
        preemptions=preemptions,
        atomic_sections=len(threads) > 2 if atomic_sections is None else atomic_sections,
        replace={
            "actors.outbox.Lock": Lock,
            "actors.outbox.monotonic": monotonic,
            "actors.outbox.current": current,
        },
    )
    assert report.complete
    return report


def full() -> Wire:
    """A wire whose kernel takes three bytes and then nothing more until the reader thread looks."""
    return Wire(room=3)


def test_frames_of_two_senders_never_interleave() -> None:
    def setup() -> Wire:
        return Wire(room=1000)

    play(setup, [lambda wire: wire.send(b"aaa", b"bbbb"), lambda wire: wire.send(b"ccc", b"ddd")], Wire.check_settled)


@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_the_kernel_does_not_take_the_reader_thread_writes_on(preemptions: int) -> None:
    play(full, [lambda wire: wire.send(b"aaaa", b"bbb"), lambda wire: wire.flush_until(1)], Wire.check_settled, preemptions=preemptions)


@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_senders_and_the_reader_thread_keep_frames_whole(preemptions: int) -> None:
    play(
        full,
        [
            lambda wire: wire.send(b"aaaa", b"bbb"),
            lambda wire: wire.send(b"ccccc"),
            lambda wire: wire.flush_until(2),
        ],
        Wire.check_settled,
        preemptions=preemptions,
    )


@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_sender_over_the_bound_is_woken_when_there_is_room(preemptions: int) -> None:
    def check(wire: Wire) -> None:
        wire.check_settled()
        assert [frame[:1] for frame in wire.sent] == [b"a", b"b"]

    play(
        full,
        [lambda wire: wire.send(b"aaaaaa", b"bbbbbb"), lambda wire: wire.flush_until(1)],
        check,
        preemptions=preemptions,
    )


@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_frame_larger_than_the_bound_goes_when_the_outbox_is_empty(preemptions: int) -> None:
    threads = [lambda wire: wire.send(b"aaaaa", b"b" * 12), lambda wire: wire.flush_until(1)]
    play(full, threads, Wire.check_settled, preemptions=preemptions)


@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_senders_over_the_bound_are_both_woken(preemptions: int) -> None:
    play(
        full,
        [
            lambda wire: wire.send(b"aaaaaaa", b"bbbbbbb"),
            lambda wire: wire.send(b"ccccccc"),
            lambda wire: wire.flush_until(2),
        ],
        Wire.check_settled,
        preemptions=preemptions,
    )


@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_send_that_times_out_took_nothing(preemptions: int) -> None:
    outcomes: set[int] = set()

    def check(wire: Wire) -> None:
        wire.check_frames()
        assert all(isinstance(reason, NotSent) for _, reason in wire.refused)
        outcomes.add(len(wire.refused))

    play(
        full,
        [lambda wire: wire.send(b"aaaaaaa", b"bbbbbbb", timeout=1), lambda wire: wire.flush_until(1)],
        check,
        preemptions=preemptions,
    )
    assert outcomes == {0, 1}


@pytest.mark.slow
def test_of_many_frames_the_accepted_ones_are_told_exactly() -> None:
    accepted: set[int] = set()

    def check(wire: Wire) -> None:
        wire.check_frames()
        assert bytes(wire.kernel.gone) == b"".join(wire.sent)
        accepted.add(len(wire.sent))

    play(
        full,
        [lambda wire: wire.send_many(b"aaaa", b"bbbb", b"ccccc", timeout=1), lambda wire: wire.flush_until(1)],
        check,
    )
    assert accepted == {2, 3}


@pytest.mark.slow
def test_an_offer_beside_a_waiting_sender_is_taken_whole_or_skipped() -> None:
    play(
        full,
        [
            lambda wire: wire.send(b"aaaaaaa", b"bbbbbbb"),
            lambda wire: wire.offer(b"ccc", b"ddddd"),
            lambda wire: wire.flush_until(2),
        ],
        Wire.check_settled,
    )


@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_congestion_is_followed_by_drained(preemptions: int) -> None:
    """A callback's replies rely on it: their client is not read while congested, and again once `drained` is called."""

    def force(wire: Wire) -> None:
        for frame in (b"aaaaa", b"bbbbb", b"ccccc"):
            wire.outbox.force(frame)
            wire.sent.append(frame)
            assert wire.outbox.congested or len(wire.outbox) < 8
        if wire.outbox.congested:
            wire.drained -= 1  # one is owed
        wire.finish()

    def check(wire: Wire) -> None:
        wire.check_settled()
        assert wire.drained >= 0

    play(full, [force, lambda wire: wire.flush_until(1)], check, preemptions=preemptions)


# --- the end ---


def test_a_drop_ends_every_waiting_sender_and_counts_what_is_unsent() -> None:
    def drop(wire: Wire) -> None:
        unsent = wire.outbox.drop(CLOSED)
        assert unsent == wire.outbox.unsent

    def check(wire: Wire) -> None:
        assert len(wire.sent) + len(wire.refused) == 2
        # Of a send during which the end came, Closed does not say whether it was taken: the count of the unsent does.
        assert all(isinstance(reason, Closed) for _, reason in wire.refused)
        assert len(wire.sent) <= wire.outbox.messages
        assert len(wire.kernel.gone) + wire.outbox.unsent == wire.outbox.bytes
        assert not len(wire.outbox)

    play(full, [lambda wire: wire.send(b"aaaaaaa", b"bbbbbbb"), drop], check)
    play(full, [lambda wire: wire.send(b"aaaaaaa"), lambda wire: wire.send(b"bbbbbbb"), drop], check)


def test_what_was_accepted_before_a_refusal_is_still_written() -> None:
    def check(wire: Wire) -> None:
        wire.check_settled()
        assert all(isinstance(reason, Closed) for _, reason in wire.refused)

    play(
        full,
        [
            lambda wire: wire.send(b"aaaaaaa", b"bbbbbbb"),
            lambda wire: wire.outbox.refuse(CLOSED),
            lambda wire: wire.flush_until(1),
        ],
        check,
    )


def test_a_broken_wire_is_told_and_then_a_drop_frees_the_senders() -> None:
    """As the actor does it: it hears of the failure, and drops from another thread."""

    def actor(wire: Wire) -> None:
        wire.kernel.broken = True
        if wire.behind:
            wire.outbox.flush()
        wire.outbox.drop(CLOSED)

    def check(wire: Wire) -> None:
        assert len(wire.sent) + len(wire.refused) == 2
        assert not len(wire.outbox)
        assert all(failure is RESET for failure in wire.failures)

    play(full, [lambda wire: wire.send(b"aaaaaaa", b"bbbbbbb"), actor], check)


def test_a_broadcast_goes_on_behind_a_client_that_breaks_this_moment() -> None:
    outcomes: set[str] = set()

    def broadcast(wire: Wire) -> None:
        actor: Any = SimpleNamespace(outbox=wire.outbox)
        report = offer_to_all(b"aaaaaaa", [(actor, "it")], disconnect=True)
        outcomes.update(name for name in ("taken", "queued", "skipped") if "it" in getattr(report, name))

    def check(wire: Wire) -> None:
        assert len(wire.kernel.gone) + wire.outbox.unsent == wire.outbox.bytes

    play(full, [broadcast, lambda wire: wire.outbox.drop(BROKEN)], check)
    assert outcomes == {"queued", "skipped"}

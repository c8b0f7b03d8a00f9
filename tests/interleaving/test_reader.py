"""Direct read under every order of scripts, the reader thread and the peer: the socket is always somebody's to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

import actors.reader
import actors.streamreader
from actors.errors import BusError, Closed
from actors.framing import RAW
from actors.mailbox import Mailbox
from actors.message import Message, weigh
from actors.reader import LENT, Reader
from actors.readerthread import ReaderThread
from actors.streamreader import StreamReader
from tests.interleaving.explorer import Report, explore
from tests.interleaving.primitives import Lock, monotonic, sleep, step
from tests.interleaving.stand_ins import Bell, Place, Poller, Socket, current

CLOSED = Closed("tcp://peer")


class Line:
    """A connection as far as reading goes: socket, reader, mailbox and the reader thread."""

    def __init__(self, scripts: int = 1) -> None:
        self.loop = ReaderThread()
        self.sock = Socket(5)
        self.mailbox: Mailbox[Any] = Mailbox(weigh=len)
        self.reader = self.make_reader()
        self.reader.read_lock.observed = True  # type: ignore[attr-defined]
        self.mailbox.use_direct(self.reader.direct)
        self.get = getattr(self.reader, "get", self.mailbox.get)
        self.reader.start()
        self.scripts = scripts  # that have not finished
        self.got: list[bytes] = []
        self.missed = 0
        self.reasons: list[BusError] = []
        self.places: dict[str, Place] = {}

    def make_reader(self) -> Reader:
        return Reader(self.sock, self.loop, fill=self.fill, mailbox=self.mailbox)  # type: ignore[arg-type]

    def fill(self) -> None:
        loan = self.reader.loan
        assert self.reader.read_lock.locked() or (loan is not None and loan.reading)
        try:
            chunk = self.sock.recv(1)
        except BlockingIOError:
            return
        self.mailbox.put([chunk], len(chunk))

    def run_loop(self) -> None:
        self.loop._run(0)

    def arrive(self, *chunks: bytes) -> None:
        """The peer's part."""
        for chunk in chunks:
            self.sock.arrive(chunk)
            step()

    def receive(self, count: int, timeout: float | None = None) -> None:
        for _ in range(count):
            item = self.get(None if timeout is None else monotonic() + timeout)
            if item is None:
                self.missed += 1
            else:
                self.got.append(item.data if isinstance(item, Message) else item)

    def finish(self) -> None:
        """A script is at its end; the last one ends the loop."""
        self.scripts -= 1
        if not self.scripts:
            self.loop.stop()

    def receive_and_finish(self, count: int, timeout: float | None = None) -> None:
        self.receive(count, timeout)
        self.finish()

    def check_ended(self) -> None:
        assert self.sock.closed
        assert self.reader.fd < 0

    def check_each_once(self, *chunks: bytes) -> None:
        self.check_ended()
        left = [item.data if isinstance(item, Message) else item for item in self.mailbox._items] + list(self.sock.arrived)
        assert sorted(self.got + left) == sorted(chunks)


class StreamLine(Line):
    """The same with a reader that keeps a lone message for the script that reads it."""

    def make_reader(self) -> Reader:
        self.mailbox = Mailbox(weigh=weigh)
        return StreamReader(
            self.sock,  # type: ignore[arg-type]
            self.loop,
            source="tcp://peer",
            framing=RAW,
            max_size=100,
            mailbox=self.mailbox,
            write_lock=Lock(),  # type: ignore[arg-type]
            flush=lambda: None,
            hung_up=lambda: None,
            over=lambda reason: None,
            discarded=lambda dead: None,
        )


def play(
    setup: Callable[[], Line],
    threads: Sequence[Callable[[Line], object]],
    check: Callable[[Line], object] = Line.check_ended,
    *,
    line: type[Line] = Line,
    preemptions: int = 2,
    max_runs: int = 20_000,
    complete: bool = True,
    replay: Sequence[tuple[int, int]] | None = None,
) -> Report:
    report = explore(
        setup,
        threads,
        check,
        trace_files=[actors.reader, actors.streamreader] if line is StreamLine else [actors.reader],
        preemptions=preemptions,
        max_runs=max_runs,
        replay=replay,
        atomic_sections=True,
        between_calls=True,
        replace={
            "actors.mailbox.Lock": Lock,
            "actors.mailbox.Wakeup": Bell,
            "actors.mailbox.current": current,
            "actors.mailbox.monotonic": monotonic,
            "actors.reader.Lock": Lock,
            "actors.reader.PORTABLE": False,
            "actors.reader.current": current,
            "actors.readerthread.Lock": Lock,
            "actors.readerthread.Wakeup": Bell,
            "actors.readerthread.make_poller": Poller,
            "actors.readerthread.monotonic": monotonic,
            "actors.streamreader.current": current,
            "actors.streamreader.monotonic": monotonic,
        },
    )
    assert report.complete or not complete or line is StreamLine  # which has more lines than runs
    return report


LINES = pytest.mark.parametrize("line", [Line, StreamLine])


@LINES
@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_script_reads_directly_whatever_the_reader_thread_does(line: type[Line], preemptions: int) -> None:
    def check(line: Line) -> None:
        line.check_ended()
        assert line.got == [b"1", b"2"]

    play(
        line,
        [Line.run_loop, lambda line: line.receive_and_finish(2), lambda line: line.arrive(b"1", b"2")],
        check,
        line=line,
        preemptions=preemptions,
    )


@LINES
@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_direct_read_that_times_out_loses_nothing(line: type[Line], preemptions: int) -> None:
    def check(line: Line) -> None:
        assert line.got == [b"1", b"2"][: len(line.got)]
        line.check_each_once(b"1", b"2")

    play(
        line,
        [Line.run_loop, lambda line: line.receive_and_finish(2, 1), lambda line: line.arrive(b"1", b"2")],
        check,
        line=line,
        preemptions=preemptions,
    )


@LINES
@pytest.mark.parametrize("preemptions", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_two_scripts_share_one_connection(line: type[Line], preemptions: int) -> None:
    play(
        lambda: line(scripts=2),
        [
            Line.run_loop,
            lambda line: line.receive_and_finish(1),
            lambda line: line.receive_and_finish(1),
            lambda line: line.arrive(b"1", b"2"),
        ],
        lambda line: line.check_each_once(b"1", b"2"),
        line=line,
        preemptions=preemptions,
    )


# --- what may leave a socket with nobody who reads it ---


def borrow(line: Line) -> None:
    """The calling script has waited for a message that did not come, and keeps the socket."""
    line.receive(1, 0.1)


def receive_one(line: Line) -> None:
    line.receive(1)
    line.finish()


def arrive_late(line: Line) -> None:
    sleep(10)
    line.sock.arrive(b"1")
    line.finish()


def two_scripts() -> Line:
    return Line(scripts=2)


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda line: None, id="nothing"),
        pytest.param(lambda line: line.reader.look(), id="look", marks=pytest.mark.slow),  # connected
        pytest.param(lambda line: line.reader.give_back(), id="give_back", marks=pytest.mark.slow),  # receive_any, fileno
        pytest.param(lambda line: line.receive(1, 0), id="poll", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("preemptions", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_borrower_that_goes_away_leaves_the_socket_to_the_next_script(use: Callable[[Line], object], preemptions: int) -> None:
    def borrower(line: Line) -> None:
        borrow(line)
        use(line)
        arrive_late(line)

    play(two_scripts, [Line.run_loop, borrower, receive_one], lambda line: line.check_each_once(b"1"), preemptions=preemptions)


@pytest.mark.slow
def test_a_borrower_that_is_interrupted_leaves_the_socket_to_the_next_script() -> None:
    def interrupted(line: Line) -> None:
        line.places["interrupted"] = current()
        try:
            line.receive(1)
        except KeyboardInterrupt:
            arrive_late(line)
        else:
            line.finish()

    def interrupt_and_receive(line: Line) -> None:
        while "interrupted" not in line.places:
            sleep(1)
        line.places["interrupted"].interrupt()
        receive_one(line)

    play(two_scripts, [Line.run_loop, interrupted, interrupt_and_receive], lambda line: line.check_each_once(b"1"), preemptions=1)


# --- the end ---


@LINES
@pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_close_ends_a_direct_read_and_closes_nothing_under_its_poll(line: type[Line], preemptions: int) -> None:
    def receive(line: Line) -> None:
        try:
            line.receive(2)
        except Closed as reason:
            line.reasons.append(reason)

    def close(line: Line) -> None:
        line.mailbox.close(CLOSED)
        line.loop.stop()  # closes every reader first

    def check(line: Line) -> None:
        line.check_ended()
        assert len(line.reasons) == 1
        assert not line.reader.gates & LENT or line.reader.loan is None

    play(line, [Line.run_loop, receive, close], check, line=line, preemptions=preemptions)
    if preemptions > 1:  # the long way: one thread more, and one preemption
        play(line, [Line.run_loop, receive, close, lambda line: line.arrive(b"1")], check, line=line, preemptions=1)

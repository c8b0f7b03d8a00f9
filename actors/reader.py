"""One socket on a reader thread: who may read it, when it is polled, who closes it.

Guarantees
- One thread reads at a time. Most of the time that is the reader thread, one turn at a time, with `read_lock`. A script that waits in
  `receive` on an empty mailbox borrows the socket and reads it itself (*direct read*), so that no thread changes hands for a message.
- The descriptor is closed only when nobody reads and with `write_lock` held. Closing it under somebody's `poll` or `send` would hand that
  thread the next socket of the same number.
- The mask of the poller follows from `gates` by one pure function, applied under `mutex`; every change goes through `shut` and `open`.

Borrowing is not given back after each message: the `Loan` stays, and the next `receive` of that thread costs no system call for it. The
reader thread looks every few milliseconds which borrowers have stopped reading and takes their sockets back (*sweep*). So a `receive`
that an exception ends at any bytecode leaves nothing undone. While a borrower reads, its loan says `reading`. Nobody ever waits for that,
so it needs no lock: that the loan is in force and that its borrower reads now is seen and said in one step, and so is that it does not
read and that the loan is over. (Between two calls CPython with its global lock switches no threads; without that lock nothing is lent.)

`mutex` owns `gates` and the mask. The right to read (`read_lock`, or a loan in force that says `reading`) owns what `fill` touches. Lock
order: `read_lock`, mailbox or outbox, mutex.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from actors.errors import Broken
from actors.mailbox import LOCKED, Mailbox
from actors.poller import ERR, HUP, IN, OUT, interest
from actors.waiting import READ, Waiter, current
from actors.wakeup import PORTABLE

if TYPE_CHECKING:
    from typing import Any

    from actors.readerthread import ReaderThread

__all__ = ["DELAYED", "ENDED", "FULL", "LENT", "PAUSED", "READ_ON", "RETRY", "SERVING", "SPECIAL", "Reader"]

# Why a socket is not polled for input.
FULL = 1  # the mailbox is above high water
LENT = 2  # a script reads it
SERVING = 4  # its callback runs elsewhere, or its replies wait for the peer to read
ENDED = 8  # no input will come any more
SPECIAL = 16  # what was read waits for the reader thread
PAUSED = 32  # its owner wants nothing read for now
DELAYED = 64  # for a time: its peer sends more than it may, or the system is out of descriptors

# Masks that are none.
UNREGISTERED = -1
UNKNOWN = -2

RETRY = 0.001
READ_ON = 0.02  # when to look again for what TLS has to read, or to say


def _nothing() -> None:
    pass


class Loan:
    """A socket lent to a script's thread. `recv` is the socket's.

    `borrower` is its `waiter` from when it may read: once the turn is over in which the reader thread may have been.
    """

    __slots__ = ("borrower", "reading", "recv", "unswept", "used", "waiter")

    def __init__(self, waiter: Waiter, sock: socket.socket) -> None:
        self.waiter = waiter
        self.recv = sock.recv
        self.borrower: Waiter | None = None
        self.reading = False  # this moment
        self.used = True  # since the sweep last looked
        self.unswept = False  # the sweep has given up on it because its borrower waits for long


class Reader:
    """See the module. `fill` reads once and delivers, called with `read_lock`; `flush` writes on; `hung_up` hears of a dead peer while
    input is not polled. `mailbox` is what a direct read waits for; without one there is none.
    """

    # Slots here and below it: with a thousand busy clients a turn is bound by the cache lines it touches.
    __slots__ = (
        "_flush",
        "_hung_up",
        "_mailbox",
        "_writing",
        "closing",
        "dirty",
        "fd",
        "fill",
        "gates",
        "loan",
        "mask",
        "mutex",
        "read_lock",
        "sock",
        "thread",
        "write_lock",
    )

    def __init__(
        self,
        sock: socket.socket,
        thread: ReaderThread,
        *,
        fill: Callable[[], None],
        flush: Callable[[], None] = _nothing,
        hung_up: Callable[[], None] = _nothing,
        write_lock: Lock | None = None,
        mailbox: Mailbox[Any] | None = None,
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.thread = thread
        self.read_lock = Lock()
        self.write_lock = write_lock or Lock()
        self.mutex = Lock()
        self.fill = fill
        self.gates = 0
        self.mask = UNREGISTERED
        self.loan: Loan | None = None
        self.closing = False
        self.dirty = False  # `fill` was interrupted between reading and delivering
        self._flush = flush
        self._hung_up = hung_up
        self._mailbox = mailbox
        self._writing = False

    def start(self) -> None:
        with self.mutex:
            self.mask = self.wanted()
            self.thread.register(self, self.mask)

    # -- what is polled -----------------------------------------------------------------------------------------------

    def shut(self, gate: int) -> None:
        """Stop polling for input, for one more reason."""
        with self.mutex:
            self.gates |= gate
            self._apply()

    def open(self, gate: int) -> None:
        """Take that reason back."""
        with self.mutex:
            self.gates &= ~gate
            self._apply()  # whatever it was: an interrupt may have cut the last one off

    def pause(self) -> None:
        """`shut(PAUSED)`, also for a borrower that waits for input this moment. From any thread."""
        self.shut(PAUSED)
        loan = self.loan
        if loan is not None:
            loan.borrower = None
            loan.waiter.unpark()  # it comes back, and gives up

    def last_turn(self) -> bool:
        """Read once more, although it is paused. False: somebody else reads this moment. On the reader thread."""
        if not self.revoke() or not self.read_lock.acquire(False):
            return False
        try:
            if self.fd >= 0 and not self.gates & ENDED:
                self.fill()
        finally:
            self.read_lock.release()
        return True

    def set_writing(self, writing: bool) -> None:
        with self.mutex:
            self._writing = writing
            self._apply()

    def wanted(self) -> int:
        """The mask that gates and outbox ask for now. With the mutex."""
        gates = self.gates
        return interest(reading=not gates & ENDED, paused=gates != 0, writing=self._writing)

    def _apply(self) -> None:
        mask = self.wanted()
        if mask != self.mask and self.mask != UNREGISTERED and self.fd >= 0:
            self.mask = UNKNOWN  # until the poller has it
            self.thread.modify(self, mask)
            self.mask = mask

    # -- the reader thread's turn -------------------------------------------------------------------------------------

    def on_ready(self, mask: int) -> None:
        """The poller reported the socket. On the reader thread."""
        if mask & OUT:
            self._flush()
        if mask == OUT:
            return
        if self.gates:
            if mask & (ERR | HUP):
                self._hung_up()
            return
        if self.read_lock.acquire(False):
            try:
                if self.fd >= 0 and not self.gates:
                    self.fill()
            finally:
                self.read_lock.release()

    def read_on(self) -> None:
        """Read although no poller calls (TLS has decrypted more than was asked for), as soon as reading is wanted. On the reader thread."""
        if self.gates & ~ENDED:
            self.thread.call_later(READ_ON, self.read_on)
        elif not self.closing:
            self.on_ready(IN)

    def crashed(self, exc: BaseException) -> None:
        """Reading raised what it never should. It costs this socket, and whoever waits for it hears why."""
        if self._mailbox is not None:
            self._mailbox.end(Broken("", f"reading it failed: {exc!r}"))
        self.release()

    # -- direct read --------------------------------------------------------------------------------------------------

    def direct(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait for input on the caller's own thread and read it into the mailbox. False: the socket can't be borrowed, wait for that."""
        loan = self.loan
        if loan is None or loan.borrower is not waiter:
            loan = self._lend(waiter)
            if loan is None:
                return False
        if loan.reading:
            return False  # the script's signal handler, in the middle of its own read
        if self.gates & PAUSED:
            loan.borrower = None
            self.give_back()
            return False
        mailbox: Any = self._mailbox
        try:
            # Between the caller's look at the mailbox and here, the reader thread may have delivered or taken the socket back.
            if self.loan is loan and not (self.closing or mailbox.items or mailbox.ended or mailbox.returned):
                loan.reading = loan.used = True  # no call stands between that look and this
                if self.dirty or waiter.wait(deadline, self.fd, READ, mailbox):
                    self.fill()
                loan.reading = False
            if loan.unswept or mailbox.awaited:
                self._leave(loan)
            return True
        except BaseException:
            loan.reading = False
            self._leave(loan)
            raise

    def _leave(self, loan: Loan) -> None:
        """A direct read is over: see to it that somebody reads for others who wait, and for the script when it does not come back."""
        if loan.unswept:
            self.thread.call_soon(self._watch)
            loan.unswept = False
        if self._mailbox is not None:
            self._mailbox.share()

    def _lend(self, waiter: Waiter) -> Loan | None:
        if PORTABLE or not LOCKED:
            return None
        loan = self.loan
        if loan is None:
            loan = Loan(waiter, self.sock)
            with self.mutex:
                if self.gates or self.closing:
                    return None
                # First: whatever an interrupt leaves of the three lines below, the sweep finds and mends.
                self.thread.call_soon(self._watch)
                self.gates |= LENT
                self._apply()
                self.loan = loan
        elif loan.waiter is not waiter:
            self.thread.call_soon(self.revoke)  # lent to a thread that is not reading now? Then the reader thread reads for us.
            return None
        with self.read_lock:  # an interrupt may cut this off: then it is waited for again
            loan.borrower = waiter
        return loan

    def _watch(self) -> None:
        with self.mutex:
            if self.gates & LENT:
                self.thread.lent.add(self)

    def sweep(self) -> bool:
        """On the reader thread, every few milliseconds while lent. Returns whether to come back."""
        with self.mutex:
            loan = self.loan
            if loan is None:
                self.gates &= ~LENT  # an interrupt may have cut the lending off
                self._apply()
                return False
        if loan.used:
            loan.used = False
            return True
        loan.unswept = True  # before the try: who reads now looks at this when it leaves
        if self._take_back(loan):
            loan.unswept = False
        return False

    def revoke(self) -> bool:
        """On the reader thread: take the socket back. False: its borrower is reading this moment, or on its way out."""
        loan = self.loan
        return loan is None or self._take_back(loan)

    def _take_back(self, loan: Loan) -> bool:
        # For the reader thread, which no interrupt reaches.
        if loan.reading:
            return False
        if self.loan is loan:
            self.loan = None  # no call stands between the look at `reading` and this
            if self.dirty and not self.closing:
                self.fill()
            with self.mutex:
                self.gates &= ~LENT
                self._apply()
        return True

    def look(self) -> None:
        """Read what is there now without waiting, if the calling thread is the borrower. Else the reader thread has looked already."""
        loan = self.loan
        mailbox: Any = self._mailbox
        if loan is None or mailbox is None or loan.borrower is not current() or loan.reading:
            return
        try:
            if self.loan is loan and not (self.closing or mailbox.items or mailbox.ended or mailbox.returned):
                loan.reading = True  # as in `direct`
                self.fill()
        finally:
            loan.reading = False
            self._leave(loan)

    def give_back(self) -> None:
        """Have the reader thread read from now on, unless another thread is reading this moment."""
        if self.loan is not None:
            self.thread.call_soon(self.revoke)

    # -- the end ------------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Close the descriptor, as soon as nobody reads or writes it. On the reader thread."""
        self.closing = True
        if self.fd < 0:
            return
        loan = self.loan  # after `closing`: a borrower that we do not see here sees `closing`
        if loan is not None:
            loan.borrower = None
            loan.waiter.unpark()
        if not self.revoke() or not self.read_lock.acquire(False):
            self.thread.call_later(RETRY, self.release)
            return
        try:
            with self.write_lock, self.mutex:
                self.thread.unregister(self)
                self.fd = -1
                try:
                    self.sock.close()
                except OSError:
                    pass  # somebody else has closed the number
        finally:
            self.read_lock.release()

"""What the command line says of an error: one line that tells what happened, to which address, and what to do."""

from __future__ import annotations

import contextlib
import errno
import sys

import bus

__all__ = ["FAILED", "NO_READER", "USAGE_ERROR", "complaint", "say", "status_of"]

FAILED = 1
USAGE_ERROR = 2
NO_READER = 141  # 128 + SIGPIPE: what `actorbus sub … | head` gives

REFUSED = {
    errno.ECONNREFUSED: "start the server first, or look whether the port is right",
    errno.ENOENT: "is that the path of a server that runs?",
    errno.ENETUNREACH: "this machine has no way to that network",
    errno.EHOSTUNREACH: "is that machine on, and on this network?",
    errno.EACCES: "the system forbids it to this user",
}
NOT_OPENED = {
    errno.EADDRINUSE: "another program has that address: end it, or take another port (0 picks a free one)",
    errno.EADDRNOTAVAIL: "this machine does not have that address; 0.0.0.0 stands for all that it has",
    errno.EACCES: "the system forbids it to this user (ports below 1024 are for root)",
    errno.ENODEV: "there is no such interface, or no multicast on it",
}


def say(text: str) -> None:
    """A line on stderr, for those who watch."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # nobody does
            sys.stderr.write(f"actorbus: {text}\n")
            sys.stderr.flush()


def complaint(error: BaseException, url: str = "", framing: str | None = None, *, has_timeout: bool = True) -> str:
    """The line. `url`: what the command was about, for an error that does not tell; `framing`: what was spoken on a stream. `has_timeout`:
    the command takes one.

    >>> complaint(bus.ConnectTimeout("10.0.0.1:80", "no answer within 10 s"))
    'cannot connect to 10.0.0.1:80: no answer within 10 s; is the address right? --timeout gives it longer'
    """
    what = str(error) or type(error).__name__
    if isinstance(error, OSError) and not isinstance(error, bus.BusError):
        what = error.strerror or what
        where = error.filename or ("" if what.startswith("cannot") else url)  # the engine's own sentences name the address
        what = f"{where}: {what}" if where else what
    advice = _advice(error, framing, has_timeout)
    return " ".join(f"{what}; {advice}".split() if advice else what.split())


def _advice(error: BaseException, framing: str | None, has_timeout: bool) -> str | None:
    match error:
        case bus.ConnectTimeout():
            return "is the address right?" + " --timeout gives it longer" * has_timeout
        case bus.BadAddress() if "bus.open" in error.reason:
            return "here it is --bus URL of `actorbus pub`, `sub`, `req` and `run`"
        case bus.ConnectFailed() if "refuses us" in error.reason:
            return "who we are stands in the URL (nats://user:password@host), or in the file of --nkey or --creds"
        case bus.ConnectFailed() if "certificate" in error.reason:
            return "--ca FILE trusts the certificates in a file"
        case bus.ConnectFailed():
            return REFUSED.get(error.errno or 0, "is the name spelled right?" if _is_lookup(error) else None)
        case bus.Broken() if framing in ("length", "etx", "lines") and ("max_size" in error.reason or "inside a message" in error.reason):
            return f"does it speak the framing {framing!r}? --framing takes another one, raw any"
        case bus.BusError():
            return None
        case OSError():
            return NOT_OPENED.get(error.errno or 0)
    return None


def _is_lookup(error: BaseException) -> bool:
    return type(error.__cause__).__name__ == "gaierror"


def status_of(error: BaseException) -> int:
    """The exit status: 2 for what the command line asks and nobody can do, 1 for what failed.

    >>> status_of(bus.BadAddress("nowhere", "it has no scheme")), status_of(bus.PeerClosed("127.0.0.1:80"))
    (2, 1)
    """
    wrong = isinstance(error, (bus.BadAddress, ValueError, TypeError)) and not isinstance(error, (bus.TooLarge, UnicodeError))
    return USAGE_ERROR if wrong else FAILED

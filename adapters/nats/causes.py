"""Why there is no connection with a server, in words: whose doing it is, and what to do about it. Pure."""

from __future__ import annotations

import errno
import os
import ssl

from actors.errors import Broken, BusError, ConnectFailed, ConnectTimeout
from actors.tlswords import in_words
from adapters.nats.servers import Credentials

__all__ = ["lost", "no_connection", "no_tls", "too_slow"]

# What the server says ("-ERR 'Authorization Violation'"), in lower case, and what it means.
REFUSALS = {
    "authorization violation": "it refuses us",
    "authentication timeout": "it had no credentials from us within its time",
    "user authentication expired": "our credentials have expired",
    "user authentication revoked": "our credentials were revoked",
    "maximum connections exceeded": "it has as many connections as it takes (max_connections)",
    "secure connection - tls required": "it wants TLS (nats+tls://)",
}
NOBODY = Credentials()

# nats-py's own, by their names, so that this needs no import of it.
STALE = {
    "UnexpectedEOF": "it ended the connection",
    "StaleConnectionError": "it did not answer our pings, or had no answer to its own",
    "ErrStaleConnection": "it did not answer our pings, or had no answer to its own",
}


def no_connection(url: str, exc: BaseException, credentials: Credentials = NOBODY, *, shaken: bool = False) -> BusError:
    """The error for what the client or the system reported. `shaken`: TLS has begun."""
    if isinstance(exc, BusError):
        return exc
    if isinstance(exc, ssl.SSLError):
        return ConnectFailed(url, in_words(exc, server=False, name=url.rpartition("/")[2].rpartition(":")[0])).because(exc)
    if isinstance(exc, TimeoutError):
        return ConnectTimeout(url, "no answer within the timeout").because(exc)
    if isinstance(exc, ConnectionError) and (shaken or not exc.errno):
        hint = " after the TLS handshake: does it want a certificate of ours (cert=)?" if shaken else " before it let us in"
        return ConnectFailed(url, f"it ended the connection{hint}").because(exc)
    if isinstance(exc, OSError):
        return ConnectFailed(url, f"{exc.filename}: {exc.strerror}" if exc.filename else _system(exc)).because(exc)
    if isinstance(exc, UnicodeError):
        return ConnectFailed(url, "it answers, and not as a NATS server does").because(exc)
    if isinstance(exc, ValueError):  # a file that was in order at the first connection
        return ConnectFailed(url, str(exc)).because(exc)
    return ConnectFailed(url, _server(str(exc), credentials)).because(exc)


def _system(exc: OSError) -> str:
    # With several addresses of one name asyncio reports them in one text, without a number.
    if exc.errno == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in str(exc):
        return "refused; nothing listens there"
    return os.strerror(exc.errno).lower() if exc.errno and exc.errno > 0 else str(exc) or type(exc).__name__


def _server(said: str, credentials: Credentials) -> str:
    """What a server said, or that it said nothing a NATS server says."""
    said = said.removeprefix("nats: ").strip()
    reason = said.strip("'").lower()
    if "expecting info" in reason or "json parse" in reason:
        return "it answers, and not as a NATS server does"
    for known, words in REFUSALS.items():
        if known in reason:
            shown = credentials.kind
            if known != "authorization violation":
                return words
            if shown == "none":
                return f"{words} without credentials (user=, password=, token=, nkey= or creds=): {said}"
            return f"{words}, with {shown}: {said}"
    return f"it says {said}"


def no_tls(url: str) -> ConnectFailed:
    """TLS was asked for, and the server offers none: nothing secret was sent."""
    return ConnectFailed(url, "it offers no TLS (a server for nats://?), and was shown no credentials")


def too_slow(url: str, connected: bool, shaking: bool) -> ConnectTimeout:
    """The time is over: before a connection, in its TLS handshake, or while the server is silent."""
    if shaking:
        return ConnectTimeout(url, "it did not finish the TLS handshake within the timeout")
    if connected:
        return ConnectTimeout(url, "it took the connection and then said nothing within the timeout: is that a NATS server?")
    return ConnectTimeout(url, "no answer within the timeout")


def lost(url: str, exc: BaseException | None, credentials: Credentials = NOBODY) -> Broken:
    """The error for a connection that there was."""
    if exc is None:
        return Broken(url, "it was closed")
    if type(exc).__name__ in STALE:
        return Broken(url, STALE[type(exc).__name__])
    if isinstance(exc, OSError):
        return Broken(url, _system(exc))
    return Broken(url, _server(str(exc), credentials))

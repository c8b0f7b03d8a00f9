"""NATS as the engine behind topics: `bus.open("nats://host:4222")` finds `open` here. Needs the extra `nats`."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import TYPE_CHECKING

from actors.certificates import load_context
from actors.waiting import deadline_after
from adapters.nats.credentials import choose
from adapters.nats.servers import parse

if TYPE_CHECKING:
    import ssl

    from actors.certificates import Path
    from actors.telling import OnState
    from adapters.nats.engine import NatsEngine

__all__ = ["open"]


def open(
    url: str,
    *,
    timeout: float | None = 10.0,
    on_state: OnState | None = None,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    nkey: Path | None = None,
    creds: Path | None = None,
    tls: ssl.SSLContext | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    ca: Path | None = None,
) -> NatsEngine:
    """The connected engine, for `bus.open`, which see. `url`: `nats://[user:password@ or token@]host[:port][,host[:port] …]`.

    A server that wants TLS gets it, also with `nats://`; `nats+tls://`, or giving `tls` or a file for it, insists: a server without it gets
    no credentials, and no message. The servers of a cluster that were not named are found by themselves.

    Raises BadAddress, ConnectFailed, ConnectTimeout, OSError and ValueError (for files), TypeError, ModuleNotFoundError without the extra.
    """
    servers = parse(url)
    servers = servers._replace(credentials=choose(servers.credentials, user, password, token, nkey, creds))
    if tls is not None and not hasattr(tls, "wrap_bio"):
        raise TypeError(f"tls must be an ssl.SSLContext, not {type(tls).__name__}; paths of files are cert=, key= and ca=")
    if tls is not None and (cert is not None or ca is not None):
        raise ValueError("tls and cert or ca can't be given together: an SSLContext holds its own certificates")
    if key is not None and cert is None:
        raise ValueError("key is the private key of a certificate: give cert, too")
    if cert is not None or ca is not None:
        tls = load_context(server=False, cert=cert, key=key, ca=ca)
    servers = servers._replace(encrypted=servers.encrypted or tls is not None)
    try:
        from adapters.nats.engine import NatsEngine
        from adapters.nats.transport import Transport
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "nats":
            raise
        raise ModuleNotFoundError("topics over NATS need the package nats-py: pip install actorbus[nats]", name="nats") from None
    name = f"actorbus {socket.gethostname()} {os.getpid()}"
    engine = NatsEngine(partial(Transport, servers, tls=tls, name=name), on_state)
    engine.start(deadline_after(timeout))
    return engine

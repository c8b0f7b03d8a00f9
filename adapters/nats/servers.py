"""Which servers a URL names, and what they are shown. Pure."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from actors.errors import BadAddress
from bus.endpoints import split_address

__all__ = ["PORT", "SCHEMES", "Credentials", "Servers", "parse"]

PORT = 4222  # NATS's own
SCHEMES = ("nats", "nats+tls")


class Credentials(NamedTuple):
    """What a server is shown: a user with a password, a token, the signature of the key whose seed is in a file, or that with the
    JWT of a .creds file; or nothing.
    """

    user: str | None = None
    password: str | None = None
    token: str | None = None
    nkey: str | None = None
    creds: str | None = None

    def __repr__(self) -> str:
        return f"<Credentials: {self.kind}>"  # a tuple's own would show the password

    @property
    def kind(self) -> str:
        """In words, for an error text."""
        if self.user is not None:
            return f"user {self.user!r} with a password"
        kinds = {"a token": self.token, "an nkey": self.nkey, "a .creds file": self.creds}
        return next((kind for kind, value in kinds.items() if value is not None), "none")


class Servers(NamedTuple):
    """The addresses ("host:port") of one NATS system, whether TLS is a must, and what the URL said about who comes."""

    addresses: tuple[str, ...]
    encrypted: bool
    credentials: Credentials

    def __str__(self) -> str:
        return f"{SCHEMES[self.encrypted]}://{','.join(self.addresses)}"


def parse(url: str) -> Servers:
    """The servers of `nats://[user:password@ or token@]host[:port][,host[:port] …]`; `nats+tls://` insists on TLS.

    Raises BadAddress, which shows no password, and TypeError.

    >>> str(parse("nats://ali:sesame@one.example,two.example:4333"))
    'nats://one.example:4222,two.example:4333'
    """
    if not isinstance(url, str):
        raise TypeError(f"an address must be a str like 'nats://127.0.0.1:4222', not {type(url).__name__}")
    scheme, separator, rest = url.partition("://")
    who, at, hosts = rest.rpartition("@")
    shown = f"{scheme}{separator}{'…@' * bool(at)}{hosts}"
    if scheme not in SCHEMES or not separator:
        raise BadAddress(shown, f"NATS is reached by {' and '.join(f'{known}://' for known in SCHEMES)}")
    hosts = hosts.removesuffix("/")
    if any(character in hosts for character in "/?#"):
        raise BadAddress(shown, "a NATS URL has hosts and ports only")
    if "@" in who or "," in who:
        raise BadAddress(f"{scheme}://…@{hosts}", "user and password stand once, before the first host; in them write %40 for @, %2C for ,")
    addresses = tuple(_with_port(host.strip(), shown) for host in hosts.split(","))
    return Servers(addresses, scheme == SCHEMES[1], _credentials(who) if at else Credentials())


def _with_port(host: str, shown: str) -> str:
    has_port = host.rpartition("]")[2].count(":") if host.startswith("[") else host.count(":")
    _, port = split_address(host if has_port else f"{host}:{PORT}", shown)
    if port == 0:
        raise BadAddress(shown, "port 0 is for those who listen")
    return host if has_port else f"{host}:{PORT}"


def _credentials(who: str) -> Credentials:
    user, colon, password = who.partition(":")
    if colon:
        return Credentials(user=unquote(user), password=unquote(password))
    return Credentials(token=unquote(user))

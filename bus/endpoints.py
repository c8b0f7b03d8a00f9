"""Endpoint URLs: `tcp://host:port`, `udp://host:port`, `unix:///path`. Pure."""

from __future__ import annotations

import os
from typing import NamedTuple

from actors.errors import BadAddress

__all__ = ["Endpoint", "parse", "split_address"]

TOPICS = ("nats", "nats+tls")  # what engines for topics take, and no verb of connections does


class Endpoint(NamedTuple):
    """What a URL names. `path` is for `unix`, `ws` and `wss` only; `host` is without brackets."""

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse(url: str, verb: str, verbs: dict[str, str]) -> Endpoint:
    """The endpoint that a URL names, for `verb`; `verbs` maps every scheme to the verbs that take it, for the error text.

    Raises BadAddress for what is malformed and for a scheme that this verb does not take, TypeError for what is not a str.

    >>> parse("tcp://[::1]:8080", "connect", {"tcp": "connect, listen"})
    Endpoint(scheme='tcp', host='::1', port=8080, path='')
    """
    if not isinstance(url, str):
        raise TypeError(f"an address must be a str like 'tcp://127.0.0.1:8080', not {type(url).__name__}")
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise BadAddress(url, "it has no scheme; write for example tcp://" + url)
    _, at, where = rest.rpartition("@")
    shown = f"{scheme}://…@{where}" if at and scheme != "unix" else url  # without a password
    if scheme in TOPICS:
        raise BadAddress(shown, f"{scheme}:// carries topics: bus.open takes it, then bus.publish, bus.subscribe, bus.request, bus.respond")
    if scheme not in verbs:
        raise BadAddress(shown, f"unknown scheme {scheme!r}; there are {', '.join(sorted(verbs))}")
    if verb not in verbs[scheme].split(", "):
        raise BadAddress(shown, f"{verb} does not take {scheme}://; use {verbs[scheme]}")
    if scheme == "unix":
        from urllib.parse import unquote

        path = unquote(rest, errors="surrogateescape")
        if not path:
            raise BadAddress(url, "it has no path; write for example unix:///run/app.sock")
        if "\0" in path or not _is_path(path):
            raise BadAddress(url, "no file can have this path")
        return Endpoint("unix", "", 0, path)
    if scheme in ("ws", "wss"):
        return _websocket(url, verb, scheme, rest)
    if rest.endswith("/"):
        rest = rest[:-1]
    if "@" in rest:
        raise BadAddress(f"{scheme}://…@{rest.rpartition('@')[2]}", f"{scheme}:// takes no user or password")
    host, port = split_address(rest, url)
    return Endpoint(scheme, host, port)


def _websocket(url: str, verb: str, scheme: str, rest: str) -> Endpoint:
    if verb == "connect":  # a URL in all its generality, for a parser of those
        from actors.wsclient import parse_url

        uri = parse_url(url)
        return Endpoint(scheme, uri.host, uri.port, uri.resource_name)
    authority, slash, path = rest.partition("/")
    if "@" in authority or "?" in rest or "#" in rest:
        raise BadAddress(f"{scheme}://{authority.rpartition('@')[2]}", "to serve, a WebSocket URL has a host, a port and a path at most")
    host, port = split_address(authority, url)
    return Endpoint(scheme, host, port, slash + path)


def _is_path(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return False
    return True


def split_address(address: str, shown: str | None = None) -> tuple[str, int]:
    """Host and port of "host:port" or "[ip6]:port". Raises BadAddress, showing `shown` or the address itself.

    >>> split_address("[fe80::1%eth0]:9")
    ('fe80::1%eth0', 9)
    """
    if not isinstance(address, str):
        raise TypeError(f"an address must be a str like '127.0.0.1:8080', not {type(address).__name__}")
    shown = address if shown is None else shown
    if "://" in address:
        raise BadAddress(shown, "it takes a host and a port without a scheme, like 127.0.0.1:8080")
    host, separator, port_text = address.rpartition(":")
    if not separator or host.endswith(":") or (host.startswith("[") != host.endswith("]")):
        raise BadAddress(shown, "it needs a host and a port, like 127.0.0.1:8080 or [::1]:8080")
    if host.startswith("["):
        host = host[1:-1]
        if ":" not in host:
            raise BadAddress(shown, "brackets are for IPv6 addresses")
    elif ":" in host:
        raise BadAddress(shown, "an IPv6 address needs brackets, like [::1]:8080")
    if not host:
        raise BadAddress(shown, "it has no host; 0.0.0.0 stands for every IPv4 interface, [::] for IPv4 and IPv6")
    if any(character in host for character in " /?#\\\0\t\r\n"):
        raise BadAddress(shown, "a host has none of these characters: / ? # \\ or space")
    # The length first: int() refuses thousands of digits with a ValueError of its own.
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and int(port_text) <= 65535):
        raise BadAddress(shown, f"the port must be a number from 0 to 65535, not {port_text!r}")
    return host, int(port_text)

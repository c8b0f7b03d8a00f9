"""NATS's protocol, as far as we write it ourselves, and what JetStream puts into the subject of a reply. Pure."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["delivery", "publication"]

VERSION = "NATS/1.0\r\n"


def publication(topic: str, payload: bytes, headers: Mapping[str, str], reply_to: str | None) -> bytes:
    r"""The command that publishes a message.

    >>> publication("robots.arm", b"hi", {}, None)
    b'PUB robots.arm 2\r\nhi\r\n'
    >>> publication("robots.arm", b"hi", {"From": "here"}, "_INBOX.1")
    b'HPUB robots.arm _INBOX.1 26 28\r\nNATS/1.0\r\nFrom: here\r\n\r\nhi\r\n'
    """
    where = topic.encode() if reply_to is None else f"{topic} {reply_to}".encode()
    if not headers:
        return b"PUB %b %d\r\n%b\r\n" % (where, len(payload), payload)
    block = "".join([VERSION, *(f"{name}: {value}\r\n" for name, value in headers.items()), "\r\n"]).encode()
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (where, len(block), len(block) + len(payload), block, payload)


def delivery(reply_to: str) -> tuple[int, int]:
    """How often JetStream has delivered a message, this time included, and its number in the stream, by where its acknowledgement is to go;
    (0, 0) if it is none of JetStream's.

    >>> delivery("$JS.ACK.orders.till.2.17.4.1700000000000000000.0")
    (2, 17)
    """
    tokens = reply_to.split(".")
    if tokens[:2] != ["$JS", "ACK"] or len(tokens) < 9:
        return 0, 0
    at = 4 if len(tokens) < 11 else 6  # newer servers put a domain and an account in front of the stream
    times, number = tokens[at : at + 2]
    known = all(word.isascii() and word.isdigit() and len(word) <= 20 for word in (times, number))
    return (int(times), int(number)) if known else (0, 0)

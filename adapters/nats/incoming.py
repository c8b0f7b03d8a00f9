"""What a server sends, taken apart in place of nats-py's parser: no message that somebody publishes can end another's connection.

nats-py (2.16) takes vertical tabs and form feeds for blanks, which a server lets through in a topic, and gives the connection up. At a
topic that is no UTF-8, or headers cut short, it stops reading without a word, and is deaf until two pings are missed. Here all of that is
some message. Only what the server itself says wrong is an error, and then it is told. Pure, but for the client that is called.

Headers are taken apart when their message is taken. Until then they are bytes, and counted as such, so that many of them cost no more.
"""

from __future__ import annotations

import json
from typing import Any

from nats.errors import ProtocolError

from actors.topics import NO_HEADERS, Headers

__all__ = ["Incoming", "Parser", "headers_in"]

MAX_LINE = 1024 * 1024  # of a command; an INFO of a large cluster is the longest
CRLF = b"\r\n"
VERSION = "NATS/1.0"


class Incoming:
    """A message as it came. `data` is all of it, the `block` of headers (so many bytes) first, for nats-py to count."""

    __slots__ = ("block", "data", "reply", "subject")

    def __init__(self, subject: str, reply: str, data: bytes, block: int) -> None:
        self.subject = subject
        self.reply = reply
        self.data = data
        self.block = block

    @property
    def payload(self) -> bytes:
        """Without the headers."""
        return self.data[self.block :] if self.block else self.data

    @property
    def headers(self) -> Headers:
        """Taken apart each time."""
        return headers_in(self.data[: self.block]) if self.block else NO_HEADERS


def headers_in(block: bytes) -> Headers:
    r"""The headers of a message, whatever somebody has written there; a server's word on a request is in "Status" and "Description".

    >>> headers_in(b"NATS/1.0\r\nFrom: here\r\nno header\r\n\r\n"), headers_in(b"NATS/1.0 404 No Messages\r\n\r\n")
    ({'From': 'here'}, {'Status': '404', 'Description': 'No Messages'})
    """
    first, *lines = block.decode("utf-8", "replace").split("\r\n")
    version, _, said = first.partition(" ")
    if version != VERSION:
        return NO_HEADERS
    status, _, description = said.strip().partition(" ")
    headers = {"Status": status} if status.isascii() and status.isdigit() else {}
    if description:
        headers["Description"] = description
    for line in lines:
        name, _, value = line.partition(":")
        if value and name.strip():
            headers[name.strip()] = value.strip()
    return headers


class Parser:
    """In place of nats-py's: `client` is told what has come, message by message. Raises ProtocolError."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.reset()

    def reset(self) -> None:
        self._buffer = bytearray()
        self._message: tuple[int, bytes, bytes, int, int] | None = None  # whose line has come: sid, subject, reply, block, size

    async def parse(self, data: bytes = b"") -> None:
        self._buffer += data
        try:
            await self._take_all()
        except (ProtocolError, OSError):
            raise
        except Exception as exc:  # anything else would end nats-py's reading, and nothing but that
            raise ProtocolError from exc

    async def _take_all(self) -> None:
        buffer, at = self._buffer, 0
        try:
            while True:
                if self._message is None:
                    end = buffer.find(CRLF, at)
                    if end < 0:
                        break
                    verb, _, rest = bytes(buffer[at:end]).partition(b" ")
                    at = end + 2
                    if verb == b"MSG" or verb == b"HMSG":
                        self._message = _announced(verb, rest.split(b" "))
                    else:
                        await self._command(verb, rest)
                else:
                    sid, subject, reply, block, size = self._message
                    if len(buffer) < at + size + 2:
                        return
                    whole = bytes(buffer[at : at + size])
                    at += size + 2
                    self._message = None
                    await self._client._process_msg(sid, subject, reply, whole[block:], whole[:block])
        finally:
            del buffer[:at]
        if len(buffer) > MAX_LINE:
            raise ProtocolError

    async def _command(self, verb: bytes, rest: bytes) -> None:
        match verb:
            case b"PING":
                await self._client._process_ping()
            case b"PONG":
                await self._client._process_pong()
            case b"INFO":
                await self._client._process_info(json.loads(rest))
            case b"-ERR":
                await self._client._process_err(rest.decode("utf-8", "replace").lower())
            case b"+OK":
                pass
            case _:
                raise ProtocolError


def _announced(verb: bytes, words: list[bytes]) -> tuple[int, bytes, bytes, int, int]:
    r"""What the line of a message says: subscription, subject, where to reply, bytes of headers, bytes in all.

    >>> _announced(b"HMSG", [b"robots.arm", b"7", b"_INBOX.1", b"12", b"40"])
    (7, b'robots.arm', b'_INBOX.1', 12, 40)
    """
    reply = b""
    if verb == b"MSG":
        block = b"0"
        if len(words) == 3:
            subject, sid, size = words
        else:
            subject, sid, reply, size = words
    elif len(words) == 4:
        subject, sid, block, size = words
    else:
        subject, sid, reply, block, size = words
    announced = int(sid), subject, reply, int(block), int(size)
    if not 0 <= announced[3] <= announced[4]:
        raise ProtocolError
    return announced

"""The little HTTP that comes before a WebSocket: what was asked, and a plain answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "HEAD_END",
    "MAX_HEAD",
    "Answer",
    "Request",
    "Response",
    "check_header",
    "encode_answer",
    "phrase",
]

HEAD_END = b"\r\n\r\n"
MAX_HEAD = 64 * 1024


def phrase(status: int) -> str:
    """What a status means, as a line.

    >>> phrase(404)
    'Not Found\\n'
    """
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase + "\n"
    except ValueError:
        return "\n"


def check_header(name: Any, value: Any) -> None:
    """Raises TypeError or ValueError for what is no header (RFC 9110, section 5), or would smuggle another one in."""
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"headers must map str to str, not {type(name).__name__} to {type(value).__name__}")
    if not name or not all(character.isalnum() or character in "!#$%&'*+-.^_`|~" for character in name) or not name.isascii():
        raise ValueError(f"{name!r} is no header name (RFC 9110, section 5.1)")
    if any(character in value for character in "\r\n\0"):
        raise ValueError(f"the value of the header {name} has a line break or a NUL in it")


@dataclass(frozen=True)
class Request:
    """What a client asks for: the path as it was sent (with a query, if any), the headers by name, and where it comes from.

    >>> Request("/chat?room=1", {"Host": "here"}, "127.0.0.1:9").path
    '/chat?room=1'
    """

    path: str
    headers: Mapping[str, str]
    remote_address: str = ""
    method: str = "GET"


@dataclass(frozen=True)
class Response:
    """A plain HTTP answer to a request that is not to become a WebSocket. `body`: bytes, or a str that goes out as UTF-8.

    >>> Response(401, "who are you?", {"WWW-Authenticate": "Basic"}).status
    401
    """

    status: int = 200
    body: str | bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """The bytes on the wire. Raises TypeError, ValueError for headers that cannot be sent."""
        status: Any = self.status
        given: Any = self.body
        if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
            raise ValueError(f"status must be an int from 200 to 599, not {status!r}")
        if not isinstance(given, (str, bytes)):
            raise TypeError(f"body must be str or bytes, not {type(given).__name__}")
        body = given.encode() if isinstance(given, str) else given
        headers: dict[str, str] = {}
        if body and "content-type" not in {name.lower() for name in self.headers}:
            headers["Content-Type"] = f"text/{'html' if body.lstrip()[:1] == b'<' else 'plain'}; charset=utf-8"
        # Said once, whatever the case: two lengths are what requests are smuggled with (RFC 9112, section 6.3).
        headers |= {name: value for name, value in self.headers.items() if name.lower() not in ("content-length", "connection")}
        headers |= {"Content-Length": str(len(body)), "Connection": "close"}
        for name, value in headers.items():
            check_header(name, value)
        lines = [f"HTTP/1.1 {self.status} {phrase(self.status).strip()}", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join((*lines, "", "")).encode("latin-1", "replace") + body


def encode_answer(answer: Any) -> bytes | None:
    """The bytes of what `on_request` gave; None to go on. Raises TypeError, ValueError for what is no answer."""
    if answer is None:
        return None
    if isinstance(answer, int) and not isinstance(answer, bool):
        answer = Response(answer, phrase(answer))
    if not isinstance(answer, Response):
        raise TypeError(f"on_request must give None, a status or a Response, not {type(answer).__name__}")
    return answer.encoded()


Answer = Response | int | None

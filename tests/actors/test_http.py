"""The little HTTP before a WebSocket: what a plain answer looks like on the wire, and that no header smuggles another one in."""

from __future__ import annotations

from http.client import HTTPResponse
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.http import Request, Response, check_header, phrase


class Bytes:
    """What `http.client` reads from instead of a socket."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self.data)


def read(data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body, as another implementation understands them."""
    response = HTTPResponse(Bytes(data))  # type: ignore[arg-type]
    response.begin()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def test_an_answer_on_the_wire() -> None:
    assert Response(401, "who are you?", {"WWW-Authenticate": "Basic"}).encoded() == (
        b"HTTP/1.1 401 Unauthorized\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"WWW-Authenticate: Basic\r\n"
        b"Content-Length: 12\r\n"
        b"Connection: close\r\n\r\n"
        b"who are you?"
    )


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("<!doctype html><p>für 5 €", "text/html; charset=utf-8"),
        ("\n  <p>", "text/html; charset=utf-8"),
        (b"<p>", "text/html; charset=utf-8"),
        ("plain ü", "text/plain; charset=utf-8"),
        (b"\x00\xff", "text/plain; charset=utf-8"),
        ("", None),
    ],
)
def test_a_body_goes_out_with_its_length_and_a_type(body: str | bytes, content_type: str | None) -> None:
    status, headers, received = read(Response(body=body).encoded())
    expected = body.encode() if isinstance(body, str) else body
    assert (status, received) == (200, expected)
    assert headers["content-length"] == str(len(expected))
    assert headers["connection"] == "close"
    assert headers.get("content-type") == content_type


def test_own_headers_are_kept_in_any_case() -> None:
    _, headers, _ = read(Response(200, "{}", {"content-type": "application/json", "X-More": "yes"}).encoded())
    assert headers["content-type"] == "application/json"
    assert headers["x-more"] == "yes"


@pytest.mark.parametrize("name", ["Content-Length", "content-length", "CONNECTION"])
def test_the_length_is_said_once_and_is_ours(name: str) -> None:
    head, _, body = Response(200, "four", {name: "9999"}).encoded().partition(b"\r\n\r\n")
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert len(names) == len(set(names))
    assert b"9999" not in head
    assert body == b"four"


@given(st.integers(200, 599), st.binary(max_size=40) | st.text(max_size=40))
def test_every_status_and_body_is_understood(status: int, body: bytes | str) -> None:
    if status in (204, 304):
        return  # these have none
    got, _, received = read(Response(status, body).encoded())
    assert (got, received) == (status, body.encode() if isinstance(body, str) else body)


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b"])
def test_a_value_with_a_line_break_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        check_header("X-Mine", value)
    with pytest.raises(ValueError, match="line break"):
        Response(200, "", {"X-Mine": value}).encoded()


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\n", "ü", "a(b)", "²", "a\0"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="header name"):
        check_header(name, "value")


@pytest.mark.parametrize(("name", "value"), [("X", 1), ("X", None), (b"X", "a"), ("X", b"a"), (1, "a")])
def test_headers_are_text(name: Any, value: Any) -> None:
    with pytest.raises(TypeError, match="str"):
        check_header(name, value)


@pytest.mark.parametrize("name", ["X-A", "sec-websocket-protocol", "a!#$%&'*+-.^_`|~9"])
def test_a_good_header_is_none_of_its_business(name: str) -> None:
    check_header(name, "any; text=\"ü\"\t")


@pytest.mark.parametrize(("status", "text"), [(200, "OK\n"), (404, "Not Found\n"), (426, "Upgrade Required\n"), (599, "\n")])
def test_what_a_status_means(status: int, text: str) -> None:
    assert phrase(status) == text


def test_a_request_says_what_was_asked() -> None:
    request = Request("/a?b=c", {"Host": "here"}, "127.0.0.1:9")
    assert (request.method, request.path, request.remote_address) == ("GET", "/a?b=c", "127.0.0.1:9")
    with pytest.raises(AttributeError):
        request.path = "/other"  # type: ignore[misc]

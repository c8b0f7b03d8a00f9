"""Every URL is an endpoint or a BadAddress that says why, for the verb that was used."""

from __future__ import annotations

import re
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.errors import BadAddress
from bus.arguments import VERBS
from bus.endpoints import Endpoint, parse, split_address
from tests.fuzz.parsers import PARSERS, SEEDS
from tests.fuzz.strategies import spoilt

GOOD = {
    "tcp://127.0.0.1:8080": Endpoint("tcp", "127.0.0.1", 8080),
    "tcp://localhost:0": Endpoint("tcp", "localhost", 0),
    "tcp://0.0.0.0:65535": Endpoint("tcp", "0.0.0.0", 65535),
    "tcp://host.example:80/": Endpoint("tcp", "host.example", 80),
    "tcp://[::1]:8080": Endpoint("tcp", "::1", 8080),
    "tcp://[::]:8080": Endpoint("tcp", "::", 8080),
    "tcp://[fe80::1%eth0]:8080": Endpoint("tcp", "fe80::1%eth0", 8080),
    "tcp://[::ffff:10.0.0.1]:1": Endpoint("tcp", "::ffff:10.0.0.1", 1),
    "tcp://xn--bcher-kva.example:80": Endpoint("tcp", "xn--bcher-kva.example", 80),
    "tcp://bücher.example:80": Endpoint("tcp", "bücher.example", 80),
    "tcp://my_host-1:00080": Endpoint("tcp", "my_host-1", 80),
    "udp://10.0.0.5:9090": Endpoint("udp", "10.0.0.5", 9090),
    "unix:///run/app.sock": Endpoint("unix", "", 0, "/run/app.sock"),
    "unix://relative.sock": Endpoint("unix", "", 0, "relative.sock"),
    "unix:///with%20space/ü": Endpoint("unix", "", 0, "/with space/ü"),
    "unix:///a:b@c?d#e": Endpoint("unix", "", 0, "/a:b@c?d#e"),
    "unix:///bytes/%ff": Endpoint("unix", "", 0, "/bytes/\udcff"),
    "unix:///bytes/\udcff": Endpoint("unix", "", 0, "/bytes/\udcff"),
}

BAD = {
    # what is wrong with it, as the error says it
    "": "no scheme",
    "127.0.0.1:8080": "write for example tcp://127.0.0.1:8080",
    "tcp:127.0.0.1:8080": "no scheme",
    "://127.0.0.1:80": "unknown scheme",
    "http://127.0.0.1:80": "unknown scheme 'http'",
    "TCP://127.0.0.1:80": "unknown scheme 'TCP'",
    "nats://127.0.0.1:80": "nats:// carries topics: bus.open takes it",
    "tcp://": "a host and a port",
    "tcp://127.0.0.1": "a host and a port",
    "tcp://:8080": "no host",
    "tcp://127.0.0.1:": "the port must be a number",
    "tcp://127.0.0.1:-1": "the port must be a number",
    "tcp://127.0.0.1:+1": "the port must be a number",
    "tcp://127.0.0.1:65536": "from 0 to 65535",
    "tcp://127.0.0.1:80a": "the port must be a number",
    "tcp://127.0.0.1:8_0": "the port must be a number",
    "tcp://127.0.0.1: 80": "the port must be a number",
    "tcp://127.0.0.1:٣": "the port must be a number",
    "tcp://127.0.0.1:²": "the port must be a number",
    "tcp://127.0.0.1:80/path": "the port must be a number",
    "tcp://127.0.0.1:80//": "the port must be a number",
    "tcp://127.0.0.1:80?a=b": "the port must be a number",
    "tcp://127.0.0.1:" + "9" * 5000: "the port must be a number",
    "tcp://::1:80": "brackets",
    "tcp://fe80::1": "a host and a port, like 127.0.0.1:8080 or [::1]:8080",
    "tcp://[::1]": "a host and a port",
    "tcp://[::1:80": "a host and a port",
    "tcp://::1]:80": "a host and a port",
    "tcp://[127.0.0.1]:80": "brackets are for IPv6",
    "tcp://[]:80": "brackets are for IPv6",
    "tcp://a b:80": "a host has none of these",
    "tcp://a/b:80": "a host has none of these",
    "tcp://a\0:80": "a host has none of these",
    "tcp://a\n:80": "a host has none of these",
    "tcp://tcp://a:80": "without a scheme",
    "unix://": "no path",
    "unix:///a%00b": "no file can have this path",
    "unix:///a\0b": "no file can have this path",
    "unix:///\ud800": "no file can have this path",
}


@pytest.mark.parametrize("url", GOOD)
def test_a_good_url_is_an_endpoint(url: str) -> None:
    verb = VERBS[url.partition("://")[0]].split(", ")[0]
    assert parse(url, verb, VERBS) == GOOD[url]


@pytest.mark.parametrize("url", GOOD)
def test_an_endpoint_as_text_leads_back_to_it(url: str) -> None:
    endpoint = GOOD[url]
    assert parse(str(endpoint), "connect", VERBS) == endpoint


@pytest.mark.parametrize("url", BAD, ids=lambda url: repr(url[:40]))
def test_a_bad_url_is_told_what_is_wrong_with_it(url: str) -> None:
    with pytest.raises(BadAddress) as caught:
        parse(url, "connect", VERBS)
    assert BAD[url] in str(caught.value)
    assert caught.value.address == url


@pytest.mark.parametrize("scheme", VERBS)
@pytest.mark.parametrize("verb", ["connect", "listen", "bind", "join", "serve"])
def test_the_wrong_verb_is_told_the_right_ones(scheme: str, verb: str) -> None:
    url = {"unix": "unix:///run/app.sock"}.get(scheme, f"{scheme}://127.0.0.1:80")
    if verb in VERBS[scheme].split(", "):
        assert parse(url, verb, VERBS).scheme == scheme
    else:
        with pytest.raises(BadAddress) as caught:
            parse(url, verb, VERBS)
        assert str(caught.value).endswith(f"{verb} does not take {scheme}://; use {VERBS[scheme]}")


@pytest.mark.parametrize("url", ["tcp://user:secret@127.0.0.1:80", "tcp://secret@host:80", "udp://a:secret@b@c:80", "tcp://:secret@:x"])
def test_a_password_is_refused_and_never_shown(url: str) -> None:
    with pytest.raises(BadAddress, match="no user or password") as caught:
        parse(url, "connect", VERBS)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(caught.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nats+tls://ali:secret@127.0.0.1:80", "bad address 'nats+tls://…@127.0.0.1:80': nats+tls:// carries topics"),
        ("gopher://ali:se/secret@there", "'gopher://…@there': unknown scheme"),
        ("ws://ali:secret@127.0.0.1:80", "'ws://…@127.0.0.1:80': listen does not take ws://"),
    ],
)
def test_a_password_in_another_url_is_never_shown(url: str, says: str) -> None:
    with pytest.raises(BadAddress, match=re.escape(says)) as caught:
        parse(url, "listen", VERBS)
    assert "secret" not in repr(caught.value)


@pytest.mark.parametrize("url", [None, 8080, b"tcp://127.0.0.1:80", ("127.0.0.1", 80), object()])
def test_what_is_no_str_is_a_type_error(url: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(url).__name__}$"):
        parse(url, "connect", VERBS)
    with pytest.raises(TypeError, match=f"not {type(url).__name__}$"):
        split_address(url)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "localhost:9", "[::1]:9"])
def test_an_address_is_split_in_two(address: str) -> None:
    host, port = split_address(address)
    assert (host, port) == (address.rpartition(":")[0].strip("[]"), 9)


def test_an_address_with_a_scheme_is_told_so() -> None:
    with pytest.raises(BadAddress, match="without a scheme"):
        split_address("udp://127.0.0.1:9")


pieces = st.lists(
    st.sampled_from(
        [*VERBS, "ws", "://", ":", "/", "@", "[", "]", "%", "%00", "::1", "127.0.0.1", "80", "65536", "-1", " ", "\0", "\ud800", "é", "?"]
    )
    | st.text(string.printable, max_size=3),
    max_size=8,
).map("".join)


@given(pieces | st.text(st.characters()), st.sampled_from(["connect", "listen", "bind", "join", "serve"]))
@example("tcp://a:" + "1" * 4301, "connect")
def test_any_text_is_an_endpoint_or_a_bad_address(text: str, verb: str) -> None:
    try:
        endpoint = parse(text, verb, VERBS)
    except BadAddress:
        return
    assert isinstance(endpoint, Endpoint)
    assert verb in VERBS[endpoint.scheme].split(", ")
    if endpoint.scheme == "unix":
        assert endpoint.path
    else:
        assert endpoint.host
        assert 0 <= endpoint.port <= 65535
        assert parse(str(endpoint), verb, VERBS) == endpoint


@given(spoilt(SEEDS["url"], [b"@", b"#", b"%", b"[", b"]", b":", b"//", b"?"]))
def test_a_url_that_was_spoilt_is_an_endpoint_or_a_bad_address(data: bytes) -> None:
    PARSERS["url"](data)


@given(pieces | st.text(st.characters()))
def test_any_address_is_split_or_is_a_bad_address(text: str) -> None:
    try:
        host, port = split_address(text)
    except BadAddress:
        return
    assert host
    assert 0 <= port <= 65535

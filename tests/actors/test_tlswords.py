"""What went wrong in TLS, in words. How it comes about is tested on sockets, in tests/bus/test_tls_trust.py and its neighbours."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from actors.tlswords import in_words

NOW = ssl.cert_time_to_seconds("Jun  1 12:00:00 2026 GMT")


def failure(reason: str | None) -> ssl.SSLError:
    exc = ssl.SSLError(1, f"[SSL] {reason} (_ssl.c:1)")
    exc.reason = reason  # type: ignore[assignment]
    return exc


def objection(code: int, message: str = "as OpenSSL says it") -> ssl.SSLCertVerificationError:
    exc = ssl.SSLCertVerificationError(1, "certificate verify failed")
    exc.verify_code, exc.verify_message = code, message
    return exc


def certificate(name: str, since: str = "Jan  1 00:00:00 2026 GMT", until: str = "Jan  1 00:00:00 2027 GMT", **more: Any) -> dict[str, Any]:
    return {
        "subject": ((("commonName", name),),), "issuer": ((("commonName", "the issuer"),),), "notBefore": since, "notAfter": until, **more
    }


LAST_YEAR = "May  1 00:00:00 2025 GMT"


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ([certificate("old", until=LAST_YEAR)], "it has expired, on May  1 00:00:00 2025 GMT"),
        ([certificate("good"), certificate("its root", until=LAST_YEAR)], "its issuer's, its root, has expired, on May  1"),
        ([certificate("good"), certificate("good, too")], "it, or one that it is signed with, has expired"),
        ([certificate("odd", until="some day")], "it, or one that it is signed with, has expired"),
        ([], "it, or one that it is signed with, has expired"),
    ],
)
def test_whose_time_is_over(chain: list[dict[str, Any]], words: str) -> None:
    assert in_words(objection(10), server=False, chain=chain, now=NOW).startswith(f"its certificate is not accepted: {words}")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((("DNS", "a.example"), ("IP Address", "10.0.0.5"), ("URI", "x:y")), "a.example, 10.0.0.5,"),
        (tuple(("DNS", f"{number}.example") for number in range(12)), "0.example, 1.example, 2.example, 3.example, 4.example and 7 more,"),
        ((), "common,"),
    ],
)
def test_whom_it_is_for(names: Any, words: str) -> None:
    shown = [certificate("common", subjectAltName=names)]
    said = in_words(objection(62), server=False, chain=shown, name="here.example")
    assert said == f"its certificate is not accepted: it is for {words} not for here.example"


@pytest.mark.parametrize(("code", "what"), [(18, "it is self-signed"), (19, "its issuer"), (20, "its issuer"), (21, "its issuer")])
def test_the_remedy_is_for_the_end_that_hears_of_it(code: int, what: str) -> None:
    """A client can trust one more. Who reads a server's log decides whom all its clients are measured by."""
    client = in_words(objection(code), server=False, chain=[certificate("it")])
    server = in_words(objection(code), server=True)
    assert what in client
    assert what in server
    assert client.endswith("as ca=")
    assert server.endswith("here ca= says whom to trust")


def test_what_we_have_no_words_for_is_left_to_openssl() -> None:
    assert in_words(objection(92, "CA cert does not include key usage extension"), server=False) == (
        "its certificate is not accepted: CA cert does not include key usage extension"
    )
    assert in_words(failure("SOME_NEW_CONDITION"), server=False) == "TLS failed: some new condition"
    assert "(_ssl.c:1)" in in_words(failure(None), server=True)


@pytest.mark.parametrize("server", [True, False])
def test_no_tls_is_told_from_damaged_tls_by_how_it_begins(server: bool) -> None:
    exc = failure("WRONG_VERSION_NUMBER")
    assert "it speaks no TLS" in in_words(exc, server=server, shaken=False, first=b"SSH-2.0-OpenSSH")
    assert "it speaks no TLS" in in_words(exc, server=server, shaken=False, first=b"\x16\x07")
    assert "wrong version number" in in_words(exc, server=server, shaken=False, first=b"\x16\x03\x01")
    assert "wrong version number" in in_words(exc, server=server, shaken=True, first=b"SSH-2.0-OpenSSH")


def test_a_password_of_a_client_is_not_shown() -> None:
    assert "secret" not in in_words(failure("WRONG_VERSION_NUMBER"), server=True, shaken=False, first=b"login anna secret")


def test_a_foreign_name_cannot_break_a_line_of_the_log() -> None:
    forged = certificate("x", issuer=((("commonName", "x\nERROR all is lost\x1b[2J"),),), subjectAltName=(("DNS", "a\r\nb"),))
    for code in (20, 62):
        assert in_words(objection(code), server=False, chain=[forged]).isprintable()


def test_who_leaves_in_the_handshake() -> None:
    left = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")
    assert in_words(left, server=True, shaken=False) == "it ended the connection during the TLS handshake"
    assert "a server of tcp:// or ws://?" in in_words(left, server=False, shaken=False)
    assert "tcp://" not in in_words(left, server=False, shaken=False, first=b"\x16\x03\x03")

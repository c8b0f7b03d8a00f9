"""What went wrong in TLS, in words: whose doing it is, what there was instead, and what to do about it. Pure.

"It" is the peer, as in the sentences of `actors.errors`. OpenSSL names the condition (`ssl.SSLError.reason`, `verify_code`); what it does
not say (the date, the names) is in the certificate that the peer showed.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from actors.framing import looks_like_tls

__all__ = ["MAX_SHOWN", "NO_TLS_THERE", "in_words"]

MAX_NAMES = 5  # of a certificate, in one sentence
MAX_SHOWN = 40  # bytes or characters of what a peer says

# X509_verify_cert_error(3)
NOT_YET_VALID, EXPIRED, SELF_SIGNED, HOSTNAME_MISMATCH, IP_MISMATCH = 9, 10, 18, 62, 64
UNKNOWN_ISSUER = (2, 19, 20, 21)

NO_TLS_THERE = "a server of tcp:// or ws://?"
NO_VERSION = "the two have no version of TLS in common"
REFUSED = "it refused our certificate"

# By the names that Python gives to OpenSSL's reasons. An alert (RFC 8446, section 6) is what the peer says; the others are our finding.
REASONS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it asks for a certificate and was shown none (a client's own is cert=)",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it found nothing that suits both: no cipher in common, or it asks for a certificate (cert=)",
    "TLSV1_ALERT_UNKNOWN_CA": f"{REFUSED}: it does not know who signed it",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": f"{REFUSED} as expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": f"{REFUSED} as revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": f"{REFUSED}: not valid now, or not for this name",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": f"{REFUSED}: not of a kind that it takes",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": f"{REFUSED} without saying why",
    "TLSV1_ALERT_ACCESS_DENIED": f"{REFUSED}: access denied",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate, and here clients need one",
    "TLSV1_ALERT_PROTOCOL_VERSION": NO_VERSION,
    "UNSUPPORTED_PROTOCOL": NO_VERSION,
    "WRONG_SSL_VERSION": NO_VERSION,
    "VERSION_TOO_LOW": NO_VERSION,
    "NO_SHARED_CIPHER": "the two have no cipher in common",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "a record was damaged on its way, or forged",
    "SSLV3_ALERT_BAD_RECORD_MAC": "a record reached it damaged, or forged",
}


def in_words(
    exc: ssl.SSLError,
    *,
    server: bool,
    shaken: bool = True,
    first: bytes = b"",
    name: str = "",
    chain: Sequence[Mapping[str, Any]] = (),
    now: float = 0.0,
) -> str:
    """The sentence for `exc`, at a server's end or a client's. `shaken`: the handshake was over; `first`: how the peer began; `name`: whom
    a client wanted; `chain`: the peer's certificates, its own first; `now`: as of `time.time`.

    >>> alert = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:1006)")
    >>> alert.reason = "TLSV1_ALERT_UNKNOWN_CA"
    >>> in_words(alert, server=False)
    'TLS failed: it refused our certificate: it does not know who signed it'
    """
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {_objection(exc, server, name, chain, now)}"
    if not shaken and first and not looks_like_tls(first):
        if server:  # a few bytes only: a client may begin with its password
            return f"it speaks no TLS (a client of tcp:// or ws://?); it says {first[:8]!r}"
        return f"it speaks no TLS ({NO_TLS_THERE}); it says {first[:MAX_SHOWN]!r}"
    if not shaken and isinstance(exc, ssl.SSLEOFError):
        hint = "" if server or first else f" ({NO_TLS_THERE})"
        return f"it ended the connection during the TLS handshake{hint}"
    reason: str | None = getattr(exc, "reason", None)
    return "TLS failed: " + (REASONS.get(reason) or reason.replace("_", " ").lower() if reason else str(exc))


def _objection(exc: ssl.SSLCertVerificationError, server: bool, name: str, chain: Sequence[Mapping[str, Any]], now: float) -> str:
    code = exc.verify_code
    own = chain[0] if chain else {}
    if code in (EXPIRED, NOT_YET_VALID):
        return _out_of_time(code, chain, now)
    if code in (HOSTNAME_MISMATCH, IP_MISMATCH):
        return f"it is for {_names(own)}, not for {name}"
    trust = "here ca= says whom to trust" if server else "to trust it, give it as ca="
    if code == SELF_SIGNED:
        return f"it is self-signed, and nobody else vouches for it; {trust}"
    if code in UNKNOWN_ISSUER:
        signer = f"its issuer, {_issuer(own)}," if own else "its issuer"
        return f"{signer} is none that we trust; " + (trust if server else "to trust it, give the issuer's certificate as ca=")
    return str(exc.verify_message)


def _out_of_time(code: int, chain: Sequence[Mapping[str, Any]], now: float) -> str:
    """OpenSSL does not tell whose time it is: the peer's own certificate, or one of those above it."""
    for depth, certificate in enumerate(chain):
        until, since = str(certificate.get("notAfter", "")), str(certificate.get("notBefore", ""))
        whose = "it" if not depth else f"its issuer's, {_shown(_common_name(certificate.get('subject', ())))},"
        if code == EXPIRED and _seconds(until) < now:
            return f"{whose} has expired, on {until}"
        if code == NOT_YET_VALID and _seconds(since) > now:
            return f"{whose} is not valid before {since} (is this machine's clock right?)"
    return "it, or one that it is signed with, " + ("has expired" if code == EXPIRED else "is not valid yet")


def _seconds(date: str) -> float:
    try:
        return ssl.cert_time_to_seconds(date)
    except ValueError:
        return float("nan")


def _names(certificate: Mapping[str, Any]) -> str:
    names = [_shown(value) for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    if not names:
        names = [_shown(_common_name(certificate.get("subject", ())))]  # which no client takes for a name any more (RFC 6125)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _issuer(certificate: Mapping[str, Any]) -> str:
    return _shown(_common_name(certificate.get("issuer", ())))


def _common_name(subject: Any) -> str:
    return next((value for part in subject for kind, value in part if kind == "commonName"), "nobody by name")


def _shown(text: str) -> str:
    """Somebody else's text, fit for one line of a log."""
    return repr(text)[1:-1]

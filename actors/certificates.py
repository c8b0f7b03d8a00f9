"""Certificates from files: what TLS is spoken with, and errors that name the file and what is wrong with it.

The defaults are those of Python's `ssl.create_default_context`: TLS 1.2 at least, no compression, a server's name checked.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable

__all__ = ["Credentials", "Path", "load_context"]

Path = str | os.PathLike[str]

MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")  # the last one: RSA here, elliptic curves there


class Credentials:
    """What one end of TLS shows, and whom it trusts. `context` is for the next handshake; a running connection keeps its own.

    `reload` puts a new context in its place, with one store. To load other files into the old one would not do: a certificate that was
    taken stays when its key is then found not to fit, and whom a context trusts can only grow.
    """

    def __init__(self, context: ssl.SSLContext, load: Callable[[], ssl.SSLContext] | None = None) -> None:
        self.context = context
        self._load = load

    def reload(self) -> None:
        """Read the files again. Raises what `load_context` raises, and then nothing has changed; TypeError if there are no files."""
        if self._load is None:
            raise TypeError("it was given tls=, not files: call load_cert_chain() on that SSLContext, or give cert= and key= instead")
        self.context = self._load()


def load_context(*, server: bool, cert: Path | None = None, key: Path | None = None, ca: Path | None = None) -> ssl.SSLContext:
    """The context for PEM files. `cert`: the own certificate, then those between it and its root; `key`: its private key, None if it is in
    the same file; `ca`: whom to trust instead of the system's roots. A server with `ca` wants a certificate of every client.

    Raises OSError for what can't be read, ValueError for what is not what it should be.
    """
    if ca is not None and b"-----BEGIN " not in _read(ca, "ca"):
        raise ValueError(f"{os.fspath(ca)} (ca=) has no certificate in it (PEM: -----BEGIN CERTIFICATE-----)")
    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    try:
        context = ssl.create_default_context(purpose, cafile=ca)
    except ssl.SSLError as exc:
        raise ValueError(f"{os.fspath(ca or '')} (ca=) has a certificate that can't be read, or none: {_reason(exc)}") from exc
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    if server and ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    if cert is not None:
        _load_chain(context, cert, key)
    return context


def _load_chain(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    shown = os.fspath(cert)
    data = _read(cert, "cert")
    if b"CERTIFICATE-----" not in data:
        raise ValueError(f"{shown} (cert=) has no certificate in it (PEM: -----BEGIN CERTIFICATE-----)")
    if b"PRIVATE KEY-----" not in (data if key is None else _read(key, "key")):
        raise ValueError(
            f"{shown} (cert=) has no private key in it; key= names the file that has" if key is None
            else f"{os.fspath(key)} (key=) has no private key in it (PEM: -----BEGIN PRIVATE KEY-----)"
        )
    holder = shown if key is None else os.fspath(key)

    def refuse() -> str:  # or OpenSSL would ask for it on the terminal
        raise ValueError(f"the private key in {holder} wants a password; give tls=, an SSLContext with load_cert_chain(…, password=…)")

    try:
        context.load_cert_chain(cert, key, password=refuse)
    except ssl.SSLError as exc:
        raise ValueError(_why_not(shown, holder, exc)) from exc


def _why_not(cert: str, key: str, exc: ssl.SSLError) -> str:
    """Which of the two files is at fault; OpenSSL says only that one is."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert)
    except ssl.SSLError as cause:
        return f"{cert} (cert=) has a certificate that can't be read: {_reason(cause)}"
    if exc.reason in MISMATCH:
        return f"the private key in {key} does not belong to the certificate in {cert}"
    return f"the certificate in {cert} with the private key in {key} can't be used: {_reason(exc)}"


def _read(path: Path, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:  # the same, saying what it was wanted for
        raise type(exc)(exc.errno, f"{exc.strerror} ({name}=)", os.fspath(path)) from None


def _reason(exc: ssl.SSLError) -> str:
    return exc.reason.replace("_", " ").lower() if exc.reason else str(exc)

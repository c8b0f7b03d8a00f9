"""Who we are to a server: one kind of credentials, and what their files hold."""

from __future__ import annotations

import os
import pathlib
import re
from typing import TYPE_CHECKING

from adapters.nats.servers import Credentials

if TYPE_CHECKING:
    from actors.certificates import Path

__all__ = ["choose", "read_creds"]

JWT = re.compile(r"-{3,}BEGIN NATS USER JWT-{3,}\s+(\S+)\s+-{3,}END")
SEED = re.compile(r"-{3,}BEGIN USER NKEY SEED-{3,}\s+(\S+)\s+-{3,}END")


def choose(
    in_url: Credentials, user: str | None, password: str | None, token: str | None, nkey: Path | None, creds: Path | None
) -> Credentials:
    """Those of the URL or those given, one kind of them. Reads the files, so that what is wrong with them is found here.

    Raises ValueError, TypeError, OSError, ModuleNotFoundError.
    """
    for value, name in ((user, "user"), (password, "password"), (token, "token")):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    given = [value for value in (user, token, nkey, creds) if value is not None]
    if in_url != Credentials():
        given.append("in the URL")
    if len(given) > 1:
        raise ValueError("give one of user and password, token, nkey, creds, or what stands before the @ of the URL")
    if (user is None) != (password is None):
        raise ValueError("user and password go together")
    if nkey is not None:
        _check_seed(_read(nkey, "nkey").strip(), f"{os.fspath(nkey)} (nkey=) has no seed of an nkey in it (one line: SU…)", "nkey")
    if creds is not None:
        read_creds(creds)
    if in_url != Credentials():
        return in_url
    return Credentials(user, password, token, None if nkey is None else os.fspath(nkey), None if creds is None else os.fspath(creds))


def read_creds(path: Path) -> str:
    """The text of a .creds file, which has both in it: a JWT that says who we are, and the seed that proves it. Raises as `choose` does."""
    text = _read(path, "creds")
    wrong = f"{os.fspath(path)} (creds=) is no .creds file of NATS: it needs a USER JWT and a USER NKEY SEED"
    jwt, seed = JWT.search(text), SEED.search(text)
    if jwt is None or seed is None:
        raise ValueError(wrong)
    _check_seed(seed[1], wrong, "creds")
    # nkeys wants these lines alone, and nats-py looks for their beginnings without an end.
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt[1]}\n------END NATS USER JWT------\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed[1]}\n------END USER NKEY SEED------\n"
    )


def _read(path: Path, name: str) -> str:
    try:
        return pathlib.Path(path).read_text("ascii", "replace")
    except OSError as exc:
        raise type(exc)(exc.errno, f"{exc.strerror} ({name}=)", os.fspath(path)) from None


def _check_seed(seed: str, wrong: str, name: str) -> None:
    try:
        import nkeys
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{name} needs the package nkeys: pip install actorbus[nats]", name="nkeys") from None
    try:
        nkeys.from_seed(bytearray(seed.encode())).wipe()
    except Exception:
        raise ValueError(wrong) from None

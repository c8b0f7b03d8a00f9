"""Credentials in files: an operator's JWTs on a real server, and .creds files that are none."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys
import pytest

import bus
from adapters.nats.credentials import read_creds
from tests.bus.peers import WAIT, until
from tests.nats.test_connecting import goes_through
from tests.natsserver import NatsServer


class Party:
    """An operator, an account or a user: a key pair that others vouch for."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.seed = nkeys.encode_seed(os.urandom(32), getattr(nkeys, f"PREFIX_BYTE_{kind.upper()}"))
        self.pair = nkeys.from_seed(bytearray(self.seed))
        self.key: str = self.pair.public_key.decode()

    def vouch_for(self, other: Party, **claims: Any) -> str:
        now = int(time.time())
        about = {"type": other.kind, "version": 2, **claims.pop("nats", {})}
        said = {"jti": "x", "iat": now, "iss": self.key, "name": other.kind, "sub": other.key, "nats": about, **claims}
        text = ".".join(encoded(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, said))
        return f"{text}.{encoded(self.pair.sign(text.encode()))}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def creds(jwt: str, seed: bytes) -> str:
    """As `nsc generate creds` writes them."""
    return f"""-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.
NKEYs are sensitive and should be treated as secrets.

-----BEGIN USER NKEY SEED-----
{seed.decode()}
------END USER NKEY SEED------

*************************************************************
"""


class Realm:
    """What a server with an operator knows, and the users of its one account."""

    def __init__(self) -> None:
        self.operator, self.account = Party("operator"), Party("account")
        limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
        account = self.operator.vouch_for(self.account, nats={"limits": {**limits, "wildcards": True}})
        operator = self.operator.vouch_for(self.operator)
        self.config = f"operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {self.account.key}: {account} }}\n"

    def user(self, **claims: Any) -> str:
        """The text of a .creds file."""
        user = Party("user")
        return creds(self.account.vouch_for(user, nats={"subs": -1, "data": -1, "payload": -1}, **claims), user.seed)


def test_a_creds_file(tmp_path: Path) -> None:
    realm = Realm()
    own, strange = tmp_path / "own.creds", tmp_path / "strange.creds"
    own.write_text(realm.user())
    strange.write_text(Realm().user())
    with NatsServer(tmp_path / "nats", config=realm.config) as server:
        with bus.open(server.url, creds=own, timeout=WAIT):
            goes_through()
        with pytest.raises(bus.ConnectFailed, match="it refuses us, with a .creds file"):
            bus.open(server.url, creds=strange, timeout=WAIT)
        with pytest.raises(bus.ConnectFailed, match="nkey= or creds="):
            bus.open(server.url, timeout=WAIT)


def test_another_file_is_used_from_the_next_connection_on(tmp_path: Path) -> None:
    realm, path = Realm(), tmp_path / "own.creds"
    path.write_text(realm.user())
    with NatsServer(tmp_path / "nats", config=realm.config) as server:
        with bus.open(server.url, creds=path, timeout=WAIT) as topics:
            server.kill()
            until(lambda: not topics.connected())
            path.write_text("-----BEGIN NATS USER JWT-----\n")  # it is being written
            server.start()
            until(lambda: "(creds=) is no .creds file" in str(topics._engine.transport.away))  # type: ignore[attr-defined]
            path.write_text(realm.user())
            until(topics.connected)
            goes_through()


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN NATS USER JWT-----", creds("x.y.z", b"SUnone"), creds("", b""), Realm().user().replace("SEED", "NEED"), "\xff"]
)
def test_what_is_no_creds_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.creds"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"own.creds \(creds=\) is no .creds file of NATS"):
        bus.open("nats://127.0.0.1:1", creds=path)
    with pytest.raises(FileNotFoundError, match="creds="):
        bus.open("nats://127.0.0.1:1", creds=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="give one of"):
        bus.open("nats://127.0.0.1:1", creds=path, token="x")


def test_carriage_returns_and_what_stands_around_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "own.creds"
    text = Realm().user()
    path.write_text(text)
    assert "\r" not in read_creds(path)
    plain = read_creds(path)
    path.write_bytes(("hello\n" + text).replace("\n", "\r\n").encode())
    assert read_creds(path) == plain

"""Certificates for tests, made by the command `openssl`: self-signed ones, and an authority that signs for whatever time it is told."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

NEW_KEY = ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
HERE = "DNS:localhost,IP:127.0.0.1,IP:::1"

# `openssl ca` alone of its commands gives a certificate whatever dates one asks for, and wants a database for it.
SETTINGS = """[ca]
default_ca = here
[here]
database = {directory}/index
new_certs_dir = {directory}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
"""


def openssl(*arguments: str | Path) -> str:
    command = shutil.which("openssl")
    if command is None:
        pytest.skip("the command openssl, which makes the certificates, is not there")
    done = subprocess.run([command, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Certificate(NamedTuple):
    certificate: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client(self) -> ssl.SSLContext:
        """A context that trusts this certificate and no other."""
        return ssl.create_default_context(cafile=str(self.certificate))


def make_certificate(directory: Path, name: str, subject: str) -> Certificate:
    """A self-signed one."""
    made = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
    names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={subject}"]
    openssl("req", "-x509", "-days", "2", *NEW_KEY, "-keyout", made.key, "-out", made.certificate, *names)
    return made


class Authority:
    """Signs certificates. `own` is its own, which those trust who trust it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._signed: dict[tuple[str, ...], Certificate] = {}
        self._settings = directory / "settings"
        self._settings.write_text(SETTINGS.format(directory=directory))
        (directory / "index").touch()
        self.own = Certificate(directory / "authority.pem", directory / "authority.key")
        usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        files: list[str | Path] = ["-keyout", self.own.key, "-out", self.own.certificate]
        openssl("req", "-x509", "-days", "2", *NEW_KEY, *files, "-subj", "/CN=the authority of these tests", *usage)

    def sign(self, name: str, subject: str = HERE, since: str = "20200101000000Z", until: str = "20400101000000Z") -> Certificate:
        """A certificate for `name`, valid between two dates like "20200101000000Z"."""
        asked = (name, subject, since, until)
        if asked in self._signed:
            return self._signed[asked]
        number = len(self._signed)
        made = Certificate(self._directory / f"{number}.pem", self._directory / f"{number}.key")
        request = self._directory / f"{number}.csr"
        names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={subject}"]
        openssl("req", *NEW_KEY, "-keyout", made.key, "-out", request, *names)
        signer: list[str | Path] = ["-cert", self.own.certificate, "-keyfile", self.own.key, "-startdate", since, "-enddate", until]
        openssl("ca", "-config", self._settings, "-batch", "-notext", "-in", request, "-out", made.certificate, *signer)
        self._signed[asked] = made
        return made

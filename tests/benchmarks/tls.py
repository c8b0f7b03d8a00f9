"""TLS where a cell has files: a certificate of our own, and the same contexts for everybody."""

from __future__ import annotations

import functools
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .cell import Cell

if TYPE_CHECKING:
    import ssl

    from tests.certificates import Certificate

NAME = "bench"


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    """It goes when this process does."""
    from tests.certificates import HERE, make_certificate

    directory = tempfile.TemporaryDirectory(prefix="actorbus-benchmark-")
    make_certificate(Path(directory.name), NAME, HERE)
    return directory


def with_certificate(cell: Cell) -> Cell:
    return cell.changed(files=_directory().name)


def _certificate(cell: Cell) -> Certificate:
    from tests.certificates import Certificate

    directory = Path(cell.files)
    return Certificate(directory / f"{NAME}.pem", directory / f"{NAME}.key")


def server_context(cell: Cell) -> ssl.SSLContext | None:
    return _certificate(cell).server() if cell.files else None


def client_context(cell: Cell) -> ssl.SSLContext | None:
    return _certificate(cell).client() if cell.files else None


def accepted(sock: socket.socket, cell: Cell) -> socket.socket:
    context = server_context(cell)
    return sock if context is None else context.wrap_socket(sock, server_side=True)


def connected(sock: socket.socket, cell: Cell) -> socket.socket:
    context = client_context(cell)
    return sock if context is None else context.wrap_socket(sock, server_hostname="127.0.0.1")


def url(address: str, cell: Cell, scheme: str = "tcp") -> str:
    """
    >>> url("127.0.0.1:80", Cell()), url("127.0.0.1:80", Cell(files="/tmp"), "ws")
    ('tcp://127.0.0.1:80', 'wss://127.0.0.1:80')
    """
    secure = {"tcp": "tls", "ws": "wss"}[scheme]
    return f"{secure if cell.files else scheme}://{address}"

"""One line for an error: what happened, to which address, what to do."""

from __future__ import annotations

import errno
import os
import socket

import pytest

import bus
from adapters.complaints import complaint, status_of
from adapters.progress import Progress, expected, make_progress, wanted


def caused(error: bus.BusError, cause: BaseException) -> bus.BusError:
    return error.because(cause)


def os_error(number: int, filename: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), filename) if filename else OSError(number, os.strerror(number))


REFUSED = caused(bus.ConnectFailed("127.0.0.1:9", "refused"), os_error(errno.ECONNREFUSED))
NO_NAME = caused(bus.ConnectFailed("nowhere:9", "no address"), socket.gaierror(-2, "Name or service not known"))


@pytest.mark.parametrize(
    ("error", "line", "status"),
    [
        (REFUSED, "cannot connect to 127.0.0.1:9: refused; start the server first, or look whether the port is right", 1),
        (NO_NAME, "cannot connect to nowhere:9: no address; is the name spelled right?", 1),
        (bus.ConnectFailed("h:9", "its certificate is self-signed"), "--ca FILE trusts", 1),
        (bus.ConnectFailed("h:9", "it refuses us, with a token"), "; who we are stands in the URL (nats://user:password@host), or in", 1),
        (bus.BadAddress("h:9", "it has no scheme"), "bad address 'h:9': it has no scheme", 2),
        (bus.BadTopic("a..b", "it has an empty token"), "bad topic 'a..b': it has an empty token", 2),
        (bus.TooLarge("h:9", "6 bytes are over 5"), "message for h:9 is too large: 6 bytes are over 5", 1),
        (bus.Broken("h:9", "a frame of 9 bytes is over max_size=5"), "does it speak the framing 'length'? --framing takes another one", 1),
        (bus.Broken("h:9", "the peer reset it"), "the connection with h:9 broke: the peer reset it", 1),
        (os_error(errno.EADDRINUSE), "tcp://h:9: Address already in use; another program has that address", 1),
        (os_error(errno.ENOENT, "/no/cert.pem"), "/no/cert.pem: No such file or directory", 1),
        (ValueError("two\nlines"), "two lines", 2),
        (RuntimeError(), "RuntimeError", 1),
    ],
)
def test_an_error_is_one_line_and_a_status(error: BaseException, line: str, status: int) -> None:
    said = complaint(error, "tcp://h:9", "length")
    assert line in said
    assert "\n" not in said
    assert status_of(error) == status


def test_no_timeout_is_offered_where_there_is_none() -> None:
    late = bus.ConnectTimeout("h:9", "no answer within the timeout")
    assert complaint(late).endswith("; is the address right? --timeout gives it longer")
    assert complaint(late, has_timeout=False).endswith("; is the address right?")


def test_of_framing_nothing_is_said_where_there_is_none() -> None:
    assert "framing" not in complaint(bus.Broken("h:9", "the peer closed it inside a message"), framing="raw")


# --- how far it is ---


class Bar:
    """What tqdm would draw."""

    def __init__(self, name: str, total: int | None) -> None:
        self.name = name
        self.total = total
        self.n = 0
        self.closed = False

    def update(self, more: int) -> None:
        self.n += more

    def close(self) -> None:
        self.closed = True


def test_a_display_comes_when_it_takes_long_and_counts_each_direction() -> None:
    bars: list[Bar] = []

    def bar(name: str, total: int | None) -> Bar:
        bars.append(Bar(name, total))
        return bars[-1]

    progress = Progress(100, bar, 10.0)
    progress.show(10.9, 50, 20)
    assert bars == []
    progress.show(11.0, 50, 0)
    progress.show(12.0, 80, 20)
    assert [(each.name, each.total, each.n) for each in bars] == [("sent", 100, 80), ("received", None, 20)]
    progress.close()
    progress.show(13.0, 90, 90)
    assert [(each.n, each.closed) for each in bars] == [(80, True), (20, True)]


@pytest.mark.parametrize("stdin", [False, True])
@pytest.mark.parametrize("stdout", [False, True])
def test_it_is_for_those_who_watch_and_do_not_talk(stdin: bool, stdout: bool) -> None:
    assert wanted(stdin, stdout, False) is False
    assert wanted(stdin, stdout, True) is not (stdin and stdout)


def test_without_a_terminal_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_progress(None) is None


def test_how_much_is_to_come_is_known_of_a_file_alone() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "wb"), open(__file__, "rb", buffering=0) as file:
        assert expected(reader) is None
        assert expected(None) is None
        file.seek(10)
        assert expected(file.fileno()) == os.path.getsize(__file__) - 10

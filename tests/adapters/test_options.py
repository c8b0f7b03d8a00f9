"""What the commands that talk take, and what they say of what they do not take."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pytest

from adapters import cli, messaging
from adapters.options import fitting, server_of


def parse(*words: str, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """What the command would have been asked to do."""
    asked: list[Namespace] = []

    def note(wanted: Namespace) -> int:
        asked.append(wanted)
        return 42

    monkeypatch.setattr(messaging, "main", note)
    assert cli.main(list(words)) == 42
    return asked[0]


def fits(*words: str, group: bool = False, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    wanted = parse("cat", *words, monkeypatch=monkeypatch)
    return fitting(wanted, wanted.endpoint.partition("://")[0], group)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["tcp://h:1"], {}),
        (["tcp://h:1", "--framing", "raw"], {"framing": "raw"}),
        (["ws://h:1", "--framing", "raw"], {}),  # there it is a matter of stdin and stdout
        (["udp://h:1", "--framing=raw"], {}),
        (["tls://h:1", "--ca", "c", "--server-hostname", "n"], {"ca": "c", "server_hostname": "n"}),
        (["--listen", "wss://h:1", "--cert", "c", "--key", "k", "--subprotocol", "p"], {"cert": "c", "key": "k", "subprotocols": ["p"]}),
        (["ws://h:1", "--header", "A: 1", "--header", "B:2: 3"], {"headers": {"A": "1", "B": "2: 3"}}),
    ],
)
def test_options_go_where_they_mean_something(words: list[str], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert fits(*words, monkeypatch=monkeypatch) == options


def test_a_group_has_its_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["udp://239.1.1.1:9", "--ttl", "3", "--interface", "lo", "--no-loopback"]
    assert fits(*words, group=True, monkeypatch=monkeypatch) == {"ttl": 3, "interface": "lo", "loopback": False}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tcp://h:1", "--ca", "c"], "--ca is for tls:// and wss://, not tcp://"),
        (["ws://h:1", "--framing", "etx"], "--framing is for tcp:// and tls:// and unix://, not ws://"),
        (["udp://h:1", "--ttl", "3"], "--ttl is for multicast groups, not udp://"),
        (["-l", "ws://h:1", "--origin", "http://x"], "--origin is for who connects, not for --listen"),
        (["-l", "tls://h:1"], "needs its certificate: --cert FILE"),
        (["-k", "tcp://h:1"], "--keep-open is for a server: give --listen, too"),
        (["-lk", "udp://h:1"], "stays open with --listen alone"),
    ],
)
def test_options_that_mean_nothing_there_are_refused(words: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=said):
        fits(*words, monkeypatch=monkeypatch)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cat"], "the following arguments are required: ENDPOINT"),
        (["cat", "tcp://h:1", "tcp://h:2"], "unrecognized arguments: tcp://h:2"),
        (["cat", "tcp://h:1", "--timeout", "0"], "must be over 0 seconds, not 0"),
        (["cat", "tcp://h:1", "--timeout", "nan"], "must be over 0 seconds, not nan"),
        (["cat", "tcp://h:1", "--timeout", "soon"], "must be a number of seconds, not 'soon'"),
        (["cat", "tcp://h:1", "--count", "0"], "must be a number of messages, 1 or more, not '0'"),
        (["cat", "tcp://h:1", "--header", "x"], "must be like 'Name: value', not 'x'"),
        (["cat", "tcp://h:1", "--framing", "xml"], "invalid choice: 'xml'"),
        (["sub", "a", "--replay", "yesterday"], "must be all, new, or a time like"),
        (["req", "a"], "the following arguments are required: MESSAGE"),
    ],
)
def test_a_usage_error_says_what_is_wrong(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_message_that_begins_with_a_dash_stands_behind_two(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = parse("pub", "a.b", "--count", "3", "--", "-5", monkeypatch=monkeypatch)
    assert (wanted.topic, wanted.message, wanted.count) == ("a.b", "-5", 3)


@pytest.mark.parametrize("command", ["cat", "pub", "sub", "req"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    assert left.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_topics_need_a_server_and_the_command_line_goes_first() -> None:
    assert server_of(Namespace(bus="nats://a:1"), {"ACTORBUS_URL": "nats://b:1"}) == "nats://a:1"
    for bus in (None, "", "embedded:"):
        with pytest.raises(ValueError, match="--bus nats://host:4222"):
            server_of(Namespace(bus=bus), {})


def test_ctrl_c_while_it_loads_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(wanted: Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(messaging, "main", interrupted)
    assert cli.main(["cat", "tcp://h:1"]) == 130

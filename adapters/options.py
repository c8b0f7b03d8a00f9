"""What the commands `cat`, `pub`, `sub` and `req` take, and which of it fits which endpoint. Loads nothing of the engine."""

from __future__ import annotations

import argparse
from argparse import ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["COMMANDS", "add_commands", "add_server", "credentials_of", "fitting", "parse", "server_of"]

COMMANDS = ("cat", "pub", "sub", "req")
CREDENTIALS = ("nkey", "creds", "ca", "cert", "key")

# An option of `cat`: as which keyword it is handed on, for which schemes ("group": a multicast group), and at which end ("both": either).
FITS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "framing": ("framing", ("tcp", "tls", "unix"), "both"),
    "ca": ("ca", ("tls", "wss"), "both"),
    "cert": ("cert", ("tls", "wss"), "both"),
    "key": ("key", ("tls", "wss"), "both"),
    "server_hostname": ("server_hostname", ("tls", "wss"), "client"),
    "header": ("headers", ("ws", "wss"), "client"),
    "subprotocol": ("subprotocols", ("ws", "wss"), "both"),
    "origin": ("origin", ("ws", "wss"), "client"),
    "interface": ("interface", ("group",), "both"),
    "ttl": ("ttl", ("group",), "both"),
    "no_loopback": ("loopback", ("group",), "both"),
    "broadcast": ("", ("udp",), "client"),
}


def seconds(text: str) -> float:
    """A time over 0.

    >>> seconds("0.5")
    0.5
    """
    try:
        value = float(text)
    except ValueError:
        raise ArgumentTypeError(f"must be a number of seconds, not {text!r}") from None
    if not value > 0:
        raise ArgumentTypeError(f"must be over 0 seconds, not {text}")
    return value


def count(text: str) -> int:
    """A number of messages, 1 or more."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise ArgumentTypeError(f"must be a number of messages, 1 or more, not {text!r}")
    return int(text)


def header(text: str) -> tuple[str, str]:
    """'Name: value', as HTTP and NATS have it.

    >>> header("X-Robot: 7")
    ('X-Robot', '7')
    """
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ArgumentTypeError(f"must be like 'Name: value', not {text!r}")
    return name.strip(), value.strip()


def fitting(wanted: Namespace, scheme: str, group: bool) -> dict[str, Any]:
    """The keywords for the verb that `cat` takes. Raises ValueError for an option that means nothing there.

    >>> fitting(Namespace(listen=False, keep_open=False, ca="own.pem"), "ws", False)
    Traceback (most recent call last):
        ...
    ValueError: --ca is for tls:// and wss://, not ws://
    """
    if wanted.keep_open and not wanted.listen:
        raise ValueError("--keep-open is for a server: give --listen, too")
    if wanted.keep_open and (group or scheme == "udp"):
        raise ValueError("--keep-open is for servers of connections; udp:// has none, and stays open with --listen alone")
    if wanted.listen and scheme in ("tls", "wss") and not wanted.cert:
        raise ValueError(f"a server on {scheme}:// needs its certificate: --cert FILE, and --key FILE if its key is in another one")
    options: dict[str, Any] = {}
    for name, (keyword, schemes, side) in FITS.items():
        value = getattr(wanted, name, None)
        if not value or (name == "framing" and value == "raw" and scheme not in schemes):  # raw means something everywhere
            continue
        flag = "--" + name.replace("_", "-")
        if ("group" if group else scheme) not in schemes:
            where = [f"{each}://" if each != "group" else "multicast groups" for each in schemes]
            raise ValueError(f"{flag} is for {' and '.join(where)}, not {'a multicast group' if group else f'{scheme}://'}")
        if side == "client" and wanted.listen:
            raise ValueError(f"{flag} is for who connects, not for --listen")
        if keyword:
            options[keyword] = not value if name == "no_loopback" else dict(value) if name == "header" else value
    return options


def moment(text: str) -> str | float:
    """Where a durable subscription begins: "all", "new", or a time.

    >>> moment("new"), moment("1970-01-01T00:01:00Z"), moment("90")
    ('new', 60.0, 90.0)
    """
    from datetime import datetime

    if text in ("all", "new"):
        return text
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ArgumentTypeError(f"must be all, new, or a time like 2026-11-21T08:00:00Z, not {text!r}") from None


def server_of(wanted: Namespace, environ: Mapping[str, str]) -> str:
    """The URL of the server whose topics are meant. Raises ValueError where none is named: nobody else is in this process.

    >>> server_of(Namespace(bus=None), {"ACTORBUS_URL": "nats://127.0.0.1:4222"})
    'nats://127.0.0.1:4222'
    """
    url: str = wanted.bus or environ.get("ACTORBUS_URL") or ""
    if not url or url == "embedded:":
        raise ValueError("whose topics? give --bus nats://host:4222, or set ACTORBUS_URL: without a server they end with this process")
    return url


def add_commands(commands: Any) -> None:
    """`cat`, `pub`, `sub` and `req`."""
    _add_cat(commands)
    _add_topics(commands)


def parse(words: Sequence[str]) -> Namespace:
    """What one of these commands was asked for. `words` begins with its name. Leaves with status 2 for what makes no sense."""
    commands = argparse.ArgumentParser(prog="actorbus").add_subparsers(dest="command")
    add_commands(commands)
    # Subparsers take an optional MESSAGE only where it stands right behind TOPIC.
    wanted: Namespace = commands.choices[words[0]].parse_intermixed_args(words[1:])
    wanted.command = words[0]
    return wanted


def _add_topics(commands: Any) -> None:
    pub: argparse.ArgumentParser = commands.add_parser(
        "pub",
        help="publish a message, or each line of stdin, on a topic",
        usage="actorbus pub [options] TOPIC [MESSAGE]",
        description="Publishes MESSAGE on TOPIC. Without MESSAGE each line of stdin is one.",
    )
    pub.add_argument("topic", metavar="TOPIC")
    pub.add_argument("message", metavar="MESSAGE", nargs="?", help="behind -- if it begins with a dash")
    pub.add_argument("--whole", action="store_true", help="all of stdin is one message, as it is")
    pub.add_argument("--durable", action="store_true", help="be sure that the server has stored each message (JetStream)")
    _add_common(pub, "for connecting (10), and for a message that can't be sent at once (20)", n="publish so often, or so many lines")
    sub: argparse.ArgumentParser = commands.add_parser(
        "sub",
        help="print what is published on a topic",
        usage="actorbus sub [options] TOPIC",
        description="Prints each message on TOPIC, which may have wildcards (* one token, > the rest), until Ctrl-C.",
    )
    sub.add_argument("topic", metavar="TOPIC")
    sub.add_argument("--queue", metavar="NAME", help="share the messages with all in that queue group")
    sub.add_argument("--durable", metavar="NAME", help="what was stored while NAME was away comes, too (JetStream)")
    sub.add_argument("--replay", type=moment, metavar="FROM", default="all", help="where a new NAME begins: all (default), new, or a time")
    _add_common(sub, "end when nothing came for so long", n="end after so many messages")
    req: argparse.ArgumentParser = commands.add_parser(
        "req",
        help="send a request to a topic, and print the answer",
        usage="actorbus req [options] TOPIC MESSAGE",
        description="Sends MESSAGE as a request to TOPIC, and prints the first answer.",
    )
    req.add_argument("topic", metavar="TOPIC")
    req.add_argument("message", metavar="MESSAGE", help="behind -- if it begins with a dash")
    _add_common(req, "how long to wait for the answer (5)", n="ask so often, one after the other")
    for parser in (pub, req):
        parser.add_argument("--header", metavar="'NAME: VALUE'", type=header, action="append", help="may be given several times")
    for parser in (pub, sub, req):
        add_server(parser, "such as nats://host:4222 (default: ACTORBUS_URL)")


def add_server(parser: argparse.ArgumentParser, bus: str) -> None:
    """The options that say which server carries topics, and what it is shown. `bus`: the help on --bus."""
    server = parser.add_argument_group("the server behind topics")
    server.add_argument("--bus", metavar="URL", help=bus)
    server.add_argument("--nkey", metavar="FILE", help="the seed that says who we are")
    server.add_argument("--creds", metavar="FILE", help="the same with a JWT: a .creds file of NATS")
    server.add_argument("--ca", metavar="FILE", help="certificates to trust instead of the system's (PEM)")
    server.add_argument("--cert", metavar="FILE", help="our own certificate")
    server.add_argument("--key", metavar="FILE", help="its private key")


def credentials_of(wanted: Namespace) -> dict[str, Any]:
    """Those of them that were given, for `bus.open`.

    >>> credentials_of(Namespace(nkey=None, creds="own.creds", ca="ca.pem", cert=None, key=None))
    {'creds': 'own.creds', 'ca': 'ca.pem'}
    """
    return {name: value for name in CREDENTIALS if (value := getattr(wanted, name))}


def _add_cat(commands: Any) -> None:
    cat: argparse.ArgumentParser = commands.add_parser(
        "cat",
        help="talk to an endpoint: stdin goes there, what comes from there is printed",
        usage="actorbus cat [options] ENDPOINT",
        description="Sends each line of stdin as a message to ENDPOINT, and prints each message that comes from there on a line. ENDPOINT "
        "is tcp://host:port, tls://…, unix:///path, ws://host:port/path, wss://…, udp://host:port or udp://multicast-group:port. When "
        "stdin ends, a stream is told so, and what still comes is printed until the peer ends, too.",
        epilog="Exit status: 0; 1 when something failed, which a line on stderr explains; 2 for a command that makes no sense; 130 after "
        "Ctrl-C.",
    )
    cat.add_argument("endpoint", metavar="ENDPOINT")
    cat.add_argument("-l", "--listen", action="store_true", help="be the server: wait for somebody, and talk to the first who comes")
    cat.add_argument("-k", "--keep-open", action="store_true", help="with --listen: talk to all who come, lines go to everybody")
    cat.add_argument(
        "--framing",
        choices=("length", "etx", "lines", "raw"),
        help="what separates messages on a stream (default: length). raw: nothing does, and bytes go through untouched, also elsewhere",
    )
    cat.add_argument("--no-stdin", action="store_true", help="send nothing, only receive")
    cat.add_argument(
        "--linger",
        type=seconds,
        metavar="SECONDS",
        default=1.0,
        help="over ws:// and udp://, which have no end of one direction: after the end of stdin, print what comes until nothing did for so "
        "long (default: %(default)s)",
    )
    _add_common(cat, "end when nothing moved for so long; also the time to connect (10)", n="end after so many messages")
    tls = cat.add_argument_group("tls:// and wss:// (PEM files)")
    tls.add_argument("--ca", metavar="FILE", help="certificates to trust instead of the system's")
    tls.add_argument("--cert", metavar="FILE", help="this end's own certificate; a server needs one")
    tls.add_argument("--key", metavar="FILE", help="its private key")
    tls.add_argument("--server-hostname", metavar="NAME", help="whom the server's certificate has to name (default: the host of the URL)")
    web = cat.add_argument_group("ws:// and wss://")
    web.add_argument("--header", metavar="'NAME: VALUE'", type=header, action="append", help="of the request; may be given several times")
    web.add_argument("--subprotocol", metavar="NAME", action="append", help="may be given several times")
    web.add_argument("--origin", metavar="URL", help="as the page of a browser has one")
    udp = cat.add_argument_group("udp://")
    udp.add_argument("--broadcast", action="store_true", help="ENDPOINT is a broadcast address; print what anybody answers")
    udp.add_argument("--interface", metavar="NAME", help="the network interface for a multicast group, by name or address")
    udp.add_argument("--ttl", type=int, metavar="N", help="routers that a multicast datagram may cross (default: 1)")
    udp.add_argument("--no-loopback", action="store_true", help="do not let this machine hear what is sent to the group")


def _add_common(parser: argparse.ArgumentParser, timeout: str, *, n: str) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object a line: time, source or topic, data (text) or base64")
    parser.add_argument("-n", "--count", type=count, metavar="N", help=n)
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help=timeout)

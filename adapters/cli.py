"""The command `actorbus`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from adapters import options
from adapters.output import is_broken

__all__ = ["main"]

FAILED = 1
STOPPED = 130  # 128 + SIGINT, as shells count it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. The exit status: of `run` the worst of the scripts'; of the others 0, or 1 if they failed; 2 if the command
    itself was wrong.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] in options.COMMANDS:
        wanted = options.parse(given)
        try:
            from adapters import messaging

            return messaging.main(wanted)
        except KeyboardInterrupt:
            return STOPPED
        finally:
            _leave_no_broken_pipe()
    return _run(given)


def _run(given: list[str]) -> int:
    arguments: list[str] = []
    if "--" in given:
        at = given.index("--")
        given, arguments = given[:at], given[at + 1 :]
    parser = _parser(given[:1] == ["run"])
    wanted, unknown = parser.parse_known_args(given)
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)} (arguments for the scripts go behind --)")
    if wanted.version:
        import bus

        print(f"actorbus {bus.__version__}")
        return 0
    if wanted.command is None:
        parser.error("what shall it do? `actorbus run script.py` runs a script, `actorbus -h` tells the rest")
    for path in wanted.scripts:
        if problem := _unreadable(path):
            parser.error(problem)
    from adapters.runner import run
    from bus.endpoints import split_address

    try:
        split_address(wanted.listen)
    except ValueError as error:
        parser.error(f"--listen: {error}")
    if wanted.origin is not None:
        _check_origins(parser, wanted.origin)
    _open_bus(parser, wanted)
    try:
        return run(wanted.scripts, arguments, wanted.listen, wanted.origin)
    finally:
        _leave_no_broken_pipe()


def _parser(running: bool) -> argparse.ArgumentParser:
    """Without the other commands if it is `run`: they would cost it a few milliseconds, and are for help alone."""
    parser = argparse.ArgumentParser(
        prog="actorbus", description="Runs scripts that talk over the network, several of them in one process, and talks itself."
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="command")
    run = commands.add_parser(
        "run",
        help="run one script, or several at once",
        usage="actorbus run [options] script.py [script.py ...] [-- argument ...]",
        description="Runs one script, or several at once in one process. Each is the main program for itself; what "
        "several print has the script's name in front. Ends when all have ended, with the worst of their exit "
        "statuses. Ctrl-C ends them in order, a second one at once.",
        epilog="Everything behind -- is passed to every script as sys.argv[1:].",
    )
    run.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default="127.0.0.1:8000",
        help="where to serve the WebSocket routes that scripts register with scriptling.runtime (default: %(default)s)",
    )
    run.add_argument(
        "--origin",
        metavar="URL",
        action="append",
        help="let web pages from there use these routes, such as https://page.example; may be given several times, and * lets "
        "all (default: only pages of that same address)",
    )
    run.add_argument("scripts", nargs="+", metavar="script.py", help="a Python file")
    options.add_server(
        run,
        "what carries the topics, such as nats://127.0.0.1:4222, so that scripts of several processes share them (default: the "
        "environment's ACTORBUS_URL, or else nothing: they reach the scripts of this process)",
    )
    if not running:
        options.add_commands(commands)
    return parser


def _check_origins(parser: argparse.ArgumentParser, origins: list[str]) -> None:
    from bus.websocket import check_origins

    try:
        check_origins(origins)
    except ValueError as error:
        parser.error(f"--origin: {error}")


def _open_bus(parser: argparse.ArgumentParser, wanted: argparse.Namespace) -> None:
    """Put the engine behind the topics of all scripts, or end with one line that says why not."""
    credentials = options.credentials_of(wanted)
    if wanted.bus is None and not credentials:
        return
    import bus
    from adapters.complaints import complaint, status_of

    try:
        bus.open(wanted.bus or options.server_of(wanted, os.environ), **credentials)
    except (bus.BusError, OSError, ValueError, ImportError) as error:
        parser.exit(status_of(error), f"actorbus: --bus: {complaint(error, wanted.bus or '', has_timeout=False)}\n")
    except KeyboardInterrupt:
        parser.exit(STOPPED)


def _unreadable(path: str) -> str | None:
    """What is wrong with a script's path, or None."""
    if os.path.isdir(path):
        return f"{path} is a directory, not a script"
    try:
        with open(path, "rb"):
            return None
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"


def _leave_no_broken_pipe() -> None:
    """Have what nobody reads go nowhere, where the interpreter would complain about it on its way out."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and is_broken(stream):
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.fuzz [parser …] [--seconds N]`: feed random bytes to the parsers, led by the branches they take (libFuzzer, by atheris).

Each parser runs in a process of its own. Exit status: 0 if none failed, 1 if one did (the bytes are in the file that is named), 2 if
atheris is not installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SECONDS = 60
MISSING = "atheris is not installed. It comes with the extra 'fuzz', on Linux: pip install -e '.[fuzz]'\n"
OURS = ["actors", "adapters", "bus", "websockets"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Feeds random bytes to the parsers of what others send.")
    parser.add_argument("parsers", nargs="*", metavar="parser", help="framing, frames, request …; all of them if none is named")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each parser (default: %(default)s)")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args(argv)
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write(MISSING)
        return 2
    if wanted.in_this_process:
        fuzz(wanted.parsers[0], wanted.seconds)
    from tests.fuzz.parsers import PARSERS

    if unknown := sorted(set(wanted.parsers) - PARSERS.keys()):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PARSERS)}")
    failed = []
    for name in wanted.parsers or PARSERS:
        sys.stderr.write(f"=== {name}, {wanted.seconds} s\n")
        command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(wanted.seconds), "--in-this-process"]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    sys.stderr.write(f"failed: {', '.join(failed)}\n" if failed else "none failed\n")
    return bool(failed)


def fuzz(name: str, seconds: int) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=OURS):
        parsers = importlib.import_module("tests.fuzz.parsers")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as corpus:
        for number, seed in enumerate(parsers.SEEDS[name]):
            Path(corpus, str(number)).write_bytes(seed)
        options = [f"-max_total_time={seconds}", "-max_len=4096", "-rss_limit_mb=4096", f"-artifact_prefix=fuzz-{name}-"]
        atheris.Setup([sys.argv[0], *options, corpus], parsers.PARSERS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.faults [--rows NAME,…] [--libraries NAME,…] [--write]`: the same faults for other libraries, as a Markdown table.

Each cell is a process of its own with a time limit. `--write` puts the table into RESULTS.md, too.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.benchmarks.machine import describe
from tests.faults import rows_ends, rows_much, rows_slow
from tests.faults.libraries import LIBRARIES, Library
from tests.faults.play import ROOT, Hangs, Row, Verdict, fails

ROWS = {row.name: row for row in (*rows_slow.ROWS, *rows_ends.ROWS, *rows_much.ROWS)}
CHILDREN: dict[str, Callable[..., None]] = {
    "--half-server": rows_ends.half_server,
    "--half-client": rows_ends.half_client,
    "--cut-client": rows_ends.cut_client,
    "--leaving": rows_ends.leaving,
    "--come-and-go": rows_much.come_and_go,
}
EXIT_SECONDS = 30.0
NOTES = """\
Each library through the API that its documentation shows, with its defaults; where it leaves something to the script (a message to all,
say), the simplest loop. Some have an option against a fault that they fail here (a timeout, a heartbeat, LINGER): the table says what a
script has that sets none. Each cell is a process of its own. – stands for what a library has not: a client, a server, a handshake,
datagrams, an end to be told of. What *holds* means is beside each row, the same for all."""
AT_ONCE = 3


def play(row: Row, library: Library) -> None:
    """In the process of one cell: find out, say it, and end; for `deaf-stop` that is part of it."""
    logging.disable(logging.CRITICAL)
    try:
        verdict = row.play(library)
    except Hangs:
        verdict = fails("hangs")
    except Exception as exc:
        verdict = fails(f"{type(exc).__name__}: {exc}")
    print(json.dumps(verdict), flush=True)
    if row.name != "deaf-stop":
        os._exit(0)


def cell(row: Row, name: str) -> Verdict | None:
    """None: not applicable, or not installed here."""
    library = LIBRARIES[name]
    if not row.suits(library) or not installed(library):
        return None
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults", "--play", row.name, name]
    if row.name == "cut-link":
        command = ["unshare", "-rn", *command]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    began = time.monotonic()
    try:
        assert process.stdout is not None
        with ThreadPoolExecutor(1) as reading:
            line = reading.submit(process.stdout.readline)
            while not line.done() and time.monotonic() - began < row.limit:
                time.sleep(0.05)
            if not line.done():
                process.kill()
                return fails("hangs")
        if not line.result():
            _, err = process.communicate()
            return fails(f"crashes (exit status {process.returncode}): {err.strip().splitlines()[-1:]}")
        verdict = Verdict(*json.loads(line.result()))
        try:
            process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return fails(f"{verdict.how + ', and ' if verdict.how else ''}the process does not end")
        return verdict
    finally:
        process.kill()
        process.communicate()


def installed(library: Library) -> bool:
    return all(package == "actorbus" or version(package) for package in library.packages)


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def shown(verdict: Verdict | None) -> str:
    if verdict is None:
        return "–"
    word = "holds" if verdict.holds else "**fails**"
    return f"{word}: {verdict.how}" if verdict.how else word


def page(rows: list[Row], names: list[str], cells: dict[tuple[str, str], Verdict | None]) -> str:
    found = {**describe(), **{package: version(package) for package in ("websockets", "websocket-client", "pyzmq")}}
    lines = [
        "# What `python -m tests.faults --write` printed",
        "",
        f"{time.strftime('%Y-%m-%d')}; " + ", ".join(f"{name} {value}" for name, value in found.items()),
        "",
        NOTES,
        "",
        "| fault | holds if | " + " | ".join(LIBRARIES[name].title for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    lines += [f"| {row.title} | {row.holds} | " + " | ".join(shown(cells[row.name, name]) for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    if arguments and arguments[0] in CHILDREN:
        CHILDREN[arguments[0]](*arguments[1:])
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--libraries", default=",".join(LIBRARIES))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--play", nargs=2, metavar=("ROW", "LIBRARY"))
    options = parser.parse_args(arguments)
    if options.play:
        play(ROWS[options.play[0]], LIBRARIES[options.play[1]])
        return 0
    rows = [ROWS[name] for name in options.rows.split(",")]
    names = options.libraries.split(",")
    cells: dict[tuple[str, str], Verdict | None] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {(row.name, name): pool.submit(cell, row, name) for row in rows for name in names}
        for (row_name, name), future in running.items():
            cells[row_name, name] = future.result()
            sys.stderr.write(f"{row_name}, {name}: {shown(cells[row_name, name])}\n")
    text = page(rows, names, cells)
    print(text)
    if options.write:
        (Path(__file__).parent / "RESULTS.md").write_text(text, encoding="utf-8")
    return 0 if all(verdict is None or verdict.holds for (_, name), verdict in cells.items() if name.startswith("bus-")) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

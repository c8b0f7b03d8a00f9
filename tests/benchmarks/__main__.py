"""Runs the parts of the suite, and prints their tables. `--from` takes what `--json` wrote instead of measuring."""

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import (
    actor_costs,
    bulk,
    echo_peers,
    fanout,
    idle,
    machine,
    many_clients,
    notice,
    one_way,
    picture,
    publishing,
    startup,
    tls_peers,
    topics,
    udp,
    ws_peers,
)
from .cell import Cell
from .part import Part, Peer
from .process import EndFailed
from .table import PLACEMENT, Results, markdown

PARTS = {
    part.name: part
    for part in (
        echo_peers.PART,
        ws_peers.PART,
        ws_peers.ENDS,
        one_way.PART,
        udp.PART,
        tls_peers.PART,
        bulk.PART,
        many_clients.PART,
        fanout.PART,
        idle.PART,
        notice.PART,
        startup.PART,
        actor_costs.ACTORS,
        actor_costs.MAILBOX,
        actor_costs.HAND_OVER,
        topics.PART,
        publishing.PART,
    )
}
ROUNDS, QUICK_ROUNDS = 7, 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--part", nargs="+", choices=[*PARTS, "all"], default=["all"], help="default: all of them")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}, {QUICK_ROUNDS} with --quick")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and messages, for a first look")
    parser.add_argument("--size", type=int, help="bytes per message, instead of the sizes of each part")
    parser.add_argument("--clients", type=int, help="how many clients, instead of the numbers of each part that has any")
    parser.add_argument("--count", type=int, help="messages a round, instead of those of each part")
    parser.add_argument("--only", nargs="+", metavar="PEER", help="these peers only, by name")
    parser.add_argument("--skip-us", action="store_true", help="leave actorbus out")
    parser.add_argument(
        "--placement",
        choices=PLACEMENT,
        help="server and client on one core, on two, or as the scheduler likes (default: as each part says)",
    )
    parser.add_argument("--limit", type=float, default=60.0, help="seconds one measurement may take (default 60)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the Markdown here too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures here")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw bars with their spread (needs matplotlib)")
    parser.add_argument(
        "--from",
        type=Path,
        nargs="+",
        metavar="FILE",
        dest="sources",
        help="measure nothing, take these JSON files; of a part that several hold the last one counts",
    )
    options = parser.parse_args(arguments)
    if any(number is not None and number < 1 for number in (options.size, options.clients, options.rounds)):
        parser.error("--size, --clients and --rounds are at least 1")
    if options.picture and importlib.util.find_spec("matplotlib") is None:
        parser.error("--picture needs matplotlib, which the extra 'bench' brings")
    if options.count is not None and options.count < 100:
        parser.error("--count is at least 100: a p99 of fewer says nothing")
    names = {peer.name for part in PARTS.values() for peer in part.peers}
    if unknown := set(options.only or ()) - names:
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}")
    return options


def cells(part: Part, options: argparse.Namespace) -> list[Cell]:
    """The part's own, as the options change them; those that become the same count once."""
    found: dict[str, Cell] = {}
    for cell in part.cells:
        changed = cell.quick() if options.quick else cell
        changed = changed.changed(
            size=options.size if cell.size else None,
            clients=options.clients if cell.clients else None,
            count=options.count if cell.count else None,
            placement=options.placement,
            limit=options.limit,
        )
        found.setdefault(changed.name, changed)
    return list(found.values())


def peers(part: Part, options: argparse.Namespace) -> tuple[list[Peer], dict[str, str]]:
    """Who takes part, and why others do not."""
    wanted, left_out = [], {}
    for peer in part.peers:
        if (options.only and peer.name not in options.only) or (options.skip_us and peer.ours):
            continue
        if reason := peer.lacks():
            left_out[peer.name] = reason
        else:
            wanted.append(peer)
    return wanted, left_out


def run(part: Part, options: argparse.Namespace) -> Results:
    # In each round all peers, in each cell, so that a bad minute of the machine falls on all of them.
    taking_part, left_out = peers(part, options)
    results = Results(cells(part, options), left_out=left_out)
    begun, (stolen, total) = time.monotonic(), machine.jiffies()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    for number in range(1, rounds + 1):
        print(f"{part.name}: round {number} of {rounds}", file=sys.stderr, flush=True)
        found: dict[str, dict[str, dict[str, float]]] = {}
        for cell in results.cells:
            samples = found.setdefault(cell.name, {})
            for peer in taking_part:
                where = f"{cell.name}: {peer.name}"
                if where in results.failed:
                    continue
                try:
                    samples[peer.name] = dict(part.measure(peer, cell))
                except EndFailed as failure:
                    results.failed[where] = f"round {number}: {failure}"
                    print(f"{part.name}, {where} failed: {failure}", file=sys.stderr)
        results.rounds.append(found)
    stolen_after, total_after = machine.jiffies()
    results.stolen = (stolen_after - stolen) / max(1, total_after - total)
    results.seconds = time.monotonic() - begun
    print(f"{part.name}: {results.seconds:.0f} s", file=sys.stderr, flush=True)
    return results


def measured(options: argparse.Namespace) -> tuple[dict[str, str], dict[str, Results]]:
    place = {"date": time.strftime("%Y-%m-%d"), **machine.describe((*machine.DISTRIBUTIONS, *machine.PEERS))}
    results: dict[str, Results] = {}
    for name, part in PARTS.items():
        if name in options.part or "all" in options.part:
            results[name] = run(part, options)
            # After each, so that what ends the run early takes the rest alone.
            if options.json:
                write(options.json, place, results)
    return place, results


def write(path: Path, place: dict[str, str], results: dict[str, Results]) -> None:
    record: dict[str, Any] = {"machine": place, "parts": {name: found.as_dict() for name, found in results.items()}}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def recorded(sources: Sequence[Path]) -> tuple[dict[str, str], dict[str, Results]]:
    place: dict[str, str] = {}
    results: dict[str, Results] = {}
    for source in sources:
        record = json.loads(source.read_text(encoding="utf-8"))
        place.update(record["machine"])
        results.update({name: Results.from_dict(found) for name, found in record["parts"].items()})
    return place, {name: results[name] for name in PARTS if name in results}


def said(place: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in place.items())


def report(place: dict[str, str], results: dict[str, Results]) -> str:
    blocks = [said(place)]
    for name, found in results.items():
        part = PARTS[name]
        blocks += [f"## {name}", markdown(part.heading, {peer.name: peer.title for peer in part.peers}, part.columns, found)]
    return "\n\n".join(blocks)


def main(arguments: Sequence[str] | None = None) -> int:
    machine.require_linux()
    options = parse(arguments)
    place, results = recorded(options.sources) if options.sources else measured(options)
    text = report(place, results)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    if options.json:
        write(options.json, place, results)
    if options.picture:
        caption = ", ".join(f"{name} {place[name]}" for name in ("cores", "kernel", "python", "actorbus", "date") if name in place)
        caption = f"Medians and spread over the rounds; less is better. {caption}"
        picture.draw(picture.panels(tuple(PARTS.values()), results), caption, options.picture)
    return 1 if any(found.failed for found in results.values()) else 0


if __name__ == "__main__":
    try:
        status = main()
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)

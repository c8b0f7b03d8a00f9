"""`python -m tests.benchmarks`: run the parts, print the tables."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from . import echo_peers, machine, many_clients, topics, ws_peers
from .peers import PLACEMENTS, Load, Peer, measure
from .process import EndFailed
from .table import Results, markdown

PARTS = {"echo": echo_peers, "many": many_clients, "websocket": ws_peers, "topics": topics}
# The load generator writes a whole message before it reads on, so it may not be larger than the kernel buffers at once.
MAX_MANY_SIZE = 64 * 1024


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--rounds", type=int, help="default 7, 3 with --quick")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and messages, for a first look")
    parser.add_argument("--size", type=int, default=128, help="bytes per message (default 128)")
    parser.add_argument("--clients", type=int, default=1000, help="busy clients of the second part (default 1000)")
    parser.add_argument("--count", type=int, help="messages a round (default 10000 trips, 50000 echoes of many)")
    parser.add_argument("--only", nargs="+", metavar="PEER", help="these peers only, by name")
    parser.add_argument("--skip-us", action="store_true", help="leave actorbus out")
    parser.add_argument(
        "--placement",
        choices=PLACEMENTS,
        help="server and client on one core, on two, or as the scheduler likes (default: together, many free)",
    )
    parser.add_argument("--limit", type=float, default=60.0, help="seconds one measurement may take (default 60)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the Markdown here too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures here")
    options = parser.parse_args(arguments)
    if options.size < 1 or options.clients < 1 or (options.rounds is not None and options.rounds < 1):
        parser.error("--size, --clients and --rounds are at least 1")
    if options.part in ("many", "all") and options.size > MAX_MANY_SIZE:
        parser.error(f"--size is at most {MAX_MANY_SIZE} with many clients; use --part echo or websocket for more")
    if options.count is not None and options.count < 100:
        parser.error("--count is at least 100: a p99 of fewer says nothing")
    names = {peer.name for part in PARTS.values() for peer in part.PEERS}
    if unknown := set(options.only or ()) - names:
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}")
    return options


def chosen(peers: Sequence[Peer], options: argparse.Namespace) -> list[Peer]:
    wanted = []
    for peer in peers:
        if options.only and peer.name not in options.only:
            continue
        if options.skip_us and peer.needs == "bus":
            continue
        if not peer.available:
            print(f"{peer.name}: left out, {peer.needs} is not installed", file=sys.stderr)
            continue
        wanted.append(peer)
    return wanted


def load_for(part: str, options: argparse.Namespace) -> Load:
    if part == "topics":
        return topics.load(options.size, options.limit, quick=options.quick, count=options.count)
    if part != "many":
        clients, placement = 1, "together"
        count, warm = (2_000, 500) if options.quick else (10_000, 2_000)
    else:
        clients, placement = options.clients, "free"
        count, warm = (20_000, 5_000) if options.quick else (50_000, 10_000)
    return Load(
        size=options.size,
        warm=warm,
        count=options.count or count,
        clients=clients,
        limit=options.limit,
        placement=options.placement or placement,
    )


def run(part: str, options: argparse.Namespace) -> Results:
    results = Results(load_for(part, options), chosen(PARTS[part].PEERS, options))
    rounds = options.rounds or (3 if options.quick else 7)
    for number in range(rounds):
        print(f"{part}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        samples = {}
        for peer in results.peers:
            if peer.name in results.failed:
                continue
            try:
                samples[peer.name] = (topics.measure if part == "topics" else measure)(peer, results.load)
            except EndFailed as failure:
                results.failed[peer.name] = f"round {number + 1}: {failure}"
                print(f"{peer.name} failed: {failure}", file=sys.stderr)
        results.rounds.append(samples)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    machine.require_linux()
    options = parse(arguments)
    place = machine.describe()
    stolen, total = machine.jiffies()
    results = {part: run(part, options) for part in PARTS if options.part in (part, "all")}
    stolen_after, total_after = machine.jiffies()
    place["stolen"] = f"{(stolen_after - stolen) / max(1, total_after - total):.1%}"
    text = "\n\n".join(
        [
            ", ".join(f"{name} {value}" for name, value in place.items()),
            *(markdown(PARTS[part].heading(found), PARTS[part].COLUMNS, found) for part, found in results.items()),
        ]
    )
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    if options.json:
        record = {"machine": place, **{part: found.as_dict() for part, found in results.items()}}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 1 if any(found.failed for found in results.values()) else 0


if __name__ == "__main__":
    try:
        status = main()
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)

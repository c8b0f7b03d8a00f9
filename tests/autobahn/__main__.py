"""`python -m tests.autobahn [sections]`: run the Autobahn TestSuite against our server and our client, and write RESULTS.md.

Exit status: 0 if every case is OK, informational, or non-strict where the `websockets` package is non-strict too; 1 if not; 2 if the suite
cannot run here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import monotonic

import bus
from tests.autobahn.environment import Environment, Unavailable, make
from tests.autobahn.fuzzing import Case, End, Run, Verdicts
from tests.autobahn.report import in_words, page

ENDS: tuple[End, ...] = ("server", "client")
# Those with compression take minutes each.
SECTIONS = ("1", "2", "3", "4", "5", "6", "7", "9", "10", *(f"12.{part}" for part in range(1, 6)), *(f"13.{part}" for part in range(1, 8)))
COMPRESSED = ("12", "13")  # with the option off, all of them would be UNIMPLEMENTED
LAX = {"NON-STRICT", "UNIMPLEMENTED"}  # acceptable where `websockets` is the same
ATTEMPTS = 3


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def needs_compression(section: str) -> bool:
    return section.partition(".")[0] in COMPRESSED


def groups(sections: Sequence[str]) -> Iterator[list[str]]:
    """What runs in one go."""
    if plain := [section for section in sections if not needs_compression(section)]:
        yield plain
    yield from ([section] for section in sections if needs_compression(section))


@dataclass(frozen=True)
class Suite:
    """Where, and how long one run may take. Every run has a directory of its own."""

    environment: Environment
    directory: Path
    seconds: float

    def run(self, agent: str, end: End, label: str, cases: Sequence[str], compression: bool) -> Verdicts:
        name = f"{agent} {end} {label}"
        began = monotonic()
        directory = self.directory / name.replace(" ", "_")
        verdicts = Run(self.environment, directory, agent, end, cases, compression, self.seconds).verdicts()
        bad = [f"{case.name} {in_words(case)}" for case in verdicts.values() if not case.fine]
        say(f"{name}: {len(verdicts)} cases in {monotonic() - began:.0f} s, {len(bad)} not OK{': ' * bool(bad)}{'; '.join(bad)}")
        return verdicts

    def group(self, end: End, sections: Sequence[str]) -> tuple[Verdicts, Verdicts]:
        """Our verdicts for one end, and what `websockets` gets where we are not OK."""
        compression = needs_compression(sections[0])
        label = sections[0] if len(sections) == 1 else f"{sections[0]}-{sections[-1]}"
        ours = self.run("actorbus", end, label, [f"{section}.*" for section in sections], compression)
        theirs: Verdicts = {}
        # Some cases turn on which of two ends is faster this time. Theirs get more than one chance to be as lax as ours.
        for attempt in range(1, ATTEMPTS + 1):
            doubtful = [name for name, case in ours.items() if case.behavior in LAX and not acceptable(case, theirs.get(name))]
            if not doubtful and attempt > 1:
                break
            if cases := doubtful if attempt > 1 else [name for name, case in ours.items() if not case.fine]:
                theirs |= self.run("websockets", end, f"{label} attempt {attempt}", cases, compression)
        return ours, theirs


def acceptable(case: Case, theirs: Case | None) -> bool:
    if case.fine:
        return True
    return theirs is not None and case.behavior == theirs.behavior in LAX and case.close == theirs.close


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn", description=__doc__, formatter_class=raw)
    parser.add_argument("sections", nargs="*", default=SECTIONS, metavar="section", help="such as 6 or 12.1; default: all that matter")
    parser.add_argument("--python2", help="a Python 2.7 with pip; default: the first one found")
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir(), "actorbus-autobahn"), help="made here, used again")
    parser.add_argument("--seconds", type=float, default=1800.0, help="for each run; what is left then is NOT RUN")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time; each takes about one core")
    parser.add_argument("--reports", type=Path, help="keep the suite's reports here; what is there already is not run again")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    options = parser.parse_args()
    try:
        environment = make(options.environment, options.python2)
    except Unavailable as exc:
        say(f"The Autobahn TestSuite cannot run here: {exc}")
        return 2
    results: dict[End, tuple[Verdicts, Verdicts]] = {end: ({}, {}) for end in ENDS}
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        suite = Suite(environment, options.reports or Path(temporary), options.seconds)
        running = [(end, pool.submit(suite.group, end, group)) for group in groups(options.sections) for end in ENDS]
        for end, future in running:
            for all_of_them, more in zip(results[end], future.result(), strict=True):
                all_of_them |= more
    preface = [
        f"actorbus {bus.__version__} on websockets {version('websockets')}, autobahntestsuite {environment.version()}.",
        "Written by `python -m tests.autobahn`; sections 12 and 13 run with `compression=True`, the others without.",
        "",
        "In cases that are not OK, the server and the client of the `websockets` package (its `sync` ones) ran, too. Some cases turn on",
        f"which end is faster at the time: where we were not OK and it was, it ran up to {ATTEMPTS} times; its last verdict stands here.",
    ]
    if missing := [section for section in SECTIONS if section not in options.sections]:
        preface += ["", f"**Not run this time:** {', '.join(missing)}."]
    options.output.write_text(page(preface, results))
    return int(not all(acceptable(case, theirs.get(name)) for ours, theirs in results.values() for name, case in ours.items()))


if __name__ == "__main__":
    sys.exit(main())

"""The verdicts as a page of markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from tests.autobahn.fuzzing import Case, End, Verdicts

__all__ = ["in_words", "page"]

SUBJECTS = {
    1: "framing",
    2: "pings and pongs",
    3: "reserved bits",
    4: "opcodes",
    5: "fragmentation",
    6: "UTF-8",
    7: "closing handshake",
    9: "limits and performance",
    10: "miscellaneous",
    12: "compression, one set of parameters",
    13: "compression, other parameters",
}
COLUMNS = ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "FAILED", "NOT RUN")

TOGETHER = "a message and, right behind it, what ends the connection: read together, the connection is failed before the echo goes out"
LATE = "text is checked as UTF-8 when the message is whole, not while its fragments or octets arrive"
# What lies behind the suite's "events match at least one expected", by the number a case begins with.
WHY_LAX = {"3": TOGETHER, "4": TOGETHER, "5": TOGETHER, "6": LATE}


def reason(case: Case) -> str:
    why = WHY_LAX.get(case.name.partition(".")[0]) if case.behavior == "NON-STRICT" else None
    return (why or case.reason).replace("|", "/")


def table(ours: Verdicts) -> Iterator[str]:
    yield f"| section | cases | {' | '.join(COLUMNS)} | close not OK |"
    yield f"|---|{'---:|' * (len(COLUMNS) + 2)}"
    for section in sorted({case.section for case in ours.values()}):
        cases = [case for case in ours.values() if case.section == section]
        counts = Counter(case.behavior for case in cases)
        unclean = sum(case.close not in {"OK", "INFORMATIONAL"} for case in cases)
        row = " | ".join(str(counts[column] or "") for column in COLUMNS)
        yield f"| {section} {SUBJECTS.get(section, '')} | {len(cases)} | {row} | {unclean or ''} |"


def in_words(case: Case | None) -> str:
    if case is None:
        return "not run"
    return case.behavior if case.close in {"OK", "INFORMATIONAL"} else f"{case.behavior}, close {case.close}"


def exceptions(ours: Verdicts, theirs: Verdicts) -> Iterator[str]:
    remarkable = [case for case in ours.values() if not case.fine]
    if not remarkable:
        yield "Every case is OK or informational."
        return
    yield "| case | actorbus | websockets | reason |"
    yield "|---|---|---|---|"
    for case in sorted(remarkable, key=lambda one: [int(part) for part in one.name.split(".")]):
        yield f"| {case.name} | {in_words(case)} | {in_words(theirs.get(case.name))} | {reason(case)} |"


def page(preface: Iterable[str], results: dict[End, tuple[Verdicts, Verdicts]]) -> str:
    """`results`: for each of our ends our verdicts, and those of `websockets` for the cases that we are not OK in."""
    lines = ["# Autobahn TestSuite", "", *preface]
    for end, (ours, theirs) in results.items():
        lines += ["", f"## Our {end}", "", *table(ours), "", *exceptions(ours, theirs)]
    return "\n".join(lines) + "\n"

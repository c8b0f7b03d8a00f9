"""Medians, spread and ratios over rounds, as a Markdown table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .peers import Load, Peer, Sample

PLACEMENT = {"together": "on one core", "apart": "on two cores", "free": "as the scheduler likes"}
Figure = Callable[[Sample], float]


@dataclass
class Results:
    load: Load
    peers: Sequence[Peer]
    rounds: list[dict[str, Sample]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> list[Sample]:
        return [samples[name] for samples in self.rounds if name in samples]

    def as_dict(self) -> dict[str, Any]:
        return {
            "size": self.load.size,
            "clients": self.load.clients,
            "count": self.load.count,
            "warm": self.load.warm,
            "placement": self.load.placement,
            "rounds": [{name: sample.as_dict() for name, sample in samples.items()} for samples in self.rounds],
            "failed": self.failed,
        }


@dataclass(frozen=True)
class Column:
    title: str
    cell: Callable[[Results, str], str]


def micro(seconds: float) -> float:
    return seconds * 1e6


def milli(seconds: float) -> float:
    return seconds * 1e3


def whole(number: float) -> float:
    return float(round(number))


def _shown(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.1f}"


def median_of(results: Results, name: str, figure: Figure, form: str | None = None) -> str:
    middle = median(figure(sample) for sample in results.of(name))
    return form.format(middle) if form else _shown(middle)


def spread_of(results: Results, name: str, figure: Figure) -> str:
    figures = sorted(figure(sample) for sample in results.of(name))
    return f"{_shown(median(figures))} ({_shown(figures[0])}–{_shown(figures[-1])})"


def ratio(results: Results, name: str, floor: str, figure: Figure) -> str:
    """The median of the ratios within each round: what the machine did meanwhile cancels out."""
    pairs = [(samples[name], samples[floor]) for samples in results.rounds if name in samples and floor in samples]
    if not pairs:
        return "–"
    return f"{median(figure(sample) / figure(base) for sample, base in pairs):.2f}"


def markdown(heading: str, columns: Sequence[Column], results: Results) -> str:
    lines = [
        heading,
        "",
        "| peer | " + " | ".join(column.title for column in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for peer in results.peers:
        if results.of(peer.name):
            cells = (column.cell(results, peer.name) for column in columns)
            lines.append(f"| {peer.title} | " + " | ".join(cells) + " |")
    lines += ["", f"Medians of {len(results.rounds)} rounds (least–greatest); ratios within each round."]
    for peer in results.peers:
        if results.of(peer.name) and (faults := median(sample.faults for sample in results.of(peer.name))) >= 1:
            lines.append(f"`{peer.name}`: {faults:.0f} page faults a message are part of its figures.")
    lines += [f"`{name}` failed: {reason}" for name, reason in results.failed.items()]
    return "\n".join(lines)

"""Rounds of figures, and their medians, spreads and ratios as Markdown tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Self

from .cell import Cell

MICRO, MILLI = 1e-6, 1e-3
PLACEMENT = {"together": "on one core", "apart": "on two cores", "free": "as the scheduler likes"}
NOTHING = "–"

# By cell, by peer, by name of the figure.
Round = dict[str, dict[str, dict[str, float]]]


@dataclass
class Results:
    """What a part found: every round, which peers failed ("cell: peer" -> how), and which were left out (peer -> why). `seconds` is
    how long it took, `stolen` the share of the cores' time meanwhile that the hypervisor gave to others.
    """

    cells: list[Cell]
    rounds: list[Round] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    stolen: float = 0.0

    def of(self, cell: str, peer: str) -> list[dict[str, float]]:
        return [found for number in range(len(self.rounds)) if (found := self.at(number, cell, peer))]

    def at(self, number: int, cell: str, peer: str) -> dict[str, float]:
        return self.rounds[number].get(cell, {}).get(peer, {})

    def figures(self, cell: str, peer: str, figure: str) -> list[float]:
        return [found[figure] for found in self.of(cell, peer) if figure in found]

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "cells": [cell.as_dict() for cell in self.cells]}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        return cls(**{**record, "cells": [Cell(**cell) for cell in record["cells"]]})


# What stands in a column for one peer in one cell.
Shown = Callable[[Results, str, str], str]
Column = tuple[str, Shown]


def shown(number: float, unit: float = 1) -> str:
    """
    >>> shown(12345.6), shown(12.34), shown(0.1234), shown(12), shown(12e-6, MICRO)
    ('12,346', '12.3', '0.12', '12', '12.0')
    """
    scaled = number / unit
    if scaled >= 1000 or (unit == 1 and number == int(number)):
        return f"{scaled:,.0f}"
    return f"{scaled:.1f}" if scaled >= 1 else f"{scaled:.2g}"


def middle(figure: str, unit: float = 1, form: str = "") -> Shown:
    """The median over the rounds."""

    def cell(results: Results, cell: str, peer: str) -> str:
        figures = results.figures(cell, peer, figure)
        if not figures:
            return NOTHING
        found = median(figures)
        return form.format(found / unit) if form else shown(found, unit)

    return cell


def spread(figure: str, unit: float = 1) -> Shown:
    """The median, the least and the greatest."""

    def cell(results: Results, cell: str, peer: str) -> str:
        figures = sorted(results.figures(cell, peer, figure))
        if not figures:
            return NOTHING
        found = shown(median(figures), unit)
        if len(figures) == 1:
            return found
        return f"{found} ({shown(figures[0], unit)}–{shown(figures[-1], unit)})"

    return cell


def _median_ratio(pairs: list[tuple[dict[str, float], dict[str, float]]], figure: str) -> str:
    ratios = [ours[figure] / base[figure] for ours, base in pairs if figure in ours and base.get(figure)]
    return f"{median(ratios):.2f}" if ratios else NOTHING


def ratio(figure: str, against: str) -> Shown:
    """To another peer: the median of the ratios within each round, so that what the machine did meanwhile cancels out."""

    def cell(results: Results, cell: str, peer: str) -> str:
        rounds = range(len(results.rounds))
        return _median_ratio([(results.at(number, cell, peer), results.at(number, cell, against)) for number in rounds], figure)

    return cell


def growth(figure: str, since: str) -> Shown:
    """To the same peer in the cell `since`, likewise."""

    def cell(results: Results, cell: str, peer: str) -> str:
        rounds = range(len(results.rounds))
        return _median_ratio([(results.at(number, cell, peer), results.at(number, since, peer)) for number in rounds], figure)

    return cell


def share(figure: str, of: str) -> Shown:
    """Two counts over all rounds beside each other, as what was received and what was sent."""

    def cell(results: Results, cell: str, peer: str) -> str:
        if not (part := results.figures(cell, peer, figure)):
            return NOTHING
        return f"{sum(part):,.0f} of {sum(results.figures(cell, peer, of)):,.0f}"

    return cell


def conditions(cell: Cell) -> str:
    count = f"{cell.count:,} messages a round after {cell.warm:,} of warm-up, " if cell.count else ""
    return f"**{cell.name}** ({count}{PLACEMENT[cell.placement]})" if cell.name else f"({count}{PLACEMENT[cell.placement]})"


def table(cell: Cell, titles: Mapping[str, str], columns: Sequence[Column], results: Results) -> str:
    """`titles`: peer -> what is said of it. A peer without a figure has no row."""
    lines = [
        conditions(cell),
        "",
        "| peer | " + " | ".join(title for title, _ in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for peer, title in titles.items():
        if results.of(cell.name, peer):
            lines.append(f"| {title} | " + " | ".join(column(results, cell.name, peer) for _, column in columns) + " |")
    noisy = {peer: median(faults) for peer in titles if (faults := results.figures(cell.name, peer, "faults")) and median(faults) >= 1}
    if noisy:
        lines += ["", "Page faults a message: " + ", ".join(f"`{peer}` {faults:.0f}" for peer, faults in noisy.items()) + "."]
    return "\n".join(lines)


def markdown(heading: str, titles: Mapping[str, str], columns: Sequence[Column], results: Results) -> str:
    blocks = [heading, *(table(cell, titles, columns, results) for cell in results.cells)]
    rounds = len(results.rounds)
    medians = f"Medians of {rounds} rounds (least–greatest); ratios within each round" if rounds > 1 else "One round"
    blocks.append(f"{medians}; {results.seconds:.0f} s, {results.stolen:.1%} of the cores' time stolen.")
    blocks += [f"`{name}` failed: {reason}" for name, reason in results.failed.items()]
    blocks += [f"`{name}` left out: {reason}." for name, reason in results.left_out.items()]
    return "\n\n".join(blocks)

"""The figures as bars with their spread, from what `--json` wrote. matplotlib is imported here alone."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from .part import Bars, Part
from .table import Results, shown

OURS, OTHERS, SPREAD, INK = "#1f6feb", "#b6bec9", "#57606a", "#24292f"
FAR = 2.0  # times the second longest bar: what is longer is cut, and its figure stands beside it
COLUMNS = 2
WIDTH, BAR, HEAD = 10.0, 0.22, 0.55  # inches


class Bar(NamedTuple):
    label: str
    ours: bool
    middle: float
    least: float
    greatest: float


def bars(panel: Bars, part: Part, results: Results) -> list[Bar]:
    """The shortest first. Empty if the cell was not measured."""
    found = []
    for peer in part.peers:
        figures = [figure / panel.unit for figure in results.figures(panel.cell, peer.name, panel.figure)]
        if figures and (not panel.labels or peer.name in panel.labels):
            label = panel.labels.get(peer.name, peer.label)
            found.append(Bar(label, peer.ours, median(figures), min(figures), max(figures)))
    return sorted(found, key=lambda bar: bar.middle)


def panels(parts: Sequence[Part], results: Mapping[str, Results]) -> list[tuple[str, list[Bar]]]:
    """Titles and bars of everything that was measured and is to be drawn; the longest first, so that rows are full."""
    found = [(panel.title, bars(panel, part, results[part.name])) for part in parts if part.name in results for panel in part.bars]
    return sorted(((title, drawn) for title, drawn in found if drawn), key=lambda panel: -len(panel[1]))


def draw(found: Sequence[tuple[str, list[Bar]]], caption: str, path: Path) -> None:
    """Raises ModuleNotFoundError without matplotlib, ValueError when there is nothing to draw."""
    if not found:
        raise ValueError("nothing to draw: none of these parts has a picture")
    matplotlib: Any = import_module("matplotlib")
    figure: Any = import_module("matplotlib.figure").Figure
    # Text stays text: small, and set in the reader's font. The salt makes the same figures the same file.
    settings = {"svg.fonttype": "none", "svg.hashsalt": "actorbus", "font.family": "sans-serif", "font.size": 8}
    rows = [found[start : start + COLUMNS] for start in range(0, len(found), COLUMNS)]
    heights = [HEAD + BAR * max(len(drawn) for _, drawn in row) for row in rows]
    with matplotlib.rc_context(settings):
        sheet = figure(figsize=(WIDTH, sum(heights) + HEAD), facecolor="white", layout="constrained")
        grid = sheet.add_gridspec(len(rows), COLUMNS, height_ratios=heights)
        for number, (title, drawn) in enumerate(found):
            row, column = divmod(number, COLUMNS)
            _panel(sheet.add_subplot(grid[row, column]), title, drawn, max(len(others) for _, others in rows[row]))
        sheet.supxlabel(caption, fontsize=7, color=SPREAD)
        sheet.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


def reach(drawn: Sequence[Bar]) -> float:
    """How far the panel goes: to the longest bar and its spread, unless that would leave nothing to see of the others."""
    *others, longest = sorted(bar.middle for bar in drawn)
    widest = max(bar.greatest for bar in drawn)
    return min(widest, FAR * (others[-1] if others and longest > FAR * others[-1] else longest))


def _panel(axes: Any, title: str, drawn: list[Bar], slots: int) -> None:
    """`slots`: bars of the longest panel in the row, so that all are equally thick."""
    places, end = range(len(drawn)), reach(drawn)
    spread = [[bar.middle - bar.least for bar in drawn], [bar.greatest - bar.middle for bar in drawn]]
    lines = {"ecolor": SPREAD, "elinewidth": 0.8, "capsize": 2}
    colours = [OURS if bar.ours else OTHERS for bar in drawn]
    axes.barh(places, [bar.middle for bar in drawn], xerr=spread, color=colours, height=0.7, error_kw=lines)
    axes.set_yticks(places, [bar.label for bar in drawn])
    for tick, bar in zip(axes.get_yticklabels(), drawn, strict=True):
        tick.set_fontweight("bold" if bar.ours else "normal")
    axes.set_ylim(slots - 0.4, -0.6)
    axes.set_xlim(0, end)
    for place, bar in zip(places, drawn, strict=True):
        # Beyond the panel's end, where no bar gets in its way.
        axes.text(1.02, place, shown(bar.middle), va="center", transform=axes.get_yaxis_transform(), color=INK)
        if bar.middle > end:
            axes.text(0.98, place, "»", va="center", ha="right", transform=axes.get_yaxis_transform(), color="white", fontweight="bold")
    axes.set_title(title, loc="left", fontweight="bold", fontsize=9, color=INK)
    axes.tick_params(axis="both", length=0, colors=INK)
    axes.tick_params(axis="x", labelsize=7, colors=SPREAD)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.grid(axis="x", color="#eaeef2")
    axes.set_axisbelow(True)

"""The suite itself: its arithmetic, and that what its parts name is there. What it measures is nobody's test."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import picture
from tests.benchmarks.__main__ import PARTS, cells, main, parse
from tests.benchmarks.cell import Cell
from tests.benchmarks.part import Bars, Part, Peer
from tests.benchmarks.table import MICRO, NOTHING, Results, Round, growth, markdown, middle, ratio, share, spread

HERE = Path(__file__).parent
SMALL, LARGE = Cell(16, count=100), Cell(1024, count=100)
LINUX = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the benchmarks need Linux")


def figures(p50: float, **others: float) -> dict[str, float]:
    return {"p50": p50, "sent": 10, "received": 9, **others}


@pytest.fixture
def results() -> Results:
    # In a noisy round both take ten times as long.
    rounds: list[Round] = [
        {"16 B": {"a": figures(2e-6), "b": figures(4e-6)}, "1 KiB": {"a": figures(3e-6)}},
        {"16 B": {"a": figures(20e-6), "b": figures(40e-6)}, "1 KiB": {"a": figures(30e-6)}},
        {"16 B": {"a": figures(2e-6), "b": figures(8e-6)}, "1 KiB": {"a": {}}},
    ]
    return Results([SMALL, LARGE], rounds, failed={"1 KiB: b": "round 1: fell over"}, left_out={"c": "c is not installed"})


def test_ratios_are_taken_within_a_round_and_spreads_over_all(results: Results) -> None:
    assert middle("p50", MICRO)(results, "16 B", "b") == "8.0"
    assert spread("p50", MICRO)(results, "16 B", "b") == "8.0 (4.0–40.0)"
    assert ratio("p50", "a")(results, "16 B", "b") == "2.00"
    assert growth("p50", "16 B")(results, "1 KiB", "a") == "1.50"
    assert share("received", "sent")(results, "16 B", "a") == "27 of 30"


def test_what_was_not_measured_is_a_dash(results: Results) -> None:
    for column in (middle("p50"), spread("p50"), ratio("p50", "a"), growth("p50", "16 B"), share("received", "sent")):
        assert column(results, "1 KiB", "b") == NOTHING
    assert middle("p99")(results, "16 B", "a") == NOTHING
    assert ratio("p50", "b")(results, "1 KiB", "a") == NOTHING


def test_a_table_has_who_was_measured_and_says_who_was_not(results: Results) -> None:
    text = markdown("What.", {"a": "**A**", "b": "B", "c": "C"}, [("p50 µs", middle("p50", MICRO))], results)
    small, large = text.split("**1 KiB**")
    assert "| **A** | 2.0 |" in small
    assert "| B | 8.0 |" in small
    assert "| B |" not in large
    assert "| C |" not in text
    assert "`1 KiB: b` failed: round 1: fell over" in text
    assert "`c` left out: c is not installed." in text


def test_results_survive_json(results: Results) -> None:
    assert Results.from_dict(json.loads(json.dumps(results.as_dict()))) == results


class Anything(dict[str, float]):
    """Has every figure there could be."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> float:
        return 2.0

    def get(self, name: str, default: Any = None) -> Any:
        return self[name]


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_what_a_part_names_is_there(part: Part) -> None:
    names = [peer.name for peer in part.peers]
    assert len(set(names)) == len(names)
    assert len({cell.name for cell in part.cells}) == len(part.cells)
    assert {panel.cell for panel in part.bars} <= {cell.name for cell in part.cells}
    for panel in part.bars:
        assert set(panel.labels) <= set(names)
    everything = {cell.name: {name: Anything(x=1.0) for name in names} for cell in part.cells}
    found = Results(list(part.cells), [everything])  # type: ignore[list-item]  # a dict that has more
    for title, column in part.columns:
        for cell in part.cells:
            assert column(found, cell.name, names[-1]) != NOTHING, title
    for peer in part.peers:
        for end in (peer.server, peer.client):
            if ":" in end:
                module, _, function = end.partition(":")
                tree = ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8"))
                targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
                there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
                assert function in there | {target.id for target in targets if isinstance(target, ast.Name)}, end


def test_options_change_cells_and_equal_ones_count_once() -> None:
    part = PARTS["echo"]
    (cell,) = cells(part, parse(["--size", "64", "--count", "500", "--placement", "free"]))
    assert (cell.name, cell.count, cell.placement) == ("64 B", 500, "free")
    assert [cell.count * 5 for cell in cells(part, parse(["--quick"]))] == [cell.count for cell in part.cells]
    # A part without sizes or clients has none because of an option.
    assert [cell.name for cell in cells(PARTS["actors"], parse(["--size", "64", "--clients", "3"]))] == ["tell", "ask", "proxy"]


@pytest.mark.parametrize("arguments", [["--size", "0"], ["--rounds", "0"], ["--count", "99"], ["--only", "nobody"], ["--part", "none"]])
def test_a_wrong_option_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    said = capsys.readouterr().err
    assert arguments[0] in said or arguments[1] in said


def test_a_peer_says_what_it_lacks() -> None:
    assert Peer("a", "A", "", "").lacks() == ""
    assert Peer("a", "A", "", "", needs="json no_such_module").lacks() == "no_such_module is not installed"
    assert Peer("a", "A", "", "", runs="no-such-program").lacks() == "there is no no-such-program on the PATH"


def test_bars_are_medians_with_their_spread_the_shortest_first(results: Results) -> None:
    peers = (Peer("b", "B at both ends", "", ""), Peer("a", "**A**", "", "", needs="bus"))
    part = Part("p", "", [SMALL], peers, lambda peer, cell: {}, (), bars=(Bars("16 B", "p50", "µs", MICRO), Bars("8 B", "p50", "none")))
    ((title, (a, b)),) = picture.panels([part], {"p": results})
    assert title == "µs"
    assert (a.label, a.ours, b.label, b.ours) == ("A", True, "B", False)
    assert (b.least, b.middle, b.greatest) == pytest.approx((4, 8, 40))


@LINUX
def test_tables_and_picture_come_from_what_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = Results([Cell(256, count=100)], [{"256 B": {"floor": figures(30e-6), "bus": figures(33e-6)}}])
    source, target = tmp_path / "found.json", tmp_path / "found.svg"
    source.write_text(json.dumps({"machine": {"python": "none"}, "parts": {"echo": found.as_dict()}}))
    assert main(["--from", str(source)]) == 0
    assert "| actorbus, proxies at both ends | 33.0 |" in capsys.readouterr().out
    pytest.importorskip("matplotlib")
    assert main(["--from", str(source), "--picture", str(target)]) == 0
    assert "actorbus, proxies" in target.read_text()


@pytest.mark.parametrize("module", ["cell", "table", "part", "tls"])
def test_the_examples_in_its_docstrings_hold(module: str) -> None:
    done = doctest.testmod(importlib.import_module(f"tests.benchmarks.{module}"))
    assert done.attempted
    assert not done.failed


@LINUX
@pytest.mark.slow
def test_a_round_trip_is_measured(tmp_path: Path) -> None:
    target = tmp_path / "found.json"
    words = ["--part", "echo", "one-way", "--only", "floor", "raw", "bus", "--size", "64", "--count", "200", "--rounds", "1"]
    assert main([*words, "--json", str(target)]) == 0
    parts = json.loads(target.read_text())["parts"]
    for part, peers in {"echo": {"floor", "bus"}, "one-way": {"raw", "bus"}}.items():
        (found,) = parts[part]["rounds"]
        assert set(found["64 B"]) == peers
        for sample in found["64 B"].values():
            assert sample["sent"] == sample["received"] == 200

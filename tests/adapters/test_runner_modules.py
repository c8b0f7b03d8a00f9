"""Modules beside scripts: found by the script they stand beside, and never taken for another script's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.command import ROOT, run, write


@pytest.mark.parametrize("company", [False, True])
def test_modules_beside_a_script_are_found_wherever_it_is_started_from(tmp_path: Path, company: bool) -> None:
    write(tmp_path / "cell", "gripper.py", "import arm\nopening = arm.length\n")
    write(tmp_path / "cell", "arm.py", "length = 3")
    write(tmp_path / "cell", "lib/deep/tool.py", "from arm import length as reach")  # directories without __init__.py
    write(tmp_path / "cell", "package/__init__.py", "from . import part")
    write(tmp_path / "cell", "package/part.py", "name = __name__")
    write(
        tmp_path / "cell",
        "script.py",
        """
        import threading
        from gripper import opening
        def later():
            import lib.deep.tool, package
            print(opening, lib.deep.tool.reach, package.part.name)
        threading.Thread(target=later).start()
        """,
    )
    write(tmp_path, "other.py", "")
    ended = run("cell/script.py", *(["other.py"] if company else []), cwd=tmp_path)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.stdout.endswith("3 3 package.part\n")


def test_scripts_in_one_directory_share_the_modules_beside_them(tmp_path: Path) -> None:
    write(tmp_path, "board.py", "import queue\nnotes = queue.Queue()")
    write(tmp_path, "a.py", "import board\nboard.notes.put('hello')")
    write(tmp_path, "b.py", "import board\nprint(board.notes.get(timeout=60))")
    assert run("a.py", "b.py", cwd=tmp_path).lines == ["b | hello"]


def test_scripts_in_two_directories_have_each_their_own(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, f"helper_of_{name}.py", f"name = {name!r}")
        write(tmp_path / name, f"{name}.py", f"import helper_of_{name}\nprint(helper_of_{name}.name)")
    write(tmp_path / "a", "curious.py", "import helper_of_b")
    ended = run("a/a.py", "b/b.py", cwd=tmp_path)
    assert sorted(ended.lines) == ["a | a", "b | b"]
    # A stranger's directory is not searched.
    assert "No module named 'helper_of_b'" in run("a/curious.py", "a/a.py", cwd=tmp_path).stderr


@pytest.mark.parametrize("form", ["cell.py", "cell/__init__.py", "cell/inside.py"])
@pytest.mark.parametrize("statement", ["import cell", "from cell import name", "import cell.only_here"])
def test_two_files_of_one_module_name_are_a_clear_error(tmp_path: Path, form: str, statement: str) -> None:
    write(tmp_path, "order.py", "import threading\nloaded = threading.Event()")
    for name in "ab":
        write(tmp_path / name, form, f"name = {name!r}")
    # A module that is beside neither tells the second script when the first has loaded its own.
    write(tmp_path / "a", "a.py", "import order, cell\norder.loaded.set()\nprint('goes on')")
    write(tmp_path / "b", "b.py", f"import order\norder.loaded.wait(60)\n{statement}\nprint('not reached')")
    ended = run("a/a.py", "b/b.py", cwd=tmp_path, env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert ended.status == 1
    assert ended.lines == ["a | goes on"], ended
    place = form.removesuffix("/inside.py")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("b | ImportError: two files are called 'cell': ")
    assert str(tmp_path / "a" / place) in last
    assert str(tmp_path / "b" / place) in last
    assert "siblings.py" not in ended.stderr


@pytest.mark.parametrize("company", [False, True])
@pytest.mark.parametrize("name", ["bus", "queue"])
def test_a_file_that_bears_the_name_of_something_loaded_is_told_of(tmp_path: Path, name: str, company: bool) -> None:
    path = write(tmp_path, f"{name}.py", "mine = True")
    script = write(tmp_path, "script.py", f"import {name}\nprint({name}.mine)")
    other = write(tmp_path / "x", "other.py", f"import {name}\nprint('fine')")
    ended = run(script, *([other] if company else []))
    assert ended.status == 1
    assert f"ImportError: two files are called '{name}': script 'script' means {path}, but loaded is " in ended.stderr
    assert ended.lines == (["other | fine"] if company else [])


def test_a_bare_directory_of_a_dialects_name_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "scriptling").mkdir()
    for name in "ab":
        write(tmp_path, f"{name}.py", "import scriptling.net.unicast as uc\nprint(callable(uc.listen))")
    assert sorted(run("a.py", "b.py", cwd=tmp_path).lines) == ["a | True", "b | True"]


def test_a_file_beside_the_script_that_nobody_imports_is_no_concern(tmp_path: Path) -> None:
    for name in ("queue.py", "socket.py", "bus.py", "io.py", "cell.py", "x/cell.py"):
        write(tmp_path, name, "raise AssertionError")
    script = write(tmp_path, "script.py", "import io, concurrent.futures, logging.handlers\nprint(io.StringIO)")
    other = write(tmp_path / "x", "other.py", "import json, queue, socket")
    ended = run(script, other)
    assert (ended.status, ended.stderr) == (0, "")


def test_a_link_to_a_script_finds_what_is_beside_the_script(tmp_path: Path) -> None:
    write(tmp_path / "real", "cell.py", "name = 'cell'")
    write(tmp_path / "real", "script.py", "import cell, sys\nprint(cell.name, sys.argv[0])")
    (tmp_path / "link.py").symlink_to(tmp_path / "real" / "script.py")
    write(tmp_path, "other.py", "")
    assert run("link.py", cwd=tmp_path).lines == ["cell link.py"]
    assert run("link.py", "other.py", cwd=tmp_path).lines == ["link | cell link.py"]


def test_a_missing_module_is_missing(tmp_path: Path) -> None:
    script = write(tmp_path, "script.py", "import no_such_module")
    ended = run(script)
    assert ended.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert str(ROOT / "adapters") not in ended.stderr


def test_scripts_in_the_documents_style_need_no_install(tmp_path: Path) -> None:
    # A module of that name beside the script comes first, as it does under plain Python.
    write(tmp_path / "mine", "hs.py", "name = 'mine'")
    mine = write(tmp_path / "mine", "mine.py", "import hs\nprint(hs.name)")
    assert run(mine).lines == ["mine"]

"""`adapters.install()`: the original import names lead to our modules, and never in place of somebody's real ones."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import adapters
from adapters import aliases
from tests.adapters.command import LIMIT, ROOT, environment, run, write

# A dialect of the tests' own, so that no other test's imports are touched.
NAME = "dialect_under_test"


@pytest.fixture(autouse=True)
def dialect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package `adapters.dialect_under_test`, and import machinery that is put back afterwards."""
    ours = tmp_path / "ours"
    write(ours, f"{NAME}/__init__.py", "loads = []\nfrom . import net")
    write(ours, f"{NAME}/net/__init__.py", "loads = []")
    write(ours, f"{NAME}/net/unicast.py", f"from adapters.{NAME} import loads\nloads.append(1)\ndef connect(): return 5")
    monkeypatch.setattr(adapters, "__path__", [*adapters.__path__, str(ours)])
    monkeypatch.setattr(aliases, "NAMES", (NAME, "no_such_dialect"))
    monkeypatch.setattr(aliases, "_finder", aliases._Finder())
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not isinstance(f, aliases._Finder)])
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    yield
    for name in list(sys.modules):
        if NAME in name:
            del sys.modules[name]
    vars(adapters).pop(NAME, None)


def real_package(tmp_path: Path, name: str = NAME) -> str:
    """A package of that name where every program finds it."""
    path = write(tmp_path / "site", f"{name}/__init__.py", "real = True")
    write(tmp_path / "site", f"{name}/net/__init__.py", "")
    sys.path.append(str(tmp_path / "site"))
    importlib.invalidate_caches()
    return path


def test_without_it_the_names_are_unknown() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(NAME)


@pytest.mark.parametrize("first", ["", "adapters."])
def test_both_names_are_one_module(first: str) -> None:
    adapters.install()
    second = "" if first else "adapters."
    for inner in ("", ".net", ".net.unicast"):
        one = importlib.import_module(f"{first}{NAME}{inner}")
        other = importlib.import_module(f"{second}{NAME}{inner}")
        assert one is other
        assert one.__name__ == f"adapters.{NAME}{inner}"
        assert one.__spec__ is not None
        assert one.__spec__.name == one.__name__
        assert importlib.reload(one) is one
    package = importlib.import_module(NAME)
    assert package.net.unicast.connect() == 5


def test_every_way_to_import_works() -> None:
    adapters.install()
    names: dict[str, object] = {}
    exec(
        f"import {NAME}.net.unicast as uc\n"
        f"import {NAME}.net.unicast\n"
        f"from {NAME}.net import unicast\n"
        f"from {NAME}.net.unicast import connect\n",
        names,
    )
    ours = importlib.import_module(f"adapters.{NAME}.net.unicast")
    assert names["uc"] is names["unicast"] is ours
    assert names[NAME] is importlib.import_module(f"adapters.{NAME}")
    assert names["connect"] is ours.connect
    assert importlib.import_module(NAME).loads == [1]  # one copy, run once
    with pytest.raises(ModuleNotFoundError, match="no_such_part"):
        importlib.import_module(f"{NAME}.no_such_part")


def test_doing_it_twice_is_nothing() -> None:
    adapters.install()
    before = list(sys.meta_path)
    importlib.import_module(NAME)
    adapters.install()
    adapters.install(force=True)
    assert sys.meta_path == before


def test_names_without_a_package_of_ours_are_left_alone() -> None:
    adapters.install()
    with pytest.raises(ModuleNotFoundError, match="'no_such_dialect'"):
        importlib.import_module("no_such_dialect")


@pytest.mark.parametrize("loaded", [False, True])
def test_a_real_package_is_not_shadowed(tmp_path: Path, loaded: bool) -> None:
    path = real_package(tmp_path)
    if loaded:
        importlib.import_module(NAME)
        sys.path.pop()
    with pytest.raises(ImportError) as refused:
        adapters.install()
    assert path in str(refused.value)
    assert f"adapters.{NAME}" in str(refused.value)
    assert "force=True" in str(refused.value)
    assert (refused.value.name, refused.value.path) == (NAME, path)
    assert not any(isinstance(finder, aliases._Finder) for finder in sys.meta_path)
    assert importlib.import_module(NAME).real


@pytest.mark.parametrize("loaded", [False, True])
def test_unless_it_is_told_to(tmp_path: Path, loaded: bool) -> None:
    real_package(tmp_path)
    if loaded:
        importlib.import_module(f"{NAME}.net")
    adapters.install(force=True)
    assert importlib.import_module(NAME) is importlib.import_module(f"adapters.{NAME}")
    assert importlib.import_module(f"{NAME}.net") is importlib.import_module(f"adapters.{NAME}.net")
    adapters.install()  # is done already


def test_a_directory_that_merely_bears_the_name_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "data" / NAME).mkdir(parents=True)
    sys.path.append(str(tmp_path / "data"))
    adapters.install()
    assert importlib.import_module(NAME) is importlib.import_module(f"adapters.{NAME}")


def test_what_is_only_offered_gives_way_to_a_real_package(tmp_path: Path) -> None:
    aliases.offer()
    real_package(tmp_path)
    assert importlib.import_module(NAME).real
    assert importlib.import_module(f"{NAME}.net") is not importlib.import_module(f"adapters.{NAME}.net")


def test_threads_that_import_at_once_get_one_copy() -> None:
    adapters.install()
    got: list[object] = []
    begin = threading.Barrier(8)

    def fetch(name: str) -> None:
        begin.wait(LIMIT)
        got.append(importlib.import_module(name))

    names = [f"{NAME}.net.unicast", f"adapters.{NAME}.net.unicast"] * 4
    threads = [threading.Thread(target=fetch, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert len(got) == 8
    assert len(set(map(id, got))) == 1
    assert importlib.import_module(NAME).loads == [1]


@pytest.mark.parametrize(
    "statement",
    [
        "import scriptling.net.unicast as uc; import adapters.scriptling.net.unicast as ours; assert uc is ours",
        "from daystar_api.tcp_client import create_tcp_client as c; "
        "from adapters.daystar_api.tcp_client import create_tcp_client as ours; assert c is ours",
        "import hs.socket.udp; import adapters.hs as ours; assert hs is ours; assert hs.socket.udp.new is ours.socket.udp.new",
    ],
)
def test_the_runner_knows_the_original_names(tmp_path: Path, statement: str) -> None:
    script = write(tmp_path, "script.py", statement)
    ended = run(script, script)
    assert (ended.status, ended.stderr) == (0, "")


@pytest.mark.parametrize(("name", "statement"), [("bus", "import adapters"), ("actors", "import bus")])
def test_a_module_in_the_way_of_our_own_packages_is_named(tmp_path: Path, name: str, statement: str) -> None:
    path = write(tmp_path, f"{name}.py", "print('run')")
    env = environment()
    env["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{env['PYTHONPATH']}"
    done = subprocess.run(
        [sys.executable, "-c", statement], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, env=env, check=False
    )
    assert f"needs its own package {name!r} in {ROOT}, but the import finds {path}" in done.stderr
    assert done.stdout == ""  # it is found, not run

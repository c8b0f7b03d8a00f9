"""The house rules: which way imports run, what a wheel holds, that names, versions and documents agree."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.conftest import DESCRIPTORS, LeakWatch

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("actors", "bus", "adapters")

# What a package may import besides itself and the standard library.
MAY_IMPORT = {
    "actors": {"pykka", "websockets"},
    "bus": {"actors"},
    "adapters": {"bus", "actors"},
}
# What comes with an extra: other people's engines, and a display. Each is imported by one package or module only.
ENGINES = {"adapters/nats": {"nats", "nkeys"}, "adapters/progress.py": {"tqdm"}}

# Parts of websockets that open sockets themselves; we take its Sans-I/O part alone.
WEBSOCKETS_IO = {"asyncio", "cli", "legacy", "sync", "trio"}

MAX_LINES = 400
# The heart of the engine may be larger, if it has to: path -> its own limit. One entry at most.
LARGER: dict[str, int] = {}


def modules(package: str) -> list[Path]:
    found = sorted(path for path in (ROOT / package).rglob("*.py*") if path.suffix in {".py", ".pyi"})
    assert found, f"no modules in {package}/"
    return found


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(source: str, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of every import in a module of `package`, wherever in the module it stands."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package[: len(package) - level + 1] if level else ()
                base = ".".join([*above, *([module] if module else [])])
                assert base, f"line {node.lineno}: a relative import that leaves the package"
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    yield from imports(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parent.parts)


def test_an_import_is_found_wherever_it_stands() -> None:
    source = """
import a.b as c, d
if TYPE_CHECKING:
    from e import f
def late():
    from . import g
    from ..h import i
    importlib.import_module("j.k")
    __import__("l")
"""
    found = [name for _, name in imports(source, ("adapters", "hs"))]
    assert sorted(found) == ["a.b", "adapters.h.i", "adapters.hs.g", "d", "e.f", "j.k", "l"]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way_only(package: str) -> None:
    offences = []
    for path in modules(package):
        extra = ENGINES.get(relative(path)) or ENGINES.get(relative(path.parent), set())
        allowed = {package} | MAY_IMPORT[package] | sys.stdlib_module_names | extra
        offences += [
            f"{relative(path)}:{line} imports {name}"
            for line, name in imports_of(path)
            if name.partition(".")[0] not in allowed
        ]
    assert not offences, "\n".join(offences)


def test_only_the_sans_io_part_of_websockets_is_used() -> None:
    offences = [
        f"{relative(path)}:{line} imports {name}"
        for package in PACKAGES
        for path in modules(package)
        for line, name in imports_of(path)
        if name.startswith("websockets.") and name.split(".")[1] in WEBSOCKETS_IO
    ]
    assert not offences, "\n".join(offences)


def loops(nodes: Iterable[ast.AST]) -> Iterator[ast.stmt | ast.expr]:
    """Those that run in the same frame."""
    for node in nodes:
        match node:
            case ast.For() | ast.While() | ast.ListComp() | ast.SetComp() | ast.DictComp():
                yield node
            case ast.FunctionDef() | ast.Lambda() | ast.GeneratorExp():
                continue
        yield from loops(ast.iter_child_nodes(node))


def loops_with_a_lock(source: str) -> list[int]:
    """The lines. What stands in a `with` without being called is a lock."""
    return [
        loop.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.With) and any(isinstance(item.context_expr, ast.Name | ast.Attribute) for item in node.items)
        for loop in loops(node.body)
    ]


def test_loops_with_a_lock_are_found() -> None:
    source = """
with lock:
    a = [b for b in c]
    if a:
        while a:
            a.pop()
    def d():
        for e in f: pass
    g(h for h in i)
with open(j) as k:
    for l in k: pass
"""
    assert loops_with_a_lock(source) == [3, 5]


def test_no_loop_runs_in_the_frame_that_holds_a_lock() -> None:
    # CPython 3.12 and 3.13 leave some jumps back to a loop's head out of the range that `with` protects. Ctrl-C strikes at such jumps,
    # and would leave the lock held for good. In a function of its own a loop is safe: the call to it is within the range.
    offences = [
        f"{relative(path)}:{line}"
        for package in PACKAGES
        for path in modules(package)
        for line in loops_with_a_lock(path.read_text(encoding="utf-8"))
    ]
    assert not offences, "loops while a lock is held: " + ", ".join(offences)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_is_about_one_thing(package: str) -> None:
    assert len(LARGER) <= 1
    too_long = {
        relative(path): lines
        for path in modules(package)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LARGER.get(relative(path), MAX_LINES)
    }
    assert not too_long


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


# --- names, versions, documents ---


def section(document: str, title: str) -> str:
    """The text under a second-level heading, up to the next one, without fenced code."""
    prose = re.sub(r"^(```|~~~).*?^\1", "", document, flags=re.MULTILINE | re.DOTALL)
    found = re.search(rf"^## +{re.escape(title)}\b.*?$(.*?)(?=^## |\Z)", prose, flags=re.MULTILINE | re.DOTALL)
    assert found, f"no section '## {title}'"
    return found[1]


def test_the_reference_in_the_readme_names_what_bus_exports() -> None:
    bus = importlib.import_module("bus")
    exported = list(bus.__all__)
    assert len(exported) == len(set(exported))
    assert [name for name in exported if not hasattr(bus, name)] == []
    # A name counts where a code span opens with it: `bus.connect` as well as `bus.connect(url, *, timeout=10)`.
    documented = set(re.findall(r"`bus\.(\w+)", section((ROOT / "README.md").read_text(encoding="utf-8"), "Reference")))
    # Dunders are documented without being exported by a star import.
    documented = {name for name in documented if not (name.startswith("__") and hasattr(bus, name))}
    assert sorted(documented - set(exported)) == [], "in the README, but not exported"
    assert sorted(set(exported) - documented - {"__version__"}) == [], "exported, but not in the README"


def test_the_version_is_written_once() -> None:
    bus = importlib.import_module("bus")
    version = importlib.import_module("bus._version").__version__
    assert bus.__version__ == version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "bus/_version.py"


def test_the_changelog_opens_with_this_version() -> None:
    version = importlib.import_module("bus._version").__version__
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings[0] == version


def test_ci_ends_with_the_command_the_readme_gives() -> None:
    last = (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().splitlines()[-1]
    assert last == "python -m pytest"
    assert last in (ROOT / "README.md").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


# --- the wheel ---


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed (it comes with the extra 'dev')")
    out = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.iterdir()
    with zipfile.ZipFile(path) as archive:
        yield archive


def dist_info(wheel: zipfile.ZipFile) -> str:
    return next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")).removesuffix("METADATA")


def metadata(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(wheel.read(dist_info(wheel) + "METADATA").decode())


def test_the_wheel_holds_our_three_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    ours = {relative(path) for package in PACKAGES for path in modules(package)}
    ours |= {f"{package}/py.typed" for package in PACKAGES}
    held = {name for name in wheel.namelist() if not name.startswith(dist_info(wheel))}
    assert sorted(held - ours) == [], "in the wheel, but not ours"
    assert sorted(ours - held) == [], "missing in the wheel"
    # The dialects go by other people's names, which are not ours to take in site-packages.
    top_level = {name.partition("/")[0] for name in held}
    assert top_level == set(PACKAGES)


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    described = metadata(wheel)
    assert described["Name"] == "actorbus"
    assert described["Version"] == importlib.import_module("bus._version").__version__
    assert described["Requires-Python"] == ">=3.11"
    assert described["License-Expression"] == "MIT"
    assert dist_info(wheel) + "licenses/LICENSE" in wheel.namelist()


def test_plain_actorbus_needs_pykka_and_websockets_only(wheel: zipfile.ZipFile) -> None:
    required = [line for line in metadata(wheel).get_all("Requires-Dist", []) if "extra ==" not in line]
    names = sorted(re.split(r"[^\w.-]", line)[0].lower() for line in required)
    assert names == ["pykka", "websockets"]


def test_every_entry_point_leads_to_a_module_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    listed = wheel.read(dist_info(wheel) + "entry_points.txt").decode()
    targets = re.findall(r"^[\w+-]+ = ([\w.]+)", listed, flags=re.MULTILINE)
    assert "adapters.cli" in targets
    held = set(wheel.namelist())
    for target in targets:
        path = target.replace(".", "/")
        assert f"{path}.py" in held or f"{path}/__init__.py" in held, target


# --- the watch for leaks, which other tests rely on ---


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="descriptors are seen through /proc")
def test_the_watch_sees_a_socket_until_it_is_closed() -> None:
    before = socket.socket()
    watch = LeakWatch()
    left, right = socket.socketpair()
    before.close()  # does not offset what was gained
    assert [line.partition(":")[0] for line in watch.leftovers()] == ["descriptor of socket"] * 2
    left.close()
    right.close()
    assert watch.wait(timeout=0) == []


def test_the_watch_sees_a_thread_until_it_ends() -> None:
    watch = LeakWatch()
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait, name="lingers", daemon=True)
    thread.start()
    assert [line for line in watch.leftovers() if "lingers" in line]
    assert watch.wait(timeout=0) == watch.leftovers()
    leave.set()
    assert watch.wait() == []


def test_the_watch_can_be_told_that_something_stays() -> None:
    watch = LeakWatch()
    left, right = socket.socketpair()
    with left, right:
        watch.rebase()
        assert watch.leftovers() == []

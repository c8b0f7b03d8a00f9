"""The command line: what it takes, and how it says what is wrong with what it was given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bus
from adapters import cli, runner
from tests.adapters.command import LIMIT, Command, environment, write

Started = list[tuple[list[str], list[str], str, list[str] | None]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """What the command would have run, in place of running it."""
    calls: Started = []

    def note(paths: list[str], arguments: list[str], listen: str, origins: list[str] | None) -> int:
        calls.append((paths, arguments, listen, origins))
        return 42

    monkeypatch.setattr(runner, "run", note)
    return calls


@pytest.fixture
def script(tmp_path: Path) -> str:
    return write(tmp_path, "script.py", "")


@pytest.mark.parametrize(
    ("rest", "arguments"),
    [
        ([], []),
        (["--"], []),
        (["--", "--version", "-h", "run"], ["--version", "-h", "run"]),
        (["--", "a", "--", "b"], ["a", "--", "b"]),
    ],
)
def test_what_is_behind_the_dashes_is_for_the_scripts(
    started: Started, script: str, rest: list[str], arguments: list[str]
) -> None:
    assert cli.main(["run", script, script, *rest]) == 42
    assert started == [([script, script], arguments, "127.0.0.1:8000", None)]


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "[::1]:0", "robot:9000"])
def test_listen_says_where_routes_are_served(started: Started, script: str, listen: str) -> None:
    assert cli.main(["run", "--listen", listen, script]) == 42
    assert cli.main(["run", script, f"--listen={listen}", "--", "--listen", "x"]) == 42
    assert started == [([script], [], listen, None), ([script], ["--listen", "x"], listen, None)]


@pytest.mark.parametrize("listen", ["8000", "ws://127.0.0.1:8000", "127.0.0.1:99999", ""])
def test_listen_takes_host_and_port(
    started: Started, script: str, listen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["run", "--listen", listen, script])
    assert left.value.code == 2
    assert "--listen" in capsys.readouterr().err
    assert started == []


def test_origin_says_whose_pages_may_use_the_routes(started: Started, script: str) -> None:
    assert cli.main(["run", "--origin", "https://page.example", "--origin=http://localhost:3000", script]) == 42
    assert cli.main(["run", script, "--origin", "*"]) == 42
    assert [origins for *_, origins in started] == [["https://page.example", "http://localhost:3000"], ["*"]]


@pytest.mark.parametrize("origin", ["page.example", "https://page.example/", "https://Page.example", ""])
def test_origin_takes_what_a_browser_says(started: Started, script: str, origin: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["run", f"--origin={origin}", script])
    assert left.value.code == 2
    assert "--origin: an origin is like 'https://page.example'" in capsys.readouterr().err
    assert started == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "actorbus run script.py"),
        (["walk"], "invalid choice: 'walk'"),
        (["run"], "the following arguments are required: script.py"),
        (["run", "--"], "the following arguments are required: script.py"),
        (["run", "{script}", "--fast"], "unknown: --fast (arguments for the scripts go behind --)"),
        (["run", "{script}", "{script}.missing"], "cannot read {script}.missing: No such file or directory"),
        (["run", "{directory}"], "{directory} is a directory, not a script"),
    ],
)
def test_a_usage_error_says_what_is_wrong_and_starts_nothing(
    started: Started,
    script: str,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    said: str,
) -> None:
    names = {"script": script, "directory": str(Path(script).parent)}
    with pytest.raises(SystemExit) as left:
        cli.main([word.format(**names) for word in given])
    assert left.value.code == 2
    assert said.format(**names) in capsys.readouterr().err
    assert started == []


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"actorbus {bus.__version__}\n"


@pytest.mark.parametrize(("given", "said"), [(["--help"], "run one script, or several"), (["run", "-h"], "Ctrl-C")])
def test_help(capsys: pytest.CaptureFixture[str], given: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(given)
    assert left.value.code == 0
    assert said in " ".join(capsys.readouterr().out.split())


# What a script that uses none of it does not wait for.
LATE = (
    "adapters.scriptling", "actors.server", "actors.topics", "asyncio", "bus.serving", "ctypes", "dataclasses", "inspect",
    "ipaddress", "json", "pathlib", "ssl", "tempfile", "urllib.parse",
)  # fmt: skip


def test_it_runs_as_a_module_with_little_in_memory_and_ends_with_its_status(tmp_path: Path) -> None:
    script = write(tmp_path, "script.py", f"import sys; print(sorted({set(LATE)} & set(sys.modules))); raise SystemExit(3)")
    with Command("run", script) as command:
        ended = command.end()
    assert (ended.status, ended.stdout) == (3, "[]\n")
    with Command("run", str(tmp_path / "missing.py")) as command:
        ended = command.end()
    assert ended.status == 2
    assert ended.stderr.startswith("usage: actorbus ")


def test_a_usage_error_does_not_load_the_engine() -> None:
    code = "import sys; from adapters import cli; print(sorted({'bus', 'pykka', 'adapters.runner'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, env=environment(), check=False)
    assert done.stdout == "[]\n", done.stderr


def test_a_reader_who_never_read_is_no_reason_to_complain(tmp_path: Path) -> None:
    script = write(tmp_path, "script.py", "print('a line')")
    done = subprocess.run(
        ["sh", "-c", '"$@" | true', "sh", sys.executable, "-m", "adapters.cli", "run", script],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")  # of `true`

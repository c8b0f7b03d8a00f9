"""What scripts print under the runner: told apart line by line, whole, and never a reason to fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors import scope
from actors.scope import Scope
from adapters import output
from tests.adapters.command import LIMIT, ROOT, Command, environment, run, write


@contextmanager
def working_for(owner: Scope | None) -> Iterator[None]:
    previous = scope.enter(owner)
    try:
        yield
    finally:
        scope.enter(previous)


class Streams:
    """Stand-ins for the two real streams, both going to one file or each to its own."""

    def __init__(self, directory: Path, *, shared: bool) -> None:
        self._paths = [directory / "out", directory / ("out" if shared else "err")]
        self.files = [path.open("a", encoding="utf-8", errors="backslashreplace") for path in self._paths]

    @property
    def out(self) -> str:
        return self._paths[0].read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._paths[1].read_text(encoding="utf-8")


@contextmanager
def several(directory: Path, *, shared: bool = False) -> Iterator[Streams]:
    """Within: what `sys.stdout` and `sys.stderr` are for several scripts. Inside a test, as pytest sets them anew for each."""
    streams = Streams(directory, shared=shared)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = streams.files
    try:
        with output.prefixed():
            yield streams
    finally:
        sys.stdout, sys.stderr = before
        for file in streams.files:
            file.close()


a, b = Scope("a"), Scope("b")


def say(owner: Scope | None, text: str, *, flush: bool = False, to_stderr: bool = False) -> None:
    with working_for(owner):
        stream = sys.stderr if to_stderr else sys.stdout
        assert stream.write(text) == len(text)
        if flush:
            stream.flush()


def test_every_line_has_its_scripts_name_in_front(tmp_path: Path) -> None:
    with several(tmp_path) as streams:
        say(a, "one\ntwo\n")
        say(b, "three\n\n")
        say(None, "nobody's\n")
        assert streams.out == "a | one\na | two\nb | three\nb | \nnobody's\n"


def test_pieces_of_lines_are_put_together_script_by_script(tmp_path: Path) -> None:
    with several(tmp_path) as streams:
        say(a, "on")
        say(b, "tw")
        say(a, "e\nth")
        assert streams.out == "a | one\n"
        say(b, "o\n")
        say(a, "ree\n")
        assert streams.out == "a | one\nb | two\na | three\n"


def test_a_flushed_piece_is_shown_and_its_line_continued(tmp_path: Path) -> None:
    with several(tmp_path) as streams:
        say(a, ".", flush=True)
        say(a, ".", flush=True)
        assert streams.out == "a | .."
        say(a, " done\nnext\n")
        assert streams.out == "a | .. done\na | next\n"


def test_another_script_does_not_write_into_an_unfinished_line(tmp_path: Path) -> None:
    with several(tmp_path) as streams:
        say(a, "asking: ", flush=True)
        say(b, "hello\n")
        say(a, "yes\n")
        assert streams.out == "a | asking: \nb | hello\na | yes\n"


@pytest.mark.parametrize(("shared", "shown"), [(True, "a | half \na | wrong\n"), (False, "a | half ")])
def test_an_unfinished_line_is_ended_for_the_other_stream_only_in_one_place(tmp_path: Path, shared: bool, shown: str) -> None:
    with several(tmp_path, shared=shared) as streams:
        say(a, "half ", flush=True)
        say(a, "wrong\n", to_stderr=True)
        assert streams.out == shown
        assert streams.err.endswith("a | wrong\n")


def test_the_end_of_a_script_ends_its_line(tmp_path: Path) -> None:
    with several(tmp_path) as streams:
        say(a, "not flushed")
        output.finish(a)
        say(b, "flushed", flush=True)
        output.finish(b)
        output.finish(a)
        assert streams.out == "a | not flushed\nb | flushed\n"


def test_a_line_without_end_is_not_kept_for_ever(tmp_path: Path) -> None:
    with several(tmp_path) as streams:
        say(a, "x" * (output.LONGEST_PENDING + 1))
        assert streams.out == "a | " + "x" * (output.LONGEST_PENDING + 1)


def test_bytes_go_the_same_way(tmp_path: Path) -> None:
    with several(tmp_path) as streams:
        with working_for(a):
            sys.stdout.buffer.write("grün ".encode())
            sys.stdout.buffer.write(memoryview(b"\xff\n"))
            sys.stdout.buffer.flush()
        assert streams.out == "a | grün \\udcff\n"


def test_it_can_be_asked_what_a_stream_is_asked(tmp_path: Path) -> None:
    with several(tmp_path) as streams:
        sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)  # type: ignore[union-attr]
        sys.stdout.close()
        assert sys.stdout.writable()
        assert not sys.stdout.isatty()
        assert not sys.stdout.closed
        with pytest.raises(TypeError, match="must be str, not bytes"):
            sys.stdout.write(b"x")  # type: ignore[arg-type]
        sys.stdout.write("goes on\n")
        assert streams.out == "goes on\n"


# --- the command ---


def test_one_script_prints_without_prefix_and_each_line_at_once(tmp_path: Path) -> None:
    script = write(tmp_path, "script.py", "import sys\nprint('asking')\nprint('got', input(), file=sys.stderr)\n")
    with Command("run", script) as command:
        command.read_until("asking")  # before it ends: it waits for an answer
        command.tell("one")
        assert command.end().stderr == "got one\n"


def test_several_have_their_names_in_front_on_both_streams(tmp_path: Path) -> None:
    source = """
        import sys, threading, warnings
        print("out")
        print("err", file=sys.stderr)
        thread = threading.Thread(target=lambda: threading.Thread(target=print, args=["grandchild"]).start())
        thread.start()
        """
    paths = [write(tmp_path, f"{name}.py", source) for name in ("one", "two")]
    ended = run(*paths)
    assert sorted(ended.lines) == ["one | grandchild", "one | out", "two | grandchild", "two | out"]
    assert sorted(ended.stderr.splitlines()) == ["one | err", "two | err"]


def test_lines_of_many_writers_stay_whole(tmp_path: Path) -> None:
    source = """
        import threading
        def count(who):
            for n in range(300):
                print(who, end=" ")
                print(n, "x" * 50)
        for who in "tu":
            thread = threading.Thread(target=count, args=[who])
            thread.start()
            thread.join()
        """
    paths = [write(tmp_path, f"{name}.py", source) for name in "abc"]
    ended = run(*paths)
    assert ended.status == 0
    expected = [f"{who} {n} {'x' * 50}" for who in "tu" for n in range(300)]
    assert len(ended.lines) == 3 * len(expected)
    for name in "abc":
        assert ended.lines_of(name) == expected


@pytest.mark.parametrize("company", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_cannot_be_shown_is_shown_as_an_escape(tmp_path: Path, company: bool, encoding: str) -> None:
    script = write(tmp_path, "script.py", r'print("gr\u00fcn", "lone \udcff")')
    other = write(tmp_path, "other.py", "")
    ended = run(script, *([other] if company else []), env={"PYTHONIOENCODING": encoding})
    green = "grün" if encoding == "utf-8" else r"gr\xfcn"
    assert ended.lines == [("script | " if company else "") + green + r" lone \udcff"]
    assert ended.status == 0


def test_a_prompt_is_seen_before_the_answer_is_waited_for(tmp_path: Path) -> None:
    script = write(tmp_path, "script.py", "print('got', input('name? '))")
    other = write(tmp_path, "other.py", "")
    with Command("run", script, other) as command:
        assert command.process.stdout is not None
        shown = ""
        while shown != "script | name? ":
            piece = command.process.stdout.read(1)
            assert piece, shown
            shown += piece
        command.tell("Ada")
        assert command.end().stdout == "got Ada\n"


@pytest.mark.parametrize("names", [["a.py"], ["a.py", "b.py"]])
def test_a_script_that_prints_to_nobody_ends_quietly_but_in_order(tmp_path: Path, names: list[str]) -> None:
    source = """
        try:
            while True:
                print("y")
        finally:
            open(__file__ + ".ended", "w").close()
        """
    paths = [write(tmp_path, name, source) for name in names]
    with Command("run", *paths) as command:
        assert command.process.stdout is not None
        assert command.process.stdout.readline().endswith("y\n")
        command.process.stdout.close()
        assert command.process.stderr is not None
        assert command.process.stderr.read() == ""
        assert command.process.wait(LIMIT) == 141
    assert all(os.path.exists(f"{path}.ended") for path in paths)


@pytest.mark.parametrize("names", [["a.py"], ["a.py", "b.py"]])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_reason_to_fail(tmp_path: Path, names: list[str], closed: str) -> None:
    source = """
        import sys, threading
        print("out")
        print("err", file=sys.stderr)
        threading.Thread(target=print, args=["thread"]).start()
        sys.exit("text")
        """
    paths = [write(tmp_path, name, source) for name in names]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "adapters.cli", "run", *paths],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment(),
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    if "2>" not in closed:
        assert done.stderr.count("text\n") == len(names)


def test_two_streams_of_one_place_are_seen_as_such(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        "a.py",
        """
        import sys
        print("half", end="", flush=True)
        print("wrong", file=sys.stderr)
        """,
    )
    other = write(tmp_path, "b.py", "")
    done = subprocess.run(
        [sys.executable, "-m", "adapters.cli", "run", script, other],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        env=environment(),
        cwd=ROOT,
        check=False,
    )
    assert done.stdout == "a | half\na | wrong\n"


# --- tracebacks ---

FAILING = """
    import threading
    def fail():
        raise ValueError("no such robot")
    {call}
    """


@pytest.mark.parametrize("company", [False, True])
def test_a_traceback_is_the_scripts_own(tmp_path: Path, company: bool) -> None:
    script = write(tmp_path, "script.py", FAILING.format(call="fail()"))
    other = write(tmp_path, "other.py", "")
    ended = run(script, *([other] if company else []))
    prefix = "script | " if company else ""
    # Versions differ in the marks below a line.
    told = [line for line in ended.stderr.splitlines() if set(line.removeprefix(prefix)) - set(" ^~")]
    assert told == [
        f"{prefix}Traceback (most recent call last):",
        f'{prefix}  File "{script}", line 4, in <module>',
        f"{prefix}    fail()",
        f'{prefix}  File "{script}", line 3, in fail',
        f'{prefix}    raise ValueError("no such robot")',
        f"{prefix}ValueError: no such robot",
    ]
    assert ended.status == 1


def test_the_traceback_of_a_thread_has_no_frames_of_the_runner_either(tmp_path: Path) -> None:
    script = write(tmp_path, "script.py", FAILING.format(call="threading.Thread(target=fail).start()"))
    other = write(tmp_path, "other.py", "")
    ended = run(script, other)
    assert ended.status == 0, "as under plain Python"
    assert "script | ValueError: no such robot\n" in ended.stderr
    assert all(line.startswith("script | ") for line in ended.stderr.splitlines())
    assert "adapters" not in ended.stderr


def test_an_error_while_importing_and_its_cause_are_told_without_our_frames(tmp_path: Path) -> None:
    write(tmp_path, "cell.py", "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise RuntimeError from error\n")
    script = write(tmp_path, "script.py", "import cell\n")
    ended = run(script)
    assert ended.stderr.count("Traceback (most recent call last):") == 2
    assert f'File "{script}", line 1' in ended.stderr
    assert f'File "{tmp_path}/cell.py", line 2' in ended.stderr
    assert str(ROOT / "adapters") not in ended.stderr
    assert "importlib" not in ended.stderr


def test_a_script_that_does_not_compile_is_told_so_and_the_others_run(tmp_path: Path) -> None:
    script = write(tmp_path, "script.py", "print('before')\nif True print()\n")
    other = write(tmp_path, "other.py", "print('fine')")
    ended = run(script, other)
    assert ended.status == 1
    assert ended.lines == ["other | fine"]
    assert ended.stderr.startswith(f'script |   File "{script}", line 2\n')
    assert "script | SyntaxError: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_script_may_report_its_errors_itself(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        "script.py",
        """
        import sys
        sys.excepthook = lambda kind, error, traceback: print("reported", error)
        raise ValueError("this")
        """,
    )
    ended = run(script)
    assert (ended.status, ended.lines, ended.stderr) == (1, ["reported this"], "")


def test_the_source_is_read_in_the_encoding_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_bytes("# -*- coding: latin-1 -*-\nprint('grün')\n".encode("latin-1"))
    assert run(str(path)).lines == ["grün"]

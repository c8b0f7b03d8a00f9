"""`actorbus run`: each script is the main program for itself, ends by its own rules, and the command tells how it went."""

from __future__ import annotations

import resource
import socket
from pathlib import Path

import pytest

from adapters.runner import names_of
from tests.adapters.command import LIMIT, Command, run, write

IDENTITY = """
    import dataclasses, enum, pickle, sys, threading, typing

    @dataclasses.dataclass
    class Point:
        x: "int"
        next: "Point | None" = None

    class Colour(enum.Enum):
        RED = 1

    def see(where):
        import __main__
        assert __name__ == "__main__"
        assert sys.modules["__main__"].Point is Point
        assert __main__.Point is Point and vars(__main__) is globals()
        assert __main__.__file__ == __file__
        assert pickle.loads(pickle.dumps(Point(1))) == Point(1)
        assert pickle.loads(pickle.dumps(Colour.RED)) is Colour.RED
        assert typing.get_type_hints(Point)["x"] is int
        assert sys.argv[1:] == ["--fast", "2"]
        print(where, sys.argv[0])

    see("own thread")
    thread = threading.Thread(target=see, args=["child"])
    thread.start()
    thread.join()
    """


def test_one_script_is_the_main_program_on_the_main_thread(tmp_path: Path) -> None:
    source = IDENTITY + "print(threading.current_thread() is threading.main_thread())\n    "
    write(tmp_path, "one.py", source)
    ended = run("one.py", "--", "--fast", "2", cwd=tmp_path)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.lines == ["own thread one.py", "child one.py", "True"]


def test_each_of_several_scripts_is_the_main_program(tmp_path: Path) -> None:
    paths = [write(tmp_path, name, IDENTITY) for name in ("one.py", "two.py", "three.py")]
    ended = run(*paths, "--", "--fast", "2")
    assert (ended.status, ended.stderr) == (0, "")
    for path in paths:
        assert ended.lines_of(Path(path).stem) == [f"own thread {path}", f"child {path}"]


def test_a_script_may_change_its_arguments_and_no_one_elses(tmp_path: Path) -> None:
    write(
        tmp_path,
        "shared.py",
        """
        import threading
        changed = threading.Event()
        """,
    )
    one = write(
        tmp_path,
        "one.py",
        """
        import sys
        from shared import changed
        sys.argv.pop()
        sys.argv = [*sys.argv, "mine"]
        changed.set()
        print(sys.argv[1:])
        """,
    )
    two = write(
        tmp_path,
        "two.py",
        """
        import sys
        from shared import changed
        changed.wait(60)
        print(sys.argv[1:])
        """,
    )
    ended = run(one, two, "--", "a", "b")
    assert ended.lines_of("one") == ["['a', 'mine']"]
    assert ended.lines_of("two") == ["['a', 'b']"]


def test_scripts_run_at_once_in_one_process_and_share_modules(tmp_path: Path) -> None:
    write(tmp_path, "meeting.py", "import threading\nbarrier = threading.Barrier(3)\n")
    source = """
        import os, meeting
        meeting.barrier.wait(60)
        print(os.getpid())
        """
    paths = [write(tmp_path, f"{name}.py", source) for name in "abc"]
    ended = run(*paths)
    assert ended.status == 0, ended
    assert len({line.partition(" | ")[2] for line in ended.lines}) == 1


def test_a_pool_of_threads_works_for_its_script_and_does_not_keep_it_alive(tmp_path: Path) -> None:
    source = """
        import concurrent.futures, sys
        pool = concurrent.futures.ThreadPoolExecutor(1)  # never shut down
        print(pool.submit(lambda: sys.modules["__main__"].__file__ == __file__).result(60))
        """
    paths = [write(tmp_path, f"{name}.py", source) for name in "ab"]
    ended = run(*paths)
    assert sorted(ended.lines) == ["a | True", "b | True"]
    assert (ended.status, ended.stderr) == (0, "")


# --- how a script ends ---


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("pass", 0, ""),
        ("import sys; sys.exit()", 0, ""),
        ("raise SystemExit(7)", 7, ""),
        ("import sys; sys.exit('no such robot')", 1, "no such robot\n"),
        ("raise SystemExit(-1)", 255, ""),
        ("raise KeyboardInterrupt", 130, ""),
    ],
)
def test_the_exit_status_is_what_python_would_give(tmp_path: Path, ending: str, status: int, said: str) -> None:
    ended = run(write(tmp_path, "script.py", ending))
    assert (ended.status, ended.stderr) == (status, said)


def test_one_script_ends_while_the_others_go_on_and_the_worst_status_counts(tmp_path: Path) -> None:
    write(tmp_path, "shared.py", "import threading\nfailed = threading.Event()\n")
    bad = write(
        tmp_path,
        "bad.py",
        """
        import sys, shared
        try:
            sys.exit(3)
        finally:
            shared.failed.set()
        """,
    )
    worse = write(tmp_path, "worse.py", "raise SystemExit(4)")
    good = write(tmp_path, "good.py", "import shared\nprint(shared.failed.wait(60))\n")
    ended = run(bad, worse, good)
    assert ended.lines == ["good | True"]
    assert ended.status == 4


@pytest.mark.parametrize("company", [False, True])
def test_a_script_waits_for_the_threads_it_started(tmp_path: Path, company: bool) -> None:
    script = write(
        tmp_path,
        "script.py",
        """
        import threading
        threading.Thread(target=lambda: print("worked for", input())).start()
        threading.Thread(target=threading.Event().wait, daemon=True).start()  # nobody waits for this one
        print("code returns")
        """,
    )
    other = write(tmp_path, "other.py", "")
    prefix = "script | " if company else ""
    with Command("run", script, *([other] if company else [])) as command:
        command.read_until(f"{prefix}code returns")
        command.tell("a living")
        ended = command.end()
    assert ended.lines[-1] == f"{prefix}worked for a living"
    assert (ended.status, ended.stderr) == (0, "")


def test_what_a_script_leaves_open_is_closed_while_another_goes_on(tmp_path: Path) -> None:
    leaving = write(
        tmp_path,
        "leaving.py",
        """
        import bus, sys
        conn = bus.connect("tcp://" + sys.argv[1], framing="lines")
        conn.send("last words")
        sys.conn = conn  # somebody still holds it
        """,
    )
    staying = write(tmp_path, "staying.py", "print(input())\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        with Command("run", leaving, staying, "--", f"127.0.0.1:{listener.getsockname()[1]}") as command:
            peer, _ = listener.accept()
            with peer, peer.makefile("rb") as stream:
                assert stream.read() == b"last words\n"  # until the end, which came
            command.tell("goodbye")
            ended = command.end()
    assert ended.lines == ["staying | goodbye"]
    assert (ended.status, ended.stderr) == (0, "")


def test_a_server_keeps_its_script_alive_and_its_callbacks_work_for_the_script(tmp_path: Path) -> None:
    write(tmp_path, "shared.py", "import queue\naddresses = queue.Queue()\n")
    serving = write(
        tmp_path,
        "serving.py",
        """
        import bus, shared, sys
        def answer(message, client):
            assert sys.modules["__main__"].__file__ == __file__
            print("asked", message.text)
            if message.text == "stop":
                server.stop()
            return message
        server = bus.serve("tcp://127.0.0.1:0", on_message=answer)
        shared.addresses.put(server.address)
        print("code returned")
        """,
    )
    asking = write(
        tmp_path,
        "asking.py",
        """
        import bus, shared
        with bus.connect("tcp://" + shared.addresses.get(timeout=60)) as conn:
            for word in ("one", "two"):
                conn.send(word)
                print(conn.receive(timeout=60).text)
            conn.send("stop")
        """,
    )
    ended = run(asking, serving)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.lines_of("asking") == ["one", "two"]
    assert ended.lines_of("serving") == ["code returned", "asked one", "asked two", "asked stop"]


def test_sys_exit_ends_a_script_although_it_owns_a_server(tmp_path: Path) -> None:
    source = """
        import bus, sys
        server = bus.serve("tcp://127.0.0.1:0", on_message=print)
        sys.exit(5)
        """
    paths = [write(tmp_path, f"{name}.py", source) for name in "ab"]
    assert run(paths[0]).status == 5
    assert run(*paths).status == 5


def test_sys_exit_ends_the_waits_of_the_threads_it_leaves_behind(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        "script.py",
        """
        import bus, sys, threading
        def listen_for_ever():
            try:
                listener.accept()
            except bus.Closed:
                print("closed")
        listener = bus.listen("tcp://127.0.0.1:0")
        threading.Thread(target=listen_for_ever).start()
        sys.exit(6)
        """,
    )
    ended = run(script)
    assert (ended.status, ended.lines) == (6, ["closed"])


def test_the_order_in_which_scripts_start_does_not_matter(tmp_path: Path) -> None:
    # A port that is bound but not listened on refuses, until the second script, which waits for the first, listens.
    write(
        tmp_path,
        "shared.py",
        """
        import socket, threading
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        about_to_connect = threading.Event()
        """,
    )
    asking = write(
        tmp_path,
        "asking.py",
        """
        import bus, shared
        shared.about_to_connect.set()
        with bus.connect("tcp://127.0.0.1:%d" % shared.sock.getsockname()[1], timeout=60) as conn:
            print(conn.connected())
        """,
    )
    serving = write(
        tmp_path,
        "serving.py",
        """
        import shared
        shared.about_to_connect.wait(60)
        shared.sock.listen()
        shared.sock.accept()[0].close()
        """,
    )
    ended = run(asking, serving)
    assert ended.lines == ["asking | True"], ended


def test_the_process_is_set_up_for_many_connections_and_quick_hand_overs(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        "script.py",
        """
        import resource, sys
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        print(soft == hard, soft > 200, sys.getswitchinterval())
        """,
    )
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= 200:
        pytest.skip("the hard limit on open files is as low as the soft one of this test")
    assert run(script, before="ulimit -S -n 200").lines == ["True True 0.0005"]


# --- names ---


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["server.py", "x/client.py"], ["server", "client"]),
        (["a/main.py", "b/main.py", "c/c.py"], ["a/main", "b/main", "c/c"]),
        (["/1/a/main.py", "/2/a/main.py"], ["/1/a/main", "/2/a/main"]),
        (["cell.py", "cell.py", "x.py"], ["cell#1", "cell#2", "x"]),
        (["a/cell.py", "b/cell.py", "a/cell.py"], ["a/cell#1", "b/cell", "a/cell#2"]),
        (["noext"], ["noext"]),
    ],
)
def test_scripts_are_called_by_the_shortest_name_that_tells_them_apart(paths: list[str], names: list[str]) -> None:
    assert names_of(paths) == names

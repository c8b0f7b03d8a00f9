"""What `import bus` costs and what it does not: each verb brings its part of the engine when it is first asked for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from tests.bus.peers import run_script

ROOT = Path(__file__).resolve().parents[1]

# Loaded when first needed, because a script on plain TCP should not pay for them.
LATE = {
    "asyncio", "concurrent.futures", "dataclasses", "datetime", "hashlib", "http", "importlib.metadata", "importlib.util", "inspect",
    "ipaddress", "json", "nats", "pathlib", "random", "secrets", "ssl", "subprocess", "tempfile", "tomllib", "urllib.parse", "websockets",
}  # fmt: skip
LATE_OURS = {
    "actors.bridging", "actors.callbacks", "actors.cluster", "actors.datagram", "actors.draining", "actors.heartbeat", "actors.http",
    "actors.journal", "actors.lane", "actors.link", "actors.listener", "actors.serialline", "actors.server", "actors.stats",
    "actors.subjects", "actors.subscription", "actors.topics", "actors.websocket", "bus._version", "bus.bridging", "bus.serving",
    "bus.testing", "bus.topics", "bus.websocket",
}  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    # What site customization loaded before is not our doing.
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_bus_loads_no_engine() -> None:
    loaded = loaded_by("import bus")
    ours = {name for name in loaded if name.partition(".")[0] in ("actors", "adapters", "bus")}
    assert ours == {"actors", "actors.ending", "actors.errors", "actors.message", "bus", "bus._siblings"}
    assert not loaded & (LATE | {"pykka", "selectors", "socket", "struct"})


def test_who_connects_loads_nothing_that_may_never_be_needed() -> None:
    # Pykka 4.5 loads none of these itself.
    loaded = loaded_by("import bus; bus.connect, bus.Connection, bus.deadline")
    assert {"actors.stream", "bus.connecting", "pykka"} <= loaded
    assert not loaded & (LATE | LATE_OURS)
    assert "adapters" not in loaded


def test_what_a_script_does_at_exit_comes_before_our_end_and_that_of_logging_behind_it() -> None:
    # The script's handler is registered when nothing of the engine is loaded yet.
    code = """if True:
        import bus
        import atexit, logging

        class Handler(logging.Handler):
            def emit(self, record):
                print(record.getMessage())
            def close(self):
                print("logging has ended")

        logging.getLogger("actorbus").addHandler(Handler())
        atexit.register(lambda: (one.send("bye"), print(other.receive(20).text)))

        import bus.testing
        one, other = bus.testing.pair()
        from actors import hosting
        hosting.end_last(lambda seconds: logging.getLogger("actorbus").warning("the engine ends") is None)
    """
    assert run_script(code).splitlines() == ["bye", "the engine ends", "logging has ended"]


def test_threads_that_ask_for_the_verbs_at_once_get_them() -> None:
    code = """if True:
        import bus, sys, threading
        sys.setswitchinterval(1e-5)
        got = []
        names = ["Connection", "connect", "deadline", "listen", "publish", "receive_any", "serve", "subscribe"]
        begin = threading.Barrier(len(names))

        def ask(name):
            begin.wait(20)
            got.append(getattr(bus, name))

        threads = [threading.Thread(target=ask, args=[name]) for name in names]
        for thread in threads: thread.start()
        for thread in threads: thread.join(20)
        assert set(map(id, got)) == {id(getattr(bus, name)) for name in names}, got
    """
    run_script(code)


def test_what_is_loaded_late_is_there() -> None:
    # A name that has moved would make the test above one that cannot fail.
    assert [name for name in sorted(LATE | LATE_OURS) if importlib.util.find_spec(name) is None] == []


def test_a_public_name_is_found_whenever_its_module_is_loaded() -> None:
    code = """if True:
        import bus
        listed = dir(bus)
        assert set(bus.__all__) <= set(listed), set(bus.__all__) - set(listed)
        from bus import Server, publish
        assert bus.publish is publish and "Server" in vars(bus)
        from bus import *
        assert Server is bus.Server and connect is bus.connect
        import pickle
        assert pickle.loads(pickle.dumps(bus.Stats(lost=1))) == bus.Stats(lost=1)
        try:
            bus.serv
        except AttributeError as exc:
            print(exc)
    """
    assert run_script(code) == "module 'bus' has no attribute 'serv'\n"

"""What every test may use: a watch for threads and descriptors left behind (at the end the whole run is asked, too), and certificates."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from actors import hosting, waiting
from actors.readerthread import ReaderThread
from tests.certificates import HERE, Authority, Certificate, make_certificate
from tests.natsserver import NatsServer

# How long the engine may take to give back what a test used. Reached only when something does leak.
SETTLE = 10.0

DESCRIPTORS = Path("/proc/self/fd")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: every test of Ctrl-C would wait for it in vain
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.pop("ACTORBUS_URL", None)  # where the caller's topics go must not decide what is tested, here or in a script's process

# A busy machine makes any single example slow; that says nothing about the code.
hypothesis.settings.register_profile("actorbus", deadline=None, print_blob=True, max_examples=50)
hypothesis.settings.load_profile("actorbus")


def open_descriptors() -> Counter[str]:
    """What the open descriptors refer to. Sockets and pipes are told apart by inode, the rest is counted by kind.

    Numbers would not do: the kernel hands a closed one out again at once. Empty where there is no /proc.
    """
    targets: Counter[str] = Counter()
    if DESCRIPTORS.is_dir():
        for number in os.listdir(DESCRIPTORS):
            try:
                targets[os.readlink(f"{DESCRIPTORS}/{number}")] += 1
            except FileNotFoundError:
                pass  # closed since it was listed, as the listing's own descriptor always is
    return targets


class LeakWatch:
    """What this process has gained since the count was last taken. What went away meanwhile does not offset it.

    But for this: a callback that a busy machine held up makes another thread go on with its loop, and that one stays in its place.
    """

    def __init__(self) -> None:
        self.rebase()

    def rebase(self) -> None:
        """Count from here: what exists now is meant to stay."""
        self._threads = set(threading.enumerate())
        self._descriptors = open_descriptors()
        self._loops = set(hosting._loops)

    def _successors(self) -> set[int]:
        """The threads that run the loops that were there before."""
        return {loop._ident for loop in list(self._loops)}

    def _their_descriptors(self) -> Counter[str]:
        """What they wait with, where that can be told apart."""
        waiters = [waiter for ident in self._successors() if (waiter := waiting._waiters.get(ident)) is not None]
        wakeups = [waiter._notice.wakeup for waiter in waiters if waiter._notice.wakeup is not None]
        ends = [end for wakeup in wakeups for end in (wakeup._reader, wakeup._writer) if end is not None]
        return Counter(os.readlink(DESCRIPTORS / str(end.fileno())) for end in ends) if DESCRIPTORS.is_dir() else Counter()

    def leftovers(self) -> list[str]:
        threads = [f"thread {thread!r}" for thread in self._gained_threads()]
        descriptors = (open_descriptors() - self._descriptors - self._their_descriptors()).elements()
        return threads + [f"descriptor of {target}" for target in descriptors]

    def wait(self, timeout: float = SETTLE) -> list[str]:
        """Give everything until `timeout` to go away; return what did not."""
        deadline = time.monotonic() + timeout
        self._join_threads(deadline)
        # Nothing announces that a descriptor was closed, so this part has to look again and again.
        while (remaining := self.leftovers()) and time.monotonic() < deadline:
            time.sleep(0.005)
        return remaining

    def _gained_threads(self) -> list[threading.Thread]:
        successors = self._successors()
        return [thread for thread in threading.enumerate() if thread not in self._threads and thread.ident not in successors]

    def _join_threads(self, deadline: float) -> None:
        for thread in self._gained_threads():
            # Foreign threads cannot be joined for good, and the test's own thread is not to wait for itself.
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))


_started: ReaderThread | None = None  # by `start_what_stays`


def start_what_stays() -> None:
    """One round trip over loopback starts what the engine keeps for the process: a reader thread and wake-ups."""
    global _started
    import bus

    with (
        bus.serve("tcp://127.0.0.1:0", on_message=lambda message, client: message) as server,
        bus.connect(f"tcp://{server.address}", timeout=SETTLE) as conn,
    ):
        conn.send("warm")
        assert conn.receive(timeout=SETTLE) is not None
    _started = hosting._shared


@pytest.fixture
def no_leaks() -> Iterator[LeakWatch]:
    """The test must leave no thread and no descriptor behind.

    A test that makes the engine grow for good (a spare thread that parks, say) does so first and then calls `rebase()`.
    """
    if _started is None or hosting._shared is not _started:
        start_what_stays()
    watch = LeakWatch()
    yield watch
    remaining = watch.wait()
    assert not remaining, "left behind: " + ", ".join(remaining)


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS server with JetStream for all tests of a worker: it is not to be stopped, and topics need names of their own."""
    with NatsServer(tmp_path_factory.mktemp("nats"), jetstream=True) as server:
        yield server


@pytest.fixture
def own_nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """One for this test, to be killed and started again."""
    with NatsServer(tmp_path / "nats", jetstream=True) as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """For this machine, self-signed."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "here", HERE)


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """For another machine, self-signed."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "elsewhere", "DNS:elsewhere.example")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


# At the end of a run nothing may be left at all, not even what the engine keeps. Each xdist worker asks itself and
# tells the controller, because only the controller's exit status counts.

_threads_at_start = pytest.StashKey[set[threading.Thread]]()
_left_over = pytest.StashKey[list[str]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_threads_at_start] = set(threading.enumerate())
    session.config.stash[_left_over] = []


def pytest_collection_finish() -> None:
    # Modules and tests stay to the end. Frozen, they are not walked through at each of the thousands of collections that tests ask for.
    gc.collect()
    gc.freeze()


def left_over_at_the_end(at_start: set[threading.Thread]) -> list[str]:
    bus, pykka = sys.modules.get("bus"), sys.modules.get("pykka")
    if bus is not None:
        bus.shutdown()
    deadline = time.monotonic() + SETTLE
    for thread in set(threading.enumerate()) - at_start:
        thread.join(max(0.0, deadline - time.monotonic()))
    threads = [f"thread {thread!r}" for thread in set(threading.enumerate()) - at_start]
    actors = [f"actor {ref}" for ref in pykka.ActorRegistry.get_all()] if pykka is not None else []
    return threads + actors


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if hasattr(config, "workerinput"):
        config.workeroutput["left over"] = left_over_at_the_end(config.stash[_threads_at_start])  # type: ignore[attr-defined]
        return
    if not config.pluginmanager.has_plugin("dsession"):
        config.stash[_left_over] += left_over_at_the_end(config.stash[_threads_at_start])
    if config.stash[_left_over] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    # A worker that crashed has no output; its crash is reported already.
    found: list[str] = getattr(node, "workeroutput", {}).get("left over", [])
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    config.stash[_left_over] += found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if remaining := config.stash.get(_left_over, []):
        terminalreporter.section("left over after bus.shutdown()", red=True)
        for line in remaining:
            terminalreporter.line(line)

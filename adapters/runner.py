"""`actorbus run [--bus URL] [--listen host:port] [--origin URL] a.py b.py … [-- args]`: one script on the main thread, or several on a
thread each, in one process.

Everything the scripts share is set up here, and put back when they have ended: what Python keeps once per process and
they want once per script (`__main__`, `sys.argv`, output, modules beside them), the signals, and the engine's end.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

from actors import connecting, hosting
from actors.scope import Scope
from adapters import aliases, mains, output, siblings
from adapters.routes import Routes
from adapters.script import STOPPED, Script
from adapters.stopping import Stopping, interruptible_sleep
from adapters.threads import Threads

__all__ = ["run"]

# A busy neighbour's script costs a round trip 50 µs with this, and 7 ms with Python's own 5 ms.
SWITCH_INTERVAL = 0.0005
# Scripts that are started together may connect to each other in any order. Imports take their time on small machines.
FORGIVE_REFUSALS = 5.0
SHUTDOWN = 5.0  # as a close lingers: what the scripts left open is flushed that long


def run(paths: Sequence[str], arguments: Sequence[str], listen: str, origins: Sequence[str] | None) -> int:
    """Run these scripts to their end, and serve on `listen` the routes that they register, also to pages from `origins`. The worst of their
    exit statuses; 130 or 143 where a signal ended one.

    To be called on the main thread.
    """
    threads = Threads()
    scopes = [Scope(name) for name in names_of(paths)]
    routes = Routes(listen, scopes, print, origins=origins, patience=FORGIVE_REFUSALS)
    scripts = [Script(path, scope, list(arguments), threads, routes) for path, scope in zip(paths, scopes, strict=True)]
    alone = scripts[0] if len(scripts) == 1 else None
    with contextlib.ExitStack() as shared, Stopping(scripts, alone) as stopping:
        raise_file_limit()
        shared.callback(routes.forget)
        shared.enter_context(switching_often())
        shared.enter_context(interruptible_sleep())
        shared.enter_context(threads.followed())
        shared.enter_context(siblings.found({script.scope: script.directory for script in scripts}))
        aliases.offer()
        output.legible()
        if alone is None or topics_go_elsewhere():
            from actors import topics

            topics.forgive_silence(FORGIVE_REFUSALS)
        if alone is not None:
            shared.enter_context(mains.alone(alone.main))
            shared.enter_context(searching(alone.directory))
            alone.run()
        else:
            connecting.forgive_refusals(FORGIVE_REFUSALS)
            shared.enter_context(output.prefixed())
            shared.enter_context(mains.side_by_side({script.scope: script.main for script in scripts}))
            run_side_by_side(scripts)
        stopping.over()
        hosting.shutdown(SHUTDOWN)
        stopped = 128 + stopping.signal if stopping.signal else STOPPED
        status = max(stopped if script.status == STOPPED else script.status for script in scripts)
        stopping.leave(status)
        return status


def topics_go_elsewhere() -> bool:
    """To scripts that may be started only now."""
    topics = sys.modules.get("actors.topics")  # `--bus` has loaded it; a script that has no use for topics should not wait for that
    return bool(os.environ.get("ACTORBUS_URL")) or (topics is not None and topics.engine is not None)


def run_side_by_side(scripts: Sequence[Script]) -> None:
    # Not daemons, because the threads a script starts inherit that, and a script's thread is none by default.
    running = [threading.Thread(target=script.run, name=script.scope.name) for script in scripts]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def names_of(paths: Sequence[str]) -> list[str]:
    """What to call each script: its file without `.py`; with its directory or whole path where that is not enough.

    Those of one script that is run several times are numbered.
    """
    whole = [os.path.splitext(os.path.abspath(path))[0] for path in paths]
    for parts in (1, 2, None):
        names = ["/".join(path.split(os.sep)[-parts:]) if parts else path for path in whole]
        if len(set(names)) == len(set(whole)):
            break
    times, nth = Counter(names), Counter[str]()
    for index, name in enumerate(names):
        if times[name] > 1:
            nth[name] += 1
            names[index] = f"{name}#{nth[name]}"
    return names


def raise_file_limit() -> None:
    """As many open files as the system grants without asking: each connection takes one."""
    try:
        import resource
    except ImportError:
        return  # Windows has no such limit
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS names a hard limit it does not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextlib.contextmanager
def searching(directory: str) -> Iterator[None]:
    """Within: `sys.path` begins with the directory, as it does for a script that Python runs."""
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(directory)

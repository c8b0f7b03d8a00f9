"""Where `websockets.sync` hangs, drops a healthy peer or loses messages, and we do not: both are shown, side by side.

Each end has the fault in a process of its own (`beside_sync`), which ends whatever happens. A later version of theirs may hold as well:
then the test says so, and what it shows belongs elsewhere. What we do is tested in more detail in `test_websocket_hostile`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any

import pytest

from tests.bus.beside_sync import BROADCASTS, MESSAGES
from tests.bus.peers import ROOT, WAIT

pytestmark = pytest.mark.slow

# What theirs is given for each timeout. With the shorter one, their keepalive may end a connection before the fault is there, where the
# machine is busy.
CLOCKS = (0.3, 3.0)


def play(whose: str, fault: str, seconds: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bus.beside_sync", whose, fault, str(seconds)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=9 * seconds + 3 * WAIT, check=False)


@cache
def outcome(whose: str, fault: str, seconds: float = CLOCKS[0]) -> Any:
    done = play(whose, fault, seconds)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def theirs(fault: str, fails: Callable[[Any], bool]) -> Any:
    """What became of theirs, which has to fail."""
    for seconds in CLOCKS:
        result = outcome("theirs", fault, seconds)
        if fails(result):
            return result
    raise AssertionError(f"websockets {version('websockets')} now holds; move this row. It gave {result}")


@pytest.mark.parametrize(
    ("call", "where", "what_ours_gives"),
    [
        ("send", "send_data", "NotSent"),
        ("keepalive", "ping", "Broken"),
        ("broadcast", "broadcast", "1"),  # skipped
        ("close", "close", "False"),
        ("stop", "shutdown", "False"),
    ],
)
def test_with_a_peer_that_never_reads(call: str, where: str, what_ours_gives: str) -> None:
    stack = theirs("never_reads", lambda result: bool(result[call]))[call]
    assert where in stack.split(" < "), "it hangs elsewhere than we believe"
    assert outcome("ours", "never_reads")[call] == what_ours_gives


def test_at_the_end_of_a_script_with_a_peer_that_never_reads() -> None:
    for seconds in CLOCKS:
        done = play("theirs", "exit", seconds)
        if done.returncode:
            break
    assert done.returncode == 1, f"websockets {version('websockets')} now holds; move this row. It gave {done.stdout}"
    assert "Timeout" in done.stderr
    assert "in shutdown" in done.stderr.rpartition("\n\n")[2], "the main thread hangs elsewhere than we believe"
    ours = play("ours", "exit", CLOCKS[0])
    assert (ours.returncode, ours.stdout) == (0, '"ended"\n'), ours.stderr


def test_when_the_consumer_sleeps_longer_than_the_ping_timeout() -> None:
    dropped = theirs("sleeps", lambda result: bool(result["heard"] < MESSAGES))
    assert "keepalive ping timeout" in dropped["end"], "it ends for another reason than we believe"
    assert outcome("ours", "sleeps") == {"heard": MESSAGES, "end": ""}


def test_when_one_client_of_a_broadcast_never_reads() -> None:
    stuck = theirs("broadcast", lambda result: bool(result["call"]))
    assert "broadcast" in stuck["call"].split(" < "), "it hangs elsewhere than we believe"
    assert max(stuck["heard"]) < BROADCASTS
    assert outcome("ours", "broadcast") == {"call": "1", "heard": [BROADCASTS, BROADCASTS]}

"""Scripts that talk through topics: in one process, and unchanged over several on a NATS server."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import bus
from adapters.cli import main
from tests.adapters.command import LIMIT, Command, run, write
from tests.bus.peers import WAIT, InThread, until
from tests.nats.test_connecting import goes_through
from tests.nats.test_credentials import Realm
from tests.natsserver import NatsServer

# In the manner of the documents' examples: a cell whose robot is asked for its work, and reports what it did.
ROBOT = """
import bus

done = []

def work(msg):
    part = msg.json()["part"]
    done.append(part)
    bus.publish("cell.robot.done", {"part": part, "count": len(done)})
    return {"accepted": part}

with bus.subscribe("cell.stop") as stop, bus.respond("cell.robot.work", work):
    bus.publish("cell.robot.here", "")
    while (message := stop.receive(timeout=0.2)) is None:
        bus.publish("cell.robot.here", "")      # until the plan has heard of it
print("robot:", len(done), "parts")
"""
PLAN = """
import bus

with bus.subscribe("cell.robot.here") as here, bus.subscribe("cell.robot.done") as reports:
    here.receive(timeout=30)
    for part in ("wheel", "axle", "nut"):
        print("plan:", bus.request("cell.robot.work", {"part": part}, timeout=30).json())
    for report in (reports.receive(timeout=30) for _ in range(3)):
        print("report:", report.topic, report.json())
    bus.publish("cell.stop", "")
"""


@pytest.fixture
def scripts(tmp_path: Path) -> tuple[str, str]:
    return write(tmp_path, "robot.py", ROBOT), write(tmp_path, "plan.py", PLAN)


@pytest.mark.slow
def test_one_process_and_two_print_the_same(scripts: tuple[str, str], nats_server: NatsServer) -> None:
    together = run(*scripts)
    assert together.status == 0, together
    on_nats = run("--bus", nats_server.url, *scripts)
    assert on_nats.status == 0, on_nats
    environment = {"ACTORBUS_URL": nats_server.url}
    with Command("run", "--bus", nats_server.url, scripts[0]) as robot, Command("run", scripts[1], env=environment) as plan:
        apart = plan.end(), robot.end()
    assert [ended.status for ended in apart] == [0, 0], apart
    expected = {
        "plan": [
            *(f"plan: {{'accepted': '{part}'}}" for part in ("wheel", "axle", "nut")),
            *(f"report: cell.robot.done {{'part': '{part}', 'count': {n}}}" for n, part in enumerate(("wheel", "axle", "nut"), 1)),
        ],
        "robot": ["robot: 3 parts"],
    }
    for name, ended in (("plan", apart[0]), ("robot", apart[1])):
        assert together.lines_of(name) == on_nats.lines_of(name) == ended.lines == expected[name]
        assert ended.stderr == ""


def test_a_bus_that_is_not_there_is_one_line(scripts: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--bus", "nats://127.0.0.1:1", *scripts])
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "actorbus: --bus: cannot connect to nats://127.0.0.1:1: refused; nothing listens there; "
        "start the server first, or look whether the port is right\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["run", "--bus", "nobody://x", *scripts])
    assert ended.value.code == 2
    assert "--bus: bad address 'nobody://x': no engine for topics is installed for nobody:" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["run", "--creds", "own.creds", *scripts])
    assert ended.value.code == 2
    assert "--bus: whose topics? give --bus nats://host:4222" in capsys.readouterr().err


def test_a_bus_that_wants_to_know_who_comes(scripts: tuple[str, str], tmp_path: Path) -> None:
    realm, own, script = Realm(), tmp_path / "own.creds", write(tmp_path, "script.py", "import bus\nbus.publish('a', 'b')\nprint('went')")
    own.write_text(realm.user())
    with NatsServer(tmp_path / "nats", config=realm.config) as server:
        for words, environment in ((["--bus", server.url], None), ([], {"ACTORBUS_URL": server.url})):
            ended = run(*words, "--creds", str(own), script, env=environment)
            assert (ended.status, ended.stdout, ended.stderr) == (0, "went\n", "")
        ended = run("--bus", server.url, script)
        assert ended.status == 1
        assert ended.stderr.endswith("; who we are stands in the URL (nats://user:password@host), or in the file of --nkey or --creds\n")
        ended = run("--bus", server.url, "--nkey", str(own), script)
        assert ended.status == 2
        assert ended.stderr == f"actorbus: --bus: {own} (nkey=) has no seed of an nkey in it (one line: SU…)\n"


@pytest.mark.parametrize("by", ["--bus", "ACTORBUS_URL"])
def test_scripts_of_several_processes_need_not_start_in_order(by: str, tmp_path: Path, nats_server: NatsServer) -> None:
    topic = f"order.{by.strip('-')}"
    ask = write(
        tmp_path,
        "ask.py",
        f"""
        import bus
        from actors import topics
        topics.forgive_silence(600)  # the runner's own time is for users; a busy machine may need longer
        print("asking", flush=True)
        print(bus.request("{topic}", "hello", timeout=30).text)
        """,
    )
    answer = write(tmp_path, "answer.py", f"import bus\nresponder = bus.respond('{topic}', lambda msg: msg.text.upper())")
    words, environment = (["--bus", nats_server.url], {}) if by == "--bus" else ([], {by: nats_server.url})
    with Command("run", *words, ask, env=environment) as asking:
        asking.read_until("asking")
        with Command("run", *words, answer, env=environment):
            ended = asking.end()
    assert (ended.status, ended.lines[1:]) == (0, ["HELLO"]), ended


def test_the_runner_waits_for_others_where_there_may_be_some(tmp_path: Path, nats_server: NatsServer) -> None:
    script = write(tmp_path, "script.py", "from actors import topics\nprint(topics._forgiving_until > 0)")
    assert run(script).stdout == "False\n"
    assert run("--bus", nats_server.url, script).stdout == "True\n"
    assert run(script, env={"ACTORBUS_URL": nats_server.url}).stdout == "True\n"


DRAINED = """
import sys, bus
import adapters.stopping
adapters.stopping.DRAIN, adapters.stopping.GRACE = {drain}, 600
def work(msg):
    print("working", flush=True)
    sys.stdin.readline()
    return msg.text.upper()
responder = bus.respond("drain.work", work)
print("ready", flush=True)
"""


def nobody_answers() -> bool:
    try:
        bus.request("drain.work", "late", timeout=0.2)
    except bus.NoResponders:
        return True
    except bus.RequestTimeout:
        pass
    return False


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")
def test_requests_that_have_come_are_answered_at_sigterm(tmp_path: Path, nats_server: NatsServer) -> None:
    script = write(tmp_path, "script.py", DRAINED.format(drain=600))
    with Command("run", "--bus", nats_server.url, script) as command, bus.open(nats_server.url, timeout=WAIT):
        command.read_until("ready")
        one = InThread(lambda: bus.request("drain.work", "one", timeout=LIMIT))
        command.read_until("working")
        two = InThread(lambda: bus.request("drain.work", "two", timeout=LIMIT)).until_blocked()
        goes_through()  # behind it, so the server has it
        command.signal(signal.SIGTERM)
        until(nobody_answers)
        for _ in range(100):  # for those late ones, too, that were not too late
            command.tell("go on")
        assert (one.result().text, two.result().text) == ("ONE", "TWO")
        ended = command.end()
    assert (ended.status, ended.stderr) == (143, "")


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")
def test_a_responder_that_takes_longer_holds_it_up_no_longer_than_the_limit(tmp_path: Path, nats_server: NatsServer) -> None:
    for_good = DRAINED.format(drain=0.1).replace("sys.stdin.readline()", "__import__('threading').Event().wait()")
    script = write(tmp_path, "script.py", for_good)
    with Command("run", "--bus", nats_server.url, script) as command, bus.open(nats_server.url, timeout=WAIT):
        command.read_until("ready")
        asking = InThread(lambda: bus.request("drain.work", "one", timeout=LIMIT))
        command.read_until("working")
        command.signal(signal.SIGTERM)
        assert command.end().status == 143
    with pytest.raises(bus.BusError):
        asking.result()

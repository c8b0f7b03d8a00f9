"""One run of the suite: some cases, against a server or a client, within a given time."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from tests.autobahn.ends import CLIENTS, SERVERS
from tests.autobahn.environment import Environment

__all__ = ["Case", "End", "Run", "Verdicts"]

End = Literal["server", "client"]

# wstest itself would listen on every interface, on a port fixed beforehand.
FUZZING_SERVER = """
from autobahntestsuite import choosereactor
import json, sys
from autobahntestsuite.fuzzing import FuzzingServerFactory
from twisted.internet import reactor
factory = FuzzingServerFactory(json.load(open(sys.argv[1])))
port = reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port
factory.port = factory.externalPort = port
print "listening on %d" % port
reactor.run()
"""


@dataclass(frozen=True)
class Case:
    """What the suite says of one case. `behavior`: OK, NON-STRICT, INFORMATIONAL, UNIMPLEMENTED, FAILED or NOT RUN."""

    name: str
    behavior: str
    close: str = "OK"
    reason: str = ""

    @property
    def section(self) -> int:
        return int(self.name.partition(".")[0])

    @property
    def fine(self) -> bool:
        return self.behavior in {"OK", "INFORMATIONAL"} and self.close in {"OK", "INFORMATIONAL"}


Verdicts = dict[str, Case]


@dataclass
class Run:
    """`cases` are the suite's patterns ("1.*") or names ("1.1.1")."""

    environment: Environment
    directory: Path
    agent: str
    end: End
    cases: Sequence[str]
    compression: bool
    seconds: float
    _output: list[str] = field(default_factory=list, init=False)
    _crashes: dict[int, str] = field(default_factory=dict, init=False)  # of a client, by the number of the case, from 1
    _port: int = field(default=0, init=False)
    _listening: threading.Event = field(default_factory=threading.Event, init=False)

    def verdicts(self) -> Verdicts:
        """Run the cases, unless the directory has their reports. Those without a verdict when the time is over are NOT RUN."""
        kept = self.directory / "verdicts.json"
        if kept.is_file():
            return {entry["name"]: Case(**entry) for entry in json.loads(kept.read_text())}
        self.directory.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + self.seconds
        if self.end == "server":
            self._against_server(deadline)
        else:
            self._against_client(deadline)
        verdicts = self._read()
        kept.write_text(json.dumps([asdict(case) for case in verdicts.values()], indent=1))
        return verdicts

    def _spec(self, **more: object) -> str:
        spec = {"outdir": str(self.directory), "cases": list(self.cases), "exclude-cases": [], "exclude-agent-cases": {}, **more}
        path = self.directory / "spec.json"
        path.write_text(json.dumps(spec))
        return str(path)

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [self.environment.python, "-u", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=self.directory,
        )
        threading.Thread(target=self._listen_to, args=(process,), daemon=True).start()
        return process

    def _listen_to(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._output.append(line)
                if found := re.match(r"listening on (\d+)", line):
                    self._port = int(found[1])
                    self._listening.set()
        self._listening.set()

    def _against_server(self, deadline: float) -> None:
        with SERVERS[self.agent](self.compression) as address:
            spec = self._spec(servers=[{"agent": self.agent, "url": f"ws://{address}/"}])
            process = self._start("-m", "autobahntestsuite.wstest", "-m", "fuzzingclient", "-s", spec)
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            finally:
                process.kill()
                process.wait()

    def _against_client(self, deadline: float) -> None:
        client = CLIENTS[self.agent]
        process = self._start("-c", FUZZING_SERVER, self._spec(url="ws://127.0.0.1:0"))
        try:
            self._listening.wait(max(0.0, deadline - time.monotonic()))
            url = f"ws://127.0.0.1:{self._port}"
            (count,) = client(f"{url}/getCaseCount", False) if self._port else ("0",)
            for number in range(1, int(count) + 1):
                if time.monotonic() > deadline:
                    break
                try:
                    client(f"{url}/runCase?case={number}&agent={self.agent}", self.compression)
                except Exception as exc:  # a defect, which must neither end the run nor be hidden by a good verdict
                    self._crashes[number] = repr(exc)
            if self._port:
                client(f"{url}/updateReports?agent={self.agent}", False)
        finally:
            process.kill()
            process.wait()

    def _asked_for(self) -> list[str]:
        """The names of the cases, as the suite resolved the patterns."""
        line = next((line for line in self._output if line.startswith("Cases = ")), None)
        if line is None:
            raise RuntimeError("the suite did not start:\n" + "".join(self._output[-20:]))
        return re.findall(r"'([\d.]+)'", line)

    def _read(self) -> Verdicts:
        index = self.directory / "index.json"
        found = json.loads(index.read_text()).get(self.agent, {}) if index.is_file() else {}
        verdicts = {name: Case(name, "NOT RUN", "NOT RUN", "no time left") for name in self._asked_for()}
        for name, entry in found.items():
            details = json.loads((self.directory / entry["reportfile"]).read_text())
            reason = " ".join(re.sub(r"<[^>]*>", "", f"{details['result']} {details['resultClose']}").split())
            verdicts[name] = Case(name, entry["behavior"], entry["behaviorClose"], reason)
        names = list(verdicts)
        for number, crash in self._crashes.items():
            verdicts[names[number - 1]] = Case(names[number - 1], "FAILED", "FAILED", f"the client raised {crash}")
        return verdicts

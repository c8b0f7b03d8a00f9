"""Scripts of one `actorbus run` share topics; a responder keeps its script alive, a subscription does not."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.adapters.command import Command, run, write


def test_scripts_share_topics_and_end_when_nobody_answers_any_more(tmp_path: Path) -> None:
    ask = write(
        tmp_path,
        "ask.py",
        """
        import bus
        left = bus.subscribe("left.open")  # keeps nobody alive
        while True:
            try:
                print(bus.request("shout", "hello", timeout=20).text)
                break
            except bus.NoResponders:
                pass  # the other script is still starting, longer than the runner waits for it
        bus.publish("over", "")
        """,
    )
    answer = write(
        tmp_path,
        "answer.py",
        """
        import bus, threading
        def shout(msg):
            print("asked:", msg.text)
            return msg.text.upper()
        over = bus.subscribe("over")
        responder = bus.respond("shout", shout)
        def wait():
            over.receive()
            responder.close()
        threading.Thread(target=wait).start()
        print("returned")
        """,
    )
    ended = run(ask, answer)
    assert ended.status == 0, ended
    assert ended.lines_of("ask") == ["HELLO"]
    assert sorted(ended.lines_of("answer")) == ["asked: hello", "returned"]
    assert ended.stderr == ""


def test_ctrl_c_ends_a_script_that_waits_for_a_topic_and_one_that_answers(tmp_path: Path) -> None:
    wait = write(
        tmp_path,
        "wait.py",
        """
        import bus
        try:
            with bus.subscribe("never") as sub:
                print("waiting")
                sub.receive()
        finally:
            print("left")
        """,
    )
    answer = write(tmp_path, "answer.py", 'import bus; bus.respond("a", lambda msg: None); print("answering")')
    with Command("run", wait, answer) as command:
        command.read_until("wait | waiting", "answer | answering")
        command.signal(signal.SIGINT)
        ended = command.end()
    assert ended.status == 130, ended
    assert "wait | left" in ended.lines
    assert ended.stderr == ""

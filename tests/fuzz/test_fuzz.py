"""The fuzzers themselves: what they begin with is parsed, they see what is wrong, and they say what they need."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from unittest.mock import patch

import pytest
from hypothesis import given, settings

from actors import framing
from tests.bus.peers import ROOT, WAIT
from tests.fuzz.__main__ import main
from tests.fuzz.parsers import PARSERS, SEEDS
from tests.fuzz.strategies import spoilt


@pytest.mark.parametrize("name", PARSERS)
def test_what_a_fuzzer_begins_with_is_parsed(name: str) -> None:
    assert SEEDS[name]
    for seed in SEEDS[name]:
        PARSERS[name](seed)


@settings(max_examples=60)
@given(data=spoilt(SEEDS["framing"]))
def test_framings_with_and_without_a_heartbeat(data: bytes) -> None:
    PARSERS["framing"](data)


@settings(max_examples=60)
@given(data=spoilt(SEEDS["frames"]))
def test_frames_with_and_without_compression(data: bytes) -> None:
    PARSERS["frames"](data)


def test_a_parser_that_is_wrong_is_found() -> None:
    with patch.object(framing, "left_over", lambda *arguments: framing.Unparsed([])), pytest.raises(AssertionError):
        PARSERS["framing"](b"\0\0\1\2" + framing.LENGTH.frame(b"cut"))  # the default framing, with one cut


def test_without_atheris_it_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    with patch.object(importlib.util, "find_spec", lambda name: None):
        assert main([]) == 2
    assert "pip install" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed (it comes with the extra 'fuzz')")
def test_it_runs() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "sockaddr", "--seconds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=4 * WAIT, check=False)
    assert done.returncode == 0, done.stderr
    assert "none failed" in done.stderr

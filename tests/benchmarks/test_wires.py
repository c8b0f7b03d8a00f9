"""What the clients by hand say on each wire, and the figures that are no plain median."""

import json

import pytest
from websockets.frames import Frame, Opcode

from tests.benchmarks import many_wires, notice
from tests.benchmarks.cell import Cell
from tests.benchmarks.table import Results

SIZES = (0, 1, 125, 126, 65_535, 65_536)


@pytest.mark.parametrize("size", SIZES)
def test_a_servers_websocket_frame_is_what_websockets_would_send(size: int) -> None:
    payload = b"x" * size
    assert many_wires.ws_frame(payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)
    assert many_wires.ws_frame(payload, first=0x81) == Frame(Opcode.TEXT, payload).serialize(mask=False)


@pytest.mark.parametrize("size", SIZES)
def test_a_clients_websocket_frame_is_masked_with_zeros(size: int) -> None:
    payload = b"x" * size
    masked, plain = many_wires.ws_frame(payload, mask=True), many_wires.ws_frame(payload)
    head = len(plain) - size
    assert masked[1] == plain[1] | 0x80
    assert masked[head:] == bytes(4) + payload


def test_a_message_of_zeromq_is_short_up_to_255_bytes() -> None:
    assert many_wires.zmtp_frame(b"x" * 255) == b"\x00\xff" + b"x" * 255
    assert many_wires.zmtp_frame(b"x" * 256) == b"\x02" + (256).to_bytes(8, "big") + b"x" * 256


def test_an_event_of_socketio_is_a_text_frame_with_json() -> None:
    frame = many_wires.event(b"hello")
    assert frame[:2] == bytes((0x81, len(frame) - 2))
    assert frame[2:4] == b"42"
    assert json.loads(frame[4:]) == [many_wires.EVENT, "hello"]


def test_what_did_not_happen_in_time_is_said_with_the_bound() -> None:
    def shown(*rounds: dict[str, float]) -> str:
        results = Results([Cell(variant="v")], [{"v": {"p": found}} for found in rounds])
        return notice.took(results, "v", "p")

    assert shown({"bound": 60, "took": 1.0}, {"bound": 60, "took": 3.0}, {"bound": 60, "took": 2.0}) == "2 (1–3)"
    assert shown({"bound": 60, "took": 1.0}, {"bound": 60}) == "not within 60 in 1 of 2"
    assert shown({"bound": 60}) == "not within 60"
    assert shown({}) == "–"

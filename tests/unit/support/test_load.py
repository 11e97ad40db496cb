"""The load generator counts acknowledged messages only."""

from __future__ import annotations

import json

import pytest

from bench.load import PAYLOAD_BYTES, RING_PACKETS, count_acknowledgements, payload

SUCCESS, NO_SUBSCRIBERS, REFUSED = b"\x40\x02\x00\x01", b"\x40\x03\x00\x01\x10", b"\x40\x04\x00\x01\x97\x00"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", (0, 0, b"")),
        (SUCCESS * 3, (3, 0, b"")),
        (SUCCESS * 3 + SUCCESS[:3], (3, 0, SUCCESS[:3])),
        (NO_SUBSCRIBERS * 4 + b"\x40", (4, 0, b"\x40")),
        (REFUSED * 2, (2, 2, b"")),
        (SUCCESS + NO_SUBSCRIBERS + REFUSED + b"\xd0\x00" + SUCCESS[:1], (3, 1, b"\x40")),
    ],
)
def test_acknowledgements_are_counted_in_any_form(data: bytes, expected: tuple[int, int, bytes]) -> None:
    """Servers differ in how they write a PUBACK, and the network cuts anywhere."""
    assert count_acknowledgements(data) == expected


def test_anything_else_is_an_error() -> None:
    """A DISCONNECT taken for an acknowledgement would make a failing server look fast."""
    with pytest.raises(ConnectionError):
        count_acknowledgements(b"\xe0\x01\x97")


def test_payloads_are_eighty_bytes_of_json_of_which_half_are_hot() -> None:
    """That is what the figures are said to be measured with."""
    readings = [payload(7, number) for number in range(RING_PACKETS)]
    assert {len(reading) for reading in readings} == {PAYLOAD_BYTES}
    assert sum(json.loads(reading)["temp"] > 30 for reading in readings) == RING_PACKETS // 2

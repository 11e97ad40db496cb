"""Chunks: stored forms of earlier versions, reasons of refusals, depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from engine.model.jsontext import UNDEFINED
from engine.model.record import Chunk, Record
from engine.model.value import Bits


def chunk(value: Any) -> Chunk:
    return Chunk("r", "c", 1, 2, "t", [{"a": value}])


def stored(rows: Any) -> bytes:
    return msgspec.msgpack.encode(["r", "c", 1, 2, "t", [], rows])


def test_decimal_integers_of_earlier_versions_are_read() -> None:
    """A journal outlives an update: the extension that is no longer written must still be read."""
    digits = str(-(2**90)).encode()
    assert Chunk.decode(stored([{"a": msgspec.msgpack.Ext(1, digits)}])).rows == [{"a": -(2**90)}]


@pytest.mark.parametrize("data", [b"", b"\xc1", stored(5), stored([5]), stored([{"a": msgspec.msgpack.Ext(9, b"")}])])
def test_other_data_is_not_a_chunk(data: bytes) -> None:
    """Whatever a damaged block holds, its reader learns so by one type of error."""
    with pytest.raises(ValueError, match="not a stored chunk"):
        Chunk.decode(data)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("\ud800", "half of a surrogate pair"),
        (Bits(1, 3), "expected a JSON value or bytes, found a bit string"),
        (1j, "found complex"),
        ({1 << 70: 1}, "a key of a map is an integer beyond 64 bits"),
    ],
)
def test_a_refusal_names_its_reason(value: Any, reason: str) -> None:
    """The reason is what people read in the dead letter."""
    with pytest.raises(ValueError, match=f"a row can't be stored: .*{reason}"):
        chunk(value).encode()


def test_undefined_inside_of_a_value_is_stored_as_null() -> None:
    """JSON has one missing value, and so has the journal."""
    assert Chunk.decode(chunk([UNDEFINED]).encode()).rows == [{"a": [None]}]


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def test_a_value_nested_without_end_is_refused() -> None:
    """A value that holds itself can't be made by a rule, but by a function of the user's."""
    endless: list[Any] = []
    endless.append(endless)
    for value in (endless, nested(100_000)):
        with pytest.raises(ValueError, match="nested too deeply"):
            chunk(value).encode()


def called_deeply(call: Callable[[], Any], frames: int) -> Any:
    return call() if not frames else called_deeply(call, frames - 1)


def test_a_stored_chunk_is_read_from_a_deeper_stack() -> None:
    """Python counts the levels of a value as frames of the stack: a whole block would otherwise pass for damaged."""
    data = chunk(nested(600)).encode()
    assert called_deeply(lambda: Chunk.decode(data), 400).rows == [{"a": nested(600)}]


def test_the_columns_of_a_row_win_over_those_of_its_record() -> None:
    """A rule may select a column of its own under such a name."""
    record = Record("s", 1, 2, {"_id": "mine", "a": 1}, "r", "c", "t", 3)
    columns = record.columns()
    assert (columns["_id"], columns["_topic"], columns["a"], columns.row) == ("mine", "t", 1, record.row)

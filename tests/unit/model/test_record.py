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


def test_decimal_integer_of_an_earlier_version_is_read() -> None:
    """A journal is older than the version that reads it."""
    digits = str(-(2**90)).encode()
    assert Chunk.decode(stored([{"a": msgspec.msgpack.Ext(1, digits)}])).rows == [{"a": -(2**90)}]


@pytest.mark.parametrize("data", [b"", b"\xc1", stored(5), stored([5]), stored([{"a": msgspec.msgpack.Ext(9, b"")}])])
def test_data_that_is_not_a_chunk_raises_value_error(data: bytes) -> None:
    """The journal takes this error, and no other, for damage."""
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
def test_refusal_of_a_row_names_its_reason(value: Any, reason: str) -> None:
    """The dead letter shows the reason."""
    with pytest.raises(ValueError, match=f"a row can't be stored: .*{reason}"):
        chunk(value).encode()


def test_undefined_within_a_value_is_stored_as_null() -> None:
    """Sinks know null only."""
    assert Chunk.decode(chunk([UNDEFINED]).encode()).rows == [{"a": [None]}]


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def test_endlessly_nested_value_is_refused() -> None:
    """A function of the user's could return a value that contains itself."""
    endless: list[Any] = []
    endless.append(endless)
    for value in (endless, nested(100_000)):
        with pytest.raises(ValueError, match="nested too deeply"):
            chunk(value).encode()


def called_deeply(call: Callable[[], Any], frames: int) -> Any:
    return call() if not frames else called_deeply(call, frames - 1)


def test_stored_chunk_is_read_from_a_deeper_stack() -> None:
    """Levels of a value count as frames of the stack: the block would be taken for damaged."""
    data = chunk(nested(600)).encode()
    assert called_deeply(lambda: Chunk.decode(data), 400).rows == [{"a": nested(600)}]


def test_columns_of_a_row_win_over_those_of_its_record() -> None:
    """A rule may select a column with a name such as `_id`."""
    record = Record("s", 1, 2, {"_id": "mine", "a": 1}, "r", "c", "t", 3)
    columns = record.columns()
    assert (columns["_id"], columns["_topic"], columns["a"], columns.row) == ("mine", "t", 1, record.row)

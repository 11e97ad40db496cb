"""Chunks of any rows: the stored form gives the rows back, or `encode` raises `ValueError` and nothing else."""

from __future__ import annotations

from collections import UserDict
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.model.jsontext import UNDEFINED
from engine.model.record import Chunk
from engine.model.value import Bits

INTEGERS = st.integers() | st.builds(
    lambda sign, bits: sign * ((1 << bits) - 1), st.sampled_from([-1, 1]), st.integers(60, 200_000)
)
STORED = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]  # raises, to make the encoder's own hook fail
        raise LookupError("a class without a name")


class Failing(metaclass=Nameless):
    """Raises an error that is not a `ValueError` when its kind is asked for."""

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize("size", [1, 3])
@given(rows=st.data())
def test_stored_rows_are_read_back_equal(size: int, rows: st.DataObject) -> None:
    """A row of the journal is the row that the rule made, integers of any size included."""
    made = [rows.draw(st.dictionaries(st.text(), STORED, max_size=3)) for _ in range(size)]
    chunk = Chunk("rule", "client", 7, 8, ["t/1"] * size, made, ("a", "b"))
    found = Chunk.decode(chunk.encode())
    assert found.rows == made
    assert (found.rule_id, found.client_id, found.lane_hash, found.time_ms) == ("rule", "client", 7, 8)
    assert (found.topics, found.trail) == (["t/1"] * size, ("a", "b"))
    assert found.encode() == chunk.encode()


@given(value=INTEGERS)
@example(2**63)
@example(2**64)
@example(-(2**63) - 1)
@example(1 << 160_000)
def test_integers_of_any_size_keep_their_kind(value: int) -> None:
    """Bits cut out of a payload make integers that Python refuses to write as decimal text."""
    (row,) = Chunk.decode(Chunk("r", "c", 1, 1, "t", [{"n": value}]).encode()).rows
    assert row["n"] == value
    assert type(row["n"]) is int


def nested(kind: type, depth: int) -> Any:
    value: Any = 1 << 70
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


ODD = st.one_of(
    st.builds(nested, st.sampled_from([list, dict]), st.sampled_from([100, 450, 900, 990, 5_000, 200_000])),
    st.sampled_from([
        "\ud800", {"\udfff": 1}, {1: 2}, {None: 1}, {b"k": 1}, {(1, 2): 3}, {1 << 70: 1}, {Failing(): 1}, Failing(),
        Bits(1, 3), UNDEFINED, object(), object, len, 1j, {1, 2}, Decimal(1), datetime(2026, 1, 1, tzinfo=UTC),
        UserDict(a=1), ValueError("x"), bytearray(b"x"), memoryview(b"x"), range(3), float("nan"), float("inf"),
    ]),
)  # fmt: skip
ANYTHING = st.recursive(
    STORED | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(row=st.dictionaries(st.text() | st.just("\ud800"), ANYTHING, max_size=3), names=st.text() | st.just("\ud800"))
def test_encoding_raises_only_value_error(row: dict[str, Any], names: str) -> None:
    """Any other error would end the read at hand and lose the rows of other rules."""
    chunk = Chunk(names, names, 1, 1, names, [row], (names,))
    with suppress(ValueError):
        Chunk.decode(chunk.encode())


SMALL = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(data=st.binary() | SMALL.map(msgspec.msgpack.encode))
def test_decoding_raises_only_value_error(data: bytes) -> None:
    """The journal takes `ValueError` for damage; any other error would end its reader."""
    with suppress(ValueError):
        Chunk.decode(data)


@given(row=st.dictionaries(st.text(), STORED, max_size=3), place=st.floats(0, 1), byte=st.binary(max_size=1))
def test_a_damaged_chunk_is_read_or_refused(row: dict[str, Any], place: float, byte: bytes) -> None:
    """One byte changed or lost: rows may be wrong (blocks have checksums), the error is `ValueError`."""
    data = Chunk("rule", "client", 7, 8, "t/1", [row]).encode()
    index = int(place * len(data))
    with suppress(ValueError):
        Chunk.decode(data[:index] + byte + data[index + 1 :])

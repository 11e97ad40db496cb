"""JSON text: forms of values, lines, reasons of refusals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.model import jsontext
from engine.model.jsontext import UNDEFINED

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(UNDEFINED),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(values, max_size=4))
def test_lines_have_the_same_values_as_single_texts(rows: list[Any]) -> None:
    """Files and HTTP bodies are encoded as lines, templates one by one; a row must be the same in both."""
    lines = jsontext.encode_lines(rows).split(b"\n")
    assert lines.pop() == b""
    assert [jsontext.decode(line) for line in lines] == [jsontext.decode(jsontext.encode(row)) for row in rows]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": 1.0}, b'{"a":1,"b":1.0}'),
        (2**70, str(2**70).encode()),
        ([float("nan"), float("inf")], b"[null,null]"),
        (b"text", b'"text"'),
        (b"\xff", b'{"$base64":"/w=="}'),
        ({"a": [UNDEFINED, b"x", 2**70]}, f'{{"a":[null,"x",{2**70}]}}'.encode()),
        ("a\nb\u2028", '"a\\nb\u2028"'.encode()),
    ],
)
def test_value_that_json_lacks_has_one_form(value: Any, text: bytes) -> None:
    """All sinks write the same text for the same row."""
    assert jsontext.encode(value) == text
    assert jsontext.encode_lines([value]) == text + b"\n"


@pytest.mark.parametrize("value", ["\ud800", {"a": ["\udfff"]}, {"\ud800": 1}])
def test_half_of_a_surrogate_pair_is_refused(value: Any) -> None:
    """It is not Unicode text, so that no reader could decode it."""
    with pytest.raises(ValueError, match="no JSON form"):
        jsontext.encode(value)
    with pytest.raises(ValueError, match="no JSON form"):
        jsontext.encode_lines([1, value])


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]  # raises, to make the encoder's own hook fail
        raise LookupError("a class without a name")


class Foreign(metaclass=Nameless):
    """An object that a function of the user's could return."""


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([10**5000], "an integer has too many digits to be written"),
        ({1: 2}, "expected text as the key of a map, found int"),
        ({10**5000: 2}, "expected text as the key of a map, found int"),
        (object(), "object"),
        (Foreign(), "LookupError"),
        ({"a": Foreign()}, "LookupError"),
    ],
)
def test_encoding_raises_only_value_error(value: Any, reason: str) -> None:
    """Sinks reject the one row; any other error would end the batch."""
    with pytest.raises(ValueError, match=f"no JSON form: {reason}"):
        jsontext.encode(value)
    with pytest.raises(ValueError, match=f"no JSON form: {reason}"):
        jsontext.encode_lines([1, value])


def test_deeply_nested_values_are_refused() -> None:
    """The text of a device may be nested as deeply as it is long."""
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="nested too deeply"):
        jsontext.encode(value)
    with pytest.raises(ValueError, match="nested too deeply"):
        jsontext.decode("[" * 100_000)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected a value, found an empty text"),
        (b" \n", "expected a value, found an empty text"),
        ("\ud800", "half of a surrogate pair"),
        (r'"\ud83d"', "half of a surrogate pair"),
        ('{"a":', "truncated"),
        ("1 2", "trailing characters"),
    ],
)
def test_decoding_error_says_what_was_found(text: bytes | str, reason: str) -> None:
    """An empty payload is not a truncated one, and neither is half of an emoji."""
    with pytest.raises(ValueError, match=reason):
        jsontext.decode(text)

"""JSON text: many values at once come out as one by one, whatever they hold."""

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
def test_lines_say_what_each_value_says_alone(rows: list[Any]) -> None:
    """Files and HTTP bodies take the fast way, templates the other; a row must read the same in both."""
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
def test_forms_that_json_does_not_settle(value: Any, text: bytes) -> None:
    """What a row holds beyond JSON has one form everywhere."""
    assert jsontext.encode(value) == text
    assert jsontext.encode_lines([value]) == text + b"\n"


@pytest.mark.parametrize("value", ["\ud800", {"a": ["\udfff"]}, {"\ud800": 1}])
def test_half_a_surrogate_pair_has_no_form(value: Any) -> None:
    """It is no Unicode text, so no reader could take it."""
    with pytest.raises(ValueError, match="no JSON form"):
        jsontext.encode(value)
    with pytest.raises(ValueError, match="no JSON form"):
        jsontext.encode_lines([1, value])

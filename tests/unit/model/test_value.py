"""Values: text, numbers in text, identity, equality, binary data."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EvaluationError
from engine.model.value import (
    UNDEFINED,
    Bits,
    as_binary,
    equal,
    float_text,
    from_bytes,
    kind_of,
    number_of,
    same,
    to_json,
    to_text,
)  # fmt: skip


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_float_has_fixed_notation_with_at_most_ten_decimals(value: float) -> None:
    """Readers of the text get the number: without an exponent, rounded correctly."""
    text = float_text(value)
    assert re.fullmatch(r"-?\d+\.(\d{0,9}[1-9]|0)", text)
    assert abs(Decimal(text) - Decimal(value)) <= Decimal("0.5000011e-10")


@pytest.mark.parametrize("value", [0.1, 21.5, 99999.9999999, 12345.6789, 1234567890.1, 1e16, 1e-5, -0.5, 1e22])
def test_floats_of_sensors_have_fixed_notation(value: float) -> None:
    """The property above for values that sensors send."""
    test_float_has_fixed_notation_with_at_most_ten_decimals.hypothesis.inner_test(value)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1 / 2048, "0.0004882813"), (-1 / 2048, "-0.0004882813"), (0.12345678905, "0.1234567891"),
        (0.99999999999, "1.0"), (-1e-12, "-0.0"), (9.99999999995, "10.0"), (0.1 + 0.2, "0.3"),
    ],
)  # fmt: skip
def test_halves_are_rounded_away_from_zero(value: float, text: str) -> None:
    """The step 1/2048 of a converter is such a half, which EMQX rounds away from zero."""
    assert float_text(value) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12), ("+5", 5), ("007", 7), (" 12 ", 12), ("-1.5", -1.5), ("1e3", 1000.0), (".5", 0.5), ("1.", 1.0),
        ("", None), ("abc", None), ("1_0", None), ("nan", None), ("inf", None), ("1e999", None), ("1 2", None),
        ("٣", None), ("0x10", None), ("9" * 5000, None),
    ],
)  # fmt: skip
def test_decimal_text_is_a_number(text: str, number: float | None) -> None:
    """Devices send numbers as text; Python accepts more forms than they send."""
    found = number_of(text)
    assert found == number
    assert type(found) is type(number)


@pytest.mark.parametrize(
    ("left", "right", "is_same", "is_equal"),
    [
        (1, 1.0, False, True), (1, True, False, False), ("1", 1, False, False), (None, UNDEFINED, False, False),
        ([1, {"a": 1}], [1, {"a": 1}], True, True), ([1], [1.0], False, True), ([True], [1], False, False),
        ({"a": 1}, {"a": 1, "b": 2}, False, False), (UNDEFINED, UNDEFINED, True, True),
        (Bits(1, 2), Bits(1, 3), False, False), (2**70, 2**70, True, True), (b"\xff", b"\xff", True, True),
    ],
)  # fmt: skip
def test_identity_is_strict_and_equality_compares_numbers(left: Any, right: Any, is_same: bool, is_equal: bool) -> None:
    """`IN` and `contains` distinguish 1 from 1.0, `=` does not; both distinguish true from 1, at any depth."""
    assert same(left, right) is same(right, left) is is_same
    assert equal(left, right) is equal(right, left) is is_equal


@given(data=st.binary())
def test_binary_data_has_one_form(data: bytes) -> None:
    """Text where it is UTF-8, else bytes; both give back the same data."""
    value = from_bytes(data)
    assert as_binary(value) == data
    assert from_bytes(as_binary(value)) == value


def test_value_without_a_text_is_refused() -> None:
    """Such values are errors of the rule."""
    for value in (Bits(1, 3), 10**5000, {"a": Bits(1, 3)}, "\ud800"):
        with pytest.raises(EvaluationError):
            to_json(value) if isinstance(value, str) else to_text(value)
    with pytest.raises(EvaluationError):
        as_binary("\ud800")


def test_kinds_have_names_for_errors() -> None:
    """Errors say "an integer", not "int"."""
    values: tuple[object, ...] = (None, True, 1, 1.0, "", b"\xff", [], {}, UNDEFINED, Bits(0, 1))
    names = "null|a boolean|an integer|a float|text|binary data|a list|a map|undefined|a bit string"
    assert "|".join(map(kind_of, values)) == names


def test_bit_string_is_refused_by_its_kind() -> None:
    """The author of a rule does not know the name of the class."""
    with pytest.raises(EvaluationError, match="no JSON form: a bit string"):
        to_json([Bits(1, 3)])

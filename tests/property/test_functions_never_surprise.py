"""Functions with any arguments: they return a value or raise `EvaluationError`, within a second of CPU time."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EvaluationError
from engine.language.functions import FUNCTIONS, Function
from engine.model.jsontext import UNDEFINED
from engine.model.message import ClientIdentity, Occurrence
from engine.model.value import Bits, from_bytes, same, to_text

WORDS = (
    "second", "nanosecond", "all", "leading", "trailing", "both", "notrim", "nocrlf", "bits", "float", "integer",
    "signed", "unsigned", "little", "Z", "local", "+08:00", "Europe/Berlin", "%Y-%m-%d %H:%M:%S.%3N%::z", "sha256",
    "(a+)+$", r"(\d+)(?=x)", "[", "~p ~w ~s ~.16b ~e ~g ~c ~*s", "~5..0b", "{}", '{"a":{"b":1}}', "[1,2]", "a.b",
    "urlsafe", "no_padding", "2022-08-24T15:34:22.5+08:00", "2022-05-26 10:40:12", "0x", "ff", "true", "1e3",
    "e\u0301\U0001f468\u200d\U0001f469\r\n",
)  # fmt: skip
SCALARS = (
    st.none()
    | st.just(UNDEFINED)
    | st.booleans()
    | st.integers(-4, 40)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(WORDS)
    | st.text(max_size=30)
    | st.binary(max_size=30).map(from_bytes)
    | st.builds(lambda length, bits: Bits(bits % (1 << length), length), st.integers(1, 7), st.integers(0, 127))
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)
COLUMNS = st.dictionaries(st.sampled_from(["topic", "payload", "flags", "id", "qos"]), VALUES)
SLOW = {"jq"}  # an interpreter of its own; its bounds are tested in tests/unit/language/functions/test_jq_function.py


@pytest.mark.parametrize("function", [f for f in FUNCTIONS.values() if f.name not in SLOW], ids=lambda f: str(f.name))
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_function_returns_a_value_or_raises_evaluation_error(function: Function, data: st.DataObject) -> None:
    """Devices send any value: another exception would end the evaluation of other messages."""
    most = function.min_args + 3 if function.max_args is None else function.max_args
    arguments: list[object] = [data.draw(VALUES) for _ in range(data.draw(st.integers(function.min_args, most)))]
    if function.needs_message:
        arguments.insert(0, Occurrence("t", data.draw(COLUMNS), ClientIdentity("c"), 0))
    started = time.thread_time()
    with suppress(EvaluationError):
        result = function.call(*arguments)
        assert _is_value(result), f"{result!r} is not a value"
        assert not function.returns_bool or type(result) is bool
    assert time.thread_time() - started < 1


def _is_value(value: Any) -> bool:
    if type(value) is list:
        return all(map(_is_value, value))
    if type(value) is dict:
        return all(type(key) is str and _is_value(item) for key, item in value.items())
    if type(value) is bytes:
        return _is_binary(value)
    return value is UNDEFINED or value is None or type(value) in (bool, int, float, str, Bits)


def _is_binary(data: bytes) -> bool:
    """Return whether bytes are not UTF-8: such bytes must be text, so that equal data compare equal."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


@given(value=VALUES)
def test_value_is_the_same_as_itself_and_has_a_text(value: Any) -> None:
    """`IN` compares any values, and `concat` takes any values."""
    assert same(value, value)
    with suppress(EvaluationError):
        assert isinstance(to_text(value), str | bytes)

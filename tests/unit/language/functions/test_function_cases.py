"""Each function, called as generated code calls it, on the cases of cases.jsonl."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EvaluationError
from engine.language.functions import FUNCTIONS
from engine.model.jsontext import UNDEFINED
from engine.model.value import same

CASES = [json.loads(line) for line in Path(__file__).with_name("cases.jsonl").read_text().splitlines()]


def value(written: Any) -> Any:
    """A value as a case writes it: JSON, with ``$undefined`` and ``$base64`` for what JSON has not."""
    if isinstance(written, dict):
        if "$undefined" in written:
            return UNDEFINED
        if "$base64" in written:
            return b64decode(written["$base64"])
        return {key: value(item) for key, item in written.items()}
    return [value(item) for item in written] if isinstance(written, list) else written


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}{json.dumps(case[1], ensure_ascii=True)}"[:60])
def test_a_function_answers_its_case(case: list[Any]) -> None:
    """The reference says what each function gives and what it refuses; a rule of EMQX must find the same here."""
    name, arguments, expected = case
    function = FUNCTIONS[name]
    if isinstance(expected, dict) and "error" in expected:
        with pytest.raises(EvaluationError) as caught:
            function.call(*map(value, arguments))
        assert expected["error"] in caught.value.message
        return
    result = function.call(*map(value, arguments))
    assert same(result, value(expected)), f"{name} gave {result!r}"


def test_every_function_is_described() -> None:
    """The reference is made from docstrings and examples: one without them would be a blank line in it."""
    for function in FUNCTIONS.values():
        assert function.doc.endswith("."), function.name
        assert function.examples, function.name
        assert function.max_args is None or function.min_args <= function.max_args


def test_arguments_are_counted_from_the_signature() -> None:
    """The checker tells a wrong number of arguments before any message comes."""
    assert (FUNCTIONS["topic"].min_args, FUNCTIONS["topic"].max_args) == (0, 1)
    assert (FUNCTIONS["substr"].min_args, FUNCTIONS["substr"].max_args) == (2, 3)
    assert (FUNCTIONS["concat"].min_args, FUNCTIONS["concat"].max_args) == (1, None)
    assert (FUNCTIONS["kv_store_get"].min_args, FUNCTIONS["kv_store_get"].max_args) == (1, 2)
    assert FUNCTIONS["is_null"].returns_bool
    assert not FUNCTIONS["abs"].returns_bool

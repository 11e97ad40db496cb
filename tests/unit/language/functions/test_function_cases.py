"""The cases of cases.jsonl: arguments and result, or part of the error, of each function."""

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
    """Return the value of a case: JSON, with ``$undefined`` and ``$base64`` for the values that JSON lacks."""
    if isinstance(written, dict):
        if "$undefined" in written:
            return UNDEFINED
        if "$base64" in written:
            return b64decode(written["$base64"])
        return {key: value(item) for key, item in written.items()}
    return [value(item) for item in written] if isinstance(written, list) else written


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}{json.dumps(case[1], ensure_ascii=True)}"[:60])
def test_function_returns_or_refuses_as_its_case_says(case: list[Any]) -> None:
    """A rule that is moved from EMQX must give the same results."""
    name, arguments, expected = case
    function = FUNCTIONS[name]
    if isinstance(expected, dict) and "error" in expected:
        with pytest.raises(EvaluationError) as caught:
            function.call(*map(value, arguments))
        assert expected["error"] in caught.value.message
        return
    result = function.call(*map(value, arguments))
    assert same(result, value(expected)), f"{name} gave {result!r}"


def test_every_function_has_a_docstring_and_examples() -> None:
    """The reference is generated from them."""
    for function in FUNCTIONS.values():
        assert function.doc.startswith(("Return ", "Store ", "Delete ")), function.name
        assert function.doc.endswith("."), function.name
        assert function.examples, function.name
        assert function.max_args is None or function.min_args <= function.max_args


def test_number_of_arguments_is_taken_from_the_signature() -> None:
    """The checker refuses a wrong number of arguments when the rule is loaded."""
    assert (FUNCTIONS["topic"].min_args, FUNCTIONS["topic"].max_args) == (0, 1)
    assert (FUNCTIONS["substr"].min_args, FUNCTIONS["substr"].max_args) == (2, 3)
    assert (FUNCTIONS["concat"].min_args, FUNCTIONS["concat"].max_args) == (1, None)
    assert (FUNCTIONS["kv_store_get"].min_args, FUNCTIONS["kv_store_get"].max_args) == (1, 2)
    assert FUNCTIONS["is_null"].returns_bool
    assert not FUNCTIONS["abs"].returns_bool

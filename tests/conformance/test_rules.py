"""The rule language as EMQX's own tests and documentation show it: a sample of cases kept outside this repository.

The cases lie in ``shared/conformance/rules`` beside the repository, or where HEADGATE_CONFORMANCE says; where they are
absent these tests are skipped, and the repository's own cases (``tests/conformance/sql``) stand for themselves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.language.eval import evaluate_line
from engine.model.jsontext import encode
from support.expectation import difference, predicate_fails

_BESIDE = Path(__file__).parents[3] / "shared" / "conformance" / "rules"
_FOLDER = Path(os.environ.get("HEADGATE_CONFORMANCE", _BESIDE))


def _cases(name: str) -> Iterator[Any]:
    file = _FOLDER / name
    if not file.exists():
        yield pytest.param(None, marks=pytest.mark.skip(reason=f"{file} is not there"), id=f"{name} absent")
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        yield pytest.param(case, id=case["id"])


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer as a program that reads `headgate eval --jsonl` gets it."""
    answer: dict[str, Any] = json.loads(encode(evaluate_line(json.dumps(request))))
    return answer


def _judge(case: dict[str, Any], problem: str | None) -> None:
    if problem is not None and case.get("soft"):
        pytest.xfail(f"EMQX-specific: {problem}")
    assert problem is None, problem


@pytest.mark.parametrize("case", list(_cases("parse_cases.jsonl")))
def test_statement_is_valid_exactly_where_emqx_accepts_it(case: dict[str, Any]) -> None:
    """A rule pasted from EMQX is accepted; one that EMQX refuses is refused with a reason."""
    answer = _answer({key: case[key] for key in ("id", "sql", "sql_b64") if key in case})
    expected = "valid" if case["valid"] else "invalid"
    problem = None if answer["kind"] == expected else f"expected {expected}, got {answer}"
    if problem is None and "from" in case and answer["from"] != case["from"]:
        problem = f"FROM is {answer['from']}"
    _judge(case, problem)


@pytest.mark.parametrize("case", list(_cases("sql_cases.jsonl")))
def test_statement_has_the_same_result_as_in_emqx(case: dict[str, Any]) -> None:
    """Promise 8: every EMQX statement that works there works here with the same result."""
    _judge(case, _statement_problem(case, _answer({"id": case["id"], "sql": case["sql"], "event": case["event"]})))


@pytest.mark.parametrize("case", list(_cases("func_cases.jsonl")))
def test_expression_has_the_same_value_as_in_emqx(case: dict[str, Any]) -> None:
    """Rules consist mostly of function calls."""
    event = case.get("event", {"event_type": "message_publish", "topic": "t/a", "payload": "{}"})
    answer = _answer({"id": case["id"], "sql": f'SELECT {case["expr"]} AS result FROM "#"', "event": event})
    _judge(case, _value_problem(case, answer))


def _statement_problem(case: dict[str, Any], answer: dict[str, Any]) -> str | None:
    expect = case["expect"]
    if expect["kind"] == "predicate":
        return _predicate_problem(expect, answer)
    if answer["kind"] != expect["kind"]:
        return f"expected {expect['kind']}, got {answer}"
    if expect["kind"] != "outputs":
        return None
    exact, loose = case.get("exact", True), case.get("loose_num", False)
    found = difference(expect["value"], answer["value"], exact=exact, loose=loose)
    if found is not None:
        return f"{found} in {answer['value']}"
    for row in answer["value"]:
        missing = [name for name in expect.get("present", ()) if name not in row]
        surplus = [name for name in expect.get("absent", ()) if name in row]
        if missing or surplus:
            return f"missing {missing}, surplus {surplus} in {row}"
    return None


def _predicate_problem(expect: dict[str, Any], answer: dict[str, Any]) -> str | None:
    if answer["kind"] != "outputs":
        return f"expected outputs, got {answer}"
    number, _, column = expect["path"].partition(".")
    return predicate_fails(expect, answer["value"][int(number)].get(column))


def _value_problem(case: dict[str, Any], answer: dict[str, Any]) -> str | None:
    expect = case["expect"]
    if expect == {"error": True}:
        return None if answer["kind"] == "error" else f"expected an error, got {answer}"
    if answer["kind"] != "outputs":
        return f"got {answer}"
    value = answer["value"][0]["result"]
    if isinstance(expect, dict) and "predicate" in expect:
        return predicate_fails(expect["predicate"], value)
    found = difference(expect, value, exact=True, loose=case.get("loose_num", False))
    return None if found is None else f"{found} in {value!r}"

"""The rule language case by case, as data: ``tests/conformance/sql/*.yaml``.

Every case runs twice, on a publish and on an event given as data, which run different code; both must agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.errors import EvaluationError, RuleError
from engine.language.sql import compile_rule
from engine.model.jsontext import encode
from engine.model.message import ClientIdentity, Message, Occurrence
from support.expectation import difference

_FOLDER = Path(__file__).parent / "sql"


def _cases() -> Iterator[Any]:
    for file in sorted(_FOLDER.glob("*.yaml")):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        for number, case in enumerate(content["cases"], 1):
            yield pytest.param({"payload": content["payload"], **case}, id=f"{file.stem}-{number}")


def _statement(case: dict[str, Any]) -> str:
    if "where" in case:
        return f"SELECT 1 AS x FROM t WHERE {case['where']}"
    return f"SELECT {case['case']} AS value FROM t" if "case" in case else case["sql"]


def _events(case: dict[str, Any]) -> tuple[Message, Occurrence]:
    payload = case["payload"]
    text = payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))
    client = ClientIdentity("c1", "u1")
    message = Message("t/a", text.encode(), 1, False, False, client, 1722945600120)
    return message, Occurrence("t/a", message.columns(), client, 1722945600120)


def _wanted(case: dict[str, Any]) -> tuple[Any, bool]:
    """Return the expected rows, and whether they are complete."""
    if "match" in case:
        return ([{"$anything": True}] if case["match"] else []), True
    if "value" in case:
        return [{"value": case["value"]}], True
    if "rows" in case:
        return case["rows"], True
    if "row" in case:
        return [case["row"]], True
    return (case["has"] if isinstance(case["has"], list) else [case["has"]]), False


@pytest.mark.parametrize("case", list(_cases()))
def test_statement_has_the_result_of_its_case(case: dict[str, Any]) -> None:
    """These cases define the language, independently of the compiler."""
    if "invalid" in case:
        with pytest.raises(RuleError) as refused:
            compile_rule(_statement(case), rule_id="test")
        assert case["invalid"] in refused.value.message
        return
    rule = compile_rule(_statement(case), rule_id="test")
    for event in _events(case):
        if "error" in case:
            with pytest.raises(EvaluationError) as failed:
                rule.evaluate(event)
            assert case["error"] in failed.value.message
            assert failed.value.position is not None
            continue
        result = rule.evaluate(event)
        assert (result is None) == (case.get("match") is False), rule.source_code
        rows = [] if result is None else result if rule.many else [result]
        wanted, exact = _wanted(case)
        assert difference(wanted, json.loads(encode(rows)), exact=exact, loose=False) is None, (rows, rule.source_code)

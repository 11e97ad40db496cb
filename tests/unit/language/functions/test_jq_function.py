"""The jq function: outputs, errors, bounds."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from engine.errors import EvaluationError
from engine.language.functions import FUNCTIONS, jsonquery
from engine.language.sql import check_rule, compile_rule


@pytest.mark.parametrize(
    ("program", "value", "expected"),
    [
        (".", '{"b":2}', [{"b": 2}]),
        (".+1", "5", [6]),
        (".a|.[]", '{"a":[{"b":1},{"b":2}]}', [{"b": 1}, {"b": 2}]),
        (".t,(.t*1.8+32)", {"t": 10}, [10, 50]),
        ("empty", "1", []),
        (".a", '{"a":"x"} ', ["x"]),
    ],
)
def test_all_outputs_are_in_one_list(program: str, value: Any, expected: list[Any]) -> None:
    """A program may have no output, which differs from one output null."""
    pytest.importorskip("jq")
    assert FUNCTIONS["jq"].call(program, value) == expected


@pytest.mark.parametrize(
    ("program", "value", "message"),
    [
        (".[", "1", "syntax error"),
        ('error("no")', "1", "jq: no"),
        (".", "nonsense", "expected one JSON value"),
        (".", "1 2", "expected one JSON value"),
        ("range(100000)", "1", "at most 10000 outputs"),
        (".", {"$": 1}, None),
    ],
)
def test_failed_program_raises_evaluation_error(program: str, value: Any, message: str | None) -> None:
    """One bad payload fails alone, with the message of jq."""
    pytest.importorskip("jq")
    if message is None:
        assert FUNCTIONS["jq"].call(program, value) == [value]
        return
    with pytest.raises(EvaluationError, match=message):
        FUNCTIONS["jq"].call(program, value)


def test_missing_library_error_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is an extra, which users may lack."""
    monkeypatch.setitem(sys.modules, "jq", None)
    jsonquery._compiled.cache_clear()
    with pytest.raises(EvaluationError, match=r"pip install 'jq>="):
        FUNCTIONS["jq"].call(".", "1")


def test_endless_program_is_ended_at_its_deadline() -> None:
    """An endless loop in one rule must not stop the broker, nor the evaluation of the next message."""
    pytest.importorskip("jq")
    for program, value in (("def f: f; f", "1"), ("last(repeat(1))", "1"), (".s * .n", '{"s": "xxxxxxxx", "n": 2e8}')):
        with pytest.raises(EvaluationError, match="within 50 ms"):
            FUNCTIONS["jq"].call(program, value, 50)
    assert FUNCTIONS["jq"].call("[range(.)]", "3") == [[0, 1, 2]]
    assert FUNCTIONS["jq"].call("def f: .a; f, 1.5, null", '{"a": "é"}') == ["é", 1.5, None]
    with pytest.raises(EvaluationError, match="jq: no"):
        FUNCTIONS["jq"].call('def f: error("no"); f', "1")


@pytest.mark.parametrize("program", [".a - .b", ".a|contains(.)", "[.a[] as $x | .b[] as $y | 1] | length"])
def test_program_of_quadratic_time_is_ended_at_its_deadline(program: str) -> None:
    """Half a megabyte from one device blocked the broker for 15 seconds in spite of the deadline."""
    pytest.importorskip("jq")
    value = {"a": list(range(20_000)), "b": list(range(20_000, 40_000))}
    _, may_not_end = jsonquery._compiled(program)
    assert may_not_end, "it would run in this process, whose deadline is read between two outputs only"
    with pytest.raises(EvaluationError, match="within 200 ms"):
        FUNCTIONS["jq"].call(program, value, 200)


def test_programs_do_not_see_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables hold secrets, which a rule could send to a sink."""
    pytest.importorskip("jq")
    monkeypatch.setenv("HG_SECRET", "hidden")
    assert "hidden" not in str(FUNCTIONS["jq"].call("env, $ENV", "1"))


def test_no_program_runs_while_its_rule_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rules with endless programs would delay the start by ten seconds."""
    pytest.importorskip("jq")
    requests: list[str] = []
    monkeypatch.setattr(jsonquery._workers, "ask", requests.append)
    compile_rule("SELECT jq('def f: f; f', '1') AS x FROM \"t\"", rule_id="r")
    assert not requests


def test_rule_that_needs_a_missing_library_is_refused_when_it_is_loaded() -> None:
    """Otherwise each message would fail for a reason that is known before."""
    without = {"jq": replace(FUNCTIONS["jq"], extra="no_such_library")}

    (problem,) = check_rule("SELECT jq('.', payload) AS x FROM t", without)

    assert problem.message == "jq needs a library that is not installed"
    assert problem.remedy == "install it: pip install 'no_such_library'"

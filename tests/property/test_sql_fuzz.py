"""Generated statements and texts: only documented errors are raised, and compiled code agrees with an interpreter."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import EvaluationError, RuleError
from engine.language.eval import evaluate_line
from engine.language.sql import CompiledRule, check_rule, compile_rule, parse
from engine.model.jsontext import encode
from engine.model.message import ClientIdentity, Message, Occurrence
from support.interpreter import interpret

_CLIENT = ClientIdentity("c1", "u1", "10.0.0.1:5000")

_bounded = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_WORDS = r"""
    SELECT FOREACH DO INCASE FROM WHERE AND OR NOT IN CASE WHEN THEN ELSE END AS IF INSERT INTO IS NULL BETWEEN
    payload payload.a .b [1] [-0] [1..3] [0] ( ) [ ] , . * + - / || = != < > <= =~ ~= 'x' 'a''b' "t/#" "a b" 1 2.5 1e3
    12f true div mod upper( topic() item -- -- /* */ ' " { ; $ json_decode(payload) a b t
"""
_words = st.sampled_from([*_WORDS.split(), " ", "\n", "\0", "é", "\ud7ff"])
_texts = st.one_of(st.text(max_size=80), st.lists(_words, max_size=30).map(" ".join), st.lists(_words).map("".join))

_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 12), st.sampled_from([0.0, 1.5, -2.0, 1e308, 7.0]),
    st.integers(), st.sampled_from(["", "a", "7", "1.5", "true", "null", "[1,2]", '{"b":3}', " 12", "é"]),
)  # fmt: skip
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abi"), inner, max_size=3)),
    max_leaves=8,
)
_payloads = st.one_of(
    st.dictionaries(st.sampled_from(["a", "b", "l", "i"]), _values, max_size=4).map(json.dumps),
    _values.map(json.dumps),
    st.sampled_from(["", "no json", '{"a":', "[" * 2000]),
)

_NAMES = """
    payload.a payload.b payload.a.b payload.l[1] payload.l[-1] payload.l[i] payload.l[qos] payload qos topic clientid
    x y x.k x[1] y[-1].a username missing flags.retain item item.a payload.a[1].b
"""
_names = st.sampled_from(_NAMES.split())
_CONSTANTS = "1 0 -2 7 1.5 100 'a' '7' '' 'true' true false [1..3] [] 1e308 'é' 99999999999999"
_constants = st.sampled_from(_CONSTANTS.split())


def _pairs(inner: st.SearchStrategy[str], pattern: str, operators: str) -> st.SearchStrategy[str]:
    return st.tuples(inner, st.sampled_from(operators.split()), inner).map(lambda part: pattern.format(*part))


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        _pairs(inner, "({} {} {})", "+ - * / div mod ||"),
        _pairs(inner, "({} {} {})", "= != < > <= >= =~"),
        _pairs(inner, "({} {} {})", "AND OR"),
        inner.map(lambda part: f"(NOT {part})"),
        inner.map(lambda part: f"(- {part})"),
        inner.map(lambda part: f"({part})[1]"),
        inner.map(lambda part: f"({part}).a"),
        st.tuples(inner, inner, inner).map(lambda part: "({} IN ({}, {}))".format(*part)),
        st.tuples(inner, inner, inner).map(lambda part: "({} BETWEEN {} AND {})".format(*part)),
        inner.map(lambda part: f"({part} IS NOT NULL)"),
        st.tuples(inner, inner).map(lambda part: "[{}, {}]".format(*part)),
        st.tuples(inner, inner, inner).map(lambda part: "CASE WHEN {} THEN {} ELSE {} END".format(*part)),
        st.tuples(inner, inner, inner).map(lambda part: "CASE {} WHEN {} THEN {} END".format(*part)),
        st.tuples(st.sampled_from(["upper", "strlen", "is_null", "is_not_null_var", "str", "is_num"]), inner).map(
            lambda part: "{}({})".format(*part)
        ),
        st.tuples(inner, inner).map(lambda part: "coalesce({}, {})".format(*part)),
    )


_expressions = st.recursive(st.one_of(_names, _constants), _grown, max_leaves=8)
_aliases = st.sampled_from(["x", "y", "x.k", "x[1]", "y[-0]", "y[0].a", "z.a.b", "x[qos]", "payload", "payload.a"])
_columns = st.one_of(
    st.tuples(_expressions, _aliases).map(lambda part: "{} AS {}".format(*part)), st.sampled_from(["topic", "qos"])
)
_lists = st.lists(_columns, min_size=1, max_size=4).map(", ".join)


@st.composite
def _statements(draw: st.DrawFn) -> str:
    where = f" WHERE {draw(_expressions)}" if draw(st.booleans()) else ""
    if draw(st.integers(0, 2)):
        return f"SELECT {draw(_lists)} FROM t{where}"
    before = f"{draw(_expressions)} AS x, " if draw(st.booleans()) else ""
    do = f" DO {draw(_lists)}" if draw(st.booleans()) else ""
    incase = f" INCASE {draw(_expressions)}" if draw(st.booleans()) else ""
    return (
        f"FOREACH {before}{draw(_expressions)}{draw(st.sampled_from([' AS item', ' AS y']))}{do}{incase} FROM t{where}"
    )


def _events(payload: str) -> tuple[Message, Occurrence]:
    message = Message("t/a", payload.encode(), 1, False, False, _CLIENT, 1722945600120)
    return message, Occurrence("t/a", message.columns(), _CLIENT, 1722945600120)


def _compiled(sql: str) -> CompiledRule | None:
    """Return the rule; None where it is refused, but not by Python's own compiler."""
    try:
        return compile_rule(sql, rule_id="test")
    except RuleError as error:
        if "too large" in error.message:
            raise
        return None


def _outcome(rule: CompiledRule, event: Message | Occurrence) -> Any:
    try:
        return encode(rule.evaluate(event))
    except EvaluationError:
        return "error"


def _meaning(sql: str, event: Message | Occurrence) -> Any:
    try:
        return encode(interpret(parse(sql), event))
    except EvaluationError:
        return "error"


@_bounded
@given(_texts)
def test_any_text_is_a_statement_or_a_rule_error(text: str) -> None:
    """A rule file may hold any text; any exception but `RuleError` would keep the other rules from loading."""
    with suppress(RuleError):
        parse(text)
    for problem in check_rule(text):
        assert problem.position is not None
        assert problem.position.line >= 1
        assert problem.position.column >= 1
    assert evaluate_line(json.dumps({"id": 1, "sql": text}))["kind"] in ("valid", "invalid")


@_bounded
@given(_statements(), _payloads)
def test_compiled_code_agrees_with_the_interpreter(sql: str, payload: str) -> None:
    """Fast paths, values computed once for two readers and the order of fields are where a compiler errs."""
    rule = _compiled(sql)
    if rule is None:
        return
    for event in _events(payload):
        assert _outcome(rule, event) == _meaning(sql, event), rule.source_code


@_bounded
@given(_statements(), st.binary(max_size=60))
def test_payload_of_any_bytes_raises_only_evaluation_errors(sql: str, payload: bytes) -> None:
    """A device can send any bytes: its message fails in that rule, is counted there, and has no other effect."""
    rule = _compiled(sql)
    if rule is None:
        return
    message = Message("t/a", payload, 1, False, False, _CLIENT, 1722945600120)
    for event in (message, Occurrence("t/a", message.columns(), _CLIENT, 1722945600120)):
        _outcome(rule, event)

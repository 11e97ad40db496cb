"""The contract of compiled rules: positions of failures, limits, and values that stay unchanged."""

from __future__ import annotations

import gc
import traceback
import weakref
from dataclasses import replace
from types import FunctionType

import pytest

from engine.errors import EvaluationError, Position, RuleError
from engine.language.functions import FUNCTIONS
from engine.language.sql import SinkTarget, check_rule, compile_rule
from engine.model.message import MESSAGE_COLUMNS, ClientIdentity, Message, Occurrence

_CLIENT = ClientIdentity("c1", "u1", "10.0.0.1:5000", {"group": "g1"})


def _message(payload: bytes = b'{"a": 1}', client: ClientIdentity = _CLIENT) -> Message:
    return Message("t/a", payload, 1, True, False, client, 1722945600120)


def test_failure_has_its_position_in_the_statement() -> None:
    """In a rule of thirty lines the message alone does not show the cause."""
    rule = compile_rule('SELECT clientid,\n  payload.a / payload.b AS x\nFROM "t"', rule_id="r")
    with pytest.raises(EvaluationError) as failed:
        rule.evaluate(_message(b'{"a": 1, "b": 0}'))
    assert failed.value.position == Position(2, 3, 21)
    assert failed.value.message == "division by zero"


def test_traceback_shows_the_line_of_generated_code() -> None:
    """To debug a function of the language, its caller must be visible."""
    rule = compile_rule('SELECT upper(payload.a.b) AS x FROM "t"', rule_id="r", path="rules/hot.sql")
    with pytest.raises(EvaluationError) as failed:
        rule.evaluate(_message())
    text = "".join(traceback.format_exception(failed.value))
    assert '"<rule rules/hot.sql>"' in text
    assert "f_upper(" in text


def test_call_with_constants_fails_at_run_time_not_at_load_time() -> None:
    """A fault in one function must not keep all rules from loading."""

    def broken(text: str) -> str:
        raise OverflowError(text)

    functions = {**FUNCTIONS, "upper": replace(FUNCTIONS["upper"], call=broken)}
    rule = compile_rule("SELECT upper('a') AS x FROM \"t\"", rule_id="r", functions=functions)
    with pytest.raises(EvaluationError):
        rule.evaluate(_message())


def test_invalid_json_fails_in_each_rule_at_its_own_position() -> None:
    """The decoded payload is shared between rules; the position of a failure must not be."""
    message = _message(b"no json")
    places = []
    for sql in ('SELECT payload.a FROM "t"', 'SELECT clientid, payload.a FROM "t"'):
        with pytest.raises(EvaluationError) as failed:
            compile_rule(sql, rule_id="r").evaluate(message)
        places.append(failed.value.position)
    assert places == [Position(1, 8, 9), Position(1, 18, 9)]


@pytest.mark.parametrize("name", [*MESSAGE_COLUMNS, "no_such_column"])
@pytest.mark.parametrize("client", [_CLIENT, ClientIdentity("c2")], ids=["known", "anonymous"])
def test_columns_by_attribute_equal_columns_by_name(name: str, client: ClientIdentity) -> None:
    """Generated code reads attributes of a message where other code asks for columns."""
    message = _message(client=client)
    rule = compile_rule(f'SELECT {name} AS x, is_null({name}) AS missing FROM "t"', rule_id="r")
    assert rule.evaluate(message) == rule.evaluate(Occurrence("t/a", message.columns(), client, 0))


def test_binary_property_that_holds_text_is_text() -> None:
    """Correlation-Data such as ``order-7`` is compared and joined like the payload."""
    message = Message("t", b"", 0, False, False, ClientIdentity("c"), 1, {"correlation_data": b"order-7"})
    other = Message("t", b"", 0, False, False, ClientIdentity("c"), 1, {"correlation_data": b"\xff"})
    sql = "SELECT pub_props.'Correlation-Data' AS data FROM t WHERE strlen(topic) = 1"
    rule = compile_rule(f"{sql} AND pub_props.'Correlation-Data' != ''", rule_id="test")
    assert rule.evaluate(message) == {"data": "order-7"}
    assert rule.evaluate(other) == {"data": b"\xff"}


def test_star_is_the_same_for_publish_and_event() -> None:
    """For publishes, code for `SELECT *` reads column by column."""
    message = _message()
    rule = compile_rule('SELECT * FROM "t"', rule_id="r")
    assert rule.evaluate(message) == rule.evaluate(Occurrence("t/a", message.columns(), _CLIENT, 0))


def test_no_text_of_the_rule_becomes_code() -> None:
    """The author of a rule must not be able to run Python in the broker."""
    nasty = "x'''\"\"\"); import os #"
    quoted = nasty.replace("'", "''")
    where = "'é\u2028' = 'é\u2028'"
    sql = f"""SELECT E'{quoted}\\n' AS a, payload."b'); 1/0 #" AS "c')" FROM "t" WHERE {where}"""
    rule = compile_rule(sql, rule_id="r")
    assert "import os" not in rule.source_code
    assert "\u2028" not in rule.source_code
    assert rule.evaluate(_message()) == {"a": nasty + "\n", "c')": None}


def test_message_is_not_changed() -> None:
    """Rules share the decoded payload."""
    message = _message(b'{"a": {"b": [1, 2]}}')
    rule = compile_rule('SELECT json_decode(payload) AS p, 9 AS p.a.b[1], 8 AS p.a.c FROM "t"', rule_id="r")
    assert rule.evaluate(message) == {"p": {"a": {"b": [9, 2], "c": 8}}}
    assert message.json == {"a": {"b": [1, 2]}}


def test_compiled_rule_has_topics_and_sinks() -> None:
    """They decide which messages the rule gets and where its rows go."""
    rule = compile_rule('INSERT INTO a (x, y), "b c" SELECT clientid, qos FROM "t/#", \'u\', v', rule_id="r")
    assert [source.topic for source in rule.sources] == ["t/#", "u", "v"]
    assert rule.sinks == (
        SinkTarget("a", ("x", "y"), Position(1, 13, 8)),
        SinkTarget("b c", None, Position(1, 23, 5)),
    )
    assert not rule.many
    assert compile_rule('FOREACH payload.l FROM "t"', rule_id="r").many


def test_message_dropped_by_where_computes_no_column() -> None:
    """Most messages are dropped by most rules: a filter has to be cheap."""
    rule = compile_rule('SELECT upper(payload.name) AS n FROM "t" WHERE payload.a > 5', rule_id="r")
    assert rule.evaluate(_message()) is None


def test_columns_with_side_effects_are_computed_before_where() -> None:
    """EMQX computes columns first, and a rule that counts in the store relies on it."""
    put = compile_rule("SELECT kv_store_put('seen', payload.a) AS s FROM \"t\" WHERE false", rule_id="r")
    got = compile_rule("SELECT kv_store_get('seen') AS s FROM \"t\"", rule_id="r")
    assert put.evaluate(_message(b'{"a": 41}')) is None
    assert got.evaluate(_message()) == {"s": 41}


@pytest.mark.parametrize(
    ("payload", "sql"),
    [
        (b'{"a": ' + b"9" * 4000 + b"}", 'SELECT payload.a * payload.a AS x FROM "t"'),
        (b'{"a": ' + b"9" * 4000 + b"}", 'SELECT payload.a * 1.5 AS x FROM "t"'),
        (b'{"a": ' + b"9" * 4000 + b"}", 'SELECT payload.a / 3 AS x FROM "t"'),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", 'SELECT payload.a AS x FROM "t" WHERE payload.a = payload.a'),
    ],
    ids=["huge product", "huge times float", "huge quotient", "deep list"],
)
def test_hostile_values_fail_as_evaluation_errors(payload: bytes, sql: str) -> None:
    """No payload may stop the broker, or the other rules of the message."""
    with pytest.raises(EvaluationError):
        compile_rule(sql, rule_id="r").evaluate(_message(payload))


@pytest.mark.parametrize("operation", ["+", "*"])
def test_doubling_by_aliases_is_bounded(operation: str) -> None:
    """Forty columns, each twice the one before, would fill any memory."""
    fields = ["payload.a AS x0"] + [f"x{n} {operation} x{n} AS x{n + 1}" for n in range(40)]
    rule = compile_rule(f'SELECT {", ".join(fields)} FROM "t"', rule_id="r")
    with pytest.raises(EvaluationError):
        rule.evaluate(_message(b'{"a": "xxxxxxxx"}' if operation == "+" else b'{"a": 12345678901}'))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "(" * 500 + "1" + ")" * 500 + ' FROM "t"',
        "SELECT " + "-" * 500 + '1 FROM "t"',
        "SELECT a" + "[b" * 500 + "]" * 500 + ' FROM "t"',
        "SELECT a FROM t WHERE " + "not " * 500 + "a",
        "SELECT " + "upper(" * 500 + "a" + ")" * 500 + ' FROM "t"',
        "SELECT a" + "[1..2]" * 1000 + ' FROM "t"',
        "SELECT a" + "[1..2][1]" * 1000 + ' AS x FROM "t"',
        "SELECT " + "x" * 200_000 + ' FROM "t"',
        "SELECT " + "9" * 5_000 + ' FROM "t"',
        'SELECT "\ud800" FROM "t"',
        'SELECT a\x00 FROM "t"',
    ],
)
def test_hostile_statements_are_rule_errors(sql: str) -> None:
    """A rule file is untrusted input."""
    with pytest.raises(RuleError):
        compile_rule(sql, rule_id="r")
    assert [problem.severity for problem in check_rule(sql)] == ["error"]


def test_long_chains_do_not_count_as_nesting() -> None:
    """Generated rules compare one column with hundreds of values."""
    chain = " OR ".join(f"payload.a = {n}" for n in range(1000))
    total = " + ".join(["payload.a"] * 1000)
    cases = " ".join(f"WHEN {n} THEN 'v{n}'" for n in range(2, 500))
    sql = f'SELECT {total} AS t, CASE payload.a {cases} ELSE 0 END AS c FROM "t" WHERE {chain}'
    assert compile_rule(sql, rule_id="r").evaluate(_message()) == {"t": 1000, "c": 0}


def test_nesting_as_deep_as_the_parser_allows_compiles() -> None:
    """A statement that `check` accepts must not exceed the limits of Python's own compiler."""
    depth = 39
    for sql in (
        "SELECT " + "CASE WHEN payload.a = 1 THEN " * depth + "1" + " END" * depth + ' AS x FROM "t"',
        "SELECT " + "(payload.a = 1 AND payload.b = 2 OR " * depth + "payload.a = 1" + ")" * depth + ' AS x FROM "t"',
        "FOREACH payload.l AS e DO " + "[" * depth + "e" + "]" * depth + ' AS x FROM "t"',
        "SELECT " + "(" * depth + "payload.a" + " BETWEEN 0 AND true)" * depth + ' AS x FROM "t"',
        "SELECT " + "(" * depth + "payload.l" + ")[1..2][1..2][1..2][1..2]" * depth + ' AS x FROM "t"',
    ):
        compile_rule(sql, rule_id="r")


def test_rule_on_events_is_compiled_for_events_when_it_is_loaded() -> None:
    """The first event must not wait for the compiler; a rule on topics gets events from `headgate eval` alone."""
    on_event = compile_rule('SELECT * FROM "$events/client/connected", "t"', rule_id="r").evaluate
    on_topic = compile_rule('SELECT * FROM "t"', rule_id="r").evaluate
    assert isinstance(on_event.__globals__["rule_for_events"], FunctionType)
    assert not isinstance(on_topic.__globals__["rule_for_events"], FunctionType)


def test_replaced_rule_is_freed_without_the_garbage_collector() -> None:
    """A process does not collect what was loaded at its start, so a rule must not be part of a reference cycle."""
    gc.disable()
    try:
        for topic in ("t", "$events/client/connected"):
            rule = compile_rule(f'SELECT payload.a AS x FROM "{topic}"', rule_id="r")
            rule.evaluate(_message())
            gone = weakref.ref(rule.evaluate)
            del rule
            assert gone() is None
    finally:
        gc.enable()


class _Witness:
    """An object that is freed with its message."""


def test_messages_that_fail_are_freed() -> None:
    """A device that sends invalid JSON for days must not fill the memory."""
    rule = compile_rule('SELECT payload.a AS x FROM "t"', rule_id="r")
    witness = _Witness()
    gone = weakref.ref(witness)
    message = _message(b"no json", ClientIdentity("c3", attributes={"witness": witness}))
    with pytest.raises(EvaluationError):
        rule.evaluate(message)
    del message, witness
    gc.collect()
    assert gone() is None

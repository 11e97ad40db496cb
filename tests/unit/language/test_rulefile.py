"""Rule files: options of the opening comment, sinks, and the problems of a rule."""

from __future__ import annotations

from dataclasses import replace

from engine.errors import Problem
from engine.language.rulefile import read_header, read_rule_file
from engine.language.ruleset import Rule
from engine.language.sql import Statement, parse
from engine.language.sql.nodes import Expr, Not


def load(text: str, sink_ids: list[str]) -> tuple[Rule | None, list[Problem]]:
    return read_rule_file(text, rule_id="r", path="r.sql").in_project(sink_ids)


def test_opening_comment_holds_description_and_options() -> None:
    """Positions in the statement stay those of the file."""
    header = read_header('-- Hot rooms.\n-- ack: receive\n-- Note: keep.\n\nSELECT * FROM "t"\n', "r.sql")
    assert header.description == "Hot rooms. Note: keep."
    assert header.options["ack"][0] == "receive"
    assert header.statement == '\n\n\n\nSELECT * FROM "t"\n'
    assert header.problems == []


def test_misspelt_option_is_an_error() -> None:
    """`-- sink:` read as description would leave the rule without a sink."""
    _, problems = load('-- sink: a\nSELECT * FROM "t"', ["a"])
    (problem, *_) = problems
    assert problem.severity == "error"
    assert problem.remedy == "write -- sinks: a"


def test_sinks_line_names_the_sinks_of_a_pasted_statement() -> None:
    """A statement from EMQX has no INSERT INTO."""
    rule, problems = load('-- sinks: a, b\nSELECT * FROM "t"', ["a", "b"])
    assert problems == []
    assert rule is not None
    assert [sink.name for sink in rule.sinks] == ["a", "b"]


def test_unknown_sink_is_reported_with_the_nearest_name() -> None:
    """A typing mistake in the name of a sink is reported at load time with its position."""
    rule, problems = load('INSERT INTO readigns SELECT * FROM "t"', ["readings"])
    assert rule is None
    (problem,) = problems
    assert problem.position is not None
    assert (problem.position.line, problem.position.column) == (1, 13)
    assert "readings" in (problem.remedy or "")


def test_rule_without_sink_is_a_warning() -> None:
    """It counts messages and shows its rows in `headgate tap`, which may be intended."""
    rule, problems = load('SELECT * FROM "t"', [])
    assert rule is not None
    assert [problem.severity for problem in problems] == ["warning"]


def test_sinks_named_by_both_statement_and_comment_are_an_error() -> None:
    """Two lists could differ, without a rule which one counts."""
    rule, problems = load('-- sinks: a\nINSERT INTO a SELECT * FROM "t"', ["a"])
    assert rule is None
    assert "twice" in problems[0].message


def problems_of(statement: str) -> list[tuple[str, str]]:
    _, problems = load(statement, ["a"])
    return [(problem.severity, problem.message) for problem in problems]


def test_all_errors_of_a_rule_are_reported_together() -> None:
    """An unknown sink is not hidden behind an unknown function."""
    messages = [message for _, message in problems_of('INSERT INTO b SELECT nope(1) AS x FROM "t"')]
    assert any("nope" in message for message in messages)
    assert any("'b'" in message for message in messages)


def test_syntax_error_does_not_hide_errors_of_the_opening_comment() -> None:
    """After the statement is corrected, no further error of the comment may appear."""
    assert problems_of('-- sinks: b\n-- ack: later\nSELECT * FORM "t"') == [
        ("error", "unknown sink 'b'"),
        ("error", "ack can't be 'later'"),
        ("error", "expected a comma or FROM, found FORM"),
    ]


def test_unknown_event_is_a_warning() -> None:
    """A rule on a misspelt event never runs, and nothing else would report it."""
    assert problems_of('INSERT INTO a SELECT * FROM "$events/client_conected"') == [
        ("warning", "there is no event $events/client_conected")
    ]
    ((severity, message),) = problems_of('INSERT INTO a SELECT * FROM "$events/client/ping"')
    assert severity == "warning"
    assert "does not happen" in message
    assert problems_of('INSERT INTO a SELECT * FROM "$events/client/+"') == []


def test_option_below_the_opening_comment_is_a_warning() -> None:
    """The author of `enabled: false` below the statement or a block comment believes that the rule is off."""
    for text in (
        'INSERT INTO a SELECT * FROM "t"\n-- enabled: false',
        '/* Off. */\n-- enabled: false\nINSERT INTO a SELECT * FROM "t"',
    ):
        assert problems_of(text) == [("warning", "option 'enabled' is not read here")]
    assert problems_of('INSERT INTO a SELECT * FROM "t" -- as enabled: false says') == []


def test_topic_that_resembles_an_event_is_one_warning() -> None:
    """Two warnings about one topic would contradict each other."""
    assert problems_of('INSERT INTO a SELECT * FROM "$event/client_connected"') == [
        ("warning", "there is no event $event/client_connected")
    ]
    assert problems_of('INSERT INTO a SELECT * FROM "$events/message_publish"') == [
        ("warning", "publishes are not events")
    ]
    assert problems_of('INSERT INTO a SELECT * FROM "$SYS/brokers"') == []


def test_source_in_from_is_a_warning() -> None:
    """A rule pasted from EMQX with a bridge in FROM would never run, and nothing else would report it."""
    ((severity, message),) = problems_of('INSERT INTO a SELECT * FROM "t", "$bridges/mqtt:factory"')
    assert severity == "warning"
    assert "$bridges/mqtt:factory" in message


def test_sinks_line_without_a_name_is_an_error() -> None:
    """With the names on the lines below it, the rule would have no sink and every message would be lost."""
    assert problems_of('-- sinks:\n--   a\nSELECT * FROM "t"') == [("error", "the -- sinks: line names no sink")]


def test_sinks_of_the_project_are_applied_without_compiling_again() -> None:
    """A sink that appears in connectors.yaml makes the same compiled rule valid."""
    file = read_rule_file('INSERT INTO a SELECT * FROM "t"', rule_id="r", path="r.sql")
    refused, _ = file.in_project([])
    rule, problems = file.in_project(["a"], "receive")
    assert refused is None
    assert problems == []
    assert rule is not None
    assert rule.compiled is file.compiled
    assert rule.ack == "receive"


def test_statement_too_large_for_python_is_an_error_of_its_file() -> None:
    """The parser bounds nesting so that Python's compiler can take it; beyond that the other rules must still load."""

    def nested(sql: str) -> Statement:
        statement = parse(sql)
        assert statement.where is not None
        where: Expr = statement.where
        for _ in range(300):
            where = Not(where, where.at)
        return replace(statement, where=where)

    text = 'INSERT INTO a SELECT 1 AS x FROM "t" WHERE qos > 0'
    file = read_rule_file(text, rule_id="r", path="r.sql", parse_statement=nested)
    rule, (problem,) = file.in_project(["a"])
    assert rule is None
    assert problem.severity == "error"
    assert problem.message.startswith("the statement is too large to be compiled")

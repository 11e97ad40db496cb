"""Rule files and the topic index, with values."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.language.events import topic_matches
from engine.language.ruleset import TopicIndex, load_rule, load_rules, read_header

LEVELS = st.sampled_from(["a", "b", "", "$SYS", "c"])
FILTER_LEVELS = st.sampled_from(["a", "b", "", "$SYS", "c", "+"])


@st.composite
def filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(FILTER_LEVELS, min_size=1, max_size=4))
    return "/".join(levels + (["#"] if draw(st.booleans()) else []))


@given(st.lists(filters(), max_size=8), st.lists(LEVELS, min_size=1, max_size=5))
def test_the_index_finds_what_naive_matching_finds(topic_filters: list[str], levels: list[str]) -> None:
    """The tree is only a faster way to ask each filter."""
    index: TopicIndex[str] = TopicIndex()
    for topic_filter in set(topic_filters):
        index.add(topic_filter, topic_filter)
    topic = "/".join(levels)
    assert sorted(index.find(topic)) == sorted(f for f in set(topic_filters) if topic_matches(f, topic))


def test_the_opening_comment_is_description_and_options() -> None:
    """One place for what a rule is for and how it runs; positions in the statement stay those of the file."""
    header = read_header('-- Hot rooms.\n-- ack: receive\n-- Note: keep.\n\nSELECT * FROM "t"\n', "r.sql")
    assert header.description == "Hot rooms. Note: keep."
    assert header.options["ack"][0] == "receive"
    assert header.statement == '\n\n\n\nSELECT * FROM "t"\n'
    assert header.problems == []


def test_an_option_that_is_nearly_one_is_a_mistake() -> None:
    """`-- sink:` would otherwise be taken for prose and the rule would send nothing."""
    _, problems = load_rule('-- sink: a\nSELECT * FROM "t"', rule_id="r", path="r.sql", sink_ids=["a"])
    (problem, *_) = problems
    assert problem.severity == "error"
    assert problem.remedy == "write -- sinks: a"


def test_sinks_may_stand_in_the_comment_so_that_a_pasted_statement_stays_as_it_is() -> None:
    """A statement from EMQX has no INSERT INTO."""
    rule, problems = load_rule('-- sinks: a, b\nSELECT * FROM "t"', rule_id="r", path="r.sql", sink_ids=["a", "b"])
    assert problems == []
    assert rule is not None
    assert [sink.name for sink in rule.sinks] == ["a", "b"]


def test_an_unknown_sink_is_reported_with_the_nearest_name() -> None:
    """A typing mistake in a sink's name is told at load time, with its place."""
    rule, problems = load_rule(
        'INSERT INTO readigns SELECT * FROM "t"', rule_id="r", path="r.sql", sink_ids=["readings"]
    )
    assert rule is None
    (problem,) = problems
    assert problem.position is not None
    assert (problem.position.line, problem.position.column) == (1, 13)
    assert "readings" in (problem.remedy or "")


def test_a_rule_without_sink_is_a_warning() -> None:
    """It counts and shows what it would send; that may be what is wanted."""
    rule, problems = load_rule('SELECT * FROM "t"', rule_id="r", path="r.sql", sink_ids=[])
    assert rule is not None
    assert [problem.severity for problem in problems] == ["warning"]


def test_naming_the_sinks_twice_is_a_mistake() -> None:
    """Two lists that differ would leave the reader guessing."""
    rule, problems = load_rule(
        '-- sinks: a\nINSERT INTO a SELECT * FROM "t"', rule_id="r", path="r.sql", sink_ids=["a"]
    )
    assert rule is None
    assert "twice" in problems[0].message


def problems_of(statement: str) -> list[tuple[str, str]]:
    _, problems = load_rule(statement, rule_id="r", path="r.sql", sink_ids=["a"])
    return [(problem.severity, problem.message) for problem in problems]


def test_all_mistakes_of_a_rule_are_told_in_one_run() -> None:
    """An unknown sink is not hidden behind an unknown function."""
    messages = [message for _, message in problems_of('INSERT INTO b SELECT nope(1) AS x FROM "t"')]
    assert any("nope" in message for message in messages)
    assert any("'b'" in message for message in messages)


def test_a_syntax_error_hides_nothing_of_the_opening_comment() -> None:
    """Whoever puts the statement right must not find the next mistake only then."""
    assert problems_of('-- sinks: b\n-- ack: later\nSELECT * FORM "t"') == [
        ("error", "ack can't be 'later'"),
        ("error", "unknown sink 'b'"),
        ("error", "expected a comma or FROM, found FORM"),
    ]


def test_an_event_that_never_happens_is_warned_of() -> None:
    """A rule on a misspelt event would wait for ever without a word."""
    assert problems_of('INSERT INTO a SELECT * FROM "$events/client_conected"') == [
        ("warning", "there is no event $events/client_conected")
    ]
    ((severity, message),) = problems_of('INSERT INTO a SELECT * FROM "$events/client/ping"')
    assert severity == "warning"
    assert "does not happen" in message
    assert problems_of('INSERT INTO a SELECT * FROM "$events/client/+"') == []


def test_mistakes_come_in_the_order_of_the_text(tmp_path: Path) -> None:
    """A report is worked through from the top of the file."""
    (tmp_path / "r.sql").write_text('SELECT uper(a) AS a FROM "$events/x"\n-- ack: buffer\n')
    problems = load_rules(tmp_path, tmp_path, ["a"]).problems
    assert [problem.position and problem.position.line for problem in problems] == [1, 1, 1, 2]


def test_an_option_that_is_not_read_is_warned_of() -> None:
    """Whoever writes `enabled: false` below the statement, or behind another kind of comment, believes it is off."""
    for text in (
        'INSERT INTO a SELECT * FROM "t"\n-- enabled: false',
        '/* Off. */\n-- enabled: false\nINSERT INTO a SELECT * FROM "t"',
    ):
        assert problems_of(text) == [("warning", "option 'enabled' is not read here")]
    assert problems_of('INSERT INTO a SELECT * FROM "t" -- as enabled: false says') == []


def test_what_looks_like_an_event_and_is_none_is_warned_of_once() -> None:
    """A topic of that name may exist, but nobody publishes on it; two warnings would contradict each other."""
    assert problems_of('INSERT INTO a SELECT * FROM "$event/client_connected"') == [
        ("warning", "there is no event $event/client_connected")
    ]
    assert problems_of('INSERT INTO a SELECT * FROM "$events/message_publish"') == [
        ("warning", "publishes are no event")
    ]
    assert problems_of('INSERT INTO a SELECT * FROM "$SYS/brokers"') == []


def test_a_source_is_warned_of_as_long_as_there_are_none() -> None:
    """A rule pasted from EMQX with a bridge in FROM would wait for ever without a word."""
    ((severity, message),) = problems_of('INSERT INTO a SELECT * FROM "t", "$bridges/mqtt:factory"')
    assert severity == "warning"
    assert "$bridges/mqtt:factory" in message


def test_a_line_that_names_no_sink_is_a_mistake() -> None:
    """Whoever writes the names on the lines below it would lose every message without a word."""
    assert problems_of('-- sinks:\n--   a\nSELECT * FROM "t"') == [("error", "the -- sinks: line names no sink")]


@pytest.mark.parametrize(("name", "shown"), [(b"r\xe4ume.sql", "r?ume.sql"), (b"a\x1bb.sql", "a?b.sql")])
def test_a_file_name_that_is_no_text_is_a_mistake(tmp_path: Path, name: bytes, shown: str) -> None:
    """The name is the rule's id, which goes into tables, JSON and metrics."""
    Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_text('SELECT * FROM "t"')

    (problem,) = load_rules(tmp_path, tmp_path, []).problems

    assert (problem.path, problem.severity) == (shown, "error")


def test_hidden_files_beside_the_rules_are_no_rules(tmp_path: Path) -> None:
    """Emacs marks a file that is being edited with a link beside it, which leads nowhere."""
    (tmp_path / "hot.sql").write_text('SELECT * FROM "t"')
    (tmp_path / ".#hot.sql").symlink_to("me@here.4711:1700000000")
    (tmp_path / "._hot.sql").write_bytes(b"\x00\x05\x16\x07")

    loaded = load_rules(tmp_path, tmp_path, [])

    assert list(loaded.ruleset.rules) == ["hot"]
    assert [problem.severity for problem in loaded.problems] == ["warning"]

"""Evaluation of a statement over events given as JSON lines, without a broker: ``headgate eval --jsonl``.

One JSON object a line comes in, ``{"id", "sql", "event"}``, and one goes out. Its ``kind`` is ``outputs`` with the
rows in ``value``, ``no_match``, ``error`` (evaluation failed) or ``invalid`` (not a rule), the last two with
``message``, ``line`` and ``column``. Without an event the statement is only compiled: ``valid``, with the topics of
FROM in ``from``, or ``invalid``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from broker.topics import topic_matches
from engine.errors import EvaluationError, Position, Problem, RuleError
from engine.language.eventdata import PUBLISH_TYPE, bytes_of, occurrence_of
from engine.language.events import SOURCE_PREFIXES, is_event_filter, selects_event
from engine.language.sql import CompiledRule, Statement, compile_statement, first_error, parse, problems_of
from engine.model.jsontext import decode, encode
from engine.model.message import Message, Occurrence
from engine.service.clock import Clock, SystemClock

__all__ = ["compiled_statement", "evaluate_event", "evaluate_line", "main_stream"]

Answer = dict[str, Any]
"""One object of the output, as it is written to JSON."""

_STATEMENTS_CACHED = 256
"""Statements that stay parsed and compiled: a stream of lines mostly repeats a few."""


def main_stream(lines: Iterable[str | bytes], write: Callable[[str], object], clock: Clock | None = None) -> None:
    """Write one line for each line, in order; empty lines are skipped."""
    for line in lines:
        if line.strip():
            write(encode(evaluate_line(line, clock)).decode() + "\n")


def evaluate_line(text: str | bytes, clock: Clock | None = None) -> Answer:
    """Return the answer to one line. Never raises."""
    try:
        request = decode(text)
    except ValueError as error:
        return {"id": None, "kind": "error", "message": f"the line is not JSON: {error}"}
    if not isinstance(request, dict):
        return {"id": None, "kind": "error", "message": "the line is not a JSON object"}
    answer: Answer = {"id": request.get("id")}
    try:
        sql = _statement_text(request)
        event = request.get("event")
        answer |= _validate(sql) if event is None else evaluate_event(sql, event, clock)
        encode(answer)
    except RuleError as error:
        answer |= _refused("invalid", error)
    except ValueError as error:  # a row that has no JSON form
        return {"id": answer["id"], "kind": "error", "message": str(error)}
    return answer


def evaluate_event(sql: str, event: Any, clock: Clock | None = None) -> Answer:
    """Return the answer for one statement and event, without `id`. Raises `RuleError` where `sql` can't be parsed."""
    statement, _ = _checked(sql)
    try:
        compiled = compiled_statement(sql)
    except RuleError as error:  # the statement is well-formed: it names something that does not exist
        return _refused("error", error)
    try:
        happening = occurrence_of(event, clock or SystemClock())
    except ValueError as error:
        return {"kind": "error", "message": str(error)}
    if not any(_selects(source.topic, event, happening) for source in statement.sources):
        return {"kind": "no_match"}
    try:
        result = compiled.evaluate(happening)
    except EvaluationError as error:
        return {"kind": "error", **_mistake(error.message, error.position)}
    if result is None:
        return {"kind": "no_match"}
    return {"kind": "outputs", "value": result if compiled.many else [result]}


def _selects(item: str, event: Mapping[str, Any], happening: Message | Occurrence) -> bool:
    """Return whether an item of FROM selects the event: a publish by its topic, anything else by its event topic."""
    if event.get("event_type", PUBLISH_TYPE) == PUBLISH_TYPE:
        return not is_event_filter(item) and topic_matches(item, happening.topic)
    if happening.topic.startswith(SOURCE_PREFIXES):
        return _is_same_source(item, happening.topic)
    return is_event_filter(item) and selects_event(item, happening.topic)


def _is_same_source(item: str, topic: str) -> bool:
    """Return whether both name one source. The two prefixes are equal; ``type:*`` in the event stands for any name."""
    if not item.startswith(SOURCE_PREFIXES):
        return False
    named, found = item.partition("/")[2], topic.partition("/")[2]
    return named == found or (found.endswith(":*") and named.startswith(found[:-1]))


def _statement_text(request: Mapping[str, Any]) -> str:
    sql = request.get("sql")
    if sql is None and "sql_b64" in request:
        try:
            return bytes_of(request["sql_b64"]).decode()
        except UnicodeDecodeError as error:
            message = f"the statement is not valid UTF-8: {error.reason} at byte {error.start}"
            raise RuleError(message, Position(1, 1), "save it as UTF-8") from error
    if not isinstance(sql, str):
        raise RuleError("there is no statement", Position(1, 1), 'give one as "sql"')
    return sql


def _validate(sql: str) -> Answer:
    statement, problems = _checked(sql)
    answer: Answer = {"kind": "valid", "from": [source.topic for source in statement.sources]}
    if problems:
        answer["warnings"] = [_warning(problem) for problem in problems]
    return answer


def _warning(problem: Problem) -> Answer:
    return {**_mistake(problem.message, problem.position), "remedy": problem.remedy}


@lru_cache(_STATEMENTS_CACHED)
def _checked(sql: str) -> tuple[Statement, list[Problem]]:
    statement = parse(sql)
    return statement, problems_of(statement)


@lru_cache(_STATEMENTS_CACHED)
def compiled_statement(sql: str) -> CompiledRule:
    """Return a statement compiled for evaluation by itself. Raises `RuleError` for its first error."""
    statement, problems = _checked(sql)
    error = first_error(problems)
    if error is not None:
        raise error
    return compile_statement(statement, rule_id="eval")


def _refused(kind: str, error: RuleError) -> Answer:
    answer: Answer = {"kind": kind, **_mistake(error.message, error.position)}
    if error.remedy:
        answer["remedy"] = error.remedy
    return answer


def _mistake(message: str, position: Position | None) -> Answer:
    answer: Answer = {"message": message}
    if position is not None:
        answer |= {"line": position.line, "column": position.column}
    return answer


def _main() -> None:
    import sys

    main_stream(sys.stdin.buffer, sys.stdout.write)


if __name__ == "__main__":
    _main()

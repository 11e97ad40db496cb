"""The compiler of rule statements: SQL text to a Python function.

`dialect` parses (with sqlglot), `lower` converts the parse tree to the nodes of `nodes`, `check` finds mistakes, and
`codegen` writes one Python function per rule, which calls `runtime`. The steps take each other's results, so that a
statement is parsed and checked once: `parse`, then `problems_of`, then `compile_statement`. README.md lists the
differences from EMQX's language.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import Problem, RuleError
from engine.language.functions import FUNCTIONS, Function
from engine.language.sql.check import problems_of
from engine.language.sql.codegen import generate
from engine.language.sql.lower import parse
from engine.language.sql.nodes import SinkTarget, Source, Statement

__all__ = [
    "CompiledRule", "SinkTarget", "Source", "Statement", "check_rule", "compile_rule", "compile_statement",
    "first_error", "parse", "problems_of",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """An executable rule.

    ``evaluate`` takes a `Message` or an `Occurrence` whose topic FROM matches; the caller does the matching. It
    returns the row of a SELECT, the list of rows of a FOREACH (``many`` is true), and None where WHERE drops the
    message. It raises `EvaluationError` only. Rows may share values with the message, so neither may be changed.
    """

    sources: tuple[Source, ...]
    sinks: tuple[SinkTarget, ...]
    many: bool
    evaluate: Callable[[Any], Any] = field(repr=False)
    source_code: str = field(repr=False)


def compile_statement(
    statement: Statement, *, rule_id: str, path: str | None = None, functions: Mapping[str, Function] = FUNCTIONS
) -> CompiledRule:
    """Compile a statement in which `problems_of` found no error.

    Raises `RuleError` where the statement is too large for Python's own compiler.
    """
    generated = generate(statement, functions, rule_id, path)
    return CompiledRule(statement.sources, statement.sinks, statement.many, generated.evaluate, generated.source_code)


def compile_rule(
    sql: str, *, rule_id: str, path: str | None = None, functions: Mapping[str, Function] = FUNCTIONS
) -> CompiledRule:
    """Parse, check and compile a statement. Raises `RuleError` for its first error; `check_rule` returns all."""
    statement = parse(sql)
    error = first_error(problems_of(statement, functions))
    if error is not None:
        raise error
    return compile_statement(statement, rule_id=rule_id, path=path, functions=functions)


def check_rule(sql: str, functions: Mapping[str, Function] = FUNCTIONS) -> list[Problem]:
    """Return the errors and warnings of a statement, in the order of the text."""
    try:
        statement = parse(sql)
    except RuleError as error:
        return [Problem(error.message, None, error.position, error.remedy)]
    return problems_of(statement, functions)


def first_error(problems: list[Problem]) -> RuleError | None:
    """Return the first of `problems` that is an error, as an exception."""
    for problem in problems:
        if problem.severity == "error":
            return RuleError(problem.message, problem.position, problem.remedy)
    return None

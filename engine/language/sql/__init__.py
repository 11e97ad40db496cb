"""Statements of the rule language: text in, a Python function out.

`dialect` parses (with sqlglot), `lower` makes the nodes of `nodes`, `check` finds what is wrong with them, `codegen`
writes one Python function per rule, `runtime` is what that function calls. README.md tells where the language differs
from EMQX's.
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

__all__ = ["CompiledRule", "SinkTarget", "Source", "Statement", "check_rule", "compile_rule", "parse"]


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule in the form in which it runs.

    ``evaluate`` takes a `Message` or an `Occurrence` whose topic FROM matches; matching is the caller's. For a SELECT
    (``many`` is false) it answers the row, for a FOREACH the list of rows, and None where WHERE drops the message. It
    raises `EvaluationError` and nothing else. Rows may share values with the message: nobody changes either.
    """

    sources: tuple[Source, ...]
    sinks: tuple[SinkTarget, ...]
    many: bool
    evaluate: Callable[[Any], Any] = field(repr=False)
    source_code: str = field(repr=False)


def compile_rule(
    sql: str, *, rule_id: str, path: str | None = None, functions: Mapping[str, Function] = FUNCTIONS
) -> CompiledRule:
    """Compile a statement. Raises `RuleError`, for the first of several errors; `check_rule` finds them all."""
    statement = parse(sql)
    for problem in problems_of(statement, functions):
        if problem.severity == "error":
            raise RuleError(problem.message, problem.position, problem.remedy)
    generated = generate(statement, functions, rule_id, path)
    return CompiledRule(statement.sources, statement.sinks, statement.many, generated.evaluate, generated.source_code)


def check_rule(sql: str, functions: Mapping[str, Function] = FUNCTIONS) -> list[Problem]:
    """Everything that is wrong or probably wrong with a statement, in the order of the text."""
    try:
        statement = parse(sql)
    except RuleError as error:
        return [Problem(error.message, None, error.position, error.remedy)]
    return problems_of(statement, functions)

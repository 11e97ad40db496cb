"""What is wrong with a statement that can be parsed: functions, arguments, names, and what is probably a mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from engine.errors import Problem
from engine.functions import Function
from engine.sql.nodes import Call, Statement
from engine.sql.walk import descendants, expressions

__all__ = ["problems_of"]


def problems_of(statement: Statement, functions: Mapping[str, Function]) -> list[Problem]:
    """Every problem of a statement, in the order of the text."""
    problems = [
        problem
        for node in expressions(statement)
        for part in descendants(node)
        if isinstance(part, Call)
        for problem in _call(part, functions)
    ]
    return problems


def _call(call: Call, functions: Mapping[str, Function]) -> Iterator[Problem]:
    function = functions.get(call.name)
    if function is None:
        near = get_close_matches(call.name.lower(), functions, n=1)
        yield Problem(
            f"there is no function {call.name}", None, call.name_at, f"did you mean {near[0]}?" if near else None
        )
        return
    count = len(call.args)
    if count < function.min_args or (function.max_args is not None and count > function.max_args):
        yield Problem(
            f"{call.name} takes {function.min_args} to {function.max_args} arguments, not {count}", None, call.at
        )

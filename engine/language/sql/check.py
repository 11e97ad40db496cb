"""Checks of parsed statements: all errors and warnings in one pass.

An error is a statement that fails for every message. A warning is valid, in EMQX as well, but probably not intended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any, Literal, TypeGuard

from engine.errors import Position, Problem
from engine.language.functions import FUNCTIONS, Function
from engine.language.sql.nodes import (
    Access,
    Arith,
    Between,
    Call,
    Compare,
    Const,
    Expr,
    Field,
    In,
    Index,
    IndexBy,
    Key,
    ListOf,
    Logic,
    Reference,
    Sequence,
    Sign,
    SinkTarget,
    Slice,
    Source,
    Statement,
    Step,
    Target,
)
from engine.language.sql.targets import target_of
from engine.language.sql.walk import descendants, expressions
from engine.model.message import MESSAGE_COLUMNS
from engine.service.extras import install_command

__all__ = ["problems_of"]

_SQL_FUNCTIONS = {
    "len": "strlen(text), or length(list)", "char_length": "strlen(text)", "substring": "substr(text, start, length)",
    "now": "now_timestamp() or now_rfc3339()", "current_timestamp": "now_rfc3339()", "ifnull": "coalesce(a, b)",
    "nvl": "coalesce(a, b)", "isnull": "is_null(x), or x IS NULL", "cast": "int(x), float(x), str(x) or bool(x)",
    "to_char": "str(x), or format_date(unit, offset, format, time)", "to_json": "json_encode(x)",
    "parse_json": "json_decode(text)", "regexp_like": "regex_match(text, pattern)", "uuid": "uuid_v4()",
    "pow": "power(a, b)", "ceiling": "ceil(x)", "iff": "CASE WHEN … THEN … ELSE … END",
    "json": "json_decode(text)", "to_string": "str(x)", "to_number": "int(x) or float(x)",
    "array_length": "length(list)", "string": "str(x)", "concat_ws": "join_to_string(separator, list)",
}  # fmt: skip
_AGGREGATES = frozenset({"count", "sum", "avg", "min", "max", "group_concat"})
_FOREIGN_WORDS = frozenset({"DISTINCT", "ALL", "TOP", "LIMIT"})


def problems_of(statement: Statement, functions: Mapping[str, Function] = FUNCTIONS) -> list[Problem]:
    """Return the errors and warnings of a statement, in the order of the text."""
    problems = [*_sinks(statement), *_sources(statement), *_fields(statement), *_conditions(statement)]
    aliases = {target.name for item in (*statement.fields, *(statement.do or ())) if (target := target_of(item))}
    for expression in expressions(statement):
        for node in descendants(expression):
            problems += _node(node, functions, aliases)
    return sorted(problems, key=_place)


def _place(problem: Problem) -> tuple[int, int]:
    at = problem.position
    return (at.line, at.column) if at is not None else (0, 0)


def _problem(
    message: str, at: Position, remedy: str | None, severity: Literal["error", "warning"] = "error"
) -> Problem:
    return Problem(message, None, at, remedy, severity)


def _warning(message: str, at: Position, remedy: str | None) -> Problem:
    return _problem(message, at, remedy, "warning")


# -- clauses


def _sinks(statement: Statement) -> Iterator[Problem]:
    fields = statement.fields if not statement.many else statement.do
    for sink in statement.sinks:
        if sink.columns is not None:
            yield from _columns(sink, sink.columns, fields)


def _columns(sink: SinkTarget, columns: tuple[str, ...], fields: tuple[Field, ...] | None) -> Iterator[Problem]:
    for name, count in Counter(columns).items():
        if count > 1:
            yield _problem(f"column {name} of {sink.name} is named twice", sink.position, "name each column once")
    if fields is None or any(item.expr is None for item in fields):
        yield _problem(
            f"the columns of {sink.name} need columns with names, not *",
            sink.position,
            "name the columns after SELECT, or remove the list of columns",
        )
        return
    outputs = {target.name for item in fields if (target := target_of(item))}
    if len(outputs) != len(columns):
        yield _problem(
            f"{sink.name} takes {_count(len(columns), 'column')} here, but the statement makes {len(outputs)}",
            sink.position,
            "name as many columns as there are after SELECT, in their order",
        )


def _sources(statement: Statement) -> Iterator[Problem]:
    seen: set[str] = set()
    for source in statement.sources:
        if source.topic in seen:
            yield _warning(f"topic {source.topic} is named twice", source.position, "name it once")
        seen.add(source.topic)
        yield from _source(source)


def _source(source: Source) -> Iterator[Problem]:
    levels = source.topic.split("/")
    if source.topic == "":
        yield _warning("the topic is empty, so the rule never runs", source.position, 'write FROM "topic/#"')
    elif source.topic == "$events/message_publish":
        yield _warning(
            "publishes are not events", source.position, 'select them by their topic: FROM "#" for all of them'
        )
    elif any("#" in level for level in levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        yield _warning(
            f"{source.topic} is not a topic filter: # must be a level of its own, the last one, so the rule never runs",
            source.position,
            "end the filter with /#",
        )
    elif any("+" in level and level != "+" for level in levels):
        yield _warning(
            f"{source.topic} is not a topic filter: + must be a level of its own, so the rule never runs",
            source.position,
            "write + for a whole level: sensors/+/temp",
        )


def _fields(statement: Statement) -> Iterator[Problem]:
    if statement.many:
        for item in statement.fields:
            if item.expr is None:
                yield _problem("FOREACH can't go through *", item.at, "name a list: FOREACH payload.list AS item")
    rows = statement.fields if not statement.many else statement.do or ()
    yield from _repeated(rows)
    for item in rows:
        yield from _field(item)


def _repeated(rows: tuple[Field, ...]) -> Iterator[Problem]:
    """Warn of aliases given twice: the first value is lost."""
    seen: set[str] = set()
    for item in rows:
        target = target_of(item)
        if target is None or target.steps:
            continue
        if item.alias is not None and target.name in seen:
            yield _warning(
                f"the column {target.name} is given twice; only the last one is in the output", target.at, "rename one"
            )
        seen.add(target.name)


def _field(item: Field) -> Iterator[Problem]:
    if item.expr is None:
        return
    if item.alias is None and not isinstance(item.expr, (Reference, Slice, Const)):
        name = " ".join(item.text.split())
        yield _warning(f"a column without a name: it is called {name}", item.at, "add AS and a name")
    if item.alias is None or item.alias.written:
        return
    name = item.alias.name
    if item.text[-1].isdigit() and item.alias.at.column == item.expr.at.column + len(item.text):
        message = f"{item.text}{name} is read as {item.text} AS {name}"
        yield _warning(message, item.at, _remedy_for_digits(item.expr, name))
    elif isinstance(item.expr, Reference):
        yield from _missing_comma(item, item.expr, item.alias)


def _remedy_for_digits(expr: Expr, name: str) -> str:
    last = expr.steps[-1] if isinstance(expr, Reference) and expr.steps else None
    if isinstance(last, Key):
        return f"write .'{last.name}{name}' for one key"
    return "write AS before the name; a number has decimal digits only"


def _missing_comma(item: Field, expr: Reference, alias: Target) -> Iterator[Problem]:
    name = alias.name
    if expr.name.upper() in _FOREIGN_WORDS and not expr.steps:
        yield _warning(
            f"{expr.name} is read as a column here, with the alias {name}",
            item.at,
            f"write {name} alone",
        )
    elif alias.steps or name in MESSAGE_COLUMNS:
        yield _warning(
            f"a column is read as the alias of {item.text} here", alias.at, "put a comma before it, or write AS"
        )


def _conditions(statement: Statement) -> Iterator[Problem]:
    for clause, condition in (("WHERE", statement.where), ("INCASE", statement.incase)):
        if condition is not None:
            yield from _condition(clause, condition)


def _condition(clause: str, node: Expr) -> Iterator[Problem]:
    if isinstance(node, Logic):
        for operand in node.operands:
            yield from _condition(clause, operand)
    elif isinstance(node, (Arith, ListOf, Sequence, Sign)) or (
        isinstance(node, Const) and type(node.value) is not bool
    ):
        yield _problem(
            f"{clause} needs a condition, and this is never true or false", node.at, "compare it: = != < > <= >= =~"
        )


# -- expressions


def _node(node: Expr, functions: Mapping[str, Function], aliases: set[str]) -> Iterator[Problem]:
    if isinstance(node, (Reference, Access)):
        yield from _steps(node.steps, aliases)
    check: Callable[..., Iterator[Problem]] | None = _CHECKS.get(type(node))
    if check is _call:
        yield from _call(node, functions)
    elif check is not None:
        yield from check(node, aliases)


def _call(call: Any, functions: Mapping[str, Function]) -> Iterator[Problem]:
    function = functions.get(call.name)
    if function is None:
        yield _problem(f"there is no function {call.name}", call.name_at, _nearest(call.name, functions))
    elif not function.min_args <= len(call.args) <= (function.max_args or len(call.args)) or (
        function.max_args == 0 and call.args
    ):
        yield _problem(
            f"{call.name} takes {_arity(function)}, not {len(call.args)}",
            call.at,
            f"write {call.name}({', '.join(function.parameters)})",
        )
    elif function.extra is not None and find_spec(function.extra) is None:
        remedy = f"install it: {install_command(function.extra)}"
        yield _problem(f"{call.name} needs a library that is not installed", call.name_at, remedy)


def _nearest(name: str, functions: Mapping[str, Function]) -> str:
    lowered = name.lower()
    if lowered in functions:
        return f"functions are written in lower case: {lowered}"
    if lowered in _SQL_FUNCTIONS:
        return f"write {_SQL_FUNCTIONS[lowered]}"
    if lowered in _AGGREGATES:
        return "there are no aggregates: a rule sees one message at a time"
    if "." in name:
        return "functions of other modules are not available: call the function by its name only"
    near = get_close_matches(lowered, functions, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return "headgate functions are listed in engine/README.md"


def _arity(function: Function) -> str:
    least, most = function.min_args, function.max_args
    if most is None:
        return f"at least {_count(least, 'argument')}"
    if least == most:
        return _count(most, "argument") if most else "no argument"
    return f"{least} to {_count(most, 'argument')}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _steps(steps: tuple[Step, ...], aliases: set[str]) -> Iterator[Problem]:
    for step in steps:
        if isinstance(step, Index) and step.number == 0:
            yield _warning(
                "there is no element 0: lists count from 1", step.at, "write [1] for the first, [-1] for the last"
            )
        elif isinstance(step, IndexBy) and _is_unknown_in_quotes(step.expr, aliases):
            name = step.expr.name
            yield _warning(
                f'"{name}" in double quotes is a column that holds the index', step.at, f'write ."{name}" for a key'
            )


def _reference(node: Reference, aliases: set[str]) -> Iterator[Problem]:
    name = node.name
    if node.steps or name in aliases:
        return
    if not node.quoted and name.lower() in ("true", "false"):
        yield _warning(f"{name} is a column name here, and no such column exists", node.at, f"write {name.lower()}")
    elif node.quoted and name.partition(".")[0] in MESSAGE_COLUMNS and "." in name:
        yield _warning(f'"{name}" is one name, and no such column exists', node.at, f"write {name}, without quotes")


def _constant(node: Const, aliases: set[str]) -> Iterator[Problem]:
    if node.doubled:
        yield _warning(
            "two quotes in text stay two quotes, as in EMQX", node.at, "write E'…' for text where they become one"
        )


def _compare(node: Compare, aliases: set[str]) -> Iterator[Problem]:
    for side, other in ((node.left, node.right), (node.right, node.left)):
        if _is_null(side, aliases):
            test = "IS NULL" if node.op == "=" else "IS NOT NULL"
            yield _warning("null is a column name here, and no such column exists", side.at, f"write {test}")
        elif _is_text_by_mistake(side, other, aliases):
            yield _text_by_mistake(side)


def _in(node: In, aliases: set[str]) -> Iterator[Problem]:
    for choice in node.choices:
        if _is_text_by_mistake(choice, node.item, aliases):
            yield _text_by_mistake(choice)


def _between(node: Between, aliases: set[str]) -> Iterator[Problem]:
    for bound in (node.low, node.high):
        if _is_text_by_mistake(bound, node.operand, aliases):
            yield _text_by_mistake(bound)


def _is_null(node: Expr, aliases: set[str]) -> bool:
    return isinstance(node, Reference) and not node.quoted and node.name.lower() == "null" and node.name not in aliases


def _is_text_by_mistake(node: Expr, other: Expr, aliases: set[str]) -> TypeGuard[Reference]:
    """Return whether a name in double quotes was probably meant as text: it is compared with a column, and unknown."""
    return _is_unknown_in_quotes(node, aliases) and not isinstance(other, Const)


def _is_unknown_in_quotes(node: Expr, aliases: set[str]) -> TypeGuard[Reference]:
    """Return whether `node` is a name in double quotes that is neither an alias nor a column of a publish."""
    if not isinstance(node, Reference) or not node.quoted or node.steps:
        return False
    return node.name not in aliases and node.name not in MESSAGE_COLUMNS


def _text_by_mistake(node: Reference) -> Problem:
    return _warning(
        f'"{node.name}" in double quotes is the name of a column, not text', node.at, f"write '{node.name}' for text"
    )


def _arith(node: Arith, aliases: set[str]) -> Iterator[Problem]:
    for op, operand in node.rest:
        if op in ("/", "div", "mod") and isinstance(operand, Const) and operand.value == 0:
            yield _warning("division by zero fails for every message", operand.at, "divide by something else")


def _sequence(node: Sequence, aliases: set[str]) -> Iterator[Problem]:
    if node.last < node.first - 1:
        yield _warning("the range ends before it begins, which fails", node.at, f"write [{node.last}..{node.first}]")


_CHECKS: dict[type[Any], Callable[..., Iterator[Problem]]] = {
    Call: _call,
    Const: _constant,
    Compare: _compare,
    In: _in,
    Between: _between,
    Arith: _arith,
    Sequence: _sequence,
    Reference: _reference,
}

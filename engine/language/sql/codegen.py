"""A statement to one Python function.

The function is written twice: for a `Message`, whose columns are attributes, and for anything else, whose columns are
looked up by name. The first is the one that is called; it hands over to the second. Both end in one handler that
turns whatever was raised into an `EvaluationError` with its place in the statement, found by the line it was raised
in, so that the way that succeeds pays nothing for it.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

from engine.errors import Position, RuleError
from engine.language.functions import Function
from engine.language.sql import runtime
from engine.language.sql.emit import Atom, Names, Writer
from engine.language.sql.expressions import Expressions
from engine.language.sql.fields import Fields
from engine.language.sql.nodes import Decoded, Field, Key, Reference, Statement
from engine.language.sql.scope import Columns, ColumnScope, ElementScope, EventColumns, MessageColumns, Scope
from engine.language.sql.walk import calls, expressions, references
from engine.model.jsontext import UNDEFINED
from engine.model.message import Message

__all__ = ["Generated", "generate"]

STATEFUL = frozenset({"kv_store_put", "kv_store_del", "proc_dict_put", "proc_dict_del"})
"""Functions that change something. A list that calls one is computed before WHERE, as EMQX computes every list."""

_RUNTIME = {name: getattr(runtime, name) for name in runtime.__all__} | {"U": UNDEFINED, "Message": Message}


@dataclass(frozen=True, slots=True)
class Generated:
    """A compiled statement: the function, and the source it was made from."""

    evaluate: Callable[[Any], Any]
    source_code: str


def generate(statement: Statement, functions: Mapping[str, Function], rule_id: str, path: str | None) -> Generated:
    """Compile a statement that `engine.language.sql.check` found no error in."""
    metadata = {"rule_id": rule_id, "namespace": "global"}
    names = Names({**_RUNTIME, "METADATA": metadata})
    lines: list[str] = []
    places: list[Position | None] = []
    for variant, columns in (("rule_for_events", EventColumns()), ("rule", MessageColumns())):
        writer = _Function(statement, functions, names, columns).write(variant)
        lines += [*writer.lines, "", ""]
        places += [*writer.places, None, None]
    source = "\n".join(lines[:-2]) + "\n"
    names.bind(lambda error: runtime.located(error, lambda line: places[line - 1]), "located")
    return Generated(_load(source, names.namespace, path or rule_id), source)


def _load(source: str, namespace: dict[str, Any], name: str) -> FunctionType:
    filename = f"<rule {name}>"
    try:
        code = compile(source, filename, "exec")
    except (SyntaxError, RecursionError, MemoryError) as error:  # beyond what Python's own compiler takes
        raise RuleError(f"the statement is too large to be compiled: {error}", Position(1, 1)) from error
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(code, namespace)
    function: FunctionType = namespace["rule"]
    return function


class _Function:
    """One of the two variants."""

    def __init__(self, statement: Statement, functions: Mapping[str, Function], names: Names, columns: Columns) -> None:
        self._statement = statement
        self._writer = Writer(names)
        self._code = Expressions(self._writer, functions, columns)
        self._columns = columns
        self._base = ColumnScope(columns)
        self._referenced = {ref.name for node in expressions(statement) for ref in references(node)}

    def write(self, name: str) -> Writer:
        """The lines of the function `name`."""
        with self._writer.block(f"def {name}(m):"):
            if isinstance(self._columns, MessageColumns):
                self._writer.line("if m.__class__ is not Message: return rule_for_events(m)")
            with self._writer.block("try:"):
                if self._statement.many:
                    self._foreach()
                else:
                    self._select()
            self._writer.at = None
            with self._writer.block("except Exception as error:"):
                self._writer.line("raise located(error) from error")
        return self._writer

    def _fields(self, fields: tuple[Field, ...], behind: Scope) -> Fields:
        return Fields(self._code, fields, behind, self._columns, self._referenced)

    def _select(self) -> None:
        fields = self._fields(self._statement.fields, self._base)
        self._where(fields)
        fields.compute_all()
        self._writer.line(f"return {fields.row()}")

    def _where(self, fields: Fields) -> None:
        where = self._statement.where
        if self._changes_something():
            fields.compute_all()
        if where is None:
            return
        fields.compute({reference.name for reference in references(where)})
        self._code.filter(where, fields.scope(shows_through=False), "return None")

    def _changes_something(self) -> bool:
        written = (item.expr for item in self._statement.fields if item.expr is not None)
        return any(call.name in STATEFUL for expr in written for call in calls(expr))

    def _foreach(self) -> None:
        statement = self._statement
        fields = self._fields(_with_decoded_payload(statement.fields), self._base)
        last = len(statement.fields) - 1
        self._where(fields)
        fields.compute_all()
        element, item = self._element(statement.fields[last])
        scope = ElementScope(fields.scope(shows_through=False), element, item)
        base = self._base_row(statement, fields, last, element)
        self._writer.line("rows = []")
        with self._writer.block(f"for item in rows_of({fields.atom(last).text}):"):
            self._wrap_element(statement.fields[last], item)
            if statement.incase is not None:
                self._code.filter(statement.incase, scope, "continue")
            row = self._do_row(statement, scope, base, {element: item.output()})
            self._writer.line(f"rows.append({row})")
        self._writer.line("return rows")

    def _element(self, array: Field) -> tuple[str, Atom]:
        """The name of the element, and where its value is."""
        if array.alias is None:
            return "item", Atom("item")
        return array.alias.name, Atom("element", "map") if array.alias.steps else Atom("item")

    def _wrap_element(self, array: Field, element: Atom) -> None:
        """``FOREACH x AS a.b``: the element is what ``a.b`` reads."""
        if array.alias is None or not array.alias.steps:
            return
        keys = [step.name for step in array.alias.steps if isinstance(step, Key)]
        steps = "".join(f"{self._writer.names.literal(key)}, " for key in keys)
        self._writer.line(f"{element.text} = put(U, ({steps}), item)")

    def _base_row(self, statement: Statement, fields: Fields, last: int, element: str) -> str | None:
        """The variable of what ``DO *`` stands for, element excepted; None where no row asks for it."""
        if statement.do is not None and all(item.expr is not None for item in statement.do):
            return None
        texts = [f"**{self._columns_row()}", f"**{fields.row()}"]
        return self._writer.assign("{" + ", ".join(texts) + "}", "map").text

    def _columns_row(self) -> str:
        everything = self._fields((Field(None, None, "*", Position(1, 1)),), self._base)
        return everything.row()

    def _do_row(self, statement: Statement, scope: Scope, base: str | None, element: dict[str, str]) -> str:
        if statement.do is None:
            texts = [f"**{base}", *(f"{self._writer.names.literal(name)}: {text}" for name, text in element.items())]
            return "{" + ", ".join(texts) + "}"
        fields = self._fields(statement.do, scope)
        fields.compute_all()
        return fields.row(star=base, star_overrides=element)


def _with_decoded_payload(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """The fields of FOREACH; where it goes through the column ``payload`` itself, through what that is decoded."""
    *others, last = fields
    expr = last.expr
    if not isinstance(expr, Reference) or expr.name != "payload" or expr.steps:
        return fields
    if any(item.alias is not None and item.alias.name == "payload" for item in others):
        return fields
    return (*others, replace(last, expr=Decoded(expr.at)))

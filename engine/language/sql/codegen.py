"""Code generation for statements: one Python function per rule, in two variants.

The variant `rule` takes a `Message` and reads its columns as attributes; given anything else it calls the variant
`rule_for_events`, which looks columns up by name. Each has one handler that turns any exception into an
`EvaluationError` with its position in the statement, found by the line that raised it, so that a successful evaluation
pays nothing for it.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from engine.errors import EvaluationError, Position, RuleError
from engine.language.events import SOURCE_PREFIXES, is_event_filter
from engine.language.functions import Function
from engine.language.sql import runtime
from engine.language.sql.columns import ColumnSource, EventColumns, MessageColumns
from engine.language.sql.emit import Atom, Names, Writer
from engine.language.sql.expressions import Expressions
from engine.language.sql.fields import Fields
from engine.language.sql.nodes import Decoded, Field, Key, Reference, Statement
from engine.language.sql.row import RowBuilder
from engine.language.sql.scope import ColumnScope, ElementScope, Scope
from engine.language.sql.walk import calls, expressions, references
from engine.model.jsontext import UNDEFINED
from engine.model.message import Message

__all__ = ["Generated", "generate"]

STATEFUL = frozenset({"kv_store_put", "kv_store_del", "proc_dict_put", "proc_dict_del"})
"""Functions with side effects. A column list that calls one is computed before WHERE, as EMQX computes every list."""

_RUNTIME = {name: getattr(runtime, name) for name in runtime.__all__} | {"U": UNDEFINED, "Message": Message}

Evaluate = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Generated:
    """A compiled statement: the function, and the source code of its variant for messages."""

    evaluate: Evaluate
    source_code: str


def generate(statement: Statement, functions: Mapping[str, Function], rule_id: str, path: str | None) -> Generated:
    """Compile a statement that `engine.language.sql.check` found no error in.

    Raises `RuleError` where it is too large for Python's own compiler.
    """
    names = {**_RUNTIME, "METADATA": {"rule_id": rule_id, "namespace": "global"}}
    name = path or rule_id
    for_events = partial(_variant, statement, functions, Names(names), EventColumns(), f"<rule {name} for events>")
    if any(is_event_filter(item.topic) or item.topic.startswith(SOURCE_PREFIXES) for item in statement.sources):
        names["rule_for_events"] = for_events().evaluate
    else:
        # In service this rule sees messages alone: compiling the other variant would double the time of loading it.
        names["rule_for_events"] = _Deferred(for_events)
    return _variant(statement, functions, Names(names), MessageColumns(), f"<rule {name}>")


class _Deferred:
    """A variant that is compiled when it is first called."""

    __slots__ = ("_compile", "_evaluate")

    def __init__(self, compile_variant: Callable[[], Generated]) -> None:
        self._compile = compile_variant
        self._evaluate: Evaluate | None = None

    def __call__(self, message: Any) -> Any:
        if self._evaluate is None:
            try:
                self._evaluate = self._compile().evaluate
            except RuleError as error:
                raise EvaluationError(error.message, error.position) from error
        return self._evaluate(message)


def _variant(
    statement: Statement, functions: Mapping[str, Function], names: Names, columns: ColumnSource, filename: str
) -> Generated:
    writer = _Function(statement, functions, names, columns).write()
    places = writer.places
    names.bind(lambda error: runtime.located(error, lambda line: places[line - 1]), "located")
    source = "\n".join(writer.lines) + "\n"
    return Generated(_load(source, names.namespace, filename), source)


def _load(source: str, namespace: dict[str, Any], filename: str) -> Evaluate:
    try:
        code = compile(source, filename, "exec")
    except (SyntaxError, RecursionError, MemoryError) as error:  # beyond the limits of Python's own compiler
        raise RuleError(f"the statement is too large to be compiled: {error}", Position(1, 1)) from error
    # Tracebacks then show the generated line.
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(code, namespace)
    # Out of its own globals again: without that cycle a rule that a reload replaces is freed at once.
    function: Evaluate = namespace.pop("rule")
    return function


class _Function:
    """Writes one variant of the function of a statement."""

    def __init__(
        self, statement: Statement, functions: Mapping[str, Function], names: Names, columns: ColumnSource
    ) -> None:
        self._statement = statement
        self._writer = Writer(names)
        self._code = Expressions(self._writer, functions, columns)
        self._columns = columns
        self._base = ColumnScope(columns)
        self._referenced = {ref.name for node in expressions(statement) for ref in references(node)}

    def write(self) -> Writer:
        """Write the function; return the writer that holds its lines."""
        with self._writer.block("def rule(m):"):
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
        return Fields(self._code, fields, behind, self._referenced)

    def _select(self) -> None:
        fields = self._fields(self._statement.fields, self._base)
        self._where(fields)
        fields.compute_all()
        self._writer.line(f"return {self._row(fields)}")

    def _row(self, fields: Fields) -> str:
        return RowBuilder(fields, self._columns).text()

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
        """Return the name of the element, and the atom of its value."""
        if array.alias is None:
            return "item", Atom("item")
        return array.alias.name, Atom("element", "map") if array.alias.steps else Atom("item")

    def _wrap_element(self, array: Field, element: Atom) -> None:
        """Wrap the element of ``FOREACH x AS a.b`` in maps, so that ``a.b`` reads it."""
        if array.alias is None or not array.alias.steps:
            return
        keys = [step.name for step in array.alias.steps if isinstance(step, Key)]
        steps = "".join(f"{self._writer.names.literal(key)}, " for key in keys)
        self._writer.line(f"{element.text} = put(U, ({steps}), item)")

    def _base_row(self, statement: Statement, fields: Fields, last: int, element: str) -> str | None:
        """Write the variable that ``DO *`` stands for, without the element; None where no row needs it."""
        if statement.do is not None and all(item.expr is not None for item in statement.do):
            return None
        texts = [f"**{self._columns_row()}", f"**{self._row(fields)}"]
        return self._writer.assign("{" + ", ".join(texts) + "}", "map").text

    def _columns_row(self) -> str:
        return self._row(self._fields((Field(None, None, "*", Position(1, 1)),), self._base))

    def _do_row(self, statement: Statement, scope: Scope, base: str | None, element: dict[str, str]) -> str:
        if statement.do is None:
            texts = [f"**{base}", *(f"{self._writer.names.literal(name)}: {text}" for name, text in element.items())]
            return "{" + ", ".join(texts) + "}"
        fields = self._fields(statement.do, scope)
        fields.compute_all()
        return RowBuilder(fields, self._columns).text(star=base, star_overrides=element)


def _with_decoded_payload(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """Return the fields of FOREACH; a list that is the column ``payload`` itself is read from its decoded JSON."""
    *others, last = fields
    expr = last.expr
    if not isinstance(expr, Reference) or expr.name != "payload" or expr.steps:
        return fields
    if any(item.alias is not None and item.alias.name == "payload" for item in others):
        return fields
    return (*others, replace(last, expr=Decoded(expr.at)))

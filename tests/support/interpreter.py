"""A slow, simple interpreter of the rule language, to compare the compiler with.

A field is a thunk, an alias is looked up in the fields before it, and every operation calls the runtime: no fast path,
no shared reads, no reordering. It uses the functions of the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from engine.errors import EvaluationError, Position
from engine.language.functions import FUNCTIONS
from engine.language.sql import Statement
from engine.language.sql import nodes as n
from engine.language.sql import runtime as rt
from engine.language.sql.targets import ElementOrder, target_of
from engine.language.sql.walk import references
from engine.model.jsontext import UNDEFINED
from engine.model.message import Message, Occurrence

_NOWHERE = Position(1, 1)


class Lookup(Protocol):
    """Reads names at one position of a statement."""

    def __call__(self, name: str, /) -> Any:
        """Return the value of a name, or UNDEFINED."""

    def path(self, name: str, steps: tuple[n.Step, ...], outer: Lookup, /) -> Any:
        """Return the value of a path; names in its indexes are looked up in `outer`."""


class _Names:
    """A lookup by a function for paths."""

    def __init__(self, path: Callable[[str, tuple[n.Step, ...], Lookup], Any]) -> None:
        self.path = path

    def __call__(self, name: str) -> Any:
        return self.path(name, (), self)


_COMPARE = {"=": rt.eq, "!=": rt.ne, "<": rt.lt, ">": rt.gt, "<=": rt.le, ">=": rt.ge, "=~": rt.topic_match}
_ARITH = {
    "+": rt.add, "-": rt.subtract, "*": rt.multiply, "/": rt.divide, "div": rt.int_divide, "mod": rt.modulo,
    "||": rt.concat,
}  # fmt: skip


def interpret(statement: Statement, event: Message | Occurrence) -> Any:
    """Return the result for an event: a row or None for SELECT, rows for FOREACH. Raises `EvaluationError`."""
    try:
        return _Run(statement, event).run()
    except (OverflowError, RecursionError) as error:
        raise EvaluationError(str(error)) from error


class _Run:
    def __init__(self, statement: Statement, event: Message | Occurrence) -> None:
        self.statement = statement
        self.event = event

    def run(self) -> Any:
        statement = self.statement
        fields = _List(self, self.fields(), _Names(self.column_path))
        names = set() if statement.where is None else {ref.name for ref in references(statement.where)}
        fields.compute(names, len(statement.fields))
        if statement.where is not None and not self.condition(statement.where, fields.behind):
            return None
        values = fields.values()
        return self.rows(fields, values[-1]) if statement.many else fields.row({})

    def fields(self) -> tuple[n.Field, ...]:
        """The fields; FOREACH goes through the column payload itself as through what that is decoded."""
        *before, last = self.statement.fields
        is_payload = isinstance(last.expr, n.Reference) and (last.expr.name, last.expr.steps) == ("payload", ())
        is_aliased = any(item.alias is not None and item.alias.name == "payload" for item in before)
        if not self.statement.many or not is_payload or is_aliased:
            return self.statement.fields
        return (*before, replace(last, expr=n.Decoded(last.at)))

    def rows(self, fields: _List, array: Any) -> list[Any]:
        alias = self.statement.fields[-1].alias
        name = "item" if alias is None else alias.name
        return [row for item in rt.rows_of(array) for row in self.row_of(fields, name, item)]

    def row_of(self, fields: _List, name: str, item: Any) -> list[Any]:
        def path(wanted: str, steps: tuple[n.Step, ...], outer: Lookup) -> Any:
            return self.walk("", item, steps, outer) if wanted == name else fields.behind.path(wanted, steps, outer)

        look = _Names(path)
        if self.statement.incase is not None and not self.condition(self.statement.incase, look):
            return []
        star = {**self.columns(), **fields.row({}), name: _out(item)}
        if self.statement.do is None:
            return [star]
        return [_List(self, self.statement.do, look).row(star)]

    def column_path(self, name: str, steps: tuple[n.Step, ...], outer: Lookup) -> Any:
        if name == "payload" and steps:
            return self.walk("payload!", self.event.json, steps, outer)
        value = self.columns()["metadata"] if name == "metadata" else self.event.column(name)
        return self.walk("", value, steps, outer)

    def columns(self) -> dict[str, Any]:
        columns = {name: _out(value) for name, value in self.event.columns().items()}
        return {**columns, "metadata": {"rule_id": "test", "namespace": "global"}}

    # -- expressions

    def condition(self, node: n.Expr, look: Lookup) -> bool:
        if isinstance(node, n.Const):
            return rt.condition(node.value)
        value = self.value(node, look)
        return rt.reference_condition(value) if isinstance(node, (n.Reference, n.Access)) else rt.condition(value)

    def value(self, node: n.Expr, look: Lookup) -> Any:
        return getattr(self, f"_{type(node).__name__.lower()}")(node, look)

    def _const(self, node: n.Const, look: Lookup) -> Any:
        return node.value

    def _decoded(self, node: n.Decoded, look: Lookup) -> Any:
        return self.event.json

    def _reference(self, node: n.Reference, look: Lookup) -> Any:
        return look.path(node.name, node.steps, look)

    def walk(self, name: str, value: Any, steps: tuple[n.Step, ...], look: Lookup) -> Any:
        for step in steps:
            if isinstance(step, n.Key):
                value = rt.key(value, step.name)
            elif isinstance(step, n.Index):
                value = rt.index(value, step.number)
            else:
                value = rt.index(value, self.place(name, step, look))
        return value

    def place(self, name: str, step: n.IndexBy, look: Lookup) -> Any:
        expr = step.expr
        if name == "payload!" and isinstance(expr, n.Reference):
            steps = (n.Key(expr.name, expr.at), *expr.steps)
            found = self.walk("payload!", self.event.json, steps, look)
            if found is not UNDEFINED:
                return found
        return self.value(expr, look)

    def _access(self, node: n.Access, look: Lookup) -> Any:
        return self.walk("", self.value(node.base, look), node.steps, look)

    def _slice(self, node: n.Slice, look: Lookup) -> Any:
        return rt.part(self.value(node.base, look), node.first, node.last)

    def _sequence(self, node: n.Sequence, look: Lookup) -> Any:
        return rt.sequence(node.first, node.last)

    def _arith(self, node: n.Arith, look: Lookup) -> Any:
        result = self.value(node.first, look)
        for op, operand in node.rest:
            result = _ARITH[op](result, self.value(operand, look))
        return result

    def _sign(self, node: n.Sign, look: Lookup) -> Any:
        value = self.value(node.operand, look)
        return value if node.op == "+" else rt.negate(value)

    def _compare(self, node: n.Compare, look: Lookup) -> Any:
        return _COMPARE[node.op](self.value(node.left, look), self.value(node.right, look))

    def _logic(self, node: n.Logic, look: Lookup) -> Any:
        deciding = node.op == "or"
        return next((deciding for item in node.operands if self.condition(item, look) is deciding), not deciding)

    def _not(self, node: n.Not, look: Lookup) -> Any:
        return self.value(node.operand, look) is False

    def _in(self, node: n.In, look: Lookup) -> Any:
        item = self.value(node.item, look)
        choices = [self.value(choice, look) for choice in node.choices]
        return any(rt.same(item, choice) for choice in choices) is not node.negated

    def _between(self, node: n.Between, look: Lookup) -> Any:
        value = self.value(node.operand, look)
        return rt.ge(value, self.value(node.low, look)) and rt.le(value, self.value(node.high, look))

    def _isnull(self, node: n.IsNull, look: Lookup) -> Any:
        value = self.value(node.operand, look)
        return (value is None or value is UNDEFINED) is not node.negated

    def _listof(self, node: n.ListOf, look: Lookup) -> Any:
        return [self.value(item, look) for item in node.items]

    def _case(self, node: n.Case, look: Lookup) -> Any:
        operand = UNDEFINED if node.operand is None else self.value(node.operand, look)
        for when, then in node.branches:
            value = self.value(when, look)
            if (value is True) if node.operand is None else rt.same(operand, value):
                return self.value(then, look)
        return UNDEFINED if node.otherwise is None else self.value(node.otherwise, look)

    def _call(self, node: n.Call, look: Lookup) -> Any:
        function = FUNCTIONS[node.name]
        args = [self.value(arg, look) for arg in node.args]
        return function.call(self.event, *args) if function.needs_message else function.call(*args)


class _List:
    """The fields of a column list over the columns of the event."""

    def __init__(self, run: _Run, fields: tuple[n.Field, ...], under: Lookup) -> None:
        self._run = run
        self._fields = fields
        self._under = under
        self._targets = [target_of(item) for item in fields]
        self._known: dict[int, Any] = {}
        self.behind = self._lookup(len(fields), shows_through=False)

    def compute(self, names: set[str], limit: int) -> None:
        """Compute the fields behind aliases in WHERE, which are computed whether WHERE reads them or not."""
        for index, target in enumerate(self._targets[:limit]):
            if target is not None and target.written and target.name in names:
                self._value(index)
                self.compute({ref.name for ref in self._read_by(index)}, index)

    def values(self) -> list[Any]:
        return [self._value(index) for index in range(len(self._fields))]

    def row(self, star: dict[str, Any]) -> dict[str, Any]:
        """Return the output: the columns of ``*``, then the selected fields, then the aliases."""
        self.values()
        has_star = any(item.expr is None for item in self._fields)
        row = dict(star or self._run.columns()) if has_star else {}
        places = ElementOrder()
        if has_star:
            for name in row:
                places.take(n.Target(name, (), _NOWHERE, written=False))
        for index, target in enumerate(self._targets):
            if target is None:
                continue
            is_read = not target.written and bool(target.steps)
            steps = places.of(target) if is_read else target.steps
            if not is_read:
                places.take(target)
            row[target.name] = _out(self._into(row.get(target.name, UNDEFINED), index, target, steps))
        return row

    def _into(self, base: Any, index: int, target: n.Target, steps: tuple[n.Step, ...]) -> Any:
        put = rt.put if target.written else rt.put_read
        look = self._lookup(index, shows_through=True)
        return put(base, tuple(self._step(step, look) for step in steps), self._value(index))

    def _step(self, step: n.Step, look: Lookup) -> Any:
        if isinstance(step, n.Key):
            return step.name
        if isinstance(step, n.Index):
            return step.number or (rt.TAIL if step.tail else rt.HEAD)
        return rt.number_or_none(self._run.value(step.expr, look))

    def _read_by(self, index: int) -> list[n.Reference]:
        expr = self._fields[index].expr
        return [] if expr is None else list(references(expr))

    def _value(self, index: int) -> Any:
        if index not in self._known:
            expr = self._fields[index].expr
            self._known[index] = (
                UNDEFINED if expr is None else self._run.value(expr, self._lookup(index, shows_through=True))
            )
        return self._known[index]

    def _lookup(self, limit: int, shows_through: bool) -> Lookup:
        def alias(name: str) -> tuple[Any, bool]:
            value, is_whole = UNDEFINED, False
            for index, target in enumerate(self._targets[:limit]):
                if target is not None and target.written and target.name == name:
                    value = self._into(value, index, target, target.steps)
                    is_whole = not target.steps or is_whole
            return value, is_whole

        def path(name: str, steps: tuple[n.Step, ...], outer: Lookup) -> Any:
            value, is_whole = alias(name)
            found = self._run.walk("", value, steps, outer)
            if found is not UNDEFINED or (is_whole and not shows_through):
                return found
            return self._under.path(name, steps, outer)

        return _Names(path)


def _out(value: Any) -> Any:
    return None if value is UNDEFINED else value

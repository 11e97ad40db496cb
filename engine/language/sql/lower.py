"""Conversion of sqlglot's parse tree to the nodes of `engine.language.sql.nodes`, with their positions in the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from sqlglot import exp

from engine.errors import Position, RuleError
from engine.language.sql import syntax
from engine.language.sql.dialect import parse_tree
from engine.language.sql.nodes import (
    Access,
    Arith,
    Between,
    Call,
    Case,
    Compare,
    Const,
    Expr,
    Field,
    In,
    Index,
    IndexBy,
    IsNull,
    Key,
    ListOf,
    Logic,
    Not,
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
from engine.language.sql.tokens import TextPositions

__all__ = ["parse"]

DIGITS_MAX = 300
"""The number of digits of a number in a statement."""

_ARITHMETIC: dict[type[exp.Expr], str] = {
    exp.Add: "+", exp.Sub: "-", exp.DPipe: "||", exp.Mul: "*", exp.Div: "/", exp.IntDiv: "div", exp.Mod: "mod",
}  # fmt: skip
_LEVEL = {"+": 0, "-": 0, "||": 0, "*": 1, "/": 1, "div": 1, "mod": 1}
_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "!=", exp.LT: "<", exp.GT: ">", exp.LTE: "<=", exp.GTE: ">=", syntax.TopicMatch: "=~",
}  # fmt: skip


def parse(sql: str) -> Statement:
    """Parse a statement. Raises `RuleError` for syntax errors; functions and sinks are not looked up."""
    return _Lowering(sql).statement(parse_tree(sql))


class _Lowering:
    def __init__(self, sql: str) -> None:
        self._sql = sql
        self._positions = TextPositions(sql)

    def statement(self, tree: Any) -> Statement:
        args = tree.args
        do = args["do"]
        return Statement(
            sinks=tuple(map(self._sink, args["sinks"])),
            many=args["many"],
            fields=tuple(map(self._field, args["fields"])),
            do=None if do is None else tuple(map(self._field, do)),
            incase=self._optional(args["incase"]),
            sources=tuple(Source(node.this, self._at(node)) for node in args["sources"]),
            where=self._optional(args["where"]),
        )

    def _sink(self, node: Any) -> SinkTarget:
        columns = node.args["columns"]
        return SinkTarget(node.this, columns and tuple(column.this for column in columns), self._at(node))

    def _field(self, node: Any) -> Field:
        at = self._at(node)
        if isinstance(node.this, exp.Star):
            return Field(None, None, "*", at)
        alias = node.args["alias"]
        target = alias and Target(
            alias.this.this, self._steps(alias.args["steps"]), self._at(alias), bool(node.args["written"])
        )
        return Field(self._expr(node.this), target, node.args["text"], at)

    def _optional(self, node: Any) -> Expr | None:
        return None if node is None else self._expr(node)

    def _expr(self, node: Any) -> Expr:
        kind = type(node)
        if kind in _ARITHMETIC:
            return self._arith(node)
        if kind in _COMPARISONS or kind is syntax.FilterMatch:
            return self._compare(node)
        return _LOWER[kind](self, node)

    def _exprs(self, nodes: list[Any]) -> tuple[Expr, ...]:
        return tuple(map(self._expr, nodes))

    def _at(self, node: Any) -> Position:
        return self._positions.at(*_span(node))

    # -- one method per kind of node

    def _paren(self, node: Any) -> Expr:
        return self._expr(node.this)

    def _literal(self, node: Any) -> Expr:
        at = self._at(node)
        if node.is_string:
            return Const(node.this, at, doubled="''" in node.this)
        if len(node.this) > DIGITS_MAX:
            raise RuleError(f"a number has more than {DIGITS_MAX} digits", at)
        if node.this.isdigit():
            return Const(int(node.this), at)
        value = float(node.this)
        if value in (float("inf"), float("-inf")):
            raise RuleError(f"{node.this} is beyond what a float can hold", at)
        return Const(value, at)

    def _national(self, node: Any) -> Expr:
        return Const(node.this, self._at(node))

    def _boolean(self, node: Any) -> Expr:
        return Const(node.this, self._at(node))

    def _sign(self, node: Any) -> Expr:
        operand = self._expr(node.this)
        op: Literal["+", "-"] = "-" if isinstance(node, exp.Neg) else "+"
        if isinstance(operand, Const) and type(operand.value) in (int, float):
            return Const(-operand.value if op == "-" else operand.value, self._at(node))  # type: ignore[operator]
        return Sign(op, operand, self._at(node))

    def _arith(self, node: Any) -> Expr:
        """Convert a chain of operators of one precedence, in a loop: it may be longer than Python's recursion limit."""
        level = _LEVEL[_ARITHMETIC[type(node)]]
        rest: list[tuple[str, Expr]] = []
        left = node
        while type(left) in _ARITHMETIC and _LEVEL[_ARITHMETIC[type(left)]] == level:
            rest.append((_ARITHMETIC[type(left)], self._expr(left.expression)))
            left = left.this
        return Arith(self._expr(left), tuple(reversed(rest)), self._at(node))

    def _logic(self, node: Any) -> Expr:
        kind = type(node)
        operands: list[Expr] = []
        left = node
        while type(left) is kind:
            operands.append(self._expr(left.expression))
            left = left.this
        operands.append(self._expr(left))
        return Logic("and" if kind is exp.And else "or", tuple(reversed(operands)), self._at(node))

    def _compare(self, node: Any) -> Expr:
        left, right = self._expr(node.this), self._expr(node.expression)
        if isinstance(node, syntax.FilterMatch):
            return Compare("=~", right, left, self._at(node))
        return Compare(_COMPARISONS[type(node)], left, right, self._at(node))

    def _between(self, node: Any) -> Expr:
        low, high = self._expr(node.args["low"]), self._expr(node.args["high"])
        return Between(self._expr(node.this), low, high, self._at(node))

    def _not(self, node: Any) -> Expr:
        at = self._at(node)
        operand = self._expr(node.this)
        if isinstance(operand, In):
            return In(operand.item, operand.choices, not operand.negated, at)
        if isinstance(operand, IsNull):
            return IsNull(operand.operand, not operand.negated, at)
        return Not(operand, at)

    def _in(self, node: Any) -> Expr:
        return In(self._expr(node.this), self._exprs(node.expressions), False, self._at(node))

    def _is(self, node: Any) -> Expr:
        return IsNull(self._expr(node.this), False, self._at(node))

    def _array(self, node: Any) -> Expr:
        return ListOf(self._exprs(node.expressions), self._at(node))

    def _case(self, node: Any) -> Expr:
        branches = tuple((self._expr(branch.this), self._expr(branch.args["true"])) for branch in node.args["ifs"])
        return Case(self._optional(node.this), branches, self._optional(node.args["default"]), self._at(node))

    def _call(self, node: Any) -> Expr:
        name, at, args = node.this, self._at(node), self._exprs(node.expressions)
        start, _ = _span(node)
        name_at = self._positions.at(start, node.meta["name_end"] + 1)
        if len(args) == 2 and name in _LEVEL:
            return Arith(args[0], ((name, args[1]),), at)
        return Call(name, args, at, name_at)

    def _path(self, node: Any) -> Expr:
        steps, at = self._steps(node.args["steps"]), self._at(node)
        if isinstance(node.this, exp.Identifier):
            return Reference(node.this.this, steps, at, bool(node.this.args.get("quoted")))
        return Access(self._expr(node.this), steps, at)

    def _slice(self, node: Any) -> Expr:
        at = self._at(node)
        first, _, last = node.args["text"].partition("..")
        if len(first) > DIGITS_MAX or len(last) > DIGITS_MAX:
            raise RuleError(f"a number has more than {DIGITS_MAX} digits", at)
        if node.this is None:
            return Sequence(int(first), int(last), at)
        return Slice(self._expr(node.this), int(first), int(last), at)

    def _steps(self, nodes: list[Any]) -> tuple[Step, ...]:
        return tuple(map(self._step, nodes))

    def _step(self, node: Any) -> Step:
        at = self._at(node)
        if isinstance(node, syntax.PathKey):
            return Key(node.this, at)
        if isinstance(node, syntax.PathIndexBy):
            return IndexBy(self._expr(node.this), at)
        if len(node.this) > DIGITS_MAX:
            raise RuleError(f"a number has more than {DIGITS_MAX} digits", at)
        number, negative = int(node.this), bool(node.args["negative"])
        return Index(-number if negative else number, negative and number == 0, at)


_LOWER: dict[type[exp.Expr], Callable[[_Lowering, Any], Expr]] = {
    exp.Paren: _Lowering._paren,
    exp.Literal: _Lowering._literal,
    exp.National: _Lowering._national,
    exp.Boolean: _Lowering._boolean,
    exp.Neg: _Lowering._sign,
    syntax.Plus: _Lowering._sign,
    exp.And: _Lowering._logic,
    exp.Or: _Lowering._logic,
    exp.Between: _Lowering._between,
    exp.Not: _Lowering._not,
    exp.In: _Lowering._in,
    exp.Is: _Lowering._is,
    exp.Array: _Lowering._array,
    exp.Case: _Lowering._case,
    exp.Anonymous: _Lowering._call,
    syntax.Path: _Lowering._path,
    syntax.PathSlice: _Lowering._slice,
}


def _span(node: Any) -> tuple[int, int]:
    """Return start and end of `node`; a chain that sqlglot built spans from its first operand to its last."""
    meta = node.meta
    if "start" in meta:
        return meta["start"], meta["end"] + 1
    left = node
    while "start" not in left.meta:
        left = left.this
    right = node
    while "start" not in right.meta:
        right = right.expression
    return left.meta["start"], right.meta["end"] + 1

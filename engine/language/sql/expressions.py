"""Code generation for expressions: one method per kind of node, which writes lines and returns the value's atom.

Fast paths are written inline: a step into a map, two numbers, two texts. Everything else calls
`engine.language.sql.runtime`. A value that is read twice is computed once where the first reading dominates the second
(`Writer.block` forgets values that were computed under a condition).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from engine.errors import EvaluationError
from engine.language.functions import Function
from engine.language.sql.arithmetic import number_guard, operation
from engine.language.sql.columns import ColumnSource, decoded_payload
from engine.language.sql.emit import UNDEFINED_ATOM, Atom, Writer, literal_atom
from engine.language.sql.nodes import (
    Access,
    Arith,
    Between,
    Call,
    Case,
    Compare,
    Const,
    Decoded,
    Expr,
    In,
    IndexBy,
    IsNull,
    Key,
    ListOf,
    Logic,
    Not,
    Reference,
    Sequence,
    Sign,
    Slice,
)
from engine.language.sql.paths import Path
from engine.language.sql.runtime import sequence
from engine.language.sql.scope import Scope

__all__ = ["Expressions"]

_PYTHON_OPERATORS = {"=": "==", "!=": "!=", "<": "<", ">": ">", "<=": "<=", ">=": ">="}
_COMPARE_CALLS = {"=": "eq", "!=": "ne", "<": "lt", ">": "gt", "<=": "le", ">=": "ge"}
_RETURNED_KINDS = {
    "str": "str", "int": "int", "float": "float", "bool": "bool", "list[Any]": "list", "list[str]": "list",
    "dict[str, Any]": "map", "str | bytes": "defined", "int | float": "number",
}  # fmt: skip
_LOOPS_MAX = 12
"""The number of nested CASE that are written as loops."""

_NULL_TESTS = {"is_null": "({} is U)", "is_null_var": "({0} is U or {0} is None)"}
"""Functions that are one comparison, which is written in place of the call."""


_COLUMN_CALLS = {
    "msgid": "id", "topic": "topic", "clientid": "clientid", "username": "username", "clientip": "peerhost",
    "peerhost": "peerhost", "qos": "qos", "payload": "payload",
}  # fmt: skip
"""Functions that without arguments read a column, also where an alias hides it."""


class Expressions:
    """Writes the code of expressions to `writer`; calls are looked up in `functions`."""

    def __init__(self, writer: Writer, functions: Mapping[str, Function], columns: ColumnSource) -> None:
        self.writer = writer
        self._functions = functions
        self._columns = columns
        self._cases = 0

    # -- values

    def value(self, node: Expr, scope: Scope, null: bool = False) -> Atom:
        """Write `node` and return its value. With `null` a missing value may be None, as it leaves the rule."""
        self.writer.at = node.at
        if isinstance(node, Reference):
            return scope.resolve(node.name, Path(self.writer, node.steps, partial(self.index_value, scope), null))
        if isinstance(node, Access):
            base = self.value(node.base, scope)
            return Path(self.writer, node.steps, partial(self.index_value, scope), null).walk(base)
        write = _VALUES.get(type(node))
        if write is not None:
            return write(self, node, scope)
        text = self.truth(node, scope)
        return self.writer.assign(text, "bool")

    def _constant(self, node: Const, scope: Scope) -> Atom:
        return literal_atom(self.writer.names, node.value)

    def _slice(self, node: Slice, scope: Scope) -> Atom:
        base = self.value(node.base, scope)
        self.writer.at = node.at
        return self.writer.assign(f"part({base.text}, {self._number(node.first)}, {self._number(node.last)})", "list")

    def _sequence(self, node: Sequence, scope: Scope) -> Atom:
        try:
            return Atom(self.writer.names.bind(sequence(node.first, node.last)), "list")
        except EvaluationError:  # reported for each message, as the call below raises it again
            return self.writer.assign(f"sequence({self._number(node.first)}, {self._number(node.last)})", "list")

    def _number(self, number: int) -> str:
        return self.writer.names.literal(number)

    def _list(self, node: ListOf, scope: Scope) -> Atom:
        items = [self.value(item, scope).text for item in node.items]
        return self.writer.assign(f"[{', '.join(items)}]", "list")

    def _sign(self, node: Sign, scope: Scope) -> Atom:
        operand = self.value(node.operand, scope)
        self.writer.at = node.at
        if node.op == "+":
            return operand
        if operand.is_number:
            return self.writer.assign(f"-{operand.text}", operand.kind)
        return self.writer.assign(f"negate({operand.text})", "number")

    def _case(self, node: Case, scope: Scope) -> Atom:
        """Write CASE as a loop that the first matching branch leaves, so that branches do not nest in each other.

        Python nests at most 20 blocks, so a CASE deep in others tests before each branch whether one has matched.
        """
        operand = None if node.operand is None else self.value(node.operand, scope)
        result = self.writer.fresh()
        self._cases += 1
        write = self._case_as_loop if self._cases <= _LOOPS_MAX else self._case_by_test
        kinds = write(node, operand, result, scope)
        self._cases -= 1
        return Atom(result, _common(kinds))

    def _case_as_loop(self, node: Case, operand: Atom | None, result: str, scope: Scope) -> set[str]:
        kinds = set()
        with self.writer.block("while True:"):
            for when, then in node.branches:
                with self.writer.block(f"if {self._applies(operand, when, scope)}:"):
                    kinds.add(self._assign_case(result, then, scope))
                    self.writer.line("break")
            kinds.add(self._assign_case(result, node.otherwise, scope))
            self.writer.line("break")
        return kinds

    def _case_by_test(self, node: Case, operand: Atom | None, result: str, scope: Scope) -> set[str]:
        kinds = set()
        self.writer.line(f"{result} = PENDING")
        for when, then in node.branches:
            asked = self.writer.block(f"if {result} is PENDING:")
            with asked, self.writer.block(f"if {self._applies(operand, when, scope)}:"):
                kinds.add(self._assign_case(result, then, scope))
        with self.writer.block(f"if {result} is PENDING:"):
            kinds.add(self._assign_case(result, node.otherwise, scope))
        return kinds

    def _applies(self, operand: Atom | None, when: Expr, scope: Scope) -> str:
        return self._when(when, scope) if operand is None else self._same(operand, when, scope)

    def _assign_case(self, result: str, node: Expr | None, scope: Scope) -> str:
        value = UNDEFINED_ATOM if node is None else self.value(node, scope)
        self.writer.line(f"{result} = {value.text}")
        return value.kind

    def _when(self, node: Expr, scope: Scope) -> str:
        """Return the test that a condition of CASE is exactly true: another value than a boolean is not an error."""
        if isinstance(node, Const):
            return "True" if node.value is True else "False"
        if self._is_condition(node):
            return self.truth(node, scope)
        return _is(self.value(node, scope), "True")

    def _call(self, node: Call, scope: Scope) -> Atom:
        memo = ("call", id(node))
        known = self.writer.known(memo)
        if known is not None:
            return known
        if node.name == "json_decode" and _is_payload(node.args) and scope.is_publish_column("payload"):
            return decoded_payload(self.writer)
        if node.name in _COLUMN_CALLS and not node.args:
            return self._columns.read(self.writer, _COLUMN_CALLS[node.name])
        function = self._functions[node.name]
        args = [self.value(arg, scope) for arg in node.args]
        self.writer.at = node.at
        if node.name.replace("not_", "") in _NULL_TESTS:
            test = _null_test(node.name.replace("not_", ""), args[0])
            return self.writer.assign(f"not {test}" if "not_" in node.name else test, "bool", memo)
        if function.pure and all(isinstance(arg, Const) for arg in node.args):
            folded = self._fold(function, node)
            if folded is not None:
                return folded
        name = self.writer.names.bind(function.call, f"f_{function.name}" if function.name.isidentifier() else None)
        texts = (["m"] if function.needs_message else []) + [arg.text for arg in args]
        returned = function.call.__annotations__.get("return")
        return self.writer.assign(f"{name}({', '.join(texts)})", _RETURNED_KINDS.get(str(returned), "any"), memo)

    def _fold(self, function: Function, node: Call) -> Atom | None:
        """Return the result of a call with constant arguments; None where it fails, as it will then at run time."""
        try:
            result = function.call(*(arg.value for arg in node.args if isinstance(arg, Const)))
        except Exception:  # reported for each message; it must not keep the rule from being loaded
            return None
        return literal_atom(self.writer.names, result)

    # -- arithmetic

    def _arith(self, node: Arith, scope: Scope) -> Atom:
        left = self.value(node.first, scope)
        for op, operand in node.rest:
            right = self.value(operand, scope)
            self.writer.at = node.at
            left = operation(self.writer, op, left, right)
        return left

    # -- conditions

    def filter(self, node: Expr, scope: Scope, leave: str) -> None:
        """Write the statement `leave` under the test that the condition is false; AND tests its operands in turn."""
        if isinstance(node, Logic) and node.op == "and":
            for operand in node.operands:
                self.filter(operand, scope, leave)
            return
        text = self.truth(node, scope)
        self.writer.at = node.at
        self.writer.line(f"if not {_grouped(text)}: {leave}")

    def truth(self, node: Expr, scope: Scope) -> str:
        """Return a condition as a Python expression that is True or False."""
        self.writer.at = node.at
        write = _CONDITIONS.get(type(node))
        if write is not None:
            return write(self, node, scope)
        if isinstance(node, Const) and isinstance(node.value, bool):
            return repr(node.value)
        atom = self.value(node, scope)
        self.writer.at = node.at
        if atom.kind == "bool":
            return atom.text
        if isinstance(node, (Reference, Access)):
            called = f"reference_condition({atom.text})"
            return f"({atom.text} is True or {called})" if atom.kind in ("any", "defined") else called
        return f"condition({atom.text})"

    def _is_condition(self, node: Expr) -> bool:
        if isinstance(node, Call):
            return self._functions[node.name].returns_bool
        return type(node) in _CONDITIONS

    def _compare(self, node: Compare, scope: Scope) -> str:
        left, right = self.value(node.left, scope), self.value(node.right, scope)
        self.writer.at = node.at
        return self._compared(node.op, left, right)

    def _compared(self, op: str, left: Atom, right: Atom) -> str:
        if op == "=~":
            return f"topic_match({left.text}, {right.text})"
        fast = f"{left.text} {_PYTHON_OPERATORS[op]} {right.text}"
        slow = f"{_COMPARE_CALLS[op]}({left.text}, {right.text})"
        guard = number_guard(left, right)
        if guard is None or (guard and "str" in (left.kind, right.kind)):
            guard = _text_guard(left, right)
        elif not (left.is_number or right.is_number) and op in ("=", "!="):
            guard = None  # two unknown values are as likely two texts
        if guard is None:
            return slow
        return f"({fast} if {guard} else {slow})" if guard else fast

    def _logic(self, node: Logic, scope: Scope) -> str:
        return self._short_circuit(node.op, [partial(self.truth, operand, scope) for operand in node.operands])

    def _between(self, node: Between, scope: Scope) -> str:
        operand = self.value(node.operand, scope)
        return self._short_circuit(
            "and",
            [
                lambda: self._compared(">=", operand, self.value(node.low, scope)),
                lambda: self._compared("<=", operand, self.value(node.high, scope)),
            ],
        )

    def _short_circuit(self, op: str, operands: list[Callable[[], str]]) -> str:
        """Write the operands of AND or OR; lines that a later operand needs go under a test of the earlier ones."""
        texts = [operands[0]()]
        variable: str | None = None
        for write in operands[1:]:
            text, lines = self.writer.apart(write)
            if not lines:
                texts.append(text)
                continue
            variable = variable or self.writer.fresh("c")
            if texts != [variable]:
                self.writer.line(f"{variable} = {_joined(op, texts)}")
            with self.writer.block(f"if {variable}:" if op == "and" else f"if not {variable}:"):
                self.writer.replay(lines, extra_indent=1)
                self.writer.line(f"{variable} = {text}")
            texts = [variable]
        return _joined(op, texts)

    def _not(self, node: Not, scope: Scope) -> str:
        """Return the negation of a condition; of another value that is not a boolean, false."""
        if self._is_condition(node.operand):
            return f"(not {_grouped(self.truth(node.operand, scope))})"
        atom = self.value(node.operand, scope)
        return f"({_is(atom, 'False')})"

    def _in(self, node: In, scope: Scope) -> str:
        item = self.value(node.item, scope)
        texts = [choice.value for choice in node.choices if isinstance(choice, Const) and type(choice.value) is str]
        if len(texts) == len(node.choices):
            found = f"{item.text} in {self.writer.names.bind(tuple(texts))}"
        else:
            found = " or ".join(self._same(item, choice, scope) for choice in node.choices)
        return f"(not ({found}))" if node.negated else f"({found})"

    def _is_null(self, node: IsNull, scope: Scope) -> str:
        test = _null_test("is_null_var", self.value(node.operand, scope))
        return f"(not {test})" if node.negated else test

    def _same(self, item: Atom, choice: Expr, scope: Scope) -> str:
        """Return the test that two values are equal and of one kind."""
        other = self.value(choice, scope)
        if isinstance(choice, Const):
            if type(choice.value) is str:
                return f"{item.text} == {other.text}"
            if type(choice.value) is bool:
                return _is(item, other.text)
            return f"(type({item.text}) is {type(choice.value).__name__} and {item.text} == {other.text})"
        return f"same({item.text}, {other.text})"

    # -- paths

    def index_value(self, scope: Scope, step: IndexBy, payload: Atom | None = None) -> Atom:
        """Write and return the value of an index, whose names mean fields of `payload` first where that is given."""
        expr = step.expr
        if payload is None or not isinstance(expr, Reference):
            return self.value(expr, scope)
        steps = (Key(expr.name, expr.at), *expr.steps)
        inner = Path(self.writer, steps, partial(self.index_value, scope)).walk(payload, is_payload=True)
        if not scope.knows(expr.name):
            return inner
        result = self.writer.assign(inner.text)
        with self.writer.block(f"if {result.text} is U:"):
            self.writer.line(f"{result.text} = {self.value(expr, scope).text}")
        return result


_VALUES: dict[type[Any], Callable[[Expressions, Any, Scope], Atom]] = {
    Const: Expressions._constant,
    Decoded: lambda code, node, scope: decoded_payload(code.writer),
    Slice: Expressions._slice,
    Sequence: Expressions._sequence,
    ListOf: Expressions._list,
    Sign: Expressions._sign,
    Case: Expressions._case,
    Call: Expressions._call,
    Arith: Expressions._arith,
}

_CONDITIONS: dict[type[Any], Callable[[Expressions, Any, Scope], str]] = {
    Compare: Expressions._compare,
    Logic: Expressions._logic,
    Not: Expressions._not,
    In: Expressions._in,
    Between: Expressions._between,
    IsNull: Expressions._is_null,
}


def _is(atom: Atom, boolean: str) -> str:
    """Return the test that a value is exactly true or false."""
    return f"{atom.text} is {boolean}" if atom.kind in ("any", "defined", "bool") else "False"


def _null_test(name: str, atom: Atom) -> str:
    if atom.kind == "undefined":
        return "True"
    return _NULL_TESTS[name].format(atom.text) if atom.kind in ("any", "defined") else "False"


def _is_payload(args: tuple[Expr, ...]) -> bool:
    return len(args) == 1 and isinstance(args[0], Reference) and args[0].name == "payload" and not args[0].steps


def _common(kinds: set[str]) -> str:
    if len(kinds) == 1:
        return kinds.pop()
    if kinds <= {"int", "float", "number"}:
        return "number"
    return "any" if kinds & {"any", "undefined"} else "defined"


def _text_guard(left: Atom, right: Atom) -> str | None:
    """Return the test that both are text, where one is known to be."""
    if left.kind == right.kind == "str":
        return ""
    if "str" not in (left.kind, right.kind):
        return None
    unknown = right if left.kind == "str" else left
    return f"type({unknown.text}) is str" if unknown.kind in ("any", "defined") else None


def _joined(op: str, texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"({f' {op} '.join(texts)})"


def _grouped(text: str) -> str:
    return text if text.isidentifier() or text[:1] == "(" else f"({text})"

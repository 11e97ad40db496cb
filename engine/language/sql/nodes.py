"""The syntax tree of a statement, independent of the parser that made it.

Every node has its position in the text (``at``). A chain of one precedence (``a + b - c``, ``a AND b AND c``) is one
node with many operands, so that the depth of a tree is the depth of its parentheses, which the parser bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.errors import Position


@dataclass(frozen=True, slots=True)
class Source:
    """One item of FROM: a topic filter, an event topic or a source."""

    topic: str
    position: Position


@dataclass(frozen=True, slots=True)
class SinkTarget:
    """One item of INSERT INTO; ``columns`` are the names of the fields in that sink, None where they keep their own."""

    name: str
    columns: tuple[str, ...] | None
    position: Position


@dataclass(frozen=True, slots=True)
class Const:
    """A literal. ``doubled`` marks text with a doubled quote, which the language keeps doubled."""

    value: str | int | float | bool
    at: Position
    doubled: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """A step into a map."""

    name: str
    at: Position


@dataclass(frozen=True, slots=True)
class Index:
    """A step into a list. Read, 0 is undefined; written, 0 inserts at the head and -0 (``tail``) at the end."""

    number: int
    tail: bool
    at: Position


@dataclass(frozen=True, slots=True)
class IndexBy:
    """A step into a list by the value of an expression."""

    expr: Expr
    at: Position


Step = Key | Index | IndexBy


@dataclass(frozen=True, slots=True)
class Reference:
    """A column or an alias, and a path into it."""

    name: str
    steps: tuple[Step, ...]
    at: Position
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """A path into the value of an expression."""

    base: Expr
    steps: tuple[Step, ...]
    at: Position


@dataclass(frozen=True, slots=True)
class Decoded:
    """The decoded payload, as the list of FOREACH."""

    at: Position


@dataclass(frozen=True, slots=True)
class Slice:
    """The elements of a list from ``first`` to ``last``, both included."""

    base: Expr
    first: int
    last: int
    at: Position


@dataclass(frozen=True, slots=True)
class Sequence:
    """The list of integers from ``first`` to ``last``."""

    first: int
    last: int
    at: Position


@dataclass(frozen=True, slots=True)
class Arith:
    """A chain of operators of one precedence, from left to right; each operator with its right operand."""

    first: Expr
    rest: tuple[tuple[str, Expr], ...]
    at: Position


@dataclass(frozen=True, slots=True)
class Sign:
    """Unary plus or minus."""

    op: Literal["+", "-"]
    operand: Expr
    at: Position


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison by ``= != < > <= >= =~``."""

    op: str
    left: Expr
    right: Expr
    at: Position


@dataclass(frozen=True, slots=True)
class Logic:
    """``AND`` or ``OR`` of two or more conditions."""

    op: Literal["and", "or"]
    operands: tuple[Expr, ...]
    at: Position


@dataclass(frozen=True, slots=True)
class Not:
    """The negation of a condition."""

    operand: Expr
    at: Position


@dataclass(frozen=True, slots=True)
class In:
    """The test that an item equals one of the choices in value and kind."""

    item: Expr
    choices: tuple[Expr, ...]
    negated: bool
    at: Position


@dataclass(frozen=True, slots=True)
class Between:
    """The test that a value is neither less than ``low`` nor greater than ``high``."""

    operand: Expr
    low: Expr
    high: Expr
    at: Position


@dataclass(frozen=True, slots=True)
class IsNull:
    """The test that a value is missing or JSON null."""

    operand: Expr
    negated: bool
    at: Position


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list literal."""

    items: tuple[Expr, ...]
    at: Position


@dataclass(frozen=True, slots=True)
class Case:
    """Either form of CASE; ``operand`` is None in the form with conditions."""

    operand: Expr | None
    branches: tuple[tuple[Expr, Expr], ...]
    otherwise: Expr | None
    at: Position


@dataclass(frozen=True, slots=True)
class Call:
    """A function call. ``name_at`` is the position of the name alone."""

    name: str
    args: tuple[Expr, ...]
    at: Position
    name_at: Position


Expr = (
    Const
    | Reference
    | Access
    | Decoded
    | Slice
    | Sequence
    | Arith
    | Sign
    | Compare
    | Logic
    | Not
    | In
    | Between
    | IsNull
    | ListOf
    | Case
    | Call
)


@dataclass(frozen=True, slots=True)
class Target:
    """The name in the output, and the path into it, that a value gets. ``written`` is false for a default name."""

    name: str
    steps: tuple[Step, ...]
    at: Position
    written: bool = True


@dataclass(frozen=True, slots=True)
class Field:
    """One item of SELECT, FOREACH or DO; ``expr`` is None for ``*``."""

    expr: Expr | None
    alias: Target | None
    text: str
    at: Position


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement. ``many`` is true for FOREACH, false for SELECT; ``do`` is None without DO."""

    sinks: tuple[SinkTarget, ...]
    many: bool
    fields: tuple[Field, ...]
    do: tuple[Field, ...] | None
    incase: Expr | None
    sources: tuple[Source, ...]
    where: Expr | None

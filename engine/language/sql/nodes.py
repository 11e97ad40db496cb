"""The statement as data: what check and codegen read, free of the parser that made it.

Every node knows its place in the text. Chains of one precedence (``a + b - c``, ``a AND b AND c``) are one node with
many operands, so that the depth of a tree is the depth of its parentheses, which the parser bounds.
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
    """One item of INSERT INTO; ``columns`` are the names its fields get there, None where they keep their own."""

    name: str
    columns: tuple[str, ...] | None
    position: Position


@dataclass(frozen=True, slots=True)
class Const:
    """A literal. ``doubled`` marks text that holds a doubled quote, which the language keeps doubled."""

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
    """A step into a list. 0 is nothing to a reader; to a writer it is the head, and -0 (``tail``) the end."""

    number: int
    tail: bool
    at: Position


@dataclass(frozen=True, slots=True)
class IndexBy:
    """A step into a list by a value found at run time."""

    expr: Expr
    at: Position


Step = Key | Index | IndexBy


@dataclass(frozen=True, slots=True)
class Reference:
    """A column or an alias, and the way into it."""

    name: str
    steps: tuple[Step, ...]
    at: Position
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """A way into the value of an expression."""

    base: Expr
    steps: tuple[Step, ...]
    at: Position


@dataclass(frozen=True, slots=True)
class Decoded:
    """The column ``payload`` where FOREACH goes through it: decoded."""

    at: Position


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of a list from ``first`` to ``last``, both included."""

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
    """Operands of one precedence from left to right; each operator with the operand at its right."""

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
    """Two sides and ``= != < > <= >= =~``."""

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
    """The opposite of a condition."""

    operand: Expr
    at: Position


@dataclass(frozen=True, slots=True)
class In:
    """Whether an item is one of the choices, kind for kind."""

    item: Expr
    choices: tuple[Expr, ...]
    negated: bool
    at: Position


@dataclass(frozen=True, slots=True)
class Between:
    """Whether a value is neither less than ``low`` nor greater than ``high``."""

    operand: Expr
    low: Expr
    high: Expr
    at: Position


@dataclass(frozen=True, slots=True)
class IsNull:
    """Whether a value is missing or JSON null."""

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
    """Both forms of CASE; ``operand`` is None in the one with conditions."""

    operand: Expr | None
    branches: tuple[tuple[Expr, Expr], ...]
    otherwise: Expr | None
    at: Position


@dataclass(frozen=True, slots=True)
class Call:
    """A call. ``name_at`` is the place of the name alone."""

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
    """Where a value goes in the output: a name, and the way into it. ``written`` tells whether AS was."""

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
    """A whole rule. ``do`` is None where a FOREACH has none; ``many`` tells a FOREACH from a SELECT."""

    sinks: tuple[SinkTarget, ...]
    many: bool
    fields: tuple[Field, ...]
    do: tuple[Field, ...] | None
    incase: Expr | None
    sources: tuple[Source, ...]
    where: Expr | None

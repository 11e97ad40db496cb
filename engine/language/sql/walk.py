"""Iteration over the nodes of a statement."""

from __future__ import annotations

from collections.abc import Iterator

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
    Field,
    In,
    IndexBy,
    IsNull,
    ListOf,
    Logic,
    Not,
    Reference,
    Sequence,
    Sign,
    Slice,
    Statement,
    Step,
)

__all__ = ["calls", "children", "descendants", "expressions", "references"]


def children(node: Expr) -> Iterator[Expr]:
    """Yield the direct subexpressions of `node`, from left to right."""
    match node:
        case Const() | Sequence() | Decoded():
            return
        case Reference(steps=steps):
            yield from _in_steps(steps)
        case Access(base=base, steps=steps):
            yield base
            yield from _in_steps(steps)
        case Slice(base=inner):
            yield inner
        case Arith(first=first, rest=rest):
            yield first
            yield from (operand for _, operand in rest)
        case Compare(left=left, right=right):
            yield left
            yield right
        case Logic(operands=operands):
            yield from operands
        case Sign(operand=inner) | Not(operand=inner) | IsNull(operand=inner):
            yield inner
        case Between(operand=inner, low=low, high=high):
            yield from (inner, low, high)
        case In(item=item, choices=choices):
            yield item
            yield from choices
        case ListOf(items=items):
            yield from items
        case Call(args=args):
            yield from args
        case Case(operand=subject, branches=branches, otherwise=otherwise):
            yield from (part for part in (subject,) if part is not None)
            for when, then in branches:
                yield when
                yield then
            if otherwise is not None:
                yield otherwise


def descendants(node: Expr) -> Iterator[Expr]:
    """Yield `node` and every expression below it."""
    yield node
    for child in children(node):
        yield from descendants(child)


def references(node: Expr) -> Iterator[Reference]:
    """Yield every reference to a name in `node`."""
    return (part for part in descendants(node) if isinstance(part, Reference))


def calls(node: Expr) -> Iterator[Call]:
    """Yield every call in `node`."""
    return (part for part in descendants(node) if isinstance(part, Call))


def expressions(statement: Statement) -> Iterator[Expr]:
    """Yield the expressions of a statement, in the order of the text."""
    for item in (*statement.fields, *(statement.do or ())):
        yield from _in_field(item)
    for condition in (statement.incase, statement.where):
        if condition is not None:
            yield condition


def _in_field(item: Field) -> Iterator[Expr]:
    if item.expr is not None:
        yield item.expr
    if item.alias is not None:
        yield from _in_steps(item.alias.steps)


def _in_steps(steps: tuple[Step, ...]) -> Iterator[Expr]:
    return (step.expr for step in steps if isinstance(step, IndexBy))

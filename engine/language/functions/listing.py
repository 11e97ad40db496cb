"""Lists: elements, parts, membership. Positions count from 1."""

from __future__ import annotations

from typing import Any

from engine.errors import EvaluationError
from engine.language.functions.argument import MISSING, count, integer, items, refuse
from engine.language.functions.registry import function
from engine.model.value import same


@function(("nth(2, [1, 2, 3])", 2))
def nth(position: int, source: list[Any]) -> Any:
    """Return the element at `position`; the first is 1.

    Fails for a position that the list does not have, where `list[n]` gives undefined.
    """
    elements = items("nth", 2, source)
    if not 1 <= integer("nth", 1, position) <= len(elements):
        refuse("nth", 1, f"a position from 1 to {len(elements)}, the length of the list", position)
    return elements[position - 1]


@function(("first([1, 2])", 1))
def first(source: list[Any]) -> Any:
    """Return the first element of a list. Fails for an empty list."""
    if not items("first", 1, source):
        raise EvaluationError("first: expected a list with elements, found an empty list")
    return source[0]


@function(("last([1, 2])", 2))
def last(source: list[Any]) -> Any:
    """Return the last element of a list. Fails for an empty list."""
    if not items("last", 1, source):
        raise EvaluationError("last: expected a list with elements, found an empty list")
    return source[-1]


@function(("length([1, 2])", 2))
def length(source: list[Any]) -> int:
    """Return the number of elements of a list."""
    return len(items("length", 1, source))


@function(("sublist(2, [1, 2, 3])", [1, 2]), ("sublist(2, 2, [1, 2, 3, 4])", [2, 3]))
def sublist(start: int, length: Any, source: Any = MISSING) -> list[Any]:
    """Return at most `length` elements of a list from position `start`; the first is 1.

    With two arguments, they are `length` and the list, and `start` is 1. Fails for a `start` below 1.
    """
    if source is MISSING:
        return items("sublist", 2, length)[: count("sublist", 1, start)]
    elements = items("sublist", 3, source)
    if integer("sublist", 1, start) < 1:
        refuse("sublist", 1, "a position of 1 or more", start)
    return elements[start - 1 : start - 1 + count("sublist", 2, length)]


@function(("contains(1, [1, 2])", True), ("contains('1', [1, 2])", False), ("contains(1.0, [1, 2])", False))
def contains(value: Any, source: list[Any]) -> bool:
    """Return whether the list has an element that equals the value and is of the same kind."""
    elements = items("contains", 2, source)
    if type(value) is str:  # equal to texts only, so that Python's own test, which is faster, gives the same
        return value in elements
    return any(same(value, element) for element in elements)

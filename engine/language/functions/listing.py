"""Lists: elements, parts, membership. The first element is number 1."""

from __future__ import annotations

from typing import Any

from engine.errors import EvaluationError
from engine.language.functions.argument import MISSING, count, integer, items, refuse
from engine.language.functions.registry import function
from engine.model.value import same


@function(("nth(2, [1, 2, 3])", 2))
def nth(position: int, source: list[Any]) -> Any:
    """The element at a position that the list must have; `list[n]` gives undefined instead of failing."""
    elements = items("nth", 2, source)
    if not 1 <= integer("nth", 1, position) <= len(elements):
        refuse("nth", 1, f"a position in a list of {len(elements)}", position)
    return elements[position - 1]


@function(("first([1, 2])", 1))
def first(source: list[Any]) -> Any:
    """The first element of a list that must not be empty."""
    if not items("first", 1, source):
        raise EvaluationError("first: the list is empty")
    return source[0]


@function(("last([1, 2])", 2))
def last(source: list[Any]) -> Any:
    """The last element of a list that must not be empty."""
    if not items("last", 1, source):
        raise EvaluationError("last: the list is empty")
    return source[-1]


@function(("length([1, 2])", 2))
def length(source: list[Any]) -> int:
    """How many elements a list has."""
    return len(items("length", 1, source))


@function(("sublist(2, [1, 2, 3])", [1, 2]), ("sublist(2, 2, [1, 2, 3, 4])", [2, 3]))
def sublist(start: int, length: Any, source: Any = MISSING) -> list[Any]:
    """At most `length` elements from position `start`; with two arguments, `length` and the list, from the first."""
    if source is MISSING:
        return items("sublist", 2, length)[: count("sublist", 1, start)]
    elements = items("sublist", 3, source)
    if integer("sublist", 1, start) < 1:
        raise EvaluationError("sublist: the first element is number 1")
    return elements[start - 1 : start - 1 + count("sublist", 2, length)]


@function(("contains(1, [1, 2])", True), ("contains('1', [1, 2])", False), ("contains(1.0, [1, 2])", False))
def contains(value: Any, source: list[Any]) -> bool:
    """Whether the value is an element of the list: equal and of the same kind."""
    elements = items("contains", 2, source)
    if type(value) is str:
        return value in elements
    return any(same(value, element) for element in elements)

"""Expected values of the conformance cases: placeholders for several values, and comparison of numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

_KINDS: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: type(value) is int,
    "float": lambda value: type(value) is float,
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
    "array": lambda value: type(value) is list,
    "object": lambda value: type(value) is dict,
}


def predicate_fails(predicate: dict[str, Any], value: Any) -> str | None:
    """Return the reason why `value` does not fulfil `predicate`, or None."""
    kind = predicate.get("type", predicate.get("predicate"))
    argument: Any = predicate.get("arg")
    if kind == "regex":
        holds = isinstance(value, str) and re.search(str(argument), value) is not None
    elif kind == "type":
        holds = _KINDS[str(argument)](value)
    elif kind == "range":
        holds = type(value) in (int, float) and argument[0] <= value < argument[1]
    else:
        raise ValueError(f"unknown predicate {predicate}")
    return None if holds else f"{value!r} is not {kind} {argument!r}"


def difference(expected: Any, actual: Any, *, exact: bool, loose: bool, path: str = "$") -> str | None:
    """Return the first difference between `actual` and `expected`, or None."""
    if isinstance(expected, dict):
        if len(expected) <= 2 and any(key.startswith("$") for key in expected):
            return _special(expected, actual, exact=exact, loose=loose, path=path)
        return _maps(expected, actual, exact=exact, loose=loose, path=path)
    if isinstance(expected, list):
        if not isinstance(actual, list) or len(actual) != len(expected):
            return f"{path}: {actual!r} instead of {expected!r}"
        for index, (left, right) in enumerate(zip(expected, actual, strict=True)):
            found = difference(left, right, exact=exact, loose=loose, path=f"{path}[{index}]")
            if found is not None:
                return found
        return None
    return None if _is_same(expected, actual, loose) else f"{path}: {actual!r} instead of {expected!r}"


def _maps(expected: dict[str, Any], actual: Any, *, exact: bool, loose: bool, path: str) -> str | None:
    if not isinstance(actual, dict):
        return f"{path}: {actual!r} instead of {expected!r}"
    if exact and actual.keys() != expected.keys():
        return f"{path}: keys {sorted(actual)} instead of {sorted(expected)}"
    for key, value in expected.items():
        if key not in actual and value is not None:
            return f"{path}.{key} is missing"
        found = difference(value, actual.get(key), exact=exact, loose=loose, path=f"{path}.{key}")
        if found is not None:
            return found
    return None


def _special(expected: dict[str, Any], actual: Any, *, exact: bool, loose: bool, path: str) -> str | None:
    def fits(wanted: Any, value: Any) -> bool:
        return difference(wanted, value, exact=exact, loose=loose) is None

    if "$anything" in expected:
        holds = True
    elif "$any" in expected:
        holds = actual is not None
    elif "$any_of" in expected:
        holds = any(fits(choice, actual) for choice in expected["$any_of"])
    elif "$approx" in expected:
        holds = type(actual) in (int, float) and abs(actual - expected["$approx"]) <= expected["tol"]
    elif "$has_value" in expected:
        holds = isinstance(actual, dict) and any(fits(expected["$has_value"], value) for value in actual.values())
    elif "$unordered" in expected:
        holds = isinstance(actual, list) and _fits_in_any_order(list(expected["$unordered"]), actual, fits)
    else:
        return _maps(expected, actual, exact=exact, loose=loose, path=path)
    return None if holds else f"{path}: {actual!r} instead of {expected!r}"


def _fits_in_any_order(wanted: list[Any], actual: list[Any], fits: Callable[[Any, Any], bool]) -> bool:
    for value in actual:
        index = next((index for index, choice in enumerate(wanted) if fits(choice, value)), None)
        if index is None:
            return False
        del wanted[index]
    return not wanted


def _is_same(expected: Any, actual: Any, loose: bool) -> bool:
    numbers = type(expected) in (int, float) and type(actual) in (int, float)
    if not numbers:
        return type(expected) is type(actual) and bool(expected == actual)
    if type(expected) is not type(actual) and not loose:
        return False
    return bool(math.isclose(expected, actual, rel_tol=1e-9, abs_tol=0.0) or expected == actual)

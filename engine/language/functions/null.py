"""Missing values: tests and replacements."""

from __future__ import annotations

from typing import Any

from engine.language.functions.argument import items
from engine.language.functions.registry import function
from engine.model.jsontext import UNDEFINED


@function(("null()", None), ("is_null(null())", True))
def null() -> Any:
    """Return undefined, the value of a missing field."""
    return UNDEFINED


@function(("coalesce(nope, 'b')", "b"), ("coalesce([nope, 3])", 3), ("coalesce(nope, null(), 1)", 1))
def coalesce(value: Any, *more: Any) -> Any:
    """Return the first value that is not undefined, of the arguments or of the elements of a single list.

    JSON null is not undefined. Where all are undefined, the result is.
    """
    for candidate in (value, *more) if more else items("coalesce", 1, value):
        if candidate is not UNDEFINED:
            return candidate
    return UNDEFINED


@function(("coalesce_ne('', 'b')", "b"), ("coalesce_ne(['', nope, 'c'])", "c"))
def coalesce_ne(value: Any, *more: Any) -> Any:
    """Return the first value that is not undefined, empty text or an empty list.

    The values are the arguments, or the elements of a single list. JSON null is not undefined.
    """
    for candidate in (value, *more) if more else items("coalesce_ne", 1, value):
        if candidate is not UNDEFINED and candidate not in ("", []):
            return candidate
    return UNDEFINED


@function(("is_null(nope)", True), ("is_null('')", False))
def is_null(value: Any) -> bool:
    """Return whether the value is undefined. JSON null is not; see `is_null_var`."""
    return value is UNDEFINED


@function(("is_not_null(0)", True), ("is_not_null(nope)", False))
def is_not_null(value: Any) -> bool:
    """Return whether the value is not undefined. JSON null is not undefined."""
    return value is not UNDEFINED


@function(("is_null_var(json_decode('null'))", True), ("is_null_var(nope)", True), ("is_null_var(0)", False))
def is_null_var(value: Any) -> bool:
    """Return whether the value is undefined or JSON null."""
    return value is UNDEFINED or value is None


@function(("is_not_null_var(json_decode('null'))", False), ("is_not_null_var('')", True))
def is_not_null_var(value: Any) -> bool:
    """Return whether the value is neither undefined nor JSON null."""
    return value is not UNDEFINED and value is not None

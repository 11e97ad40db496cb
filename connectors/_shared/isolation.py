"""Work done record by record, in which a record that can't be processed fails alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from engine.connector import Failures
from engine.errors import DeliveryError, RejectError
from engine.model import jsontext

Item = TypeVar("Item")
Result = TypeVar("Result")

VALUE_CHARACTERS_MAX = 60
"""Characters of a value that a reason quotes."""

VALUE_ERRORS = (ValueError, TypeError, OverflowError, RecursionError)
"""Exceptions that a value of a row may cause in an encoder, a template or a driver."""


@dataclass(frozen=True, slots=True)
class Isolated(Generic[Result]):
    """Results of the records that could be processed, in order, and the failures of the others."""

    indices: list[int]
    results: list[Result]
    failures: Failures


def isolate(function: Callable[[Item], Result], items: Iterable[tuple[int, Item]]) -> Isolated[Result]:
    """Apply `function` to the item of each record, given with the record's index."""
    indices: list[int] = []
    results: list[Result] = []
    errors: dict[int, DeliveryError] = {}
    for index, item in items:
        try:
            result = function(item)
        except (RejectError, *VALUE_ERRORS) as error:
            errors[index] = rejection(error)
        else:
            indices.append(index)
            results.append(result)
    return Isolated(indices, results, Failures(errors))


def rejection(error: Exception, prefix: str = "") -> RejectError:
    """Return the rejection of the one record that caused `error`, with a reason in words; a rejection as it is."""
    if isinstance(error, RejectError):
        return error.with_traceback(None)  # whose frames would keep the batch in memory
    return RejectError(prefix + reason_of(error))


def reason_of(error: Exception) -> str:
    """Return the reason in words of an exception that a value caused."""
    if isinstance(error, UnicodeEncodeError):
        return "the text holds a lone surrogate (half of a UTF-16 pair), which UTF-8 can't encode"
    if isinstance(error, RecursionError):
        return "the value is nested too deeply"
    text = str(error)
    if text.startswith("Exceeds the limit"):  # Python's own limit, set against quadratic conversion time
        return f"an integer has more than {sys.get_int_max_str_digits()} digits"
    return text or type(error).__name__


def shown(value: Any) -> str:
    """Return a value for a reason: as JSON where it has that form, cut where it is long."""
    try:
        text = repr(value) if isinstance(value, bytes) else jsontext.encode(value).decode()
    except VALUE_ERRORS:
        return f"this {type(value).__name__}"
    return text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[: VALUE_CHARACTERS_MAX - 3]}..."

"""Tests of a value's kind. They take any value and never fail."""

from __future__ import annotations

from typing import Any

from engine.language.functions.argument import opened
from engine.language.functions.registry import function
from engine.model.jsontext import UNDEFINED


@function(("is_str('a')", True), ("is_str(1)", False))
def is_str(value: Any) -> bool:
    """Return whether the value is text or binary data."""
    return type(value) is str or type(value) is bytes


@function(("is_bool(true)", True), ("is_bool('true')", False))
def is_bool(value: Any) -> bool:
    """Return whether the value is a boolean."""
    return value is True or value is False


@function(("is_int(1)", True), ("is_int(1.0)", False))
def is_int(value: Any) -> bool:
    """Return whether the value is an integer."""
    return type(value) is int


@function(("is_float(1.0)", True), ("is_float(1)", False))
def is_float(value: Any) -> bool:
    """Return whether the value is a float; 1.0 is one, 1 is not."""
    return type(value) is float


@function(("is_num(1.5)", True), ("is_num('1')", False))
def is_num(value: Any) -> bool:
    """Return whether the value is an integer or a float."""
    return type(value) is int or type(value) is float


@function(("is_map(json_decode('{}'))", True), ("is_map('{}')", False))
def is_map(value: Any) -> bool:
    """Return whether the value is a map; JSON text of a map is not."""
    return type(value) is dict


@function(("is_array([1])", True), ("is_array('a')", False))
def is_array(value: Any) -> bool:
    """Return whether the value is a list."""
    return type(value) is list


@function(("is_empty('')", True), ("is_empty([])", True), ("is_empty('{}')", True), ("is_empty(0)", False))
def is_empty(value: Any) -> bool:
    """Return whether the value is undefined, null, empty text, an empty list or map, or JSON text of an empty map."""
    if type(value) is str and value[:1] == "{":
        return bool(opened(value) == {})
    return value is UNDEFINED or value is None or value in ("", [], {})

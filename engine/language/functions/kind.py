"""Type tests: what kind of value a value is. They take anything and never fail."""

from __future__ import annotations

from typing import Any

from engine.language.functions.argument import opened
from engine.language.functions.registry import function
from engine.model.jsontext import UNDEFINED


@function(("is_str('a')", True), ("is_str(1)", False))
def is_str(value: Any) -> bool:
    """Whether the value is text (or binary data)."""
    return type(value) is str or type(value) is bytes


@function(("is_bool(true)", True), ("is_bool('true')", False))
def is_bool(value: Any) -> bool:
    """Whether the value is true or false."""
    return value is True or value is False


@function(("is_int(1)", True), ("is_int(1.0)", False))
def is_int(value: Any) -> bool:
    """Whether the value is an integer."""
    return type(value) is int


@function(("is_float(1.0)", True), ("is_float(1)", False))
def is_float(value: Any) -> bool:
    """Whether the value is a number with a fraction part, be it zero."""
    return type(value) is float


@function(("is_num(1.5)", True), ("is_num('1')", False))
def is_num(value: Any) -> bool:
    """Whether the value is an integer or a float."""
    return type(value) is int or type(value) is float


@function(("is_map(json_decode('{}'))", True), ("is_map('{}')", False))
def is_map(value: Any) -> bool:
    """Whether the value is a map. The JSON text of one is not."""
    return type(value) is dict


@function(("is_array([1])", True), ("is_array('a')", False))
def is_array(value: Any) -> bool:
    """Whether the value is a list."""
    return type(value) is list


@function(("is_empty('')", True), ("is_empty([])", True), ("is_empty('{}')", True), ("is_empty(0)", False))
def is_empty(value: Any) -> bool:
    """Whether the value is nothing at all: missing, null, empty text, an empty list or map, or `{}` as JSON text."""
    if type(value) is str and value[:1] == "{":
        return bool(opened(value) == {})
    return value is UNDEFINED or value is None or value in ("", [], {})

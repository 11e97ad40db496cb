"""Placeholders: ``${a.b}``, ``${.}``, ``${payload.list[0]}``, ``${payload."a.b"}``, ``${x:-default}``, ``${x!}``.

A path has keys of maps and indices of lists (the first element is 0, the last -1, as in Jinja2). A text on the path is
decoded as JSON. ``${$}`` is a dollar sign.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import ConfigError, RejectError
from engine.model.jsontext import UNDEFINED, decode

Missing = Literal["error", "null", "empty", "undefined"]
"""Policy for missing values: reject the record, or write the text ``null``, the empty text or ``undefined``."""

Quoting = Literal["", "inside", "whole"]
"""Place of a placeholder in a JSON text: outside of strings, within a string, or alone between its quotes."""

_FIRST = re.compile(r"""\s*\.?(?:([\w$@~-]+)|"([^"]*)"|'([^']*)')""")
_STEP = re.compile(r"""\.(?:([\w$@~-]+)|"([^"]*)"|'([^']*)')|\[\s*(-?\d{1,9})\s*\]""")
_END = re.compile(r"\s*(?:(!)|:-(.*))?\s*", re.DOTALL)
_PLACEHOLDER = re.compile(r"""\$\{((?:"[^"]*"|'[^']*'|[^}"'])*)\}""")


class TemplateError(RejectError):
    """A record has no value for a template, or one that is not allowed in it."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One placeholder: its path (empty for the whole row), its default, whether it rejects records without a value."""

    source: str
    path: tuple[str | int, ...]
    default: str | None = None
    is_required: bool = False


Part = str | Placeholder


def parse(text: str) -> list[Part]:
    """Return the constant texts and placeholders of a template in order. Raise `ConfigError` for a broken one."""
    parts: list[Part] = [""]
    position = 0
    while (start := text.find("${", position)) >= 0:
        _add(parts, text[position:start])
        match = _PLACEHOLDER.match(text, start)
        if match is None:
            raise ConfigError(
                f"expected a placeholder that ends with }}, found {text[start : start + 20]!r}",
                remedy="close it with }, or write ${$}{",
            )
        _add(parts, "$" if match[1] == "$" else _placeholder(match[0], match[1]))
        position = match.end()
    _add(parts, text[position:])
    return [part for part in parts if part != ""] or [""]


def _add(parts: list[Part], part: Part) -> None:
    last = parts[-1]
    if isinstance(part, str) and isinstance(last, str):
        parts[-1] = last + part
    else:
        parts.append(part)


def _placeholder(source: str, inner: str) -> Placeholder:
    if inner.strip() in ("", "."):
        return Placeholder(source, ())
    steps: list[str | int] = []
    position, match = 0, _FIRST.match(inner)
    while match is not None:
        index = int(match[4]) if steps and match[4] else None
        steps.append(next(key for key in match.groups() if key is not None) if index is None else index)
        position = match.end()
        match = _STEP.match(inner, position)
    end = _END.fullmatch(inner, position) if steps else None
    if end is None:
        raise ConfigError(
            f"expected a placeholder, found {source}",
            remedy='write ${name}, ${name.key}, ${name[0]}, ${name."any key"} or ${name:-default}',
        )
    return Placeholder(source, tuple(steps), end[2], end[1] is not None)


def plain_name(placeholder: Placeholder, policy: Missing) -> str | None:
    """Return the column of a placeholder that is a column alone, whose value is read without a call of its own."""
    is_plain = len(placeholder.path) == 1 and placeholder.default is None and not placeholder.is_required
    return str(placeholder.path[0]) if is_plain and policy != "error" else None


def reader(placeholder: Placeholder, policy: Missing) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that returns the value of a placeholder, or None where it is missing and that is allowed."""
    path, default = placeholder.path, placeholder.default
    get = _whole if not path else _column(str(path[0])) if len(path) == 1 else _nested(path)
    if default is not None:

        def read_or_default(columns: Mapping[str, Any]) -> Any:
            value = get(columns)
            return default if value is None or value is UNDEFINED else value

        return read_or_default
    if not placeholder.is_required and policy != "error":
        return get

    def read_required(columns: Mapping[str, Any]) -> Any:
        value = get(columns)
        if value is None or value is UNDEFINED:
            raise TemplateError(f"expected a value for {placeholder.source}, found a missing one")
        return value

    return read_required


def _whole(columns: Mapping[str, Any]) -> Any:
    """Return the row, without the other columns of its record (`engine.model.record.RecordColumns`)."""
    return getattr(columns, "row", columns)


def _column(name: str) -> Callable[[Mapping[str, Any]], Any]:
    def read(columns: Mapping[str, Any]) -> Any:
        return columns.get(name)

    return read


def _nested(path: tuple[str | int, ...]) -> Callable[[Mapping[str, Any]], Any]:
    first, rest = str(path[0]), path[1:]

    def read(columns: Mapping[str, Any]) -> Any:
        value: Any = columns.get(first)
        for step in rest:
            kind = type(value)
            if kind is str or kind is bytes:
                value = _decoded(value)
                kind = type(value)
            if kind is dict:
                value = value.get(step)
            elif kind is list and type(step) is int and -len(value) <= step < len(value):
                value = value[step]
            else:
                return None
        return value

    return read


def _decoded(text: Any) -> Any:
    try:
        return decode(text)
    except ValueError:
        return None


def join_quotes(parts: list[Part]) -> Iterator[tuple[Part, Quoting]]:
    """Yield the parts of a JSON text, each placeholder with its quoting.

    A placeholder alone between quotes takes the quotes from the texts around it (``whole``).
    """
    is_open = False
    taken = False
    for index, part in enumerate(parts):
        if isinstance(part, Placeholder):
            yield part, "whole" if taken else "inside" if is_open else ""
            continue
        begin = 1 if taken else 0
        was_open = is_open and not taken
        is_open = _is_open(part[begin:], was_open)
        opens_last = part[begin:].endswith('"') and is_open and not _is_open(part[begin:-1], was_open)
        following = parts[index + 2] if index + 2 < len(parts) else ""
        taken = opens_last and isinstance(following, str) and following.startswith('"')
        yield part[begin : len(part) - 1 if taken else len(part)], ""


def _is_open(text: str, is_open: bool) -> bool:
    """Return whether a JSON string is open after `text`; `is_open` says whether one was open before it."""
    is_escaped = False
    for character in text:
        if is_open and not is_escaped and character == "\\":
            is_escaped = True
            continue
        if character == '"' and not is_escaped:
            is_open = not is_open
        is_escaped = False
    return is_open


def json_kind(parts: list[Part]) -> type | None:
    """Return the type of the JSON around the placeholders, or None where the text is not JSON."""
    samples = {"": "0", "inside": "x", "whole": '""'}
    try:
        return type(
            decode("".join(part if isinstance(part, str) else samples[how] for part, how in join_quotes(parts)))
        )
    except ValueError:
        return None

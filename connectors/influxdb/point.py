"""Points in line protocol: one line for each point of a row, built by templates that are compiled once.

    measurement,tag=value field=1.5,field=2i,field="text" 1700000000000

A field value is a template of one of these forms; the value of a single placeholder keeps its type:

    ${x}        boolean, text, or float for every number
    ${x}i       integer of 64 bits; ${x}u unsigned
    "${x}"      text
    1.5, 2i, true, "text", other text     a constant
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectors._shared.table import shown_name
from connectors.influxdb.value import (
    escaped,
    escaped_measurement,
    exact_value_field,
    integer_field,
    string_field,
    text_of,
    unsigned_field,
    value_field,
)
from engine.errors import ConfigError, RejectError
from engine.language.template import Template
from engine.model.jsontext import UNDEFINED

Columns = Mapping[str, Any]
FieldWriter = Callable[[Any, str], str]
"""Returns the text of a field's value; takes the value and the name of its part for a reason."""

CACHED_MAX = 1024
"""Escaped keys, and values of a tag, that are remembered: a thousand series. The bound is for what devices name."""
CACHED_CHARACTERS_MAX = 64
"""Characters of a key or a value that is remembered."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?\d+i|\d+u", re.ASCII)
_BOOLEANS = {"t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE"}
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_TYPED = re.compile(r"(\$\{.*\})([iu])", re.DOTALL)


class PointTemplate:
    """The templates of one point. `line` returns its line without the timestamp, or None for a point without fields."""

    def __init__(
        self,
        measurement: str,
        tags: Sequence[tuple[str, str]],
        fields: Sequence[tuple[str, str]] | None,
        timestamp: str | None,
        *,
        allow_unconfined: bool = False,
        integers: str = "float",
        takes_text: bool = True,
    ) -> None:
        """Compile the templates; without `fields`, the columns that no other template names are the fields.

        With `takes_text` false, fields of text are left out. Raise `ConfigError` for a broken template.
        """
        self.timestamp = None if timestamp is None else Template.compile(timestamp, kind="text")
        self._measurement = Template.compile(measurement, kind="measurement", allow_unconfined=allow_unconfined)
        self._by_value = exact_value_field if integers == "integer" else value_field
        self._takes_text = takes_text
        self._tags = [_Tag(key, value) for key, value in tags]
        self._fields = None if fields is None else [_Field(key, value, self._by_value) for key, value in fields]
        self._head = _constant_head(self._measurement, self._tags)
        named = [self._measurement, *(template for tag in self._tags for template in (tag.key, tag.value))]
        if self.timestamp is not None:
            named.append(self.timestamp)
        self._named = frozenset(name for template in named for name in template.names)
        self.templates = [*named, *(template for field in self._fields or () for template in (field.key, field.value))]
        """All templates, to find which columns they read."""
        self._keys: dict[str, tuple[str, str]] = {}
        """The key and the name in reasons of a column."""

    def line(self, columns: Columns) -> str | None:
        """Return the line without a timestamp. Raise `RejectError` for a row that has no line."""
        fields = self._column_fields(columns) if self._fields is None else self._template_fields(columns)
        if not fields:
            return None
        head = self._head
        if head is None:
            head = escaped_measurement(self._measurement.render(columns))
            for tag in self._tags:
                head += tag.text(columns)
        return f"{head} {','.join(fields)}"

    def _template_fields(self, columns: Columns) -> list[str]:
        fields = []
        for field in self._fields or ():
            value = field.read(columns)
            if value is None or value is UNDEFINED:
                continue
            key, part = field.key_text, field.part
            if key is None:
                name = text_of(field.key.value(columns), "the key of a field")
                key, part = _key(name, "field"), f"field {shown_name(name)}"
            text = field.write(value, part)
            if text[0] != '"' or self._takes_text:
                fields.append(f"{key}={text}")
        return fields

    def _column_fields(self, columns: Columns) -> list[str]:
        fields, keys = [], self._keys
        for name, value in getattr(columns, "row", columns).items():
            if value is None or value is UNDEFINED or name in self._named:
                continue
            found = keys.get(name)
            if found is None:
                found = _key(name, "field"), f"field {shown_name(name)}"
                if len(keys) >= CACHED_MAX:
                    keys.clear()
                if len(name) <= CACHED_CHARACTERS_MAX:
                    keys[name] = found
            key, part = found
            text = self._by_value(value, part)
            if text[0] != '"' or self._takes_text:
                fields.append(f"{key}={text}")
        return fields


class _Tag:
    """One tag: ``,key=value``, or nothing without a value."""

    def __init__(self, key: str, value: str) -> None:
        self.key = Template.compile(key, kind="text", missing="error")
        self.value = Template.compile(value, kind="text", missing="empty")
        name = _constant_name(self.key, "tag")
        self._part = f"tag {name}"
        self._prefix = None if name is None else f",{_key(name, 'tag')}="
        self._texts: dict[str, str] = {}
        """Texts by value."""
        self._read = self.value.value

    def text(self, columns: Columns) -> str:
        value = self._read(columns)
        if value is None or value is UNDEFINED or value == "":
            return ""
        text = self._texts.get(value) if type(value) is str else None
        if text is not None:
            return text
        prefix, part = self._prefix, self._part
        if prefix is None:
            name = text_of(self.key.value(columns), "the key of a tag")
            prefix, part = f",{_key(name, 'tag')}=", f"tag {shown_name(name)}"
        text = prefix + escaped(text_of(value, part), part)
        if self._prefix is not None and type(value) is str and len(value) <= CACHED_CHARACTERS_MAX:
            if len(self._texts) >= CACHED_MAX:
                self._texts.clear()
            self._texts[value] = text
        return text


class _Field:
    """One field: its key, how its value is read, and how it is written."""

    def __init__(self, key: str, value: str, by_value: FieldWriter) -> None:
        self.key = Template.compile(key, kind="text", missing="error")
        name = _constant_name(self.key, "field")
        self.part = f"field {name}"
        self.key_text = None if name is None else _key(name, "field")
        source, self.write = _field_form(value, by_value)
        self.value = Template.compile(source, kind="text", missing="empty")
        self.read = self.value.value


def _field_form(text: str, by_value: FieldWriter) -> tuple[str, FieldWriter]:
    """Return the template in a field's value, and the function that writes its value."""
    stripped = text.strip()
    if _QUOTED.fullmatch(stripped):
        return re.sub(r'\\(["\\])', r"\1", stripped[1:-1]), string_field
    if stripped in _BOOLEANS or _NUMBER.fullmatch(stripped):
        return stripped, _as_written
    if (match := _TYPED.fullmatch(stripped)) and _is_placeholder(match[1]):
        return match[1], integer_field if match[2] == "i" else unsigned_field
    return (stripped if _is_placeholder(stripped) else text), by_value


def _as_written(value: Any, part: str) -> str:
    return str(value)


def _is_placeholder(text: str) -> bool:
    """Whether a text is one placeholder and nothing else."""
    return text.startswith("${") and text.count("${") == 1 and text.endswith("}")


def _constant_name(key: Template, part: str) -> str | None:
    """Return the name of a key without placeholders. Raise `ConfigError` where it is empty."""
    if not key.is_constant:
        return None
    name = key.render({})
    if not name:
        raise ConfigError(f"a {part} has no key", remedy=f"write it like room={'${room}'}")
    return name


def _key(name: str, part: str) -> str:
    if not name:
        raise RejectError(f"a {part} has an empty key", code="key")
    return escaped(name, f"the key of a {part}")


def _constant_head(measurement: Template, tags: Sequence[_Tag]) -> str | None:
    """Return measurement and tags where no row changes them."""
    if not measurement.is_constant or not all(tag.key.is_constant and tag.value.is_constant for tag in tags):
        return None
    return escaped_measurement(measurement.render({})) + "".join(tag.text({}) for tag in tags)

"""Documents made of rows: by templates, with the types of BSON, encoded one by one so that a bad one fails alone.

The driver encodes all documents of a command at once, and would fail all for one. Rows that are stored as they are get
checked by one trial encoding of the batch; if that fails, or options change the rows, each document is encoded here
alone, and the driver sends its bytes unchanged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from bson import encode
from bson.codec_options import CodecOptions, TypeRegistry
from bson.errors import BSONError

from connectors._shared.isolation import VALUE_ERRORS, reason_of, shown
from connectors._shared.table import shown_name
from connectors.mongodb.types import CONVERSIONS, TypeName, decimal
from engine.errors import ConfigError, RejectError
from engine.language.template import Missing, Template
from engine.model.jsontext import UNDEFINED, decode

DOCUMENT_BYTES_MAX = 16 << 20
"""The server's limit for a document."""
DEPTH_MAX = 100
"""The server's limit for nesting. It refuses a whole command for one document that is nested deeper."""

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_ENCODING_ERRORS = (BSONError, *VALUE_ERRORS)
_REPLACED = str.maketrans({".": "\uff0e", "\0": "\u2400"})
_LONE_PLACEHOLDER = re.compile(r"\s*\$\{[^{}]*\}\s*")

Document = dict[str, Any]
Columns = Mapping[str, Any]
Build = Callable[[Columns], Any]


def _encode_other(value: Any) -> Any:
    if value is UNDEFINED:
        return None
    if type(value) is int:  # one beyond 64 bits, which the encoder hands on as if it did not know the type
        raise OverflowError
    raise TypeError(f"expected a JSON value or bytes, found {type(value).__name__}")


CODEC_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(type_registry=TypeRegistry(fallback_encoder=_encode_other))
"""Options of the encoder, the same in the driver, which encodes filters and updates once more."""


@dataclass(frozen=True, slots=True)
class DocumentTemplate:
    """A document with placeholders. A text that is one placeholder keeps the kind of its value."""

    build: Build
    names: tuple[str, ...]
    """The columns that it names."""
    keys: tuple[str, ...]
    """The names of its own fields; empty where a placeholder gives the whole document."""

    @classmethod
    def compile(cls, source: Mapping[str, Any] | str, option: str, missing: Missing) -> DocumentTemplate:
        """Return the template of an option's value, a mapping or JSON. Raise `ConfigError` where it is not one."""
        if isinstance(source, str):
            if _LONE_PLACEHOLDER.fullmatch(source):
                template = Template.compile(source.strip(), kind="text", missing=missing)
                return cls(lambda columns: _map_of(template.value(columns), option), template.names, ())
            source = _parsed(source, option)
        names: dict[str, None] = {}
        build = _compiled(source, missing, names, option)
        return cls(build, tuple(names), tuple(source))


def _parsed(text: str, option: str) -> Mapping[str, Any]:
    try:
        found = decode(text)
    except ValueError as error:
        raise ConfigError(
            f"`{option}` is not JSON: {error}",
            remedy='write placeholders in quotes, "${temp}": a value keeps its kind; or write a mapping',
        ) from error
    if not isinstance(found, dict):
        raise ConfigError(f"`{option}` must be an object", remedy='write it like {"temp": "${temp}"}')
    return found


def _compiled(source: Any, missing: Missing, names: dict[str, None], option: str) -> Build:
    if isinstance(source, str):
        template = Template.compile(source, kind="text", missing=missing)
        names.update(dict.fromkeys(template.names))
        return template.value if option != "filter" else lambda columns: _no_operators(template.value(columns), source)
    if isinstance(source, Mapping):
        fields = [(str(key), _compiled(value, missing, names, option)) for key, value in source.items()]
        return lambda columns: {key: build(columns) for key, build in fields}
    if isinstance(source, (list, tuple)):
        items = [_compiled(value, missing, names, option) for value in source]
        return lambda columns: [build(columns) for build in items]
    return lambda columns: source


def _map_of(value: Any, option: str) -> Any:
    """Return the map that a placeholder gives; also from text that is a JSON object, as payloads are."""
    if isinstance(value, (str, bytes)):
        with suppress(ValueError):
            value = decode(value)
    if isinstance(value, dict):
        return value if option != "filter" else _no_operators(value, "filter")
    raise RejectError(f"`{option}` is not an object: {shown(value)}")


@dataclass(frozen=True, slots=True)
class ValueRules:
    """Conversion of the values of a row to those of a document."""

    types: Mapping[str, TypeName]
    """Types by the dotted path of a field."""
    large_integers: Literal["reject", "decimal"]
    non_finite: Literal["keep", "null", "reject"]
    field_names: Literal["keep", "replace", "reject"]

    @property
    def change_values(self) -> bool:
        """Whether a document may differ from its row."""
        is_default = (self.large_integers, self.non_finite, self.field_names) == ("reject", "keep", "keep")
        return bool(self.types) or not is_default

    def applied(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return `document` with these rules applied; the same object where it needs no change. Raise `RejectError`."""
        if self.non_finite != "keep" or self.field_names != "keep" or self.large_integers != "reject":
            document = self._adapted(document, "", 1)
        else:
            _check_depth(document)
        if self.types:
            converted = document = dict(document)
            for path, type_name in self.types.items():
                _convert(converted, path.split("."), CONVERSIONS[type_name], path)
        return document

    def _adapted(self, value: Any, path: str, depth: int) -> Any:
        kind = type(value)
        if kind is int:
            if self.large_integers == "decimal" and not _INT64_MIN <= value <= _INT64_MAX:
                return _converted(value, decimal, path)
        elif kind is float:
            if self.non_finite != "keep" and not math.isfinite(value):
                if self.non_finite == "reject":
                    raise RejectError(f"{shown_name(path)}: {value} is not a number; see the option `non_finite`")
                return None
        elif kind is dict or kind is list:
            if depth > DEPTH_MAX:
                raise _too_deep(path)
            if kind is list:
                return [self._adapted(item, f"{path}[{n}]", depth + 1) for n, item in enumerate(value)]
            return {
                self._name(key, path): self._adapted(item, joined(path, key), depth + 1) for key, item in value.items()
            }
        return value

    def _name(self, key: Any, path: str) -> Any:
        if (
            self.field_names == "keep"
            or type(key) is not str
            or (key[:1] != "$" and "." not in key and "\0" not in key)
        ):
            return key
        if self.field_names == "reject":
            raise RejectError(f"{shown_name(joined(path, key))!r}: a name may not begin with $ or hold a point or NUL")
        return ("\uff04" + key[1:] if key[:1] == "$" else key).translate(_REPLACED)


def are_encodable(documents: list[Document]) -> bool:
    """Whether the server can be sent all of these documents together; where not, one of them is at fault."""
    try:
        for document in documents:
            _check_depth(document)
        return len(encode({"": documents}, codec_options=CODEC_OPTIONS)) <= DOCUMENT_BYTES_MAX
    except (RejectError, *_ENCODING_ERRORS):
        return False


def encoded(document: Mapping[str, Any]) -> bytes:
    """Return a document in BSON. Raise `RejectError` with the field at fault where there is none."""
    try:
        data = encode(document, codec_options=CODEC_OPTIONS)
    except _ENCODING_ERRORS as error:
        raise RejectError(_fault(document, error)) from None
    if len(data) > DOCUMENT_BYTES_MAX:
        raise RejectError(
            f"{_largest(document)}: the document has {len(data)} bytes, more than the {DOCUMENT_BYTES_MAX} that "
            "MongoDB stores",
            code="too_large",
        )
    return data


def _no_operators(value: Any, source: str) -> Any:
    """Return a value for a filter. Raise `RejectError` for names that begin with $: a device could match anything."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            name = next((str(key) for key in item if str(key).startswith("$")), None)
            if name is not None:
                raise RejectError(f"{source}: the value for `filter` holds the operator {shown_name(name)}")
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return value


def joined(path: str, key: Any) -> str:
    """Return the path of a field within `path`."""
    return f"{path}.{key}" if path else str(key)


def _check_depth(document: Mapping[str, Any]) -> None:
    for name, value in document.items():
        if type(value) in (dict, list) and _is_deeper(value, DEPTH_MAX - 1):
            raise _too_deep(name)


def _is_deeper(value: Any, levels: int) -> bool:
    if not levels:
        return True
    items = value.values() if type(value) is dict else value
    return any(type(item) in (dict, list) and _is_deeper(item, levels - 1) for item in items)


def _too_deep(path: str) -> RejectError:
    return RejectError(f"{shown_name(path)}: nested deeper than the {DEPTH_MAX} levels that MongoDB stores")


def _convert(document: Document, path: list[str], convert: Callable[[Any], Any], field: str) -> None:
    """Convert the value at `path`, and copy the maps on the way, which other sinks use as well."""
    holder = document
    for name in path[:-1]:
        inner = holder.get(name)
        if type(inner) is not dict:
            return
        inner = holder[name] = dict(inner)
        holder = inner
    value = holder.get(path[-1])
    if value is not None and value is not UNDEFINED:
        holder[path[-1]] = _converted(value, convert, field)


def _converted(value: Any, convert: Callable[[Any], Any], field: str) -> Any:
    try:
        return convert(value)
    except (*VALUE_ERRORS, ArithmeticError) as error:
        raise RejectError(f"{shown_name(field)}: {reason_of(error)}, found {shown(value)}") from None


def _fault(value: Any, error: Exception) -> str:
    """Return the reason of an encoding error, with the path of the value that caused it."""
    path = ""
    while isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else ((str(n), item) for n, item in enumerate(value))
        for key, item in items:
            found = _encoding_error({key: item})
            if found is not None:
                path, value, error = joined(path, key), item, found
                break
        else:
            break
        if len(path) > DEPTH_MAX * 10:
            break
        if not isinstance(value, (dict, list)) or _encoding_error({"v": value}) is None:
            break
    return f"{shown_name(path)!r}: {_words(error, value)}"


def _encoding_error(document: Mapping[Any, Any]) -> Exception | None:
    try:
        encode(document, codec_options=CODEC_OPTIONS)
    except _ENCODING_ERRORS as error:
        return error
    return None


def _words(error: Exception, value: Any) -> str:
    if isinstance(error, OverflowError):
        return f"the integer has more than 64 bits; see the option `large_integers`, found {shown(value)}"
    if "NULL byte" in str(error):
        return "the name of a field holds a NUL character"
    return reason_of(error)[:300]


def _largest(document: Mapping[str, Any]) -> str:
    return shown_name(max(document, key=lambda name: len(encode({"": document[name]}, codec_options=CODEC_OPTIONS))))

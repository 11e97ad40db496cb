"""Templates: text with ``${placeholders}`` or Jinja2, compiled once, typed by the use of the result.

The kind of a template decides how a value is written: as JSON in a JSON text, percent-encoded in a URL, refused in a
topic where it has wildcards. Templates of routing options (topic, path, URL) must begin with constant text, so that a
message alone can't choose the destination. A record without a value for such a template, or with a value that is not
allowed in it, is rejected with the reason.

A missing value and null are treated alike. ``missing`` decides what they become: the text ``null``, the empty text
(``empty``), the text ``undefined`` as in EMQX, or a rejection (``error``). By default routing options reject, JSON and
text have null, and headers the empty text. ``${x:-text}`` has a default, ``${x!}`` rejects the record in any kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import ConfigError
from engine.language.template import jinja
from engine.language.template.kind import TEMPLATE_KINDS, TemplateKind
from engine.language.template.placeholder import (
    Missing,
    Part,
    Placeholder,
    TemplateError,
    join_quotes,
    json_kind,
    parse,
    reader,
)
from engine.language.template.sql import sql_parameters as _sql_parameters

__all__ = ["Missing", "Template", "TemplateError", "TemplateKindName", "sql_parameters"]

TemplateKindName = Literal[
    "text", "json", "payload", "topic", "kafka_topic", "collection", "path", "url_path", "header", "sql", "measurement"
]
"""The use of a template's result. A ``payload`` is JSON where the text around its placeholders is JSON, else text."""

ColumnValues = Mapping[str, Any]
"""The columns of one row by name."""


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template. Its functions take the columns of a row and raise `TemplateError` to reject it."""

    source: str
    kind: str
    is_constant: bool
    names: tuple[str, ...]
    """The columns that the placeholders name, each once; ``${.}`` names no column."""
    render: Callable[[ColumnValues], str]
    """Return the text. Bytes that are not UTF-8 are rejected; `render_bytes` keeps them."""
    render_bytes: Callable[[ColumnValues], bytes]
    """Return the text as UTF-8, with binary data unchanged."""
    value: Callable[[ColumnValues], Any]
    """Return the value of a single placeholder with its kind kept, or None; of any other template, the text."""

    @classmethod
    def compile(
        cls,
        text: str,
        *,
        kind: TemplateKindName,
        missing: Missing | None = None,
        allow_unconfined: bool = False,
    ) -> Template:
        """Return the template of a text. Raise `ConfigError` for a text that is not a template of this kind."""
        if jinja.is_jinja(text):
            return _from_jinja(text, TEMPLATE_KINDS["text" if kind == "payload" else kind], missing, allow_unconfined)
        parts = parse(text)
        if kind == "payload":
            kind = "json" if json_kind(parts) in (dict, list) else "text"
        if kind == "json" and json_kind(parts) is None:
            raise ConfigError(
                "expected JSON around the placeholders, found other text", remedy="write a JSON value around them"
            )
        return _from_parts(text, parts, TEMPLATE_KINDS[kind], missing, allow_unconfined)


def sql_parameters(text: str, style: Literal["$1", "?"] | Callable[[int], str] = "$1") -> tuple[str, list[Template]]:
    """Return an SQL statement with parameters in place of its placeholders, and the templates of their values in order.

    `style` is the form of a parameter, or a function of its number. A literal around a placeholder becomes part of the
    value: ``'dev-${id}'`` is one parameter. Raise `ConfigError` where a placeholder stands for a table or column, which
    can't be a parameter.
    """
    statement, sources = _sql_parameters(text, style)
    return statement, [Template.compile(source, kind="sql") for source in sources]


def _from_parts(
    source: str, parts: list[Part], kind: TemplateKind, missing: Missing | None, allow_unconfined: bool
) -> Template:
    policy = missing or kind.missing
    names = tuple(dict.fromkeys(str(part.path[0]) for part in parts if isinstance(part, Placeholder) and part.path))
    if all(isinstance(part, str) for part in parts):
        return _constant(source, "".join(map(str, parts)), kind)
    if kind.is_confined and not allow_unconfined:
        _check_confined(source, parts[0] if isinstance(parts[0], str) else "", kind)
    render, render_bytes = _renderers(parts, kind, policy)
    lone = parts[0] if len(parts) == 1 else None
    value = reader(lone, policy) if isinstance(lone, Placeholder) else render
    return Template(source, kind.name, False, names, render, render_bytes, value)


def _from_jinja(source: str, kind: TemplateKind, missing: Missing | None, allow_unconfined: bool) -> Template:
    compiled = jinja.compile_jinja(source, kind, missing or kind.missing)
    if kind.is_confined and not allow_unconfined:
        _check_confined(source, compiled.prefix, kind)

    def render_bytes(columns: ColumnValues) -> bytes:
        return compiled.render(columns).encode()

    return Template(source, kind.name, False, compiled.names, compiled.render, render_bytes, compiled.render)


def _constant(source: str, text: str, kind: TemplateKind) -> Template:
    try:
        data = text.encode()
        if kind.check is not None:
            kind.check(text, text)
    except TemplateError as error:
        raise ConfigError(error.message) from error
    except UnicodeEncodeError as error:
        raise ConfigError(kind.not_unicode()) from error
    return Template(source, kind.name, True, (), lambda _: text, lambda _: data, lambda _: text)


def _check_confined(source: str, prefix: str, kind: TemplateKind) -> None:
    if prefix and kind.confines(prefix, source):
        return
    raise ConfigError(
        f"expected a {kind.title} that begins with {kind.wanted_prefix}, found {source!r}",
        remedy=f"begin it with {kind.wanted_prefix}, or set allow_unconfined: true",
    )


def _renderers(
    parts: list[Part], kind: TemplateKind, policy: Missing
) -> tuple[Callable[[ColumnValues], str], Callable[[ColumnValues], bytes]]:
    """Return the functions that make the text and its bytes. A step is a constant or a function of the columns."""
    steps = [
        part if isinstance(part, str) else kind.writer(part, policy, quoting)
        for part, quoting in (join_quotes(parts) if kind.name == "json" else ((part, "") for part in parts))
    ]
    prefix = steps[0] if isinstance(steps[0], str) else ""
    compose = _composer(steps)

    check = kind.check

    def render(columns: ColumnValues) -> str:
        try:
            text = compose(columns)
            if type(text) is not str:
                raise TemplateError(kind.not_text())
            if check is not None:
                check(text, prefix)
        except UnicodeEncodeError as error:
            raise TemplateError(kind.not_unicode()) from error
        return text

    def render_bytes(columns: ColumnValues) -> bytes:
        try:
            text = compose(columns)
            return text.encode() if type(text) is str else text
        except UnicodeEncodeError as error:
            raise TemplateError(kind.not_unicode()) from error

    return render, render_bytes


def _composer(steps: Sequence[Any]) -> Callable[[ColumnValues], Any]:
    """Return a function that joins the steps to text, or to bytes where one of them is bytes."""
    if len(steps) == 1:
        return steps[0]  # type: ignore[no-any-return]

    def compose(columns: ColumnValues) -> Any:
        written = [step if type(step) is str else step(columns) for step in steps]
        try:
            return "".join(written)
        except TypeError:  # a step is bytes: rare, so that testing each one would cost more
            return b"".join([part if type(part) is bytes else part.encode() for part in written])

    return compose

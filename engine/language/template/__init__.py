"""Templates: text with ``${placeholders}`` (or Jinja2), compiled once and typed by where the result stands.

A template knows its kind: in JSON a value becomes JSON, in a URL it is percent-encoded, in a topic it may bring no
wildcards. What decides where a record goes (topic, path, URL) must begin with text of its own, so that a message
alone can't choose; and a record that gives such a template no value, or one that can't stand there, is rejected with
the reason.

A missing value and null are the same here; ``missing`` says what they become: the text ``null``, nothing (``empty``),
the text ``undefined`` as in EMQX, or an ``error``. By default places that decide reject, JSON and text say null, and
headers stay empty. ``${x:-text}`` names a default, ``${x!}`` rejects the record in any kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import ConfigError
from engine.language.template import jinja
from engine.language.template.kind import KINDS, Kind
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

__all__ = ["KindName", "Missing", "Template", "TemplateError", "sql_parameters"]

KindName = Literal["text", "json", "payload", "topic", "kafka_topic", "path", "url_path", "header", "sql"]
"""Where a template's result stands. A ``payload`` is JSON where the text around its placeholders is, else text."""

Columns = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template. All three functions take the columns of a row and raise `TemplateError` (a rejection)."""

    source: str
    kind: str
    is_constant: bool
    names: tuple[str, ...]
    """The columns it reads, by their first names; ``${.}`` reads none by name."""
    render: Callable[[Columns], str]
    """The text. A text template rejects bytes that are no UTF-8; `render_bytes` keeps them."""
    render_bytes: Callable[[Columns], bytes]
    """The text as UTF-8, in which bytes stay as they are."""
    value: Callable[[Columns], Any]
    """The value of a lone placeholder as it is, a number as a number, or None; else the text."""

    @classmethod
    def compile(
        cls, text: str, *, kind: KindName, missing: Missing | None = None, allow_unconfined: bool = False
    ) -> Template:
        """The template of a text. Raises `ConfigError` for a text that is none or is not allowed in this kind."""
        if jinja.is_jinja(text):
            return _from_jinja(text, KINDS["text" if kind == "payload" else kind], missing, allow_unconfined)
        parts = parse(text)
        if kind == "payload":
            kind = "json" if json_kind(parts) in (dict, list) else "text"
        if kind == "json" and json_kind(parts) is None:
            raise ConfigError("the text around the placeholders is not JSON", remedy="write a JSON value around them")
        return _from_parts(text, parts, KINDS[kind], missing, allow_unconfined)


def sql_parameters(text: str, style: Literal["$1", "?"] | Callable[[int], str] = "$1") -> tuple[str, list[Template]]:
    """An SQL statement with its placeholders turned into parameters, and the templates of their values in order.

    A `style` of one's own writes a parameter by its number.

    A literal around a placeholder becomes part of the value: ``'dev-${id}'`` is one parameter. Raises `ConfigError`
    where a placeholder would name a table or column, which can't be a parameter.
    """
    statement, sources = _sql_parameters(text, style)
    return statement, [Template.compile(source, kind="sql") for source in sources]


def _from_parts(
    source: str, parts: list[Part], kind: Kind, missing: Missing | None, allow_unconfined: bool
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


def _from_jinja(source: str, kind: Kind, missing: Missing | None, allow_unconfined: bool) -> Template:
    compiled = jinja.compile_jinja(source, kind, missing or kind.missing)
    if kind.is_confined and not allow_unconfined:
        _check_confined(source, compiled.prefix, kind)
    return Template(
        source, kind.name, False, compiled.names, compiled.render, lambda columns: compiled.render(columns).encode(),
        compiled.render,
    )  # fmt: skip


def _constant(source: str, text: str, kind: Kind) -> Template:
    try:
        if kind.check is not None:
            kind.check(text, text)
    except TemplateError as error:
        raise ConfigError(error.message) from error
    data = text.encode()
    return Template(source, kind.name, True, (), lambda _: text, lambda _: data, lambda _: text)


def _check_confined(source: str, prefix: str, kind: Kind) -> None:
    if prefix and kind.confines(prefix, source):
        return
    raise ConfigError(
        f"the {kind.title} {source!r} is decided by the message alone",
        remedy=f"begin it with {kind.wanted_prefix}, or set allow_unconfined: true",
    )


def _renderers(
    parts: list[Part], kind: Kind, policy: Missing
) -> tuple[Callable[[Columns], str], Callable[[Columns], bytes]]:
    """Functions that make the text and its bytes. A step is a constant or a function of the columns."""
    steps = [
        part if isinstance(part, str) else kind.writer(part, policy, quoting)
        for part, quoting in (join_quotes(parts) if kind.name == "json" else ((part, "") for part in parts))
    ]
    prefix = steps[0] if isinstance(steps[0], str) else ""
    compose = _composer(steps)

    def render(columns: Columns) -> str:
        text = compose(columns)
        if type(text) is not str:
            raise TemplateError(f"the {kind.title} can't hold bytes that are no UTF-8 text")
        return text

    def render_checked(columns: Columns) -> str:
        text = compose(columns)
        if type(text) is not str:
            raise TemplateError(f"the {kind.title} can't hold bytes that are no UTF-8 text")
        kind.check(text, prefix)  # type: ignore[misc]
        return text

    def render_bytes(columns: Columns) -> bytes:
        text = compose(columns)
        return text.encode() if type(text) is str else text

    return (render if kind.check is None else render_checked), render_bytes


def _composer(steps: Sequence[Any]) -> Callable[[Columns], Any]:
    """A function that joins the steps to text, or to bytes where one of them is bytes."""
    if len(steps) == 1:
        return steps[0]  # type: ignore[no-any-return]

    def compose(columns: Columns) -> Any:
        written = [step if type(step) is str else step(columns) for step in steps]
        try:
            return "".join(written)
        except TypeError:
            return b"".join([part if type(part) is bytes else part.encode() for part in written])

    return compose

"""Jinja2 templates: sandboxed, bounded in output and time, with values written as placeholders write them.

Columns are variables. An attribute of a text looks into the text where it is JSON, so ``{{ payload.temp }}`` works on
a payload that is still text.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import ConfigError, Position
from engine.language.template.kind import Kind, as_text
from engine.language.template.placeholder import Missing, TemplateError
from engine.model.jsontext import UNDEFINED, decode
from engine.model.value import TEXT_BYTES_MAX

if TYPE_CHECKING:
    from jinja2.environment import Template as JinjaTemplate

_MARK = re.compile(r"\{\{|\{%|\{#")
_CPU_SECONDS_MAX = 0.1


class Compiled(NamedTuple):
    """A compiled template: what it begins with, the columns it reads, and how it is rendered."""

    prefix: str
    names: tuple[str, ...]
    render: Callable[[Mapping[str, Any]], str]


def is_jinja(text: str) -> bool:
    """Whether a text is a Jinja2 template: it has an expression or a statement."""
    return "{{" in text or "{%" in text


def compile_jinja(source: str, kind: Kind, policy: Missing) -> Compiled:
    """The template of a source. Raises `ConfigError` with the line where it is wrong."""
    environment = _Environment(kind, policy)
    try:
        names = tuple(sorted(meta.find_undeclared_variables(environment.parse(source))))
        template = environment.from_string(_with_time_checks(environment.parse(source)))
    except TemplateSyntaxError as error:
        raise ConfigError(f"the template is wrong: {error.message}", position=Position(error.lineno, 1)) from error
    mark = _MARK.search(source)
    prefix = source[: mark.start()] if mark else source
    return Compiled(prefix, names, _renderer(template, kind, prefix))


def _renderer(template: JinjaTemplate, kind: Kind, prefix: str) -> Callable[[Mapping[str, Any]], str]:
    def render(columns: Mapping[str, Any]) -> str:
        try:
            text = _bounded(template, columns)
        except TemplateError:
            raise
        except JinjaError as error:
            raise TemplateError(f"the template: {error.message}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise TemplateError(f"the template: {error}") from error
        except MemoryError as error:
            raise TemplateError("the template takes too much memory") from error
        if kind.name == "json":
            _check_json(text)
        if kind.check is not None:
            kind.check(text, prefix)
        return text

    return render


def _with_time_checks(parsed: nodes.Template) -> nodes.Template:
    """Look at the time in every round of a loop and every call of a macro: they may go on without writing anything."""
    repeated: list[nodes.For | nodes.Macro] = [*parsed.find_all(nodes.For), *parsed.find_all(nodes.Macro)]
    for node in repeated:
        check = nodes.Call(nodes.EnvironmentAttribute("check_time"), [], [], None, None)
        node.body.insert(0, nodes.ExprStmt(check))
    return parsed


def _bounded(template: JinjaTemplate, columns: Mapping[str, Any]) -> str:
    parts: list[str] = []
    size, environment = 0, cast(_Environment, template.environment)
    environment.deadline = time.thread_time() + _CPU_SECONDS_MAX
    for part in template.generate(columns):
        parts.append(part)
        size += len(part)
        if size > TEXT_BYTES_MAX:
            raise TemplateError(f"the template: the result is longer than {TEXT_BYTES_MAX} characters")
        environment.check_time()
    return "".join(parts)


def _check_json(text: str) -> None:
    try:
        decode(text)
    except ValueError as error:
        raise TemplateError(f"the template: the result is not JSON: {error}") from error


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox whose expressions are written as placeholders are."""

    intercepted_binops = frozenset({"*", "**"})
    deadline = 0.0
    """In CPU seconds of the thread that renders."""

    def __init__(self, kind: Kind, policy: Missing) -> None:
        absent = {"null": "null", "empty": "", "undefined": "undefined", "error": ""}[policy]
        is_url = kind.name == "url_path"

        def written(value: Any) -> Any:
            if isinstance(value, StrictUndefined):
                return value
            if value is None or value is UNDEFINED or isinstance(value, Undefined):
                if policy == "error":
                    raise TemplateError("an expression of the template has no value")
                return absent
            text = value if isinstance(value, str) else as_text(value)
            if isinstance(text, bytes) and not is_url:
                raise TemplateError(f"the {kind.title} can't hold bytes that are no UTF-8 text")
            return quote(text, safe="") if is_url else text

        super().__init__(
            undefined=StrictUndefined if policy == "error" else Undefined, finalize=written, autoescape=False
        )

    def check_time(self) -> None:
        """Raise `TemplateError` when the time of one rendering is over."""
        if time.thread_time() > self.deadline:
            raise TemplateError(f"the template takes longer than {_CPU_SECONDS_MAX} s")

    def getattr(self, obj: Any, attribute: str) -> Any:
        found = super().getattr(obj, attribute)
        return self._inside(obj, attribute) if isinstance(found, Undefined) else found

    def getitem(self, obj: Any, argument: Any) -> Any:
        found = super().getitem(obj, argument)
        return self._inside(obj, argument) if isinstance(found, Undefined) else found

    def _inside(self, obj: Any, key: Any) -> Any:
        """What a text that is JSON has under a key."""
        if isinstance(obj, (str, bytes)):
            try:
                obj = decode(obj)
            except ValueError:
                return self.undefined(obj=obj, name=key)
            if isinstance(obj, (dict, list)):
                return super().getitem(obj, key)
        return self.undefined(obj=obj, name=key)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and not (abs(left) <= 1_000_000 and abs(right) <= 64):
            raise SecurityError("the numbers are too large to be raised to a power")
        for sequence, times in ((left, right), (right, left)):
            if isinstance(sequence, (str, bytes, list, tuple)) and len(sequence) * int(times) > TEXT_BYTES_MAX:
                raise SecurityError(f"the result is longer than {TEXT_BYTES_MAX}")
        return super().call_binop(context, operator, left, right)

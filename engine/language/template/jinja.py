"""Jinja2 templates: sandboxed, bounded in output and time, with values written as placeholders write them.

Columns are variables. An attribute of a text that is JSON is read from its value, so that ``{{ payload.temp }}`` works
on the text of a payload.
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
from engine.language.template.kind import TemplateKind, as_text
from engine.language.template.placeholder import Missing, TemplateError
from engine.model.jsontext import UNDEFINED, decode
from engine.model.value import TEXT_BYTES_MAX

if TYPE_CHECKING:
    from jinja2.environment import Template as JinjaTemplate

_MARK = re.compile(r"\{\{|\{%|\{#")
_CPU_SECONDS_MAX = 0.1
"""Bound of one rendering in CPU time of its thread: loops of a template are not bounded by its output."""
_POWER_BASE_MAX = 1_000_000
_POWER_EXPONENT_MAX = 64
"""Bounds of ``**``, whose result takes time and memory by its length: 1,276 bits are enough for any telemetry."""


class CompiledJinja(NamedTuple):
    """A compiled template: its constant beginning, the columns that it reads, its rendering function."""

    prefix: str
    names: tuple[str, ...]
    render: Callable[[Mapping[str, Any]], str]


def is_jinja(text: str) -> bool:
    """Return whether a text is a Jinja2 template: it has an expression or a statement."""
    return "{{" in text or "{%" in text


def compile_jinja(source: str, kind: TemplateKind, policy: Missing) -> CompiledJinja:
    """Return the compiled template. Raise `ConfigError` with the line of a mistake."""
    environment = _Environment(kind, policy)
    try:
        names = tuple(sorted(meta.find_undeclared_variables(environment.parse(source))))
        template = environment.from_string(_with_time_checks(environment.parse(source)))
    except TemplateSyntaxError as error:
        raise ConfigError(f"expected a Jinja2 template: {error.message}", position=Position(error.lineno, 1)) from error
    mark = _MARK.search(source)
    prefix = source[: mark.start()] if mark else source
    return CompiledJinja(prefix, names, _renderer(template, kind, prefix))


def _renderer(template: JinjaTemplate, kind: TemplateKind, prefix: str) -> Callable[[Mapping[str, Any]], str]:
    def render(columns: Mapping[str, Any]) -> str:
        try:
            text = _bounded(template, columns)
            text.encode()  # an escape in an expression can be half of a surrogate pair
        except TemplateError:
            raise
        except UnicodeEncodeError as error:
            raise TemplateError(kind.not_unicode()) from error
        except JinjaError as error:
            raise TemplateError(f"the template: {error.message}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise TemplateError(f"the template: {error}") from error
        except MemoryError as error:
            raise TemplateError("the template: expected a result that fits into memory, found a larger one") from error
        if kind.name == "json":
            _check_json(text)
        if kind.check is not None:
            kind.check(text, prefix)
        return text

    return render


def _with_time_checks(parsed: nodes.Template) -> nodes.Template:
    """Return the template with a check of the time in each pass of a loop and each call of a macro.

    Loops may run without output, so that `_bounded` alone would not end them.
    """
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
            raise TemplateError(
                f"the template: expected a result of at most {TEXT_BYTES_MAX} characters, found a longer one"
            )
        environment.check_time()
    return "".join(parts)


def _check_json(text: str) -> None:
    try:
        decode(text)
    except ValueError as error:
        raise TemplateError(f"the template: expected a result that is JSON: {error}") from error


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox that writes the values of expressions as placeholders do."""

    intercepted_binops = frozenset({"*", "**"})
    deadline = 0.0
    """End of the rendering at hand, in CPU seconds of its thread. Set before each rendering: they do not overlap."""

    def __init__(self, kind: TemplateKind, policy: Missing) -> None:
        absent = {"null": "null", "empty": "", "undefined": "undefined", "error": ""}[policy]
        is_url = kind.name == "url_path"

        def written(value: Any) -> Any:
            if isinstance(value, StrictUndefined):
                return value
            if value is None or value is UNDEFINED or isinstance(value, Undefined):
                if policy == "error":
                    raise TemplateError("the template: expected a value for each expression, found a missing one")
                return absent
            text = value if isinstance(value, str) else as_text(value)
            if isinstance(text, bytes) and not is_url:
                raise TemplateError(kind.not_text())
            return quote(text, safe="") if is_url else text

        super().__init__(
            undefined=StrictUndefined if policy == "error" else Undefined, finalize=written, autoescape=False
        )

    def check_time(self) -> None:
        """Raise `TemplateError` after the end of the rendering's time."""
        if time.thread_time() > self.deadline:
            raise TemplateError(
                f"the template: expected to end within {_CPU_SECONDS_MAX} s, found that it takes longer"
            )

    def getattr(self, obj: Any, attribute: str) -> Any:
        found = super().getattr(obj, attribute)
        return self._inside(obj, attribute) if isinstance(found, Undefined) else found

    def getitem(self, obj: Any, argument: Any) -> Any:
        found = super().getitem(obj, argument)
        return self._inside(obj, argument) if isinstance(found, Undefined) else found

    def _inside(self, obj: Any, key: Any) -> Any:
        """Return the value under a key of a text that is JSON."""
        if isinstance(obj, (str, bytes)):
            try:
                obj = decode(obj)
            except ValueError:
                return self.undefined(obj=obj, name=key)
            if isinstance(obj, (dict, list)):
                return super().getitem(obj, key)
        return self.undefined(obj=obj, name=key)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and not (abs(left) <= _POWER_BASE_MAX and abs(right) <= _POWER_EXPONENT_MAX):
            raise SecurityError(
                f"expected a base of at most {_POWER_BASE_MAX} and an exponent of at most {_POWER_EXPONENT_MAX}"
            )
        for sequence, times in ((left, right), (right, left)):
            if isinstance(sequence, (str, bytes, list, tuple)) and len(sequence) * int(times) > TEXT_BYTES_MAX:
                raise SecurityError(
                    f"expected a result of at most {TEXT_BYTES_MAX} elements or characters, found a longer one"
                )
        return super().call_binop(context, operator, left, right)

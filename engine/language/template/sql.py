"""SQL statements with placeholders, split into a statement with parameters and the values to bind.

No part of a record becomes part of the statement. The lexer distinguishes literals (``'…'``, ``E'…'``, ``$$…$$``),
quoted names (``"…"``), comments, and all other text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from engine.errors import ConfigError
from engine.language.template.placeholder import parse

_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)
      | (?P<escaped>\b[eE]'(?:[^'\\]|\\.|'')*')
      | (?P<literal>'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")*"|`[^`]*`)
      | (?P<dollar>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
      | (?P<placeholder>\$\{(?:"[^"]*"|'[^']*'|[^}"'])*\}?)""",
    re.VERBOSE | re.DOTALL,
)
_LONE = re.compile(r"""\$\{(?:"[^"]*"|'[^']*'|[^}"'])*\}""")


def sql_parameters(text: str, style: str | Callable[[int], str]) -> tuple[str, list[str]]:
    """Return the statement with parameters in a style, and the source of the template of each parameter.

    A style is ``$1``, ``?`` or a function of the number of a parameter.
    """
    if "{{" in text or "{%" in text:
        raise ConfigError(
            "expected an SQL statement with ${placeholders}, found Jinja2", remedy="use ${placeholders}: they are bound"
        )
    sources: list[str] = []

    def parameter(source: str) -> str:
        sources.append(source)
        if callable(style):
            return style(len(sources))
        return "?" if style == "?" else f"${len(sources)}"

    def replaced(match: re.Match[str]) -> str:
        token = match[0]
        if "${" not in token or match["comment"]:
            return token
        if match["placeholder"]:
            return _resolved(token) or parameter(token)
        inner = token[1:-1]
        if match["literal"] or _LONE.fullmatch(inner):
            return parameter(inner.replace("''", "'") if match["literal"] else inner)
        raise ConfigError(
            f"expected placeholders in the place of values, found one in {token[:40]}",
            remedy="only values can be placeholders; write names, and text with escapes, without them",
        )

    return _TOKEN.sub(replaced, text), sources


def _resolved(token: str) -> str:
    """Return the text of ``${$}``, and the empty text for a placeholder. Raise `ConfigError` for a broken one."""
    parts = parse(token)
    return "".join(part for part in parts if isinstance(part, str))

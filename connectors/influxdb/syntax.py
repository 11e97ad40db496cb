"""The option `write_syntax`: points as lines of line protocol with placeholders, one point a line, as in EMQX.

    measurement,tag=${x} field=${y}i,text="${z}" ${timestamp}

A comma, a space or an equals sign that belongs to a name is escaped with a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from engine.errors import ConfigError

_ATOM = re.compile(
    r"""\$\{(?:"[^"]*"|'[^']*'|[^}"'])*\}|\{\{.*?\}\}|\{%.*?%\}|\\.|"(?:\\.|[^"\\])*"|.""",
    re.DOTALL,
)
"""A piece that is never split: a placeholder, an escaped character, a quoted text, or else a single character."""
_ESCAPED = re.compile(r"\\[,= ]")
_FORM = "write it like measurement,tag=${x} field=${y} ${timestamp}"


@dataclass(frozen=True, slots=True)
class PointText:
    """The texts of one point: each is the source of a template."""

    measurement: str
    tags: list[tuple[str, str]]
    fields: list[tuple[str, str]] | None
    """None where all columns that no other template names are fields."""
    timestamp: str | None


def parse_write_syntax(text: str) -> list[PointText]:
    """Return the points of a `write_syntax`. Raise `ConfigError` where it is not line protocol."""
    points = [_point(line) for line in _split(text, "\n") if line.strip() and not line.lstrip().startswith("#")]
    if not points:
        raise ConfigError("`write_syntax` has no point", remedy=_FORM)
    return points


def _point(line: str) -> PointText:
    sections = [section for section in _split(line.strip(), " ") if section]
    if len(sections) not in (2, 3):
        raise ConfigError(
            f"expected measurement with tags, fields and a timestamp, with spaces between them, found {line.strip()!r}",
            remedy=f"{_FORM}; a space within a name is written with a backslash",
        )
    measurement, *tags = _split(sections[0], ",")
    return PointText(
        _unescaped(measurement),
        [_pair(tag, "tag") for tag in tags],
        [_pair(field, "field") for field in _split(sections[1], ",")],
        sections[2] if len(sections) == 3 else None,
    )


def _pair(text: str, part: str) -> tuple[str, str]:
    key, *values = _split(text, "=")
    if not key or not values or not "".join(values):
        raise ConfigError(f"expected a {part} like room=${{room}}, found {text!r}", remedy=_FORM)
    value = "=".join(values)
    return _unescaped(key), value if value.startswith('"') else _unescaped(value)


def _split(text: str, separator: str) -> list[str]:
    parts = [""]
    for atom in _atoms(text):
        if atom == separator:
            parts.append("")
        else:
            parts[-1] += atom
    return parts


def _unescaped(text: str) -> str:
    return "".join(atom[1] if _ESCAPED.fullmatch(atom) else atom for atom in _atoms(text))


def _atoms(text: str) -> Iterator[str]:
    return (match[0] for match in _ATOM.finditer(text))

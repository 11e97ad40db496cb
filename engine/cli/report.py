"""Reports of problems, for people and for programs: position, line of the file, caret and remedy."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from engine.errors import ConfigError, HeadgateError, Problem, RuleError
from engine.service.log import redact

if TYPE_CHECKING:
    from rich.console import Console

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3

_LINE_CHARS_MAX = 160
_PIPE_WIDTH = 400


class CommandError(HeadgateError):
    """A command failed; ``exit_code`` is the exit code of the process."""

    def __init__(self, message: str, *, exit_code: int = EXIT_FAILED, remedy: str | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Style:
    """Formatting of the parts of a report: colours on a terminal, else plain text."""

    is_colored: bool = False

    def bold(self, text: str) -> str:
        """Format a heading."""
        return self._set("1", text)

    def error(self, text: str) -> str:
        """Format an error."""
        return self._set("1;31", text)

    def warning(self, text: str) -> str:
        """Format a warning."""
        return self._set("1;33", text)

    def faint(self, text: str) -> str:
        """Format margins and labels."""
        return self._set("2", text)

    def remedy(self, text: str) -> str:
        """Format a remedy."""
        return self._set("36", text)

    def _set(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_colored else text


def render(problems: Iterable[Problem], texts: Mapping[str, str], style: Style | None = None) -> str:
    """Return the report as text; `texts` has the files by the path that a problem names."""
    style = style or Style()
    return "\n\n".join("\n".join(_lines(problem, texts, style)) for problem in problems)


def render_json(problems: Sequence[Problem]) -> str:
    """Return the report as one JSON object."""
    errors = sum(problem.severity == "error" for problem in problems)
    entries = [
        {
            "severity": problem.severity,
            "path": problem.path,
            "line": problem.position.line if problem.position else None,
            "column": problem.position.column if problem.position else None,
            "length": problem.position.length if problem.position else None,
            "message": redact(problem.message),
            "remedy": None if problem.remedy is None else redact(problem.remedy),
        }
        for problem in problems
    ]
    return json.dumps({"ok": errors == 0, "problems": entries}, ensure_ascii=False, indent=2)


def summary(problems: Sequence[Problem]) -> str:
    """Return the counts, as ``2 errors, 1 warning``."""
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = len(problems) - errors
    counts = [count(errors, "error")] if errors or not warnings else []
    return ", ".join([*counts, count(warnings, "warning")] if warnings else counts)


def table_console() -> Console:
    """Return a console for tables: as wide as the terminal, or wide enough not to truncate them in a pipe."""
    from rich.console import Console

    is_wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=_PIPE_WIDTH if is_wide else None)


def write_line(text: str, stream: TextIO) -> None:
    """Print and flush. A closed stream is no error: the process goes on without its reader."""
    with suppress(OSError):
        print(text, file=stream, flush=True)


def terminal_style(stream: TextIO) -> Style:
    """Return the style for `stream`: colours if it is a terminal."""
    return Style(stream.isatty())


def print_failure(error: BaseException) -> int:
    """Print the error of a command to standard error, without a traceback, and return the exit code."""
    style = terminal_style(sys.stderr)
    problems = getattr(error, "problems", None)
    if problems:
        print(render(problems, getattr(error, "texts", {}), style), file=sys.stderr)
        print(f"\n{summary(problems)}", file=sys.stderr)
        return EXIT_FAILED
    message, remedy = _message_and_remedy(error)
    print(f"{style.error('error:')} {redact(message)}", file=sys.stderr)
    if remedy:
        print(f"  {style.remedy(redact(remedy))}", file=sys.stderr)
    return error.exit_code if isinstance(error, CommandError) else EXIT_FAILED


def print_traceback() -> int:
    """Print the traceback of the current exception to standard error and return the exit code."""
    print(redact(traceback.format_exc()), file=sys.stderr)
    return EXIT_FAILED


def _message_and_remedy(error: BaseException) -> tuple[str, str | None]:
    if isinstance(error, (CommandError, ConfigError, RuleError)):
        return str(error), error.remedy
    if isinstance(error, HeadgateError):
        return str(error), None
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        remedy = (
            "stop the process that uses the port, or write another port in headgate.yaml" if _is_taken(error) else None
        )
        return f"{name}{error.strerror or error}", remedy
    kind = type(error).__name__
    return f"{kind}: {error}" if str(
        error
    ) else kind, "this is a bug in Headgate; headgate --debug … shows its traceback"


def _is_taken(error: OSError) -> bool:
    return error.errno == errno.EADDRINUSE or "address already in use" in str(error).lower()


def count(number: int, word: str) -> str:
    """Return a count with its noun: ``1 rule``, ``2 rules``."""
    return f"{number:,} {word}{'s' * (number != 1)}"


def _lines(problem: Problem, texts: Mapping[str, str], style: Style) -> Iterator[str]:
    position = problem.position
    place = ":".join(
        str(part) for part in (problem.path, position and position.line, position and position.column) if part
    )
    mark = style.error if problem.severity == "error" else style.warning
    where = f"{style.bold(place)}: " if place else ""
    yield f"{where}{mark(problem.severity)}: {redact(problem.message)}"
    margin = "    "
    source = _source_line(texts.get(problem.path or ""), position.line) if position is not None else None
    if source is not None and position is not None:
        number = str(position.line).rjust(4)
        margin = " " * len(number)
        shown, column = _part(source, position.column - 1)
        before, under = shown[:column], shown[column:][: position.length]
        carets = "^" * max(1, _width(under))
        yield f"{style.faint(number + ' |')} {shown}"
        yield f"{style.faint(margin + ' |')} {' ' * _width(before)}{mark(carets)}"
    if problem.remedy:
        yield f"{margin} {style.faint('=')} {style.remedy(redact(problem.remedy))}"


def _source_line(text: str | None, number: int) -> str | None:
    """Return a line in printable form, or None if it holds a secret."""
    lines = text.splitlines() if text is not None else []
    if not 1 <= number <= len(lines):
        return None
    line = printable(lines[number - 1])
    return line if redact(line) == line else None


def _part(line: str, column: int) -> tuple[str, int]:
    """Return the part of a long line around `column` (from 0), and the column within that part."""
    if len(line) <= _LINE_CHARS_MAX:
        return line, column
    start = 0 if column < _LINE_CHARS_MAX else min(column - _LINE_CHARS_MAX // 2, len(line) - _LINE_CHARS_MAX)
    end = start + _LINE_CHARS_MAX
    mark = "…" if start else ""
    return mark + line[start:end] + ("…" if end < len(line) else ""), column - start + len(mark)


def printable(text: str) -> str:
    """Return `text` on one line, without control characters and escape sequences."""
    return "".join(char if char.isprintable() else " " for char in text)


def _width(text: str) -> int:
    """Return the columns of a terminal that `text` takes."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )

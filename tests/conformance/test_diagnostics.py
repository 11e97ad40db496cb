"""Diagnostics of statements: pairs of files, ``NAME.sql`` with a mistake, ``NAME.txt`` with the expected report.

A new pair takes two files and nothing else. The text has, for every problem in order, its line and column, its words,
the line with a caret under the place, and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.language.sql import check_rule

_FOLDER = Path(__file__).parent / "sql" / "diagnostics"
_STATEMENTS = sorted(_FOLDER.glob("*.sql"))


def shown(problems: list[Problem], sql: str) -> str:
    """Return problems as the command line shows them."""
    return "\n".join(line for problem in problems for line in _lines(problem, sql)) + "\n"


def _lines(problem: Problem, sql: str) -> Iterator[str]:
    assert problem.position is not None
    at = problem.position
    yield f"{at.line}:{at.column}: {problem.severity}: {problem.message}"
    yield "    " + sql.splitlines()[at.line - 1]
    yield "    " + " " * (at.column - 1) + "^" * at.length
    if problem.remedy is not None:
        yield f"    {problem.remedy}"


@pytest.mark.parametrize("file", _STATEMENTS, ids=[file.stem for file in _STATEMENTS])
def test_diagnostics_have_position_message_and_remedy(file: Path) -> None:
    """The author of a first rule has no other help than these texts."""
    sql = file.read_text(encoding="utf-8")
    assert shown(check_rule(sql), sql) == file.with_suffix(".txt").read_text(encoding="utf-8")


def test_nearly_every_diagnostic_has_a_remedy() -> None:
    """Only a message that implies its remedy may lack one."""
    without = [
        (file.stem, problem.message)
        for file in _STATEMENTS
        for problem in check_rule(file.read_text(encoding="utf-8"))
        if problem.remedy is None
    ]
    assert len(without) <= len(_STATEMENTS) // 10, without

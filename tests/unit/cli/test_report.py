"""Reports of mistakes."""

from __future__ import annotations

import json

import pytest

from engine.cli.report import CommandError, Style, print_failure, render, render_json, summary
from engine.errors import ConfigError, HeadgateError, Position, Problem
from engine.service.log import hide

TEXTS = {"rules/hot.sql": "SELECT *\nFROM\t'é温度' WHER x\n"}


def test_a_caret_is_below_the_position() -> None:
    """Also after tabs, accents and wide letters: a caret in the wrong column misleads."""
    problem = Problem("unexpected WHER", "rules/hot.sql", Position(2, 12, 4), "did you mean WHERE?")

    assert render([problem], TEXTS) == (
        "rules/hot.sql:2:12: error: unexpected WHER\n"
        "   2 | FROM 'é温度' WHER x\n"
        "     |              ^^^^\n"
        "     = did you mean WHERE?"
    )


def test_a_caret_can_be_past_the_end_of_the_line() -> None:
    """The position of a missing element."""
    lines = render([Problem("missing FROM", "rules/hot.sql", Position(1, 9, 3))], TEXTS).splitlines()

    assert lines[1:] == ["   1 | SELECT *", "     |         ^"]


@pytest.mark.parametrize("column", [1, 90, 200, 380, 401])
def test_a_long_line_is_shown_around_the_position(column: int) -> None:
    """Statements are pasted as one line, and a caret below another part of it points at nothing."""
    line = "é" * (column - 1) + "X" + "é" * (400 - column)

    _, source, caret = render([Problem("wrong", "a.sql", Position(1, column))], {"a.sql": line}).splitlines()

    assert len(source) < 180
    assert source[caret.index("^")] == "X"
    assert source.startswith("   1 | …") == (column > 160)
    assert source.endswith("…") == (column < 240)


@pytest.mark.parametrize("position", [None, Position(99, 1), Position(0, 0)])
def test_a_problem_without_its_line_is_reported(position: Position | None) -> None:
    """The file may be gone, or shorter by now."""
    report = render([Problem("wrong", "gone.yaml", position)], TEXTS)

    assert report.startswith("gone.yaml")
    assert report.endswith("error: wrong")


def test_colours_are_for_terminals_only() -> None:
    """Escape sequences make a log file unreadable."""
    problem = Problem("wrong", "a.sql", severity="warning")

    assert "\x1b[" not in render([problem], {})
    assert "\x1b[1;33mwarning\x1b[0m" in render([problem], {}, Style(True))


def test_a_line_with_a_secret_is_not_shown() -> None:
    """Reports end up in tickets."""
    hide(["opensesame-1"])
    problem = Problem("opensesame-1 was refused", "a.yaml", Position(1, 1, 5), "not opensesame-1")

    for line in ("token: opensesame-1", " " * 150 + "token: opensesame-1"):
        assert render([problem], {"a.yaml": line}) == "a.yaml:1:1: error: *** was refused\n     = not ***"


def test_a_report_as_json_has_the_same_content() -> None:
    """An editor shows it at its position."""
    problems = [
        Problem("wrong", "a.sql", Position(2, 3, 4), "mend it"),
        Problem("odd", severity="warning"),
    ]

    report = json.loads(render_json(problems))

    assert report["ok"] is False
    assert report["problems"][0] == {
        "severity": "error", "path": "a.sql", "line": 2, "column": 3, "length": 4, "message": "wrong",
        "remedy": "mend it",
    }  # fmt: skip
    assert report["problems"][1]["line"] is None


@pytest.mark.parametrize(
    ("severities", "said"),
    [
        (["error"], "1 error"),
        (["error", "error", "warning"], "2 errors, 1 warning"),
        (["warning"], "1 warning"),
        ([], "0 errors"),
    ],
)
def test_a_summary_counts_errors_and_warnings(severities: list[str], said: str) -> None:
    """The last line is the one that is read."""
    assert summary([Problem("x", severity=severity) for severity in severities]) == said  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CommandError("not running", exit_code=3, remedy="start it"), 3, "error: not running\n  start it\n"),
        (ConfigError("wrong", remedy="mend it"), 1, "error: wrong\n  mend it\n"),
        (HeadgateError("no"), 1, "error: no\n"),
        (FileNotFoundError(2, "No such file", "a.txt"), 1, "error: a.txt: No such file\n"),
        (
            ZeroDivisionError("x"),
            1,
            "error: ZeroDivisionError: x\n  this is a bug in Headgate; headgate --debug … shows its traceback\n",
        ),
    ],
)
def test_a_failure_is_one_line_with_a_remedy(
    error: Exception, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Below it the remedy, and never a traceback."""
    assert print_failure(error) == code
    assert capsys.readouterr().err == said

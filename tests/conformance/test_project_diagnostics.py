"""Diagnostics of projects: each folder of ``projects/`` is a project with mistakes and its report, ``expected.txt``."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.app.project import read_project
from engine.cli.report import render

PROJECTS = Path(__file__).parent / "projects"
ENVIRONMENT = {"HEADGATE_TOKEN": "s3cret-t0ken"}

CASES = sorted(folder.name for folder in PROJECTS.iterdir() if folder.is_dir())


@pytest.mark.parametrize("case", CASES)
def test_project_gets_exactly_the_expected_report(case: str) -> None:
    """Position, caret and remedy are part of the interface."""
    project = read_project(PROJECTS / case, ENVIRONMENT)

    report = render(project.problems, project.texts).replace(str(PROJECTS), "…")

    assert f"{report}\n".lstrip("\n") == (PROJECTS / case / "expected.txt").read_text("utf-8")


@pytest.mark.parametrize("case", CASES)
def test_no_report_shows_a_secret(case: str) -> None:
    """Reports are pasted into tickets."""
    project = read_project(PROJECTS / case, ENVIRONMENT)

    assert "s3cret-t0ken" not in render(project.problems, project.texts)

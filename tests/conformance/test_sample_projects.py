"""The sample projects: the one of this repository, and the one that ``headgate init`` makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.app.project import check_project
from engine.language.cases import run_cases

ROOT = Path(__file__).resolve().parents[2]
SKELETON = ROOT / "engine" / "cli" / "skeleton"
PROJECTS = (ROOT, SKELETON)
RULES = [path for project in PROJECTS for path in sorted((project / "rules").glob("*.sql"))]


@pytest.mark.parametrize("project", PROJECTS, ids=["repository", "init"])
def test_a_shipped_project_has_no_mistake(project: Path) -> None:
    """Users copy it, and a warning with it."""
    assert check_project(project, {}) == []


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_a_shipped_rule_begins_with_a_description(path: Path) -> None:
    """`headgate status` shows the opening comment."""
    assert path.read_text("utf-8").startswith("-- ")


@pytest.mark.parametrize("project", PROJECTS, ids=["repository", "init"])
def test_the_cases_of_shipped_rules_hold(project: Path) -> None:
    """A user who copies a rule copies its test."""
    report = run_cases(project / "rules", project)

    assert report.results
    assert [*report.problems, *report.failed] == []

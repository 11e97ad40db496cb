"""The projects that are shipped: this repository's own, and the one that ``headgate init`` makes."""

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
    """It is what everybody starts from; a warning would be copied with it."""
    assert check_project(project, {}) == []


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_a_shipped_rule_opens_by_saying_what_it_is_for(path: Path) -> None:
    """The opening comment is the description that status shows."""
    assert path.read_text("utf-8").startswith("-- ")


@pytest.mark.parametrize("project", PROJECTS, ids=["repository", "init"])
def test_the_cases_of_shipped_rules_hold(project: Path) -> None:
    """Who copies a rule copies its test."""
    report = run_cases(project / "rules", project)

    assert report.results
    assert [*report.problems, *report.failed] == []

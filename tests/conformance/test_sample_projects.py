"""The projects that are shipped: this repository's own, and the one that ``headgate init`` makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.app.project import check_project
from engine.message import Client, Message
from engine.sql import compile_rule

ROOT = Path(__file__).resolve().parents[2]
SKELETON = ROOT / "engine" / "cli" / "skeleton"
PROJECTS = (ROOT, SKELETON)
RULES = [path for project in PROJECTS for path in sorted((project / "rules").glob("*.sql"))]
CASES = [
    (path.with_name(path.name.replace(".test.yaml", ".sql")), case)
    for project in PROJECTS
    for path in sorted((project / "rules").glob("*.test.yaml"))
    for case in yaml.safe_load(path.read_text("utf-8"))["cases"]
]


@pytest.mark.parametrize("project", PROJECTS, ids=["repository", "init"])
def test_a_shipped_project_has_no_mistake(project: Path) -> None:
    """It is what everybody starts from; a warning would be copied with it."""
    assert check_project(project, {}) == []


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_a_shipped_rule_opens_by_saying_what_it_is_for(path: Path) -> None:
    """The opening comment is the description that status shows."""
    assert path.read_text("utf-8").startswith("-- ")


@pytest.mark.parametrize(("rule", "case"), CASES, ids=[case["name"] for _, case in CASES])
def test_the_cases_of_a_shipped_rule_hold(rule: Path, case: dict[str, Any]) -> None:
    """Who copies a rule copies its test."""
    event = case["event"]
    message = Message(event["topic"], event["payload"].encode(), 1, False, False, Client(event["clientid"]), 0)

    row = compile_rule(rule.read_text("utf-8"), rule_id=rule.stem).evaluate(message)

    rows = [] if row is None else [row]
    assert len(rows) == len(case["rows"])
    for found, expected in zip(rows, case["rows"], strict=True):
        assert {name: found[name] for name in expected} == expected

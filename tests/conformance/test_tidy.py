"""What can be seen of the source without running it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = [path for package in ("engine", "connectors", "broker") for path in sorted((ROOT / package).rglob("*.py"))]


LEFTOVERS = re.compile(r"\b(TODO|FIXME|XXX)\b")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_opens_by_saying_what_it_is_for(path: Path) -> None:
    """A reader should know before reading on, and nothing should be left to be done."""
    text = path.read_text("utf-8")

    assert len((ast.get_docstring(ast.parse(text)) or "").split()) > 3
    assert LEFTOVERS.search(text) is None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_private_to_a_module_is_used_in_it(path: Path) -> None:
    """A function that nobody calls promises in its docstring what does not happen."""
    text = path.read_text("utf-8")
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    private = [node.name for node in ast.parse(text).body if isinstance(node, kinds) and node.name.startswith("_")]

    assert [name for name in private if len(re.findall(rf"\b{name}\b", text)) < 2] == []

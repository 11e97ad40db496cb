"""Checks of the source text: docstrings, unused private names, size of classes, names of modules.

The exceptions may only become fewer: an entry that is no longer needed fails the test, too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = [path for package in ("engine", "connectors", "broker") for path in sorted((ROOT / package).rglob("*.py"))]
TREES = {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in MODULES}

LEFTOVERS = re.compile(r"\b(TODO|FIXME|XXX)\b")
NOUN_CLAUSE = re.compile(r"(What|Whom|Who|Whose|Where|How|Whatever|Whoever)\b")
"""The beginning of a docstring that describes its subject by a clause where a noun would name it."""
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "base"}

METHODS_MAX = 25
"""The largest classes of h11 and httpcore have 22 and 26 methods; beyond that a class holds two ideas."""
LARGE_CLASSES = {
    "engine/language/sql/dialect.py:RuleParser": "a parser: a method for each construct of the language",
    "engine/language/sql/expressions.py:Expressions": "a visitor: a method for each kind of expression",
    "engine/language/sql/lower.py:_Lowering": "a visitor: a method for each kind of node",
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_begins_with_its_purpose(path: Path) -> None:
    """A reader should know it before reading on, and nothing should be left to be done."""
    text = path.read_text("utf-8")

    assert len((ast.get_docstring(ast.parse(text)) or "").split()) > 3
    assert LEFTOVERS.search(text) is None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_private_function_is_used_in_its_module(path: Path) -> None:
    """The docstring of an unused function describes behaviour that does not happen."""
    text = path.read_text("utf-8")
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    private = [node.name for node in ast.parse(text).body if isinstance(node, kinds) and node.name.startswith("_")]

    assert [name for name in private if len(re.findall(rf"\b{name}\b", text)) < 2] == []


def test_docstrings_begin_with_a_noun_or_a_verb() -> None:
    """`A retry budget` is understood at once, `How often it may fail` only after the code has been read."""
    found = [f"{path}:{line}: {text}" for path, tree in TREES.items() for line, text in noun_clauses(tree)]

    assert found == []


def noun_clauses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and beginning of every docstring, also of attributes, that begins with a noun clause."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            text = node.value.value.strip()
            if NOUN_CLAUSE.match(text):
                yield node.lineno, text.partition("\n")[0][:80]


def test_no_class_has_more_than_25_methods() -> None:
    """Such a class holds two ideas, but for those whose methods are the cases of one table."""
    methods = (ast.FunctionDef, ast.AsyncFunctionDef)
    large = {
        f"{path}:{node.name}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and sum(isinstance(part, methods) for part in node.body) > METHODS_MAX
    }

    assert large == set(LARGE_CLASSES)


def test_modules_are_named_for_their_content() -> None:
    """A name that says nothing collects everything."""
    assert [path for path in TREES if VAGUE_NAMES & set(Path(path).with_suffix("").parts)] == []

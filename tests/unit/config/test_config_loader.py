"""The parser of YAML to a tree with positions."""

from __future__ import annotations

from typing import Any

import pytest

from engine.config.loader import load_document
from engine.errors import Position


def load(text: str) -> Any:
    document = load_document(text, "file.yaml")
    assert document.problems == ()
    return None if document.root is None else document.root.plain()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no", "no"),
        ("a: on", "on"),
        ("a: 1:30", "1:30"),
        ("a: 0777", 777),
        ("a: 0o17", 15),
        ("a: 0x1F", 31),
        ("a: 1_000", "1_000"),
        ("a: -3", -3),
        ("a: 1.5e3", 1500.0),
        ("a: .inf", ".inf"),
        ("a: 2024-01-01", "2024-01-01"),
        ("a: '3'", "3"),
        ("a: ~", None),
        ("a:", None),
        ("a: True", True),
        ("a: !!str 3", "3"),
        ("a: " + "9" * 200, "9" * 200),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    """YAML 1.1 turns a country into a boolean and a time into a number; a configuration should not."""
    found = load(text)["a"]

    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["", "   \n", "# only a comment\n", "---\n", "~"])
def test_an_empty_file_is_an_empty_document(text: str) -> None:
    """A file with everything commented out is a project of defaults."""
    assert load(text) is None


def test_every_key_and_value_has_its_position() -> None:
    """Carets are drawn from it."""
    root = load_document("mqtt:\n  max_inflight: many\nlisteners: [{bind: a}]\n", "f").root
    assert root is not None
    mqtt, listeners = root.child("mqtt"), root.child("listeners")
    assert mqtt is not None
    assert listeners is not None
    inflight, first = mqtt.child("max_inflight"), listeners.child(0)
    assert inflight is not None
    assert first is not None

    assert mqtt.keys["max_inflight"] == Position(2, 3, 12)
    assert inflight.position == Position(2, 17, 4)
    assert first.keys["bind"] == Position(3, 14, 4)


def test_columns_count_characters_not_bytes() -> None:
    """A caret below é must be in the column of é."""
    root = load_document("é: {ü: x}", "f").root
    assert root is not None
    child = root.child("é")
    assert child is not None

    assert child.keys["ü"] == Position(1, 5, 1)


def test_an_alias_is_replaced_by_its_anchor() -> None:
    """Several sinks may share a block without a connection."""
    assert load("a: &x {b: 1}\nc: *x\n") == {"a": {"b": 1}, "c": {"b": 1}}


def test_an_alias_within_its_anchor_is_refused() -> None:
    """A tree that contains itself has no end."""
    document = load_document("a: &x [*x]", "f")

    assert [problem.message for problem in document.problems] == ["nothing is named &x above"]


def test_number_keys_become_text() -> None:
    """Names of sinks and columns are text, whatever they look like."""
    assert load("1: a\n2.5: b\n") == {"1": "a", "2.5": "b"}


@pytest.mark.parametrize("text", ["[a]: b", "{a: b}: c", "~: b", "true: b"])
def test_keys_other_than_text_and_numbers_are_refused(text: str) -> None:
    """`true: x` is a slip that would be hard to find later."""
    assert "a key must be text" in load_document(text, "f").problems[0].message


def test_a_file_that_is_too_long_is_refused_unread() -> None:
    """A wrong path can name any file."""
    assert "more than" in load_document("a: b\n" * 300_000, "f").problems[0].message


@pytest.mark.parametrize("text", ["a: \x00", "a: \x07b", "\ufffe"])
def test_control_characters_are_refused_with_their_position(text: str) -> None:
    """They come from copying out of a terminal, and can't be seen."""
    problem = load_document(text, "f").problems[0]

    assert "control character" in problem.message
    assert problem.position is not None

"""Node classes of sqlglot's tree for the syntax that SQL does not have."""

from __future__ import annotations

from typing import ClassVar

from sqlglot import exp


class RuleStatement(exp.Expression):
    """A statement."""

    arg_types: ClassVar[dict[str, bool]] = {
        "sinks": False, "many": False, "fields": True, "do": False, "incase": False, "sources": True, "where": False,
    }  # fmt: skip


class SinkName(exp.Expression):
    """An item of INSERT INTO."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "columns": False}


class TopicName(exp.Expression):
    """An item of FROM."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True}


class RuleField(exp.Expression):
    """An item of SELECT, FOREACH or DO; ``written`` is true where AS stands before the alias."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "alias": False, "written": False, "text": True}


class Path(exp.Expression):
    """A name or an expression, and a path into its value."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "steps": False}


class PathKey(exp.Expression):
    """``.key``"""

    arg_types: ClassVar[dict[str, bool]] = {"this": True}


class PathIndex(exp.Expression):
    """``[n]``, with its sign."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "negative": False}


class PathIndexBy(exp.Expression):
    """``[expression]``"""

    arg_types: ClassVar[dict[str, bool]] = {"this": True}


class PathSlice(exp.Expression):
    """``x[a..b]``, or without ``this`` the list of integers from a to b."""

    arg_types: ClassVar[dict[str, bool]] = {"this": False, "text": True}


class TopicMatch(exp.Expression, exp.Binary):
    """``topic =~ filter``"""


class FilterMatch(exp.Expression, exp.Binary):
    """``filter ~= topic``, with the operands exchanged."""


class Plus(exp.Unary):
    """Unary plus."""

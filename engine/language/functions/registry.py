"""Declaration of functions of the rule language, and the table of all of them.

A function is one decorated Python function. Its docstring is the reference text, its signature gives the number of
arguments, its module is its family, its examples are both documentation and tests. Generated code calls the undecorated
function. A function raises `EvaluationError` for arguments that it does not accept, and no other exception.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from engine.model.jsontext import encode

__all__ = ["FUNCTIONS", "Example", "Function", "function"]

_Call = TypeVar("_Call", bound=Callable[..., Any])


class Example(NamedTuple):
    """An expression and its result as JSON text."""

    expression: str
    result: str


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the rule language. ``max_args`` is None where any number of arguments may follow."""

    name: str
    call: Callable[..., Any]
    min_args: int
    max_args: int | None
    doc: str
    examples: tuple[Example, ...]
    category: str
    """The family: the name of the function's module."""
    pure: bool
    """Whether equal arguments always give an equal result, so that a call with constants is computed once for all
    messages. Functions that read the message are not pure."""
    needs_message: bool
    """Whether the message (or occurrence) is passed before the arguments."""
    returns_bool: bool
    parameters: tuple[str, ...]
    """The names of the arguments, for the reference."""
    extra: str | None = None
    """The library that the function needs and the extra that installs it, which have one name; None without one."""


FUNCTIONS: dict[str, Function] = {}
"""All functions by their names in a statement."""


def function(
    *examples: tuple[str, Any], pure: bool = True, needs_message: bool = False, extra: str | None = None
) -> Callable[[_Call], _Call]:
    """Enter a Python function into the table, under its own name without a trailing underscore.

    An example is an expression and the value it has in a message on topic ``t/a`` with the payload ``{}``.
    """

    def enter(call: _Call) -> _Call:
        entry = _describe(call, examples, pure, needs_message, extra)
        if entry.name in FUNCTIONS:
            raise ValueError(f"expected one function named {entry.name}, found two")
        FUNCTIONS[entry.name] = entry
        return call

    return enter


def _describe(
    call: Callable[..., Any],
    examples: tuple[tuple[str, Any], ...],
    pure: bool,
    needs_message: bool,
    extra: str | None,
) -> Function:
    parameters = list(inspect.signature(call).parameters.values())[1 if needs_message else 0 :]
    is_variadic = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    return Function(
        name=call.__name__.rstrip("_"),
        call=call,
        min_args=sum(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in parameters),
        max_args=None if is_variadic else len(parameters),
        doc=inspect.getdoc(call) or "",
        examples=tuple(Example(expression, encode(result).decode()) for expression, result in examples),
        category=call.__module__.rpartition(".")[2],
        pure=pure and not needs_message,
        needs_message=needs_message,
        returns_bool=call.__annotations__.get("return") in ("bool", bool),
        parameters=tuple(parameter.name for parameter in parameters),
        extra=extra,
    )

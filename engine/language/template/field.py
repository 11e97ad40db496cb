"""Options whose text has a form of its own, checked along with all others: every mistake is told at once, at its place.

What is right also by other options (a path must begin with text of its own unless `allow_unconfined` says otherwise)
is looked at when the sink is made.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import AfterValidator

from engine.errors import ConfigError
from engine.language.template import KindName, Template


def checked(check: Callable[[str], object]) -> AfterValidator:
    """To annotate an option with: `check` raises `ConfigError` for a text that won't do."""

    def validate(text: str) -> str:
        try:
            check(text)
        except ConfigError as error:
            raise ValueError("; ".join(filter(None, (error.message, error.remedy)))) from error
        return text

    return AfterValidator(validate)


def templated(kind: KindName) -> AfterValidator:
    """To annotate an option with: its text must be a template of this kind."""
    return checked(lambda text: Template.compile(text, kind=kind, allow_unconfined=True))

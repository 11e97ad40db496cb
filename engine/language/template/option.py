"""Validators of options that are templates, so that mistakes are reported together with those of other options.

Rules that depend on other options (a path begins with constant text unless `allow_unconfined` is set) are checked when
the sink is created.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import AfterValidator

from engine.errors import ConfigError
from engine.language.template import Template, TemplateKindName


def checked(check: Callable[[str], object]) -> AfterValidator:
    """Return the validator of an option: `check` raises `ConfigError` for a text that is not accepted."""

    def validate(text: str) -> str:
        try:
            check(text)
        except ConfigError as error:
            raise ValueError("; ".join(filter(None, (error.message, error.remedy)))) from error
        return text

    return AfterValidator(validate)


def templated(kind: TemplateKindName) -> AfterValidator:
    """Return the validator of an option that is a template of this kind."""
    return checked(lambda text: Template.compile(text, kind=kind, allow_unconfined=True))

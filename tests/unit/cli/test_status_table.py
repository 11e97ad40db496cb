"""Durations in the status table."""

from __future__ import annotations

import pytest

from engine.cli.status import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"), (0.85, "850ms"), (1, "1s"), (59.9, "59s"), (60, "1m"), (200, "3m 20s"), (3600, "1h"),
        (18_120, "5h 2m"), (86_400, "1d"), (350_000, "4d 1h"),
    ],
)  # fmt: skip
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    """More precision than anybody reads hides the size."""
    assert duration(seconds) == text

"""The limit of open files."""

from __future__ import annotations

import pytest

from support.limits import need_open_files

NO_SYSTEM_ALLOWS = 1 << 40


def test_a_limit_that_can_not_be_raised_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the limit that was found, so that its user can raise it."""
    monkeypatch.setenv("CI", "")

    with pytest.raises(pytest.skip.Exception, match="needs 1099511627776 open files; the hard limit here is"):
        need_open_files(NO_SYSTEM_ALLOWS)


def test_a_limit_that_can_not_be_raised_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """A green run must mean that the test ran."""
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match="open files"):
        need_open_files(NO_SYSTEM_ALLOWS)

"""What all tests share: the real servers, the rule that CI may not skip them, and secrets that end with their test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.service.log import forget_secrets

pytest_plugins = ["servers.fixtures"]


@pytest.fixture(autouse=True)
def secrets_of_its_own() -> Iterator[None]:
    """What one test hides would black out the same text in all that follow."""
    yield
    forget_secrets()

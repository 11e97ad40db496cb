"""Set-up shared by all tests: their order, the real servers, and a registry of secrets that is emptied after each."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.service.log import forget_secrets

TESTS = Path(__file__).parent
pytest_plugins = ["servers.fixtures"]


FOLDERS = ("unit", "conformance", "property", "integration", "acceptance")
"""The folders of tests from the quickest to the slowest: a broken function should show within the first minute."""


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands that tests start, also when the tests run in the background.

    A shell starts background jobs with SIGINT ignored, which all their children inherit.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the quick folders first, whatever order they were named in; within a folder the order stays."""
    items.sort(key=_folder_index)


def _folder_index(item: pytest.Item) -> int:
    folder = item.path.relative_to(TESTS).parts[0]
    # Tests beside the folders are about the tests themselves; they are quick.
    return FOLDERS.index(folder) if folder in FOLDERS else 0


@pytest.fixture(autouse=True)
def secrets_of_its_own() -> Iterator[None]:
    """Forget the secrets of a test: the log of the next one would have the same text replaced."""
    yield
    forget_secrets()

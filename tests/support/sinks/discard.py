"""There is no target to read back from, to break or to mend; see ``tests/unit/connectors/test_discard.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.sinks.harness import Harness


def open_harness(request: pytest.FixtureRequest, folder: Path) -> Harness:
    pytest.skip("what goes to discard is gone, so nothing of it can be compared")

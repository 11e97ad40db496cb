"""Quick tests run before slow ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_folders_run_from_the_quickest_to_the_slowest() -> None:
    """A broken function should show within the first minute, also when the folders are named in another order."""
    named = [
        "tests/acceptance/test_unread_log.py",
        "tests/property/test_patterns_agree.py",
        "tests/unit/config/test_settings.py",
    ]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *named],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    files = [line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line]

    assert list(dict.fromkeys(files)) == named[::-1]

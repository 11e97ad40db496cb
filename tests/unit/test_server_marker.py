"""The marker of tests that need a real server, which CI must not skip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

SKIPPED_INSIDE = """
import pytest

@pytest.mark.server("kafka")
def test_needs_kafka():
    pytest.skip("not today")
"""

SKIPPED_BY_MARK = """
import pytest

@pytest.mark.server("kafka")
@pytest.mark.skip(reason="not today")
def test_needs_kafka():
    pass
"""

SKIPPED_AS_MODULE = """
import pytest

pytest.importorskip("surely_not_installed")

@pytest.mark.server("kafka")
def test_needs_kafka():
    pass
"""

NO_SERVER = """
import pytest

def test_of_a_platform():
    pytest.skip("not on this platform")
"""


def run_pytest(folder: Path, source: str, *, ci: str, cache: str | None = None) -> subprocess.CompletedProcess[str]:
    (folder / "test_case.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = server(name): needs a server\n")
    environment = {**os.environ, "CI": ci, "PYTHONPATH": str(TESTS)}
    if cache is not None:
        environment["HEADGATE_TEST_CACHE"] = cache
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "servers.fixtures", "-p", "no:cacheprovider", "-rs", str(folder)],
        capture_output=True, text=True, timeout=60, env=environment, cwd=folder, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("source", [SKIPPED_INSIDE, SKIPPED_BY_MARK, SKIPPED_AS_MODULE])
def test_a_skipped_server_test_fails_in_ci(tmp_path: Path, source: str) -> None:
    """A green run must mean that the real servers were used."""
    done = run_pytest(tmp_path, source, ci="true")
    assert done.returncode != 0, done.stdout
    assert "must not happen in CI" in done.stdout


def test_a_missing_server_fails_in_ci(tmp_path: Path) -> None:
    """A machine without the server is a broken CI, not a reason to look away."""
    source = SKIPPED_INSIDE.replace('pytest.skip("not today")', "pass")
    done = run_pytest(tmp_path, source, ci="true", cache=str(tmp_path / "empty"))
    assert done.returncode == 1, done.stdout
    assert "must not happen in CI" in done.stdout


def test_a_missing_server_is_a_skip_with_its_reason_elsewhere(tmp_path: Path) -> None:
    """A user without Kafka can run the rest of the tests, and reads the remedy."""
    source = SKIPPED_INSIDE.replace('pytest.skip("not today")', "pass")
    done = run_pytest(tmp_path, source, ci="", cache=str(tmp_path / "empty"))
    assert done.returncode == 0, done.stdout
    assert "tests/servers/README.md" in done.stdout


def test_other_skips_stay_skips_in_ci(tmp_path: Path) -> None:
    """A test of another platform has nothing to do with servers."""
    done = run_pytest(tmp_path, NO_SERVER, ci="true")
    assert done.returncode == 0, done.stdout

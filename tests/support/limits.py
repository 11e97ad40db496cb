"""The limit of open files, for the tests that open thousands."""

from __future__ import annotations

import resource

import pytest

from servers.fixtures import in_ci


def raise_file_limit(wanted: int) -> bool:
    """Let this process and its children open `wanted` files. Return False where the system forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return True
    try:
        # Within the hard limit anybody may raise the soft one; only root may raise the hard one.
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (OSError, ValueError):
        return False
    return True


def need_open_files(wanted: int) -> None:
    """Raise the limit to `wanted` open files, or else skip the test, saying why. In CI that is a failure."""
    if raise_file_limit(wanted):
        return
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    reason = f"needs {wanted} open files; the hard limit here is {hard} (ulimit -Hn)"
    if in_ci():
        pytest.fail(reason)
    pytest.skip(reason)

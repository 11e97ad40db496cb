"""Waiting for a condition, with a deadline and a description; tests do not sleep instead."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(
    check: Callable[[], Found | None],
    deadline_s: float,
    what: str,
    *,
    pause_s: float = 0.02,
    detail: Callable[[], object] = str,
) -> Found:
    """Call `check` until its result is true, and return the result.

    Fails with `what` and the result of `detail` once `deadline_s` has passed.
    """
    end = time.monotonic() + deadline_s
    while not (found := check()):
        if time.monotonic() > end:
            raise AssertionError(f"after {deadline_s:g} s still waiting until {what} {detail()}".rstrip())
        time.sleep(pause_s)
    return found


def pass_time(seconds: float, why: str) -> None:
    """Let time pass where the passing itself is tested, not to give something a chance to happen."""
    assert why
    time.sleep(seconds)

"""Back-off: the pause before the next attempt."""

from __future__ import annotations

from random import Random

from engine.connector import RetryConfig

_DOUBLINGS_MAX = 32
"""Keeps the power within a float; with the shortest first pause the limit is reached long before."""


def backoff_s(retry: RetryConfig, failures: int, random: Random, at_least_s: float | None = None) -> float:
    """Return the pause after the `failures`-th failure in a row: full jitter below a limit that doubles up to
    ``retry.max``. `at_least_s` is the pause that the server asked for.
    """
    limit = min(retry.max, retry.initial * 2.0 ** min(max(failures, 1) - 1, _DOUBLINGS_MAX))
    return max(random.uniform(0.0, limit), at_least_s or 0.0)

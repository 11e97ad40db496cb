"""How long to wait before the next attempt."""

from __future__ import annotations

from random import Random

from engine.connector import RetryConfig

_DOUBLINGS_MAX = 32


def backoff_s(retry: RetryConfig, failures: int, random: Random, at_least_s: float | None = None) -> float:
    """The pause after the `failures`-th failure in a row: full jitter below a limit that doubles up to ``retry.max``.

    `at_least_s` is what the server asked for.
    """
    limit = min(retry.max, retry.initial * 2.0 ** min(max(failures, 1) - 1, _DOUBLINGS_MAX))
    return max(random.uniform(0.0, limit), at_least_s or 0.0)

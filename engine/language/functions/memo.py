"""Cache of compiled patterns and formats that messages can't fill."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

_Call = TypeVar("_Call", bound=Callable[..., Any])

_ENTRIES_MAX = 128
"""A project has fewer formats than that in one function; messages that bring their own evict the oldest."""
_LENGTH_MAX = 4096
"""Longest text that is cached: with the entries, it bounds a cache to half a megabyte of texts."""


def remembered(call: _Call) -> _Call:
    """Return a caching form of a function of texts. Calls whose last text is longer than the bound are not cached."""
    kept = lru_cache(maxsize=_ENTRIES_MAX)(call)

    def cached(*texts: str) -> Any:
        return kept(*texts) if len(texts[-1]) <= _LENGTH_MAX else call(*texts)

    return cast("_Call", cached)

"""Results kept for the next call, as far as messages can't fill the memory with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

_Call = TypeVar("_Call", bound=Callable[..., Any])

_ENTRIES_MAX = 128
_LENGTH_MAX = 4096


def remembered(call: _Call) -> _Call:
    """A function of texts that takes the last one apart only once, unless it is longer than any that a rule holds."""
    kept = lru_cache(maxsize=_ENTRIES_MAX)(call)

    def remember(*texts: str) -> Any:
        return kept(*texts) if len(texts[-1]) <= _LENGTH_MAX else call(*texts)

    return cast("_Call", remember)

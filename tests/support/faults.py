"""Makes one call fail among all those that a function makes, however deep."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any


class InjectedError(Exception):
    """Raised in place of a call."""


@dataclass(frozen=True, slots=True)
class FaultedCall:
    """Result of a call with an injected fault."""

    result: Any
    failed: str | None
    """Name of the call that was made to fail; None if there were fewer calls."""


def call_with_fault(function: Callable[..., Any], *arguments: Any, at: int) -> FaultedCall:
    """Call `function`, and let the call number `at` inside it raise `InjectedError` in place of being made.

    Calls of Python and C functions count, from 1, at any depth. An exception that leaves `function` is raised here.
    """
    code = getattr(function, "__func__", function).__code__
    outer: FrameType | None = None
    is_over = False
    calls = 0
    failed: str | None = None

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal outer, is_over, calls, failed
        if outer is None:
            outer = frame if event == "call" and frame.f_code is code else None
        elif event == "return" and frame is outer:
            is_over = True
        elif event in ("call", "c_call") and not is_over:
            calls += 1
            if calls == at:
                failed = frame.f_code.co_qualname if event == "call" else argument.__qualname__
                raise InjectedError(failed)

    # Finalizers would be counted, and made to fail, wherever the collector happens to run.
    gc.disable()
    try:
        sys.setprofile(profile)
        result = function(*arguments)
    finally:
        sys.setprofile(None)
        gc.enable()
    return FaultedCall(result, failed)
